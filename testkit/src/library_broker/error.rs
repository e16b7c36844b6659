//! What can go wrong with such a broker, each with what to do about it.

use std::process::ExitStatus;

use crate::{FileError, ProcessError};

/// Why a broker could not be started or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The user has no cache directory to keep the libraries in.
    #[error("no cache directory to keep the brokers in: set `HOME` or `XDG_CACHE_HOME`")]
    NoCacheDirectory,
    /// There is no Python.
    #[error(
        "a broker needs Python, and `python3` is not on the `PATH`: install Python 3.10 or newer, on Debian with `apt-get install python3 python3-venv`"
    )]
    NoPython,
    /// Python can't make a virtual environment.
    #[error(
        "`python3 -m venv` ended with {status}: install what it lacks, on Debian with `apt-get install python3-venv`. It said:\n{output}"
    )]
    Venv {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// The library could not be installed.
    #[error(
        "`pip install` of a broker's library ended with {status}; check that the package index can be reached. It said:\n{output}"
    )]
    Pip {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// There is no Go.
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
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// A file could not be worked with.
    #[error(transparent)]
    File(#[from] FileError),
    /// The broker did not become ready.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The broker does not answer the test.
    #[error("the broker does not tell the test how it is")]
    Testing(#[from] reqwest::Error),
}
