//! The errors of such a broker. Each one names the next step.

use std::process::ExitStatus;

use crate::{FileError, ProcessError};

/// The reason why a broker could not be started or called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The user has no cache directory for the libraries.
    #[error("no cache directory to keep the brokers in: set `HOME` or `XDG_CACHE_HOME`")]
    NoCacheDirectory,
    /// Python is not installed.
    #[error(
        "a broker needs Python, and `python3` is not on the `PATH`: install Python 3.10 or newer, on Debian with `apt-get install python3 python3-venv`"
    )]
    NoPython,
    /// Python can't create a virtual environment.
    #[error(
        "`python3 -m venv` ended with {status}: install what it lacks, on Debian with `apt-get install python3-venv`. It said:\n{output}"
    )]
    Venv {
        /// The exit status.
        status: ExitStatus,
        /// The end of the output.
        output: String,
    },
    /// The library could not be installed.
    #[error(
        "`pip install` of a broker's library ended with {status}; check that the package index can be reached. It said:\n{output}"
    )]
    Pip {
        /// The exit status.
        status: ExitStatus,
        /// The end of the output.
        output: String,
    },
    /// Go is not installed.
    #[error(
        "a broker has to be built, and `go` is not on the `PATH`: install Go {oldest} or newer, on Debian with `apt-get install golang-go`"
    )]
    NoGo {
        /// The oldest Go that can build it.
        oldest: &'static str,
    },
    /// `go build` failed.
    #[error(
        "`go build` of a broker ended with {status}; check that the Go module proxy can be reached. It said:\n{output}"
    )]
    Go {
        /// The exit status.
        status: ExitStatus,
        /// The end of the output.
        output: String,
    },
    /// An operation on a file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The broker did not become ready.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The broker does not answer a request of the test.
    #[error("the broker does not answer the test")]
    Testing(#[from] reqwest::Error),
}
