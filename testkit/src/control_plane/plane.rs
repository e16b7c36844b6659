//! A plane that runs: what tests do with it.

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
/// It depends on no runtime: it may be started in one and used in others.
// The fields are dropped in this order, which is the order to stop in.
pub struct ControlPlane {
    pub(super) controllers: Mutex<Controllers>,
    pub(super) running: Mutex<Running>,
    pub(super) site: Site,
    pub(super) access: Access,
    pub(super) users: Users,
    pub(super) _scratch: Scratch,
}

impl ControlPlane {
    /// For a plane of one's own.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The plane that all tests of this process share, with the controller manager; the first to
    /// ask starts it. It ends with the process.
    ///
    /// # Errors
    /// As [`Builder::start`]; the next to ask tries again.
    pub async fn shared() -> Result<&'static Self, Error> {
        SHARED.get_or_try_init(|| Self::builder().with_controller_manager(true).start()).await
    }

    /// Ends the plane without blocking the runtime's thread, which dropping it does for the
    /// moment that the servers take to die.
    pub async fn stop(self) {
        // Can only fail by a panic in `drop`, which has been printed then.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    /// A client that may do everything and is not audited. New at each call, because it is bound
    /// to the runtime of the caller; outside of a runtime this panics.
    #[must_use]
    pub fn admin(&self) -> Client {
        self.client_as(&self.users.admin)
    }

    /// A client of this user, new at each call as [`admin`](Self::admin).
    #[must_use]
    #[expect(clippy::expect_used, reason = "a client of the same kind has waited for the plane to be ready")]
    pub fn client_as(&self, user: &User) -> Client {
        self.access.client(user).expect("the plane was started with such a client")
    }

    /// What a client of this user is made from.
    #[must_use]
    pub fn config_as(&self, user: &User) -> Config {
        self.access.config(user)
    }

    /// Where the API server listens, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        self.access.url()
    }

    /// The user behind [`admin`](Self::admin), for [`kubeconfig_for`](Self::kubeconfig_for).
    #[must_use]
    pub fn admin_user(&self) -> &User {
        &self.users.admin
    }

    /// A user whom nobody else has, without any rights, and audited.
    ///
    /// # Errors
    /// [`Error::NoUserLeft`] when the pool is used up.
    pub fn new_user(&self) -> Result<User, Error> {
        self.users.take()
    }

    /// Writes a kubeconfig for this user into the plane's folder, for `kubectl` and operators that
    /// run as processes, and returns its path.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn kubeconfig_for(&self, user: &User) -> Result<PathBuf, Error> {
        let content = self.access.kubeconfig(user)?;
        // `KUBECONFIG` is a list, with colons between its files; the names of service accounts have some.
        self.site.write(&format!("{}.kubeconfig", user.name.replace(':', ".")), &content)
    }

    /// What the users from [`new_user`](Self::new_user) have asked the API server.
    #[must_use]
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.site.audit_log())
    }

    /// Creates a namespace whose name begins with `prefix`, and returns that name.
    ///
    /// # Errors
    /// When the API server refuses it.
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

    /// Installs definitions and waits until they are served and the garbage collector knows them.
    /// Each test may call it with the same ones: only the first time costs something.
    ///
    /// # Errors
    /// When a definition is refused or not served in time.
    pub async fn install_crds(&self, definitions: &[CustomResourceDefinition]) -> Result<(), Error> {
        let mut controllers = self.controllers.lock().await;
        controllers.install(definitions, &self.site, &self.access, &self.users).await
    }

    /// Ends the API server in the middle of whatever it is doing, until
    /// [`start_api_server`](Self::start_api_server). Not for the [shared](Self::shared) plane.
    pub async fn kill_api_server(&self) {
        self.running.lock().await.kill_api_server();
    }

    /// Starts the API server again, at its old address and with all that it had stored, and waits
    /// until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_api_server(&self) -> Result<(), Error> {
        let mut running = self.running.lock().await;
        running.start_api_server(&self.site, &self.access, &self.users).await
    }
}
