//! Builds a program with Go from the public modules.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use tokio::{process::Command, time::Instant};

use crate::{FileError, Progress, Stderr, Step, cache, process::tail, tool};

/// One program, and the module that it is built in.
pub(crate) struct Program<'a> {
    /// The name of its file in the cache.
    pub binary: &'static str,
    pub version: &'a str,
    /// The duration of the first build on a small machine.
    pub usually: &'static str,
    /// The module's files, by name.
    pub module: &'a [(&'a str, &'a str)],
    pub package: &'a str,
    pub linker_flags: &'a str,
}

/// The reason why a program was not built.
#[derive(Debug)]
pub(crate) enum BuildError {
    /// The user has no cache directory for the program.
    NoCacheDirectory,
    /// Go is not installed.
    NoGo,
    /// `go build` failed, with this end of its output.
    Failed {
        status: ExitStatus,
        output: String,
    },
    File(FileError),
}

impl From<FileError> for BuildError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl Program<'_> {
    /// The path of the program in the cache, in a folder of its own. Builds it if it is not there yet.
    pub(crate) async fn cached(&self) -> Result<PathBuf, BuildError> {
        let texts: Vec<&str> = self.module.iter().map(|(_, text)| *text).collect();
        let digest = cache::digest(&texts);
        let key = format!("{}-{digest}-{}-{}", self.version, std::env::consts::OS, std::env::consts::ARCH);
        let folder = cache::folder(self.binary).ok_or(BuildError::NoCacheDirectory)?.join(key);
        let path = folder.join(self.binary);
        if path.is_file() {
            return Ok(path);
        }
        let _lock = cache::lock(&folder, self.binary, &Stderr).await?;
        if !path.is_file() {
            self.build(Path::new("go"), &folder, &Stderr).await?;
        }
        Ok(path)
    }

    /// Builds the program into a folder of the cache, with this Go tool.
    pub(crate) async fn build(
        &self,
        go: &Path,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<(), BuildError> {
        let Self { binary, version, usually, module, package, linker_flags } = *self;
        progress.step(&Step::Building { binary, version: version.to_owned(), tool: "go", usually });
        let began = Instant::now();

        // A folder in the cache, because a rename from the temporary folder might cross file systems.
        let place = tempfile::tempdir_in(folder).map_err(FileError::of("create a folder in", folder))?;
        for (name, content) in module {
            let path = place.path().join(name);
            fs::write(&path, content).map_err(FileError::of("write", path))?;
        }
        let finished = place.path().join(binary);
        let mut build = Command::new(go);
        build
            .args(["build", "-trimpath", "-ldflags", linker_flags, "-o"])
            .arg(&finished)
            .arg(package)
            .current_dir(place.path())
            .envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=readonly"), ("GOWORK", "off")]);
        let output = tool::run(&mut build, binary, progress).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BuildError::NoGo,
            _ => BuildError::File(FileError::of("run", go)(error)),
        })?;
        if !output.status.success() {
            let output_tail = tail(&String::from_utf8_lossy(&output.stderr));
            return Err(BuildError::Failed { status: output.status, output: output_tail });
        }
        cache::publish(&finished, folder, binary)?;
        progress.step(&Step::Built { binary, elapsed: began.elapsed() });
        Ok(())
    }
}

/// The oldest Go that can build a module, from its `go.mod`.
pub(crate) fn oldest_go(go_mod: &str) -> &str {
    go_mod.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or_default()
}

/// The version of a module that a `go.mod` requires.
pub(crate) fn required_version<'a>(go_mod: &'a str, module: &str) -> &'a str {
    go_mod
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let rest = line.strip_prefix("require ").unwrap_or(line);
            rest.strip_prefix(module)?.strip_prefix(' ')?.split_whitespace().next()
        })
        .find(|version| version.starts_with('v'))
        .unwrap_or_default()
}
