//! What can go wrong while a control plane is started or used, each with what to do about it.

use std::{io, path::PathBuf, process::ExitStatus};

use crate::{FileError, ProcessError};

/// Why a control plane could not be started or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `$KUBEBUILDER_ASSETS` was set, to a folder without the servers.
    #[error(
        "`KUBEBUILDER_ASSETS` names `{folder}`, which holds no `{binary}`: unset it, or set it to the folder that `setup-envtest use -p path` prints"
    )]
    Assets {
        /// The value of the variable.
        folder: PathBuf,
        /// The file that is missing there.
        binary: &'static str,
    },
    /// The user has no cache directory to keep the binaries in.
    #[error("no cache directory to keep the control plane in: set `HOME` or `XDG_CACHE_HOME`")]
    NoCacheDirectory,
    /// A binary has to be built, and Go is not installed.
    #[error(
        "`{binary}` {version} has to be built, and `go` is not on the `PATH`: install Go {go} or newer from https://go.dev/dl, or set `KUBEBUILDER_ASSETS` to a folder that holds the binaries"
    )]
    NoGo {
        /// What was to be built.
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
        /// What was being built.
        binary: &'static str,
        /// How `go` ended.
        status: ExitStatus,
        /// The end of what it printed.
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
    /// The port that the builder was told to use can't be listened on.
    #[error("port {port} can't be used: {why}")]
    ApiPort {
        /// The port.
        port: u16,
        /// Why not.
        why: io::ErrorKind,
    },
    /// The certificates of the API server could not be made.
    #[error("can't make the certificates of the API server")]
    Certificates(#[from] rcgen::Error),
    /// Every user of the token file is in use.
    #[error("all {0} users of this control plane are handed out: ask the builder for more `users`")]
    NoUserLeft(usize),
    /// The API server refused a request that the test kit made for itself.
    #[error("can't {doing}")]
    Kubernetes {
        /// What was attempted.
        doing: String,
        /// What the client said.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object could not be put into the store.
    #[error("can't put `{path}` into etcd")]
    Store {
        /// Where.
        path: String,
        /// What the client said.
        #[source]
        source: reqwest::Error,
    },
    /// Something did not come about in time.
    #[error("{what} did not happen within {seconds} s")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// A file that the test kit writes or reads has not the form it should have.
    #[error("can't read or write `{file}`: {why}")]
    Format {
        /// Which file.
        file: &'static str,
        /// What is wrong with it.
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

    /// A server lost the race for its port, so that another port may do.
    pub(super) fn is_port_taken(&self) -> bool {
        matches!(self, Self::Server(error) if error.is_port_taken())
    }
}
