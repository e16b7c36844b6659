//! The errors of starting and using a control plane. Each one names the next step.

use std::{io, path::PathBuf, process::ExitStatus};

use crate::{FileError, ProcessError};

/// The reason why a control plane could not be started or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `$KUBEBUILDER_ASSETS` names a folder without the servers.
    #[error(
        "`KUBEBUILDER_ASSETS` names `{folder}`, which does not contain `{binary}`: unset it, or set it to the folder that `setup-envtest use -p path` prints"
    )]
    Assets {
        /// The value of the variable.
        folder: PathBuf,
        /// The file that is missing there.
        binary: &'static str,
    },
    /// The user has no cache directory for the binaries.
    #[error("no cache directory to keep the control plane in: set `HOME` or `XDG_CACHE_HOME`")]
    NoCacheDirectory,
    /// A binary has to be built, and Go is not installed.
    #[error(
        "`{binary}` {version} has to be built, and `go` is not on the `PATH`: install Go {go} or newer from https://go.dev/dl, or set `KUBEBUILDER_ASSETS` to a folder that contains the binaries"
    )]
    NoGo {
        /// The program to build.
        binary: &'static str,
        /// Its version.
        version: String,
        /// The oldest Go that can build it.
        go: String,
    },
    /// `go build` failed.
    #[error(
        "`go build` of `{binary}` ended with {status}; check that the Go module proxy can be reached. It said:\n{output}"
    )]
    Build {
        /// The program.
        binary: &'static str,
        /// The exit status of `go`.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// The official archive could not be used.
    #[error("the envtest archive can't be used: {0}")]
    Archive(String),
    /// A file or process could not be worked with.
    #[error(transparent)]
    File(#[from] FileError),
    /// A server did not become ready.
    #[error(transparent)]
    Server(#[from] ProcessError),
    /// No free port could be found on the loopback interface.
    #[error("no free port on the loopback interface")]
    Port(#[source] io::Error),
    /// The server can't listen on the port that the builder requested.
    #[error("port {port} can't be used: {why}")]
    ApiPort {
        /// The port.
        port: u16,
        /// The reason.
        why: io::ErrorKind,
    },
    /// The API server's certificates could not be created.
    #[error("can't create the certificates of the API server")]
    Certificates(#[from] rcgen::Error),
    /// All users of the token file are in use.
    #[error("all {0} users of this control plane are in use: request more with the builder's `users`")]
    NoUserLeft(usize),
    /// The API server refused a request of the test kit itself.
    #[error("can't {doing}")]
    Kubernetes {
        /// The attempted action.
        doing: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object could not be stored in etcd.
    #[error("can't store `{path}` in etcd")]
    Store {
        /// The path in etcd.
        path: String,
        /// The client's error.
        #[source]
        source: reqwest::Error,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s")]
    TimedOut {
        /// The expected event.
        what: String,
        /// The time limit, in seconds.
        seconds: u64,
    },
    /// A file that the test kit writes or reads has the wrong form.
    #[error("can't read or write `{file}`: {why}")]
    Format {
        /// The file.
        file: &'static str,
        /// The reason.
        why: String,
    },
}

impl Error {
    /// For `map_err` on file and process operations.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let file_error = FileError::of(doing, path);
        move |source| file_error(source).into()
    }

    /// For `map_err` on requests to the API server.
    pub(super) fn kubernetes(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Kubernetes { doing, source: Box::new(source) }
    }

    /// Another process took the port first, so that another port may work.
    pub(super) fn is_port_taken(&self) -> bool {
        matches!(self, Self::Server(error) if error.is_port_taken())
    }
}
