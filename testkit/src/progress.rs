//! Telling whoever waits what takes so long.

use std::{fmt, time::Duration};

/// What is being done to get what a test runs against.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Another process is filling the cache; this one waits for it.
    WaitingForCache {
        /// With what.
        what: &'static str,
    },
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
    /// A build was started.
    Building {
        /// What is built.
        binary: &'static str,
        /// Which version of it.
        version: String,
        /// With which tool.
        tool: &'static str,
        /// How long that takes on a small machine, the first time.
        usually: &'static str,
    },
    /// The build is still at work.
    StillBuilding {
        /// What is built.
        binary: &'static str,
        /// Since when.
        elapsed: Duration,
    },
    /// The result is in the cache from now on.
    Built {
        /// What was built.
        binary: &'static str,
        /// How long it took.
        elapsed: Duration,
    },
    /// Something ended and its folder stays.
    Kept {
        /// What ended.
        what: &'static str,
        /// Where the logs are.
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

/// Where the [`Step`]s are told.
pub trait Progress: Send + Sync {
    /// Called at each step, and every 15 s during one that is long.
    fn step(&self, step: &Step);
}

impl<F: Fn(&Step) + Send + Sync> Progress for F {
    fn step(&self, step: &Step) {
        self(step);
    }
}

/// One line per step on stderr; what everything here uses unless told otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Progress for Stderr {
    #[expect(clippy::print_stderr, reason = "a wait of minutes without a word looks like a hang")]
    fn step(&self, step: &Step) {
        eprintln!("testkit: {step}");
    }
}
