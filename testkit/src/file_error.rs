//! Files and processes that can't be worked with.

use std::{io, path::PathBuf};

/// A file or process could not be worked with.
#[derive(Debug, thiserror::Error)]
#[error("can't {doing} `{path}`")]
pub struct FileError {
    /// What was attempted.
    pub doing: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
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
