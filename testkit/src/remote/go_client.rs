//! The real, unmodified Go clients of remote sides, which keep the fakes honest; and clients that read the operator's
//! objects.
//!
//! Each program is built once, in a pinned version, and cached in the user's cache directory.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command, sync::OnceCell};

use crate::{
    FileError,
    go::{BuildError, Program, oldest_go, required_version},
    process::tail,
};

/// The program of one client.
pub(crate) struct Sources {
    /// The name of the remote side in messages.
    pub side: &'static str,
    /// The name of the program's file.
    pub binary: &'static str,
    /// The module of the client, whose version is the program's.
    pub module: &'static str,
    pub go_mod: &'static str,
    pub go_sum: &'static str,
    /// The Go code by file name.
    pub code: &'static [(&'static str, &'static str)],
    /// The time of the first build on a small machine.
    pub usually: &'static str,
    /// Built once for all tests of this process.
    pub program: OnceCell<PathBuf>,
}

/// A program that uses a client.
#[derive(Clone, Copy, Debug)]
pub struct GoClient {
    side: &'static str,
    program: &'static Path,
}

/// A client can't be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoClientError {
    /// The user has no cache directory for the program.
    #[error("no cache directory to keep the {side} client in: set `HOME` or `XDG_CACHE_HOME`")]
    NoCacheDirectory {
        /// The remote side.
        side: &'static str,
    },
    /// Go is not installed.
    #[error(
        "the {side} client has to be built, and `go` is not on the `PATH`: install Go {oldest} or newer, on Debian with `apt-get install golang-go`"
    )]
    NoGo {
        /// The remote side.
        side: &'static str,
        /// The oldest Go that can build it.
        oldest: &'static str,
    },
    /// `go build` failed.
    #[error(
        "`go build` of the {side} client ended with {status}; check that the Go module proxy can be reached. It said:\n{output}"
    )]
    Build {
        /// The remote side.
        side: &'static str,
        /// Its exit status.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// The fake refused the client.
    #[error("the {side} client ended with {status}. It said:\n{output}")]
    Refused {
        /// The remote side.
        side: &'static str,
        /// Its exit status.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// The output of the client is not JSON.
    #[error("the client's report is unreadable")]
    Report(#[from] serde_json::Error),
    /// An operation on a file or the process failed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl GoClient {
    /// Returns the program, and builds it if necessary.
    ///
    /// # Errors
    /// The build failed, or a tool for it is missing.
    pub(crate) async fn of(sources: &'static Sources) -> Result<Self, GoClientError> {
        let program = sources.program.get_or_try_init(|| build(sources)).await?;
        Ok(Self { side: sources.side, program })
    }

    /// Lets the client carry out the order, and returns its report. The program describes both.
    ///
    /// # Errors
    /// The fake refused the client.
    pub async fn run(self, order: &Value) -> Result<Value, GoClientError> {
        let mut client = Command::new(self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(FileError::of("start", self.program))?;
        // The pipe hides the secrets of the order from other processes. Closing it ends the order.
        if let Some(mut stdin) = client.stdin.take() {
            stdin
                .write_all(order.to_string().as_bytes())
                .await
                .map_err(FileError::of("write to", self.program))?;
        }
        let output = client.wait_with_output().await.map_err(FileError::of("wait for", self.program))?;
        if !output.status.success() {
            let said = tail(&String::from_utf8_lossy(&output.stderr));
            return Err(GoClientError::Refused { side: self.side, status: output.status, output: said });
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

async fn build(sources: &'static Sources) -> Result<PathBuf, GoClientError> {
    let Sources { side, binary, module, go_mod, go_sum, code, usually, program: _ } = *sources;
    let version = required_version(go_mod, module);
    let module = [&[("go.mod", go_mod), ("go.sum", go_sum)], code].concat();
    let program = Program { binary, version, usually, module: &module, package: ".", linker_flags: "-s -w" };
    program.cached().await.map_err(|error| match error {
        BuildError::NoCacheDirectory => GoClientError::NoCacheDirectory { side },
        BuildError::NoGo => GoClientError::NoGo { side, oldest: oldest_go(go_mod) },
        BuildError::Failed { status, output } => GoClientError::Build { side, status, output },
        BuildError::File(error) => error.into(),
    })
}
