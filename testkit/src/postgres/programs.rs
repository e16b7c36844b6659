//! Finds PostgreSQL's programs.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::Error;

/// The variable that names the programs' folder. It has precedence over all installed versions.
pub(super) const FOLDER_VARIABLE: &str = "PG_BIN";
/// Debian's folder with a folder for each major version; `initdb` and `postgres` are not on its `PATH`.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The programs of one installation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
}

impl Programs {
    /// The programs that the environment names or contains.
    pub(super) fn find() -> Result<Self, Error> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self::find_in(
            variable(FOLDER_VARIABLE).as_deref().map(Path::new),
            Path::new(DEBIAN),
            &variable("PATH").unwrap_or_default(),
        )
    }

    /// A folder that the user names must contain the programs: a silent replacement would test another version than the
    /// user meant.
    fn find_in(named: Option<&Path>, debian: &Path, path: &OsStr) -> Result<Self, Error> {
        match named {
            Some(folder) => Self::of(folder).ok_or_else(|| Error::NotThere { folder: folder.to_owned() }),
            None => newest_first(debian)
                .into_iter()
                .chain(std::env::split_paths(path))
                .find_map(|folder| Self::of(&folder))
                .ok_or(Error::NotInstalled),
        }
    }

    /// Absolute paths, because the server is started in another folder.
    fn of(folder: &Path) -> Option<Self> {
        let program = |name| folder.join(name).canonicalize().ok().filter(|path| path.is_file());
        program("initdb").zip(program("postgres")).map(|(initdb, postgres)| Self { initdb, postgres })
    }
}

fn newest_first(debian: &Path) -> Vec<PathBuf> {
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let entries = fs::read_dir(debian).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut versions: Vec<_> = entries.filter_map(|path| version(&path).zip(Some(path))).collect();
    versions.sort_unstable();
    versions.into_iter().rev().map(|(_, path)| path.join("bin")).collect()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A folder with these installations in it.
    fn installed(folders: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in folders {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            for program in ["initdb", "postgres"] {
                fs::write(folder.join(program), "").unwrap();
            }
        }
        root
    }

    fn nowhere() -> &'static Path {
        Path::new("/nowhere")
    }

    #[test]
    fn the_newest_version_of_the_package_comes_first() {
        let root = installed(&["9/bin", "15/bin", "elsewhere"]);
        fs::create_dir_all(root.path().join("16/bin")).unwrap();
        let path = root.path().join("elsewhere");
        let found = Programs::find_in(None, root.path(), path.as_os_str()).unwrap();
        assert_eq!(found.postgres, root.path().canonicalize().unwrap().join("15/bin/postgres"));
    }

    #[test]
    fn without_the_package_the_path_is_searched() {
        let root = installed(&["elsewhere"]);
        let path = std::env::join_paths([nowhere(), &root.path().join("elsewhere")]).unwrap();
        let found = Programs::find_in(None, nowhere(), &path).unwrap();
        assert_eq!(Some(found), Programs::of(&root.path().join("elsewhere")));
    }

    #[test]
    fn a_named_folder_is_taken_or_refused_by_name() {
        let root = installed(&["15/bin", "mine"]);
        let mine = root.path().join("mine");
        let found = Programs::find_in(Some(&mine), root.path(), OsStr::new("")).unwrap();
        assert_eq!(Some(found), Programs::of(&mine));
        let error = Programs::find_in(Some(nowhere()), root.path(), OsStr::new("")).unwrap_err();
        assert!(error.to_string().starts_with("`PG_BIN` names `/nowhere`"), "{error}");
    }

    #[test]
    fn what_is_missing_is_told_with_the_command_that_installs_it() {
        let error = Programs::find_in(None, nowhere(), OsStr::new("")).unwrap_err();
        assert!(error.to_string().contains("`apt-get install postgresql`"), "{error}");
    }
}
