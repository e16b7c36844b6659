//! Building a server with Go from the public modules.

use std::{
    fs, io,
    path::Path,
    pin::pin,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{
    process::Command,
    time::{Instant, interval_at},
};

use super::{Binary, Error, Progress, Step, pinned, publish};
use crate::control_plane::process::tail;

/// How often a build that goes on is mentioned.
const REMINDER: Duration = Duration::from_secs(15);

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
    progress.step(&Step::Building { binary: binary.file_name(), version: version.to_owned(), usually });
    let began = Instant::now();

    // In the cache and not in the temporary folder, so that the result can be renamed into place.
    let folder = tempfile::tempdir_in(cache).map_err(Error::io("create a folder in", cache))?;
    for (name, content) in [("go.mod", pinned::GO_MOD), ("go.sum", pinned::GO_SUM)] {
        let path = folder.path().join(name);
        fs::write(&path, content).map_err(Error::io("write", path))?;
    }
    let finished = folder.path().join(binary.file_name());
    let output =
        run_go(go, package, &finished, folder.path(), binary, progress).await.map_err(|error| match error
            .kind()
        {
            io::ErrorKind::NotFound => Error::NoGo {
                binary: binary.file_name(),
                version: version.to_owned(),
                go: pinned::go_version().to_owned(),
            },
            _ => Error::io("run", go)(error),
        })?;
    if !output.status.success() {
        return Err(Error::Build {
            binary: binary.file_name(),
            status: output.status,
            output: tail(&String::from_utf8_lossy(&output.stderr)),
        });
    }
    publish(&finished, cache, binary)?;
    progress.step(&Step::Built { binary: binary.file_name(), elapsed: began.elapsed() });
    Ok(())
}

async fn run_go(
    go: &Path,
    package: &str,
    finished: &Path,
    folder: &Path,
    binary: Binary,
    progress: &dyn Progress,
) -> io::Result<Output> {
    let began = Instant::now();
    let build = Command::new(go)
        .args(["build", "-trimpath", "-ldflags", &linker_flags(), "-o"])
        .arg(finished)
        .arg(package)
        .current_dir(folder)
        .envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=readonly"), ("GOWORK", "off")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut ended = pin!(build.wait_with_output());
    let mut reminder = interval_at(began + REMINDER, REMINDER);
    loop {
        tokio::select! {
            output = &mut ended => return output,
            _ = reminder.tick() => progress.step(&Step::StillBuilding {
                binary: binary.file_name(),
                elapsed: began.elapsed(),
            }),
        }
    }
}

/// Stripped, and with the version that clients compare with their own.
fn linker_flags() -> String {
    let version = pinned::kubernetes_version();
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
        let flags = linker_flags();
        assert!(flags.contains(&format!("version.gitVersion={version} ")));
        assert!(flags.contains("version.gitMajor=1 "));
    }
}
