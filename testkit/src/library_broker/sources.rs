//! Finds the brokers in the cache, and fills it with `pip` and Go.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
};

use tokio::{process::Command, time::Instant};

use super::Error;
use crate::{
    FileError, Progress, Step,
    cache::{self, digest, publish},
    go::{BuildError, Program, oldest_go, required_version},
    process::tail,
    tool,
};

const REQUIREMENTS: &str = include_str!("../../brokers/python/requirements.txt");
const GO_MOD: &str = include_str!("../../brokers/go/go.mod");
const GO_SUM: &str = include_str!("../../brokers/go/go.sum");
const MAIN_GO: &str = include_str!("../../brokers/go/main.go");

/// The identity of a Python: a virtual environment works with no other Python.
const DESCRIBE: &str = "import sys; print(sys.executable, sys.version)";

/// The text for a process that waits until another one has filled the cache.
const WHAT: &str = "the brokers";

/// The cache and the tools.
pub(super) struct Sources {
    cache: PathBuf,
    python: PathBuf,
    go: PathBuf,
    progress: Arc<dyn Progress>,
}

impl Sources {
    pub(super) fn from_environment(progress: Arc<dyn Progress>) -> Result<Self, Error> {
        let cache = cache::folder("brokers").ok_or(Error::NoCacheDirectory)?;
        Ok(Self { cache, python: "python3".into(), go: "go".into(), progress })
    }

    /// The Python of the virtual environment with the library. Creates the environment if necessary.
    pub(super) async fn python(&self) -> Result<PathBuf, Error> {
        let described = self.describe_python().await?;
        let folder = self.folder("python", &digest(&[REQUIREMENTS, &described]));
        let python = folder.join("venv/bin/python");
        if !python.is_file() {
            let _lock = cache::lock(&folder, WHAT, &*self.progress).await?;
            if !python.is_file() {
                self.make_venv(&folder).await?;
            }
        }
        Ok(python)
    }

    /// The broker in Go, built if necessary.
    pub(super) async fn go_broker(&self) -> Result<PathBuf, Error> {
        let folder = self.folder("go", &digest(&[GO_MOD, GO_SUM, MAIN_GO]));
        let broker = folder.join("brokerapi-broker");
        if !broker.is_file() {
            let _lock = cache::lock(&folder, WHAT, &*self.progress).await?;
            if !broker.is_file() {
                self.build_go_broker(&folder).await?;
            }
        }
        Ok(broker)
    }

    fn folder(&self, language: &str, digest: &str) -> PathBuf {
        let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
        self.cache.join(format!("{language}-{digest}-{platform}"))
    }

    async fn describe_python(&self) -> Result<String, Error> {
        let described = Command::new(&self.python).args(["-I", "-c", DESCRIBE]).output().await;
        match described {
            Ok(described) => Ok(String::from_utf8_lossy(&described.stdout).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoPython),
            Err(error) => Err(FileError::of("run", &self.python)(error).into()),
        }
    }

    async fn make_venv(&self, folder: &Path) -> Result<(), Error> {
        let binary = "openbrokerapi-venv";
        let version = pinned_version("openbrokerapi").to_owned();
        self.progress.step(&Step::Building { binary, version, tool: "pip", usually: "15 seconds" });
        let began = Instant::now();

        let place = tempfile::tempdir_in(folder).map_err(FileError::of("create a folder in", folder))?;
        let requirements = place.path().join("requirements.txt");
        fs::write(&requirements, REQUIREMENTS).map_err(FileError::of("write", &requirements))?;
        let venv = place.path().join("venv");
        let mut make = Command::new(&self.python);
        let made = self.run(make.args(["-I", "-m", "venv"]).arg(&venv), binary).await?;
        if !made.status.success() {
            return Err(Error::Venv { status: made.status, output: all_said(&made) });
        }
        let mut install = Command::new(venv.join("bin/python"));
        install.args(["-I", "-m", "pip", "install", "--no-input", "--require-hashes", "--requirement"]);
        let installed = self.run(install.arg(&requirements), binary).await?;
        if !installed.status.success() {
            return Err(Error::Pip { status: installed.status, output: all_said(&installed) });
        }
        publish(&venv, folder, "venv")?;
        self.progress.step(&Step::Built { binary, elapsed: began.elapsed() });
        Ok(())
    }

    async fn run(&self, command: &mut Command, binary: &'static str) -> Result<Output, FileError> {
        let program = PathBuf::from(command.as_std().get_program());
        tool::run(command, binary, &*self.progress).await.map_err(FileError::of("run", program))
    }

    async fn build_go_broker(&self, folder: &Path) -> Result<(), Error> {
        let program = Program {
            binary: "brokerapi-broker",
            version: required_version(GO_MOD, "code.cloudfoundry.org/brokerapi/v13"),
            usually: "15 seconds",
            module: &[("go.mod", GO_MOD), ("go.sum", GO_SUM), ("main.go", MAIN_GO)],
            package: ".",
            linker_flags: "-s -w",
        };
        program.build(&self.go, folder, &*self.progress).await.map_err(|error| match error {
            BuildError::NoCacheDirectory => Error::NoCacheDirectory,
            BuildError::NoGo => Error::NoGo { oldest: oldest_go(GO_MOD) },
            BuildError::Failed { status, output } => Error::Go { status, output },
            BuildError::File(error) => error.into(),
        })
    }
}

/// The version of a package in the requirements.
fn pinned_version(package: &str) -> &'static str {
    let pinned = REQUIREMENTS.lines().filter_map(|line| line.strip_prefix(package)?.strip_prefix("=="));
    pinned.filter_map(|version| version.split_whitespace().next()).next().unwrap_or_default()
}

/// The end of a tool's output. Python explains on stdout why it can't create a virtual environment.
fn all_said(output: &Output) -> String {
    let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
    tail(said.concat().trim())
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
