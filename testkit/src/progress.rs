//! Progress reports for a user who waits.

use std::{fmt, time::Duration};

/// A step in the preparation of a test's surroundings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Another process is filling the cache; this one waits for it.
    WaitingForCache {
        /// The content of the cache.
        what: &'static str,
    },
    /// The official archive is being downloaded.
    Downloading {
        /// The URL.
        url: String,
    },
    /// The official archive can't be used, so the test kit builds the servers.
    NoArchive {
        /// The reason.
        why: String,
    },
    /// A build has begun.
    Building {
        /// The program.
        binary: &'static str,
        /// Its version.
        version: String,
        /// The build tool.
        tool: &'static str,
        /// The usual duration on a small machine, the first time.
        usually: &'static str,
    },
    /// The build is not finished yet.
    StillBuilding {
        /// The program.
        binary: &'static str,
        /// The time since its start.
        elapsed: Duration,
    },
    /// The result is now in the cache.
    Built {
        /// The program.
        binary: &'static str,
        /// The duration.
        elapsed: Duration,
    },
    /// Something ended, and its folder is kept.
    Kept {
        /// The thing that ended.
        what: &'static str,
        /// The folder with the logs.
        folder: std::path::PathBuf,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForCache { what } => {
                write!(f, "waiting for another process that prepares {what}")
            }
            Self::Downloading { url } => write!(f, "downloading `{url}`"),
            Self::NoArchive { why } => {
                write!(f, "building the control plane with go, because {why}")
            }
            Self::Building { binary, version, tool, usually } => {
                write!(f, "building `{binary}` {version} with {tool} (about {usually} the first time)")
            }
            Self::StillBuilding { binary, elapsed } => {
                write!(f, "still building `{binary}`, {} s so far", elapsed.as_secs())
            }
            Self::Built { binary, elapsed } => {
                write!(f, "built `{binary}` in {} s", elapsed.as_secs())
            }
            Self::Kept { what, folder } => {
                write!(f, "the logs of {what} stay in `{}`", folder.display())
            }
        }
    }
}

/// The receiver of the [`Step`]s.
pub trait Progress: Send + Sync {
    /// Called at each step, and every 15 s during a long one.
    fn step(&self, step: &Step);
}

impl<F: Fn(&Step) + Send + Sync> Progress for F {
    fn step(&self, step: &Step) {
        self(step);
    }
}

/// One line for each step on stderr: the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Progress for Stderr {
    #[expect(clippy::print_stderr, reason = "a wait of minutes without a word looks like a hang")]
    fn step(&self, step: &Step) {
        eprintln!("testkit: {step}");
    }
}
