//! The modules of each folder import each other in one direction only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use rstest::rstest;

/// The imports of each module of a folder.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Keeps the modules of a backend in layers: `session`, `instances` or `pending_operations` can be read, tested and
/// changed without the client that uses them. Modules in a cycle can only be understood, and built, together.
#[rstest]
fn no_module_imports_itself_through_others(
    #[values("cloud_foundry", "ibm_cloud", "osb", "http", "token")] folder: &str,
) {
    let modules = sources(folder);
    let imports = imports(folder, &modules);
    assert!(imports.values().any(|found| !found.is_empty()), "no imports are read: {imports:?}");
    assert_eq!(circle(&imports), None);
}

#[rstest]
#[case::a_name("use super::two::Two;")]
#[case::a_list("use super::{\n    other::{Other, Three},\n    two::{self, Two},\n};")]
#[case::the_whole_path("use crate::{\n    backend::{BackendError, osb::{two::Two}},\n    fair::Lane,\n};")]
#[case::a_re_export("use super::Two;")]
#[case::in_an_expression("fn one() {\n    super::two::two()\n}")]
fn a_circle_is_found(#[case] import: &str) {
    let modules = [
        ("mod", "mod one;\npub use two::{Other, Two};"),
        ("one", import),
        ("two", "use super::three::Three;"),
        ("three", "use super::one;"),
    ];
    let modules = modules.map(|(name, source)| (name.to_owned(), source.to_owned())).into();
    let found = circle(&imports("osb", &modules)).map(BTreeSet::from_iter);
    assert_eq!(found, Some(["one", "two", "three"].map(str::to_owned).into()));
}

#[rstest]
#[case::of_comments("/// See [`two`](super::two).")]
#[case::of_tests("#[cfg(test)]\nmod tests {\n    use super::super::two;\n    use super::two;\n}")]
#[case::of_another_folder("use crate::backend::http::two;")]
fn imports_that_do_not_count(#[case] source: &str) {
    let modules = [("mod", ""), ("one", source), ("two", "use super::one;")];
    let modules = modules.map(|(name, source)| (name.to_owned(), source.to_owned())).into();
    assert_eq!(circle(&imports("osb", &modules)), None);
}

/// The source of each module of a folder, without its tests.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend").join(folder);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |file: &Path| file.file_stem().unwrap().to_str().unwrap().to_owned();
    let modules = files.map(|file| (name(&file), fs::read_to_string(&file).unwrap()));
    modules.filter(|(name, _)| !name.ends_with("tests") && !name.starts_with("fake_")).collect()
}

fn imports(folder: &str, modules: &BTreeMap<String, String>) -> Imports {
    let root = paths(&code(&modules["mod"]), "use ").into_iter();
    let re_exports: BTreeMap<_, _> =
        root.filter_map(|path| Some((path.last()?.clone(), path.first()?.clone()))).collect();
    let modules = modules.iter().filter(|(name, _)| *name != "mod");
    let names: BTreeSet<_> = modules.clone().map(|(name, _)| name.clone()).collect();
    let module =
        |name: String| if names.contains(&name) { Some(name) } else { re_exports.get(&name).cloned() };
    modules
        .map(|(name, source)| {
            let code = code(source);
            let here = paths(&code, "super::").into_iter().map(|path| path.into_iter().next());
            let anywhere = paths(&code, "crate::").into_iter().map(|path| match &*path {
                [root, found, name, ..] if root == "backend" && found == folder => Some(name.clone()),
                _ => None,
            });
            let found = here.chain(anywhere).flatten().filter_map(module);
            (name.clone(), found.filter(|found| found != name).collect())
        })
        .collect()
}

/// The code of a file, without comments and without the tests at its end.
fn code(source: &str) -> String {
    let end = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub(super) mod tests {"]
        .iter()
        .filter_map(|tests| source.find(tests))
        .min();
    let lines = source[..end.unwrap_or(source.len())].lines();
    lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// All paths with this prefix, without the prefix and with their lists of names expanded.
fn paths(code: &str, prefix: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let mut rest = &code[at + prefix.len()..];
        spread(&mut rest, &mut Vec::new(), &mut found);
    }
    found
}

/// Reads one tree of names, such as `a::{b, c::d}`, and stops after it.
fn spread(rest: &mut &str, before: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    *rest = rest.trim_start();
    if let Some(list) = rest.strip_prefix('{') {
        *rest = list;
        while !rest.is_empty() && !rest.starts_with('}') {
            spread(rest, before, found);
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            *rest = rest[end..].trim_start_matches(',').trim_start();
        }
        *rest = rest.strip_prefix('}').unwrap_or(rest);
        return;
    }
    let end = rest.find(|sign: char| !sign.is_alphanumeric() && sign != '_').unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    *rest = after;
    if name.is_empty() {
        return;
    }
    before.push(name.to_owned());
    match rest.strip_prefix("::") {
        Some(after) => {
            *rest = after;
            spread(rest, before, found);
        }
        None => found.push(before.clone()),
    }
    before.pop();
}

/// Modules that import each other in a cycle, if there are any.
fn circle(imports: &Imports) -> Option<Vec<String>> {
    let mut left = imports.clone();
    // A module that imports none of the remaining modules is not in a cycle.
    while let Some(leaf) = left.iter().find(|(_, found)| found.is_empty()).map(|(name, _)| name.clone()) {
        left.remove(&leaf);
        left.values_mut().for_each(|found| {
            found.remove(&leaf);
        });
    }
    let mut path = vec![left.keys().next()?.clone()];
    loop {
        let next = left[path.last()?].first()?.clone();
        if let Some(start) = path.iter().position(|name| *name == next) {
            return Some(path.split_off(start));
        }
        path.push(next);
    }
}
