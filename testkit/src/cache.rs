//! Folders in the user's cache directory, for what takes long to make: it is made once, for all processes and for the
//! next ones.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{FileError, Progress, Step};

/// The folder for things of this kind; `None` where the user has no cache directory.
pub(crate) fn folder(kind: &str) -> Option<PathBuf> {
    let directories = directories::BaseDirs::new()?;
    Some(directories.cache_dir().join("servicekey-operator").join(kind))
}

/// What tells things apart that are made from different sources; fit for the name of a folder.
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

/// Makes the folder, where there is none, and locks it: whoever fills it is alone. The lock goes with the file that is
/// returned, thus also with the process. `what` is for those who wait.
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

/// Makes what is finished appear in the folder under this name at once, so that nobody ever uses half of it.
pub(crate) fn publish(finished: &Path, folder: &Path, name: &str) -> Result<(), FileError> {
    let path = folder.join(name);
    fs::rename(finished, &path).map_err(FileError::of("move into place", path))
}
