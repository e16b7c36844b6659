//! Errors of files and processes.

use std::{io, path::PathBuf};

/// An operation on a file or process failed.
#[derive(Debug, thiserror::Error)]
#[error("can't {doing} `{path}`")]
pub struct FileError {
    /// The attempted action.
    pub doing: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// For `map_err` on file and process operations.
    pub(crate) fn of(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { doing, path, source }
    }
}
