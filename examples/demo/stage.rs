//! The environment of the demo: a control plane, a broker, and the operator with its shipped rights.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::Client;
use servicekey_operator::{
    api::custom_resource_definitions,
    testing::{AddressPolicy, Operator, Options, Restrictions},
};
use testkit::{
    broker::Route,
    control_plane::{ControlPlane, Error, User},
};
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};

use crate::{
    broker::{Broker, Database, HeldKey, Kind},
    manifests::{OPERATORS_PLACE, RIGHTS, SERVICE_ACCOUNT},
    output::{self, Steps},
    progress::Waiting,
};

/// The namespace of the Secrets that ClusterKeyProviders reference: the operator's default, also used in the manifests.
const OPERATORS_NAMESPACE: &str = "servicekeys-system";
/// The operator's default.
const CONCURRENCY: u16 = 32;

/// A running environment. Dropping it stops everything.
// Rust drops the fields in this order, which is the right order to stop them.
pub struct Stage {
    operator: RunningOperator,
    broker: Broker,
    plane: ControlPlane,
}

impl Stage {
    /// Starts everything, and prints each step.
    ///
    /// # Errors
    /// If a part can't be started. The message contains the next step.
    pub async fn set(steps: &mut Steps, broker: Kind, port: Option<u16>) -> anyhow::Result<Self> {
        steps.begin("start etcd and kube-apiserver");
        let plane = start_plane(port).await?;
        let broker = Broker::start(broker, steps).await?;
        steps.begin("install the custom resources, and start the operator");
        plane.install_crds(&custom_resource_definitions()).await?;
        let operator = RunningOperator::start(&plane).await?;
        Ok(Self { operator, broker, plane })
    }

    /// A client with the rights of a cluster administrator.
    pub fn client(&self) -> Client {
        self.plane.admin()
    }

    pub fn broker_url(&self) -> String {
        self.broker.url()
    }

    /// The broker's keys, oldest first.
    ///
    /// # Errors
    /// If the broker can't list them.
    pub async fn broker_keys(&self) -> anyhow::Result<Vec<HeldKey>> {
        self.broker.keys().await
    }

    /// The database of the keys, if the broker has one.
    pub fn database(&self) -> Option<&Database> {
        self.broker.database()
    }

    /// The number of requests that the broker received at this route.
    pub fn broker_calls(&self, route: Route) -> usize {
        self.broker.calls(route)
    }

    /// Writes a kubeconfig for `kubectl` and returns its path.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn kubeconfig(&self) -> anyhow::Result<String> {
        Ok(self.plane.kubeconfig_for(self.plane.admin_user())?.display().to_string())
    }

    /// Stops everything in order, and checks that the operator kept to its rights and to the broker's rules.
    ///
    /// # Errors
    /// If the operator needed other rights or broke a rule of the broker.
    pub async fn strike(self) -> anyhow::Result<()> {
        let Self { operator, broker, plane } = self;
        let user = operator.stop().await?;
        let requests = plane.audit().requests(&user)?;
        let refused = requests.only(|request| request.code == Some(403));
        let violations = broker.violations();
        drop(broker);
        plane.stop().await;
        ensure!(refused.is_empty(), "`{}` lacks rights that the operator needs: {refused}", RIGHTS.file);
        ensure!(violations.is_empty(), "the operator broke the broker's rules: {violations:?}");
        Ok(())
    }
}

async fn start_plane(port: Option<u16>) -> anyhow::Result<ControlPlane> {
    let began = Instant::now();
    let waiting = Waiting::begin("starting etcd and kube-apiserver");
    let mut builder = ControlPlane::builder().progress(waiting.clone());
    if let Some(port) = port {
        builder = builder.api_port(port);
    }
    let started = builder.start().await;
    waiting.end();
    let plane = started.map_err(|error| match error {
        Error::ApiPort { .. } => anyhow!("{error}; choose another with `--port`, or leave it out"),
        error => error.into(),
    })?;
    let version = plane.admin().apiserver_version().await.context("can't read the API server's version")?;
    output::detail(format_args!(
        "Kubernetes {} is ready at {} after {}",
        version.git_version,
        plane.url(),
        output::time(began.elapsed())
    ));
    Ok(plane)
}

/// Creates the operator's service account with its shipped rights.
async fn service_account(plane: &ControlPlane) -> anyhow::Result<User> {
    OPERATORS_PLACE.apply(&plane.admin()).await?;
    let applied = RIGHTS.apply(&plane.admin()).await?;
    let user = plane.service_account(OPERATORS_NAMESPACE, SERVICE_ACCOUNT).await?;
    for role in applied.into_iter().filter(|object| object.data.get("rules").is_some()) {
        let rules: Vec<PolicyRule> = serde_json::from_value(role.data["rules"].clone())?;
        plane.until_allowed(&user, &rules, role.metadata.namespace.as_deref()).await?;
    }
    Ok(user)
}

/// The operator. It has its own threads, as if it were a separate process.
struct RunningOperator {
    user: User,
    stop: Option<oneshot::Sender<()>>,
    work: Option<JoinHandle<()>>,
    threads: Option<Runtime>,
}

impl RunningOperator {
    async fn start(plane: &ControlPlane) -> anyhow::Result<Self> {
        let user = service_account(plane).await?;
        let options = Options {
            cluster_resource_namespace: OPERATORS_NAMESPACE.to_owned(),
            namespaces: None,
            concurrency: CONCURRENCY,
            check_interval: Duration::from_secs(600),
            service_account_token: std::path::PathBuf::new(),
            ibm_cloud_settling: servicekey_operator::testing::IbmCloudConfig::SETTLING,
            addresses: AddressPolicy::admitting(["127.0.0.0/8".parse()?]),
            secrets: Restrictions::default(),
            verify_networks: Vec::new(),
        };
        let threads = tokio::runtime::Builder::new_multi_thread()
            .thread_name("operator")
            .enable_all()
            .build()
            .context("can't start the operator's runtime")?;
        let client = {
            let _inside = threads.enter();
            plane.client_as(&user)
        };
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        let work = threads.spawn(Operator::new(client, options).run(shutdown));
        output::detail(format_args!(
            "it runs in this process as the service account `{OPERATORS_NAMESPACE}/{SERVICE_ACCOUNT}`,\n   \
             with the rights in `{}`",
            RIGHTS.file
        ));
        Ok(Self { user, stop: Some(stop), work: Some(work), threads: Some(threads) })
    }

    /// Shuts the operator down as SIGTERM does, and returns its user.
    async fn stop(mut self) -> anyhow::Result<User> {
        drop(self.stop.take());
        if let Some(work) = self.work.take() {
            work.await.context("the operator crashed")?;
        }
        Ok(self.user.clone())
    }
}

impl Drop for RunningOperator {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}
