//! The real, unmodified Go client of Cloud Foundry, so that the fake can't be wrong in a way that suits us.
//!
//! The program in `testkit/cloudfoundry-client/` is built once, in a pinned version, and kept in the user's cache
//! directory.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command, sync::OnceCell};

use crate::{
    FileError, Stderr, cache,
    go::{BuildError, Program, oldest_go, required_version},
    process::tail,
};

const BINARY: &str = "cloudfoundry-client";
const GO_MOD: &str = include_str!("../../cloudfoundry-client/go.mod");
const GO_SUM: &str = include_str!("../../cloudfoundry-client/go.sum");
const MAIN_GO: &str = include_str!("../../cloudfoundry-client/main.go");

/// Prepared once for all tests of this process, however many begin at once.
static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();

/// A program that uses the client.
#[derive(Clone, Copy, Debug)]
pub struct GoClient {
    program: &'static Path,
}

/// Why the client could not be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoClientError {
    /// The user has no cache directory to keep the program in.
    #[error("no cache directory to keep the Cloud Foundry client in: set `HOME` or `XDG_CACHE_HOME`")]
    NoCacheDirectory,
    /// There is no Go.
    #[error(
        "the Cloud Foundry client has to be built, and `go` is not on the `PATH`: install Go {oldest} or newer, on Debian with `apt-get install golang-go`"
    )]
    NoGo {
        /// The oldest Go that can build it.
        oldest: &'static str,
    },
    /// `go build` failed.
    #[error(
        "`go build` of the Cloud Foundry client ended with {status}; check that the Go module proxy can be reached. It said:\n{output}"
    )]
    Build {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// The client did not get what it wanted from the fake.
    #[error("the Cloud Foundry client ended with {status}. It said:\n{output}")]
    Refused {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// What the client printed is no JSON.
    #[error("the Cloud Foundry client's report is unreadable")]
    Report(#[from] serde_json::Error),
    /// A file or the process could not be worked with.
    #[error(transparent)]
    File(#[from] FileError),
}

impl GoClient {
    /// The program, built if it is not yet.
    ///
    /// # Errors
    /// [`GoClientError`] says what is missing, or how the build ended.
    pub async fn find() -> Result<Self, GoClientError> {
        let program = PROGRAM.get_or_try_init(build).await?;
        Ok(Self { program })
    }

    /// Lets the client do what the order says, and gives its report. Both are described in the program.
    ///
    /// # Errors
    /// The client was refused what it wanted.
    pub async fn run(self, order: &Value) -> Result<Value, GoClientError> {
        let mut client = Command::new(self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(FileError::of("start", self.program))?;
        // The order goes through the pipe, where nobody sees its secrets; closing that is its end.
        if let Some(mut stdin) = client.stdin.take() {
            stdin
                .write_all(order.to_string().as_bytes())
                .await
                .map_err(FileError::of("write to", self.program))?;
        }
        let output = client.wait_with_output().await.map_err(FileError::of("wait for", self.program))?;
        if !output.status.success() {
            let said = tail(&String::from_utf8_lossy(&output.stderr));
            return Err(GoClientError::Refused { status: output.status, output: said });
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

async fn build() -> Result<PathBuf, GoClientError> {
    let version = required_version(GO_MOD, "github.com/cloudfoundry/go-cfclient/v3");
    let digest = cache::digest(&[GO_MOD, GO_SUM, MAIN_GO]);
    let key = format!("{version}-{digest}-{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let folder = cache::folder(BINARY).ok_or(GoClientError::NoCacheDirectory)?.join(key);
    let path = folder.join(BINARY);
    if path.is_file() {
        return Ok(path);
    }
    let _lock = cache::lock(&folder, "the Cloud Foundry client", &Stderr).await?;
    if !path.is_file() {
        let program = Program {
            binary: BINARY,
            version,
            usually: "30 seconds",
            module: &[("go.mod", GO_MOD), ("go.sum", GO_SUM), ("main.go", MAIN_GO)],
            package: ".",
            linker_flags: "-s -w",
        };
        program.build(Path::new("go"), &folder, &Stderr).await.map_err(|error| match error {
            BuildError::NoGo => GoClientError::NoGo { oldest: oldest_go(GO_MOD) },
            BuildError::Failed { status, output } => GoClientError::Build { status, output },
            BuildError::File(error) => error.into(),
        })?;
    }
    Ok(path)
}
