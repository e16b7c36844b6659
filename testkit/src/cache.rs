//! Folders in the user's cache directory, for files that take long to build: they are built once, and all later
//! processes use them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{FileError, Progress, Step};

/// The folder for this kind of files; `None` if the user has no cache directory.
pub(crate) fn folder(kind: &str) -> Option<PathBuf> {
    let directories = directories::BaseDirs::new()?;
    Some(directories.cache_dir().join("servicekey-operator").join(kind))
}

/// A digest of the sources, to separate results of different sources. It is valid as the name of a folder.
pub(crate) fn digest(sources: &[&str]) -> String {
    let mut digest = Sha256::new();
    for source in sources {
        digest.update(source);
    }
    hex(&digest.finalize()[..6])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Creates the folder if it does not exist, and locks it, so that only one process fills it. The lock ends when the
/// returned file is closed, also by the end of the process. `what` describes the wait to the user.
pub(crate) async fn lock(
    folder: &Path,
    what: &'static str,
    progress: &dyn Progress,
) -> Result<File, FileError> {
    fs::create_dir_all(folder).map_err(FileError::of("create", folder))?;
    let path = folder.join("lock");
    let file = File::create(&path).map_err(FileError::of("create", &path))?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    progress.step(&Step::WaitingForCache { what });
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    match locked {
        Ok(file) => file.map_err(FileError::of("lock", path)),
        Err(error) => Err(FileError::of("lock", path)(error.into())),
    }
}

/// Moves a finished result into the folder under this name in one step, so that no process ever uses half of it.
pub(crate) fn publish(finished: &Path, folder: &Path, name: &str) -> Result<(), FileError> {
    let path = folder.join(name);
    fs::rename(finished, &path).map_err(FileError::of("move into place", path))
}
