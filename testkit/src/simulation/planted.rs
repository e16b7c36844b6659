//! Bugs that are planted in a copy of the sources, to measure what the simulation finds.
//!
//! The product has no switches for them. Each bug is a file in `testkit/planted`: the places that it changes, and the
//! code that stands there instead. The copy contains both, and the variable [`SWITCH`] selects one bug at run time, so
//! all of them need one build.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

/// The environment variable that names the bug to switch on.
pub const SWITCH: &str = "SIMULATION_PLANTED";

/// The file that declares the module with the switch in the copy.
const ROOT: &str = "src/lib.rs";
/// The module with the switch.
const MODULE: &str = "src/planted.rs";

/// A bug to plant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlantedBug {
    /// The name: that of its file.
    #[serde(skip)]
    pub name: String,
    /// What goes wrong.
    pub title: String,
    /// The rules that the bug breaks, by the names that a report shows.
    pub rules: BTreeSet<String>,
    /// The places in the sources that it changes.
    pub places: Vec<Place>,
}

/// A place in the sources, and the bug in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The path of the file in the workspace.
    pub file: String,
    /// An expression that occurs in the file exactly once. Spaces and line breaks count.
    pub find: String,
    /// The expression in its place while the bug is switched on.
    pub bug: String,
}

impl PlantedBug {
    /// Reads all bugs of a folder, in the order of their names.
    ///
    /// # Errors
    /// A file can't be read, or does not describe a bug.
    pub fn read_all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let entries = fs::read_dir(folder).with_context(|| format!("can't list `{}`", folder.display()))?;
        let paths: Result<BTreeSet<PathBuf>, _> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let is_bug = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
        paths?.into_iter().filter(is_bug).map(|path| Self::read(&path)).collect()
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let unread = || format!("can't read the planted bug `{}`", path.display());
        let bug: Self =
            serde_saphyr::from_str(&fs::read_to_string(path).with_context(unread)?).with_context(unread)?;
        let name = path.file_stem().and_then(|name| name.to_str()).with_context(unread)?.to_owned();
        Ok(Self { name, ..bug })
    }
}

/// Plants bugs in sources. `read` returns the text of a file. Returns the new text of each file that changes.
///
/// # Errors
/// A place is not found exactly once, or two bugs change the same place.
pub fn plant(
    bugs: &[PlantedBug],
    read: impl Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut edits: BTreeMap<&str, Vec<(usize, &str, String)>> = BTreeMap::new();
    for bug in bugs {
        for Place { file, find, bug: other } in &bug.places {
            let (name, find, other) = (&bug.name, find.trim(), other.trim());
            let text =
                read(file).with_context(|| format!("can't read `{file}` for the planted bug `{name}`"))?;
            let mut found = text.match_indices(find);
            let (Some((start, _)), None) = (found.next(), found.next()) else {
                bail!(
                    "the planted bug `{name}` needs this text exactly once in `{file}`; correct \
                     `testkit/planted/{name}.yaml`:\n{find}"
                );
            };
            let switched = format!("(if crate::planted::is_on(\"{name}\") {{ {other} }} else {{ {find} }})");
            edits.entry(file).or_default().push((start, find, switched));
        }
    }
    let mut changed = BTreeMap::new();
    for (file, mut edits) in edits {
        edits.sort_by_key(|(start, ..)| *start);
        let mut text = read(file)?;
        let mut end = text.len();
        for (start, find, switched) in edits.iter().rev() {
            ensure!(start + find.len() <= end, "two planted bugs change the same place of `{file}`:\n{find}");
            text.replace_range(*start..start + find.len(), switched);
            end = *start;
        }
        changed.insert(file.to_owned(), text);
    }
    let root = changed.remove(ROOT).map_or_else(|| read(ROOT), Ok)?;
    // The planted code may leave its surroundings without a use.
    changed.insert(ROOT.to_owned(), format!("#![allow(warnings)]\n{root}\nmod planted;\n"));
    changed.insert(MODULE.to_owned(), module());
    Ok(changed)
}

fn module() -> String {
    format!(
        "use std::sync::LazyLock;\n\n\
         static BUG: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(\"{SWITCH}\").ok());\n\n\
         pub(crate) fn is_on(name: &str) -> bool {{\n    BUG.as_deref() == Some(name)\n}}\n"
    )
}

/// Copies the workspace's sources, with these bugs in them. Files that are as they were keep their times, so the next
/// build compiles only what has changed.
///
/// # Errors
/// A file can't be read or written, git fails, or a bug can't be planted.
pub fn copy_sources(workspace: &Path, copy: &Path, bugs: &[PlantedBug]) -> anyhow::Result<()> {
    let read = |file: &str| Ok(fs::read_to_string(workspace.join(file))?);
    let changed = plant(bugs, read)?;
    for file in sources(workspace)? {
        // A file that git knows may have been deleted.
        let path = workspace.join(&file);
        if path.is_file() && !changed.contains_key(&file) {
            let bytes = fs::read(&path).with_context(|| format!("can't read `{file}`"))?;
            update(&copy.join(&file), &bytes)?;
        }
    }
    changed.iter().try_for_each(|(file, text)| update(&copy.join(file), text.as_bytes()))
}

/// The files of the workspace that git does not ignore.
fn sources(workspace: &Path) -> anyhow::Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(workspace).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = git.output().context("can't run git")?;
    ensure!(listed.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listed.stderr));
    let listed =
        String::from_utf8(listed.stdout).context("a file of the workspace has a name without UTF-8")?;
    Ok(listed.split_terminator('\0').map(str::to_owned).collect())
}

fn update(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let unwritten = || format!("can't write `{}`", path.display());
    path.parent().map_or(Ok(()), fs::create_dir_all).with_context(unwritten)?;
    fs::write(path, bytes).with_context(unwritten)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bug(name: &str, find: &str) -> PlantedBug {
        let place = Place { file: "src/a.rs".to_owned(), find: find.to_owned(), bug: "0".to_owned() };
        let (title, rules) = (String::new(), BTreeSet::new());
        PlantedBug { name: name.to_owned(), title, rules, places: vec![place] }
    }

    fn planted(bugs: &[PlantedBug]) -> anyhow::Result<BTreeMap<String, String>> {
        plant(bugs, |file| Ok(if file == ROOT { "mod a;" } else { "f(1 + 2, 3, 3)" }.to_owned()))
    }

    #[test]
    fn each_place_checks_its_switch() {
        let changed = planted(&[bug("x", "1 + 2")]).unwrap();
        let expected = "f((if crate::planted::is_on(\"x\") { 0 } else { 1 + 2 }), 3, 3)";
        assert_eq!(changed["src/a.rs"], expected);
        assert_eq!(changed[ROOT], "#![allow(warnings)]\nmod a;\nmod planted;\n");
        assert!(changed[MODULE].contains(SWITCH));
    }

    #[test]
    fn an_ambiguous_place_is_refused() {
        for find in ["3", "4"] {
            let error = planted(&[bug("x", find)]).unwrap_err().to_string();
            assert!(error.contains("exactly once in `src/a.rs`"), "{error}");
        }
        let error = planted(&[bug("x", "1 + 2"), bug("y", "2")]).unwrap_err().to_string();
        assert!(error.contains("the same place"), "{error}");
    }

    #[test]
    fn every_planted_bug_fits_the_current_sources() {
        let testkit = Path::new(env!("CARGO_MANIFEST_DIR"));
        let bugs = PlantedBug::read_all(&testkit.join("planted")).unwrap();
        let workspace = testkit.join("..");
        plant(&bugs, |file| Ok(fs::read_to_string(workspace.join(file))?)).unwrap();
        for bug in bugs {
            assert!(!bug.title.is_empty() && !bug.rules.is_empty() && !bug.places.is_empty(), "{}", bug.name);
        }
    }
}
