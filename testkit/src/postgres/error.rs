//! Why there is no PostgreSQL, each with what to do about it.

use std::{io, path::PathBuf, process::ExitStatus};

use super::programs::FOLDER_VARIABLE;
use crate::{FileError, ProcessError};

/// Why PostgreSQL could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The programs are nowhere.
    #[error(
        "no PostgreSQL is installed: run `apt-get install postgresql`, or set `{FOLDER_VARIABLE}` to the folder that holds `initdb` and `postgres`"
    )]
    NotInstalled,
    /// `$PG_BIN` names a folder without the programs.
    #[error(
        "`{FOLDER_VARIABLE}` names `{folder}`, which does not hold `initdb` and `postgres`: unset it, or run `apt-get install postgresql`"
    )]
    NotThere {
        /// The value of the variable.
        folder: PathBuf,
    },
    /// This process is root's, and the package's user is missing.
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` to run it as: run `apt-get install postgresql`, or the tests as another user"
    )]
    NoAccount,
    /// The files of the server could not be made.
    #[error("`initdb` ended with {status}. It said:\n{output}")]
    Initdb {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// A file or process could not be worked with.
    #[error(transparent)]
    File(#[from] FileError),
    /// The server did not become ready.
    #[error(transparent)]
    Server(#[from] ProcessError),
    /// No free port could be found on the loopback interface.
    #[error("no free port on the loopback interface")]
    Port(#[source] io::Error),
}
