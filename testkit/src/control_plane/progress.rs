//! Telling whoever waits what takes so long.

use std::{fmt, time::Duration};

/// What is being done to get a control plane.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Another process is filling the cache; this one waits for it.
    WaitingForCache,
    /// The official archive is being downloaded.
    Downloading {
        /// From where.
        url: String,
    },
    /// The official archive can't be used, so the servers are built.
    NoArchive {
        /// Why not.
        why: String,
    },
    /// `go build` was started.
    Building {
        /// Which server.
        binary: &'static str,
        /// Which version of it.
        version: String,
        /// How long that takes on a small machine, the first time.
        usually: &'static str,
    },
    /// `go build` is still at work.
    StillBuilding {
        /// Which server.
        binary: &'static str,
        /// Since when.
        elapsed: Duration,
    },
    /// The binary is in the cache from now on.
    Built {
        /// Which server.
        binary: &'static str,
        /// How long it took.
        elapsed: Duration,
    },
    /// A plane ended and its folder stays.
    Kept {
        /// Where the logs are.
        folder: std::path::PathBuf,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForCache => {
                f.write_str("waiting for another process that prepares the control plane")
            }
            Self::Downloading { url } => write!(f, "downloading `{url}`"),
            Self::NoArchive { why } => {
                write!(f, "building the control plane with go, because {why}")
            }
            Self::Building { binary, version, usually } => {
                write!(f, "building `{binary}` {version} with go (about {usually} the first time)")
            }
            Self::StillBuilding { binary, elapsed } => {
                write!(f, "still building `{binary}`, {} s so far", elapsed.as_secs())
            }
            Self::Built { binary, elapsed } => {
                write!(f, "built `{binary}` in {} s", elapsed.as_secs())
            }
            Self::Kept { folder } => {
                write!(f, "the control plane's logs stay in `{}`", folder.display())
            }
        }
    }
}

/// Where the [`Step`]s of getting a control plane are told.
pub trait Progress: Send + Sync {
    /// Called at each step, and every 15 s during one that is long.
    fn step(&self, step: &Step);
}

impl<F: Fn(&Step) + Send + Sync> Progress for F {
    fn step(&self, step: &Step) {
        self(step);
    }
}

/// One line per step on stderr; what a [`Builder`](super::Builder) uses unless told otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Progress for Stderr {
    #[expect(clippy::print_stderr, reason = "a wait of minutes without a word looks like a hang")]
    fn step(&self, step: &Step) {
        eprintln!("testkit: {step}");
    }
}
