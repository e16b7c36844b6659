//! The errors of PostgreSQL. Each one names the next step.

use std::{io, path::PathBuf, process::ExitStatus};

use super::programs::FOLDER_VARIABLE;
use crate::{FileError, ProcessError};

/// The reason why PostgreSQL could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The programs were not found.
    #[error(
        "no PostgreSQL is installed: run `apt-get install postgresql`, or set `{FOLDER_VARIABLE}` to the folder that contains `initdb` and `postgres`"
    )]
    NotInstalled,
    /// `$PG_BIN` names a folder without the programs.
    #[error(
        "`{FOLDER_VARIABLE}` names `{folder}`, which does not contain `initdb` and `postgres`: unset it, or run `apt-get install postgresql`"
    )]
    NotThere {
        /// The value of the variable.
        folder: PathBuf,
    },
    /// Root runs this process, and the package's user does not exist.
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` to run it as: run `apt-get install postgresql`, or the tests as another user"
    )]
    NoAccount,
    /// The files of the server could not be created.
    #[error("`initdb` ended with {status}. It said:\n{output}")]
    Initdb {
        /// The exit status.
        status: ExitStatus,
        /// The end of the output.
        output: String,
    },
    /// An operation on a file or process failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The server did not become ready.
    #[error(transparent)]
    Server(#[from] ProcessError),
    /// No free port could be found on the loopback interface.
    #[error("no free port on the loopback interface")]
    Port(#[source] io::Error),
}
