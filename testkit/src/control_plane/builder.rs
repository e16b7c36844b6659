//! From nothing to a plane that answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use super::{
    ControlPlane, Error, Progress, Stderr,
    access::Access,
    binaries::{ARCHIVE_INDEX, Binaries, Sources},
    certificates::Certificates,
    controllers::Controllers,
    process::Process,
    scratch::Scratch,
    servers::Site,
    users::Users,
};

/// How long a server may take to become ready, in seconds.
const START_SECONDS: u64 = 60;
/// Between two looks at a server that is starting.
const LOOK: Duration = Duration::from_millis(50);
/// How often other ports are tried.
const PORT_ATTEMPTS: usize = 5;
/// How many users there are unless the builder is told otherwise.
const USERS: usize = 64;

/// What a plane shall be like; from [`ControlPlane::builder`].
pub struct Builder {
    controller_manager: bool,
    users: usize,
    archive_index: String,
    progress: Arc<dyn Progress>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            controller_manager: false,
            users: USERS,
            archive_index: ARCHIVE_INDEX.to_owned(),
            progress: Arc::new(Stderr),
        }
    }
}

impl Builder {
    /// Whether garbage is collected, deleted namespaces come to their end, and aggregated roles such
    /// as `edit` are filled. Off by default.
    #[must_use]
    pub fn with_controller_manager(mut self, wanted: bool) -> Self {
        self.controller_manager = wanted;
        self
    }

    /// How many users [`ControlPlane::new_user`] can hand out. 64 by default.
    #[must_use]
    pub fn users(mut self, users: usize) -> Self {
        self.users = users;
        self
    }

    /// Who is told what takes so long. Lines on stderr by default.
    #[must_use]
    pub fn progress(mut self, progress: impl Progress + 'static) -> Self {
        self.progress = Arc::new(progress);
        self
    }

    /// The URL of another index of envtest archives, such as a mirror's.
    #[must_use]
    pub fn archive_index(mut self, url: impl Into<String>) -> Self {
        self.archive_index = url.into();
        self
    }

    /// Starts the plane and waits until it is ready: some seconds once the binaries are there,
    /// minutes if they have to be built.
    ///
    /// # Errors
    /// [`Error`] says what is missing, or holds the end of the log of the server that failed.
    pub async fn start(self) -> Result<ControlPlane, Error> {
        let Self { controller_manager, users, archive_index, progress } = self;
        // The download below needs it, as every client does.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let binaries =
            Sources::from_environment(archive_index, Arc::clone(&progress))?.find(controller_manager).await?;
        let mut attempt = 1;
        loop {
            match start_once(binaries.clone(), users, Arc::clone(&progress)).await {
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }
}

/// One start with one choice of ports. What was started is killed if anything fails.
async fn start_once(
    binaries: Binaries,
    users: usize,
    progress: Arc<dyn Progress>,
) -> Result<ControlPlane, Error> {
    let users = Users::new(users);
    let certificates = Certificates::new()?;
    let scratch = Scratch::new(progress)?;
    let site = Site::new(scratch.path(), binaries, &certificates, &users)?;
    let access = Access::new(site.api_port, &certificates)?;

    let mut etcd = site.start_etcd()?;
    let mut api_server = site.start_api_server()?;
    until_answering(&access, &users, &mut etcd, &mut api_server).await?;
    let controllers = Controllers::start(&site, &access, &users).await?;
    Ok(ControlPlane::new(controllers, api_server, etcd, site, access, users, scratch))
}

/// Waits until `/readyz` is fine, with the client that tests use.
async fn until_answering(
    access: &Access,
    users: &Users,
    etcd: &mut Process,
    api_server: &mut Process,
) -> Result<(), Error> {
    let client = access.client(&users.admin)?;
    let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
    while Instant::now() < deadline {
        etcd.check()?;
        api_server.check()?;
        let mut request = http::Request::new(Vec::new());
        *request.uri_mut() = http::Uri::from_static("/readyz");
        let answer = timeout(Duration::from_secs(2), client.request_text(request)).await;
        if let Ok(Ok(_)) = answer {
            return Ok(());
        }
        sleep(LOOK).await;
    }
    Err(api_server.not_ready(START_SECONDS))
}

/// Waits until a server has logged each of the lines.
pub(super) async fn until_logged(process: &mut Process, lines: &[&str]) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
    while Instant::now() < deadline {
        process.check()?;
        let log = process.log();
        if lines.iter().all(|line| log.contains(line)) {
            return Ok(());
        }
        sleep(LOOK).await;
    }
    Err(process.not_ready(START_SECONDS))
}
