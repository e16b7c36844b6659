//! The real promtool: metrics, rules and queries are checked by those who will read them.
//!
//! It is built once, in the version of the Go module in `testkit/promtool/`, and kept in the user's cache directory.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use tokio::{io::AsyncWriteExt as _, process::Command, sync::OnceCell};

use crate::{
    FileError, Stderr, cache,
    go::{BuildError, Program, oldest_go, required_version},
};

const BINARY: &str = "promtool";
const GO_MOD: &str = include_str!("../promtool/go.mod");
const GO_SUM: &str = include_str!("../promtool/go.sum");

/// Prepared once for all tests of this process, however many begin at once.
static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();

/// Why promtool could not be built, or what it finds fault with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromtoolError {
    /// The user has no cache directory to keep the program in.
    #[error("no cache directory to keep promtool in: set `HOME` or `XDG_CACHE_HOME`")]
    NoCacheDirectory,
    /// There is no Go.
    #[error(
        "promtool has to be built, and `go` is not on the `PATH`: install Go {oldest} or newer, on Debian with `apt-get install golang-go`"
    )]
    NoGo {
        /// The oldest Go that can build it.
        oldest: &'static str,
    },
    /// `go build` failed.
    #[error(
        "`go build` of promtool ended with {status}; check that the Go module proxy can be reached. It said:\n{output}"
    )]
    Build {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// It finds fault.
    #[error("`promtool {arguments}` ended with {status}. It said:\n{output}")]
    Refused {
        /// What it was asked.
        arguments: String,
        /// How it ended.
        status: ExitStatus,
        /// All that it printed.
        output: String,
    },
    /// A file or the process could not be worked with.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Runs promtool, built if it is not yet, with this on its standard input, and gives what it printed.
///
/// # Errors
/// [`PromtoolError`] says what is missing, how the build ended, or what promtool finds fault with.
pub async fn promtool(arguments: &[&str], input: &str) -> Result<String, PromtoolError> {
    let program = PROGRAM.get_or_try_init(build).await?;
    let mut promtool = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(FileError::of("start", program))?;
    let stdin = promtool.stdin.take();
    let write = async {
        match stdin {
            Some(mut stdin) => stdin.write_all(input.as_bytes()).await,
            None => Ok(()),
        }
    };
    // At the same time: it may end before it has read all, which its output explains.
    let (_, output) = tokio::join!(write, promtool.wait_with_output());
    let output = output.map_err(FileError::of("wait for", program))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        let arguments = arguments.join(" ");
        Err(PromtoolError::Refused { arguments, status: output.status, output: said })
    }
}

async fn build() -> Result<PathBuf, PromtoolError> {
    let version = required_version(GO_MOD, "github.com/prometheus/prometheus");
    let digest = cache::digest(&[GO_MOD, GO_SUM]);
    let key = format!("{version}-{digest}-{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let folder = cache::folder(BINARY).ok_or(PromtoolError::NoCacheDirectory)?.join(key);
    let path = folder.join(BINARY);
    if path.is_file() {
        return Ok(path);
    }
    let _lock = cache::lock(&folder, BINARY, &Stderr).await?;
    if path.is_file() {
        return Ok(path);
    }
    let program = Program {
        binary: BINARY,
        version,
        usually: "4 minutes",
        module: &[("go.mod", GO_MOD), ("go.sum", GO_SUM)],
        package: "github.com/prometheus/prometheus/cmd/promtool",
        linker_flags: "-s -w",
    };
    program.build(Path::new("go"), &folder, &Stderr).await.map_err(|error| match error {
        BuildError::NoGo => PromtoolError::NoGo { oldest: oldest_go(GO_MOD) },
        BuildError::Failed { status, output } => PromtoolError::Build { status, output },
        BuildError::File(error) => error.into(),
    })?;
    Ok(path)
}
