//! Builds and starts a plane.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::{
    ControlPlane, Error, Progress, Stderr,
    access::Access,
    binaries::{ARCHIVE_INDEX, Binaries, Sources, oldest_api_server},
    certificates::Certificates,
    controllers::Controllers,
    running::Running,
    servers::{Site, free_ports},
    users::Users,
};
use crate::scratch::Scratch;

/// The number of attempts with other ports.
const PORT_ATTEMPTS: usize = 5;
/// The default number of users: enough for one in each test of a program.
const USERS: usize = 2000;

/// The options of a plane; from [`ControlPlane::builder`].
pub struct Builder {
    controller_manager: bool,
    oldest: bool,
    users: usize,
    api_port: Option<u16>,
    archive_index: String,
    progress: Arc<dyn Progress>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            controller_manager: false,
            oldest: false,
            users: USERS,
            api_port: None,
            archive_index: ARCHIVE_INDEX.to_owned(),
            progress: Arc::new(Stderr),
        }
    }
}

impl Builder {
    /// Whether the plane collects garbage, completes the deletion of namespaces, fills aggregated roles such as `edit`,
    /// and creates the pods of Deployments and StatefulSets. Off by default.
    #[must_use]
    pub fn with_controller_manager(mut self, wanted: bool) -> Self {
        self.controller_manager = wanted;
        self
    }

    /// Whether the plane runs the oldest API server that the chart admits, instead of the newest. Off by default.
    #[must_use]
    pub fn oldest_kubernetes(mut self, wanted: bool) -> Self {
        self.oldest = wanted;
        self
    }

    /// The number of users that [`ControlPlane::new_user`] can return. 2000 by default.
    #[must_use]
    pub fn users(mut self, users: usize) -> Self {
        self.users = users;
        self
    }

    /// The port of the API server on the loopback interface. If it is not free, the start fails. A free port by
    /// default.
    #[must_use]
    pub fn api_port(mut self, port: u16) -> Self {
        self.api_port = Some(port);
        self
    }

    /// The receiver of progress reports. Lines on stderr by default.
    #[must_use]
    pub fn progress(mut self, progress: impl Progress + 'static) -> Self {
        self.progress = Arc::new(progress);
        self
    }

    /// The URL of another index of envtest archives, for example on a mirror.
    #[must_use]
    pub fn archive_index(mut self, url: impl Into<String>) -> Self {
        self.archive_index = url.into();
        self
    }

    /// Starts the plane and waits until it is ready. This takes some seconds if the binaries are in the cache, and
    /// minutes if they have to be built.
    ///
    /// # Errors
    /// [`Error`] names what is missing, or contains the end of the failed server's log.
    pub async fn start(self) -> Result<ControlPlane, Error> {
        let Self { controller_manager, oldest, users, api_port, archive_index, progress } = self;
        if api_port.is_some() {
            // A port that is in use is reported before the binaries take minutes.
            free_ports([api_port])?;
        }
        // The download below needs it, as every client does.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sources = Sources::from_environment(archive_index, Arc::clone(&progress))?;
        let mut binaries = sources.find(controller_manager).await?;
        if oldest {
            binaries.api_server = oldest_api_server().await?;
        }
        start_on_free_ports(binaries, users, api_port, progress).await
    }
}

/// A free port may be in use when a server starts, so the start tries several. A port that the caller requested does
/// not change: the start fails once another process uses it.
async fn start_on_free_ports(
    binaries: Binaries,
    users: usize,
    api_port: Option<u16>,
    progress: Arc<dyn Progress>,
) -> Result<ControlPlane, Error> {
    let mut attempt = 1;
    loop {
        match start_once(binaries.clone(), users, api_port, Arc::clone(&progress)).await {
            Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

/// One start with one choice of ports. On a failure it kills the servers that it has started.
async fn start_once(
    binaries: Binaries,
    users: usize,
    api_port: Option<u16>,
    progress: Arc<dyn Progress>,
) -> Result<ControlPlane, Error> {
    let users = Users::new(users);
    let certificates = Certificates::new()?;
    let scratch = Scratch::new("the control plane", progress)?;
    let site = Site::new(scratch.path(), binaries, api_port, &certificates, &users)?;
    let access = Access::new(site.api_port, &certificates)?;

    let running = Running::start(&site, &access, &users).await?;
    let controllers = Controllers::start(&site, &access, &users).await?;
    Ok(ControlPlane {
        controllers: Mutex::new(controllers),
        running: Mutex::new(running),
        site,
        access,
        users,
        _scratch: scratch,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
        time::{Duration, Instant},
    };

    use super::*;

    /// A separate process writes the file: a test that forks at this moment would inherit an open file, which then
    /// can't be executed.
    fn executable(path: PathBuf, script: &str) -> PathBuf {
        let status = std::process::Command::new("sh")
            .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$2" >"$1" && chmod +x "$1""#, "write"])
            .arg(&path)
            .arg(script)
            .status()
            .unwrap();
        assert!(status.success());
        path
    }

    /// The error of a plane with these servers.
    async fn failure(folder: &Path, etcd: &str, api_server: &str) -> Error {
        let binaries = Binaries {
            etcd: executable(folder.join("etcd"), etcd),
            api_server: executable(folder.join("kube-apiserver"), api_server),
            controller_manager: None,
        };
        match start_on_free_ports(binaries, 1, None, Arc::new(Stderr)).await {
            Ok(_) => panic!("a plane of scripts can't start"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn a_server_that_ends_is_reported_at_once_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let error = failure(folder.path(), "exec sleep 60", "echo unknown flag; exit 1").await;
        assert!(began.elapsed() < Duration::from_secs(20));
        let message = error.to_string();
        assert!(message.starts_with("`kube-apiserver` ended with exit status: 1"), "{message}");
        assert!(message.ends_with("\nunknown flag"), "{message}");
    }

    #[tokio::test]
    async fn a_port_that_is_asked_for_and_taken_is_refused_at_once() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let started = ControlPlane::builder().api_port(port).start().await;
        assert!(matches!(started, Err(Error::ApiPort { port: named, .. }) if named == port));
    }

    #[tokio::test]
    async fn other_ports_are_tried_when_one_is_taken_but_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let script = format!("echo \"$2\" >>{}; echo bind: address already in use; exit 1", runs.display());
        let error = failure(folder.path(), &script, "exec sleep 60").await;
        assert!(error.is_port_taken(), "{error}");
        let runs = fs::read_to_string(runs).unwrap();
        let mut urls: Vec<_> = runs.lines().collect();
        assert_eq!(urls.len(), PORT_ATTEMPTS);
        urls.sort_unstable();
        urls.dedup();
        assert!(urls.len() > 1, "{urls:?}");
    }
}
