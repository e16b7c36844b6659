//! A running plane, as tests use it.

use std::path::PathBuf;

use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};
use tokio::sync::{Mutex, OnceCell};

use super::{
    AuditLog, Builder, Error, User, access::Access, controllers::Controllers, running::Running,
    servers::Site, users::Users,
};
use crate::scratch::Scratch;

static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

/// A running control plane. Dropping it kills its servers and removes its folder.
///
/// It does not depend on a runtime: a test may start it in one and use it in others.
// Rust drops the fields in this order, and the servers must stop in this order.
pub struct ControlPlane {
    pub(super) controllers: Mutex<Controllers>,
    pub(super) running: Mutex<Running>,
    pub(super) site: Site,
    pub(super) access: Access,
    pub(super) users: Users,
    pub(super) _scratch: Scratch,
}

impl ControlPlane {
    /// The options of a separate plane.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The plane that all tests of this process share, with the controller manager. The first caller starts it. It ends
    /// with the process.
    ///
    /// # Errors
    /// As [`Builder::start`]; the next caller tries again.
    pub async fn shared() -> Result<&'static Self, Error> {
        SHARED.get_or_try_init(|| Self::builder().with_controller_manager(true).start()).await
    }

    /// Stops the plane without blocking the runtime's thread. Dropping it blocks the thread until the servers have
    /// ended.
    pub async fn stop(self) {
        // It fails only after a panic in `drop`, which has been printed then.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    /// A client with all permissions and without an audit. Each call creates a new one, because it is bound to the
    /// caller's runtime. Outside of a runtime this panics.
    #[must_use]
    pub fn admin(&self) -> Client {
        self.client_as(&self.users.admin)
    }

    /// A client of this user. Each call creates a new one, as for [`admin`](Self::admin).
    #[must_use]
    #[expect(clippy::expect_used, reason = "a client of the same kind has waited for the plane to be ready")]
    pub fn client_as(&self, user: &User) -> Client {
        self.access.client(user).expect("the plane was started with such a client")
    }

    /// The configuration of this user's clients.
    #[must_use]
    pub fn config_as(&self, user: &User) -> Config {
        self.access.config(user)
    }

    /// The address of the API server, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        self.access.url()
    }

    /// The user behind [`admin`](Self::admin), for [`kubeconfig_for`](Self::kubeconfig_for).
    #[must_use]
    pub fn admin_user(&self) -> &User {
        &self.users.admin
    }

    /// An unused user without permissions, whose requests are audited.
    ///
    /// # Errors
    /// [`Error::NoUserLeft`] if the pool is empty.
    pub fn new_user(&self) -> Result<User, Error> {
        self.users.take()
    }

    /// Writes a kubeconfig for this user into the plane's folder, and returns its path. `kubectl` and operators that
    /// run as processes use it.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn kubeconfig_for(&self, user: &User) -> Result<PathBuf, Error> {
        let content = self.access.kubeconfig(user)?;
        // `KUBECONFIG` is a list with colons between its files, and the names of service accounts contain colons.
        self.site.write(&format!("{}.kubeconfig", user.name.replace(':', ".")), &content)
    }

    /// The requests of the users from [`new_user`](Self::new_user).
    #[must_use]
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.site.audit_log())
    }

    /// Creates a namespace whose name begins with `prefix`, and returns its name.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn namespace(&self, prefix: &str) -> Result<String, Error> {
        let namespace = Namespace {
            metadata: ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let api: Api<Namespace> = Api::all(self.admin());
        let created = api
            .create(&PostParams::default(), &namespace)
            .await
            .map_err(Error::kubernetes("create a namespace"))?;
        Ok(created.name_any())
    }

    /// Installs definitions. Waits until they are served and the garbage collector knows them. Every test may call it
    /// with the same definitions: only the first call takes time.
    ///
    /// # Errors
    /// A definition is refused or not served in time.
    pub async fn install_crds(&self, definitions: &[CustomResourceDefinition]) -> Result<(), Error> {
        let mut controllers = self.controllers.lock().await;
        controllers.install(definitions, &self.site, &self.access, &self.users).await
    }

    /// Kills the API server in the middle of its work; [`start_api_server`](Self::start_api_server) starts it again.
    /// Not for the [shared](Self::shared) plane.
    pub async fn kill_api_server(&self) {
        self.running.lock().await.kill_api_server();
    }

    /// Starts the API server again, with its old address and all stored objects, and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn start_api_server(&self) -> Result<(), Error> {
        let mut running = self.running.lock().await;
        running.start_api_server(&self.site, &self.access, &self.users).await
    }
}
