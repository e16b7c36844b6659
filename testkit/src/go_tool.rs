//! The real tools with which users install and watch the operator, in pinned versions: Helm, kustomize, Prometheus and
//! promtool. Also the definitions of other projects' custom resources that the operator's manifests contain.
//!
//! Each program is built once with Go, and kept in the user's cache directory.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use tempfile::TempDir;
use tokio::{process::Command, sync::OnceCell};

use crate::{
    FileError,
    go::{BuildError, Program, oldest_go, required_version},
};

const HELM_MOD: &str = include_str!("../helm/go.mod");
const HELM_SUM: &str = include_str!("../helm/go.sum");
const KUSTOMIZE_MOD: &str = include_str!("../kustomize/go.mod");
const KUSTOMIZE_SUM: &str = include_str!("../kustomize/go.sum");
const PROMETHEUS_MOD: &str = include_str!("../prometheus/go.mod");
const PROMETHEUS_SUM: &str = include_str!("../prometheus/go.sum");
const MONITORS_MOD: &str = include_str!("../monitors/go.mod");
const MONITORS_SUM: &str = include_str!("../monitors/go.sum");

/// The module that contains the definitions of monitors.
const PROMETHEUS_OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator";

/// A tool that is ready to run. Its home directory is empty, so it finds no settings of the user.
#[derive(Debug)]
pub struct GoTool {
    name: &'static str,
    program: PathBuf,
    home: TempDir,
}

/// The reason why a tool is missing or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoToolError {
    /// The user has no cache directory for the program.
    #[error("no cache directory to keep `{name}` in: set `HOME` or `XDG_CACHE_HOME`")]
    NoCacheDirectory {
        /// The tool.
        name: &'static str,
    },
    /// Go is not installed.
    #[error(
        "`{name}` has to be prepared, and `go` is not on the `PATH`: install Go {oldest} or newer, on Debian with `apt-get install golang-go`"
    )]
    NoGo {
        /// The tool.
        name: &'static str,
        /// The oldest Go that can build it.
        oldest: &'static str,
    },
    /// Go could not build the tool.
    #[error(
        "go ended with {status} when it prepared `{name}`; check that the Go module proxy can be reached. It said:\n{output}"
    )]
    Build {
        /// The tool.
        name: &'static str,
        /// The exit status of Go.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// The tool failed.
    #[error("`{name}` ended with {status}. It said:\n{output}")]
    Refused {
        /// The tool.
        name: &'static str,
        /// The exit status.
        status: ExitStatus,
        /// The output.
        output: String,
    },
    /// The definition of another project can't be read.
    #[error("the definition in `{path}` is unreadable: {why}")]
    Definition {
        /// Its file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// An operation on a file or the process failed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl GoTool {
    /// Helm, built if necessary.
    ///
    /// # Errors
    /// [`GoToolError`] names what is missing, or how the build ended.
    pub async fn helm() -> Result<Self, GoToolError> {
        static HELM: OnceCell<PathBuf> = OnceCell::const_new();
        let program = Program {
            binary: "helm",
            version: required_version(HELM_MOD, "helm.sh/helm/v4"),
            usually: "2 minutes",
            module: &[("go.mod", HELM_MOD), ("go.sum", HELM_SUM)],
            package: "helm.sh/helm/v4/cmd/helm",
            linker_flags: "-s -w",
        };
        Self::built(&HELM, &program, HELM_MOD).await
    }

    /// kustomize, built if necessary.
    ///
    /// # Errors
    /// [`GoToolError`] names what is missing, or how the build ended.
    pub async fn kustomize() -> Result<Self, GoToolError> {
        static KUSTOMIZE: OnceCell<PathBuf> = OnceCell::const_new();
        let program = Program {
            binary: "kustomize",
            version: required_version(KUSTOMIZE_MOD, "sigs.k8s.io/kustomize/kustomize/v5"),
            usually: "30 seconds",
            module: &[("go.mod", KUSTOMIZE_MOD), ("go.sum", KUSTOMIZE_SUM)],
            package: "sigs.k8s.io/kustomize/kustomize/v5",
            linker_flags: "-s -w",
        };
        Self::built(&KUSTOMIZE, &program, KUSTOMIZE_MOD).await
    }

    /// promtool, built if necessary.
    ///
    /// # Errors
    /// [`GoToolError`] names what is missing, or how the build ended.
    pub async fn promtool() -> Result<Self, GoToolError> {
        static PROMTOOL: OnceCell<PathBuf> = OnceCell::const_new();
        let package = "github.com/prometheus/prometheus/cmd/promtool";
        Self::built(&PROMTOOL, &of_prometheus("promtool", package), PROMETHEUS_MOD).await
    }

    /// Builds it once for all tests of this process, even if many begin at once.
    async fn built(
        place: &OnceCell<PathBuf>,
        program: &Program<'_>,
        go_mod: &'static str,
    ) -> Result<Self, GoToolError> {
        let name = program.binary;
        let built = async { program.cached().await.map_err(|error| unprepared(name, go_mod, error)) };
        let program = place.get_or_try_init(|| built).await?.clone();
        let home = tempfile::tempdir().map_err(FileError::of("create a folder for", name))?;
        Ok(Self { name, program, home })
    }

    /// Runs the tool, and returns its output.
    ///
    /// # Errors
    /// [`GoToolError::Refused`] with all its output, of both streams.
    pub async fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, GoToolError> {
        self.end(self.command(arguments, None)).await
    }

    /// Runs the tool against the cluster of a kubeconfig.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_with<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        kubeconfig: Option<&Path>,
    ) -> Result<String, GoToolError> {
        self.end(self.command(arguments, kubeconfig)).await
    }

    /// Runs the tool with this standard input.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_on<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Result<String, GoToolError> {
        let file = self.home.path().join("input");
        fs::write(&file, input).map_err(FileError::of("write", &file))?;
        let input = File::open(&file).map_err(FileError::of("read", &file))?;
        let mut command = self.command(arguments, None);
        command.stdin(input);
        self.end(command).await
    }

    fn command<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        kubeconfig: Option<&Path>,
    ) -> Command {
        let nowhere = self.home.path().join("kubeconfig");
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("HOME", self.home.path())
            .env_remove("XDG_CACHE_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .env("KUBECONFIG", kubeconfig.unwrap_or(&nowhere))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn end(&self, mut command: Command) -> Result<String, GoToolError> {
        let output = command.output().await.map_err(FileError::of("run", &self.program))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(printed);
        }
        let output_of_both = printed + &String::from_utf8_lossy(&output.stderr);
        Err(GoToolError::Refused { name: self.name, status: output.status, output: output_of_both })
    }
}

fn of_prometheus(binary: &'static str, package: &'static str) -> Program<'static> {
    Program {
        binary,
        version: required_version(PROMETHEUS_MOD, "github.com/prometheus/prometheus"),
        usually: "4 minutes",
        module: &[("go.mod", PROMETHEUS_MOD), ("go.sum", PROMETHEUS_SUM)],
        package,
        linker_flags: "-s -w",
    }
}

/// The definitions of ServiceMonitor and PodMonitor of the Prometheus operator.
///
/// # Errors
/// [`GoToolError`] names what is missing.
pub async fn monitor_definitions() -> Result<Vec<CustomResourceDefinition>, GoToolError> {
    let folder = module_folder(PROMETHEUS_OPERATOR, MONITORS_MOD, MONITORS_SUM).await?;
    let definition = |kind: &str| {
        let path = folder.join(format!("example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"));
        let text = fs::read_to_string(&path).map_err(FileError::of("read", &path))?;
        serde_saphyr::from_str(&text)
            .map_err(|error| GoToolError::Definition { path, why: error.to_string() })
    };
    ["servicemonitors", "podmonitors"].into_iter().map(definition).collect()
}

/// The folder with the files of a module. Go downloads the module if necessary, and verifies it.
async fn module_folder(
    module: &'static str,
    go_mod: &'static str,
    go_sum: &str,
) -> Result<PathBuf, GoToolError> {
    let place = tempfile::tempdir().map_err(FileError::of("create a folder for", module))?;
    for (name, content) in [("go.mod", go_mod), ("go.sum", go_sum)] {
        let path = place.path().join(name);
        fs::write(&path, content).map_err(FileError::of("write", path))?;
    }
    let go = async |arguments: &[&str]| {
        let run = Command::new("go").args(arguments).arg(module).current_dir(place.path()).output().await;
        let output = run.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => unprepared(module, go_mod, BuildError::NoGo),
            _ => FileError::of("run", "go")(error).into(),
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let failed = BuildError::Failed { status: output.status, output: said };
            return Err(unprepared(module, go_mod, failed));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    go(&["mod", "download"]).await?;
    Ok(go(&["list", "-m", "-f", "{{.Dir}}"]).await?.into())
}

fn unprepared(name: &'static str, go_mod: &'static str, error: BuildError) -> GoToolError {
    match error {
        BuildError::NoCacheDirectory => GoToolError::NoCacheDirectory { name },
        BuildError::NoGo => GoToolError::NoGo { name, oldest: oldest_go(go_mod) },
        BuildError::Failed { status, output } => GoToolError::Build { name, status, output },
        BuildError::File(error) => error.into(),
    }
}
