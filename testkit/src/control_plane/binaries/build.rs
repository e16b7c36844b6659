//! Builds a server with Go from the public modules.

use std::path::{Path, PathBuf};

use super::{Binary, Error, Progress, pinned};
use crate::go::{BuildError, Program};

/// Builds one server into the cache.
pub(super) async fn build(
    go: &Path,
    binary: Binary,
    cache: &Path,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let (package, version, usually) = match binary {
        Binary::Etcd => ("go.etcd.io/etcd/server/v3", pinned::etcd_version(), "15 seconds"),
        Binary::ApiServer => {
            ("k8s.io/kubernetes/cmd/kube-apiserver", pinned::kubernetes_version(), "5 minutes")
        }
        Binary::ControllerManager => {
            ("k8s.io/kubernetes/cmd/kube-controller-manager", pinned::kubernetes_version(), "2 to 5 minutes")
        }
    };
    let binary = binary.file_name();
    let program = Program {
        binary,
        version,
        usually,
        module: &[("go.mod", pinned::GO_MOD), ("go.sum", pinned::GO_SUM)],
        package,
        linker_flags: &linker_flags(pinned::kubernetes_version()),
    };
    program.build(go, cache, progress).await.map_err(|error| explained(error, binary, version))
}

/// The path of the oldest API server. Builds it if it is not in the cache yet.
pub(in crate::control_plane) async fn oldest_api_server() -> Result<PathBuf, Error> {
    let (binary, version) = (Binary::ApiServer.file_name(), pinned::oldest_kubernetes_version());
    let program = Program {
        binary,
        version,
        usually: "5 minutes",
        module: &[("go.mod", pinned::OLDEST_GO_MOD), ("go.sum", pinned::OLDEST_GO_SUM)],
        package: "k8s.io/kubernetes/cmd/kube-apiserver",
        linker_flags: &linker_flags(version),
    };
    program.cached().await.map_err(|error| explained(error, binary, version))
}

fn explained(error: BuildError, binary: &'static str, version: &str) -> Error {
    match error {
        BuildError::NoCacheDirectory => Error::NoCacheDirectory,
        BuildError::NoGo => {
            Error::NoGo { binary, version: version.to_owned(), go: pinned::go_version().to_owned() }
        }
        BuildError::Failed { status, output } => Error::Build { binary, status, output },
        BuildError::File(error) => error.into(),
    }
}

/// Removes debug information, and sets the version that clients compare with their own.
fn linker_flags(version: &str) -> String {
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let place = "k8s.io/component-base/version";
    format!("-s -w -X {place}.gitVersion={version} -X {place}.gitMajor={major} -X {place}.gitMinor={minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_linked_in() {
        let version = pinned::kubernetes_version();
        let flags = linker_flags(version);
        assert!(flags.contains(&format!("version.gitVersion={version} ")));
        assert!(flags.contains("version.gitMajor=1 "));
    }
}
