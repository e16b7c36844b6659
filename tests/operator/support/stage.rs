//! The environment of a test: its own namespace, its own broker, and an operator that serves only that namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{KeyProvider, ServiceKey, custom_resource_definitions},
    testing::{
        AddressPolicy, AddressRules, Clock, Metrics, Network, Operator, Options, Restrictions, client,
    },
};
use testkit::{
    broker::{CredentialsRecipe, FakeBroker, Instance},
    control_plane::{ControlPlane, User},
    gateway::Gateway,
};
use tokio::task::AbortHandle;

use crate::support::rights;

/// Longest wait of a test on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace, a broker, and a KeyProvider `broker` with its login.
pub struct Stage {
    pub plane: &'static ControlPlane,
    pub client: Client,
    pub namespace: String,
    pub broker: FakeBroker,
    /// The instance whose keys the test creates.
    pub instance: Instance,
}

/// An operator that runs until this is dropped.
pub struct Running {
    pub user: User,
    pub metrics: Metrics,
    task: AbortHandle,
}

impl Running {
    /// The sum of all series of a family.
    pub fn total(&self, family: &str) -> f64 {
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let is_of_family = series.strip_prefix(family)?.starts_with('{');
            is_of_family.then(|| value.parse::<f64>().unwrap())
        };
        self.metrics.text().lines().filter_map(value).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stage {
    pub async fn set() -> Self {
        Self::set_with(FakeBroker::builder().start().await.unwrap()).await
    }

    pub async fn set_with(broker: FakeBroker) -> Self {
        Self::set_for(broker, Instance::new("training-app-db", "postgresql", "small")).await
    }

    /// A stage whose keys are for an instance of this offering and plan. If bindings of the plan can't be read, the
    /// broker shows credentials once.
    pub async fn with_instance(offering: &str, plan: &str) -> Self {
        let instance = Instance::new("training-app-db", offering, plan);
        let recipe = CredentialsRecipe::postgresql().shown_once();
        let broker = FakeBroker::builder().without_instances().instance(instance.clone()).credentials(recipe);
        Self::set_for(broker.start().await.unwrap(), instance).await
    }

    pub async fn set_for(broker: FakeBroker, instance: Instance) -> Self {
        Self::set_on(ControlPlane::shared().await.unwrap(), broker, instance).await
    }

    async fn set_on(plane: &'static ControlPlane, broker: FakeBroker, instance: Instance) -> Self {
        plane.install_crds(&custom_resource_definitions()).await.unwrap();
        let namespace = plane.namespace("stage").await.unwrap();
        let stage = Self { plane, client: plane.admin(), namespace, broker, instance };
        stage.create_login("operator", "broker-password").await;
        stage.create::<KeyProvider>(stage.provider_manifest("broker")).await;
        stage
    }

    /// Starts an operator for this namespace. Its service account has only the rights to serve that namespace.
    pub async fn start_operator(&self) -> Running {
        self.start_operator_with(self.options()).await
    }

    /// The same with other options.
    pub async fn start_operator_with(&self, options: Options) -> Running {
        run_operator(self.plane, self.operator_user().await, options)
    }

    /// The same from another namespace. Its rights survive the deletion of this namespace, whereas rights to serve a
    /// single namespace are objects in it and are deleted with it.
    pub async fn start_operator_with_lasting_rights(&self) -> Running {
        let system = self.plane.namespace("system").await.unwrap();
        run_operator(self.plane, rights::to_serve_cluster(self.plane, &system).await, self.options())
    }

    /// A new service account with the rights of an operator for this namespace.
    pub async fn operator_user(&self) -> User {
        rights::to_serve_namespace(self.plane, &self.namespace).await
    }

    /// The same, with this interval between checks of the providers.
    pub async fn start_operator_checking(&self, interval: Duration) -> Running {
        self.start_operator_with(Options { check_interval: interval, ..self.options() }).await
    }

    /// The same, with another clock.
    pub async fn start_operator_by(&self, clock: Clock) -> Running {
        let user = self.operator_user().await;
        let config = self.plane.config_as(&user);
        run(config, user, self.options(), |operator| operator.with_clock(clock))
    }

    /// The same, as this account.
    pub fn start_operator_as(&self, user: &User, clock: Clock) -> Running {
        run(self.plane.config_as(user), user.clone(), self.options(), |operator| operator.with_clock(clock))
    }

    /// Starts an operator whose clock is ahead.
    pub async fn start_operator_ahead(&self, by: SignedDuration) -> Running {
        self.start_operator_by(ahead(by)).await
    }

    /// The same behind this gateway, which may already have gates.
    pub async fn start_operator_ahead_behind(&self, gateway: &Gateway, by: SignedDuration) -> Running {
        let user = self.operator_user().await;
        let config = Config::new(format!("http://{}", gateway.address()).parse().unwrap());
        run(config, user, self.options(), |operator| operator.with_clock(ahead(by)))
    }

    pub fn options(&self) -> Options {
        Options {
            cluster_resource_namespace: self.namespace.clone(),
            namespaces: Some([self.namespace.clone()].into()),
            concurrency: 32,
            check_interval: Duration::from_secs(600),
            addresses: loopback_in_the_open(),
            service_account_token: PathBuf::new(),
            ibm_cloud_settling: crate::support::ibm::SETTLING,
            secrets: Restrictions::default(),
            verify_networks: vec!["127.0.0.0/8".parse().unwrap()],
        }
    }

    pub async fn create_login(&self, username: &str, password: &str) {
        let secret = Secret {
            metadata: ObjectMeta { name: Some("broker-login".into()), ..ObjectMeta::default() },
            string_data: Some(BTreeMap::from([
                ("username".into(), username.into()),
                ("password".into(), password.into()),
            ])),
            ..Secret::default()
        };
        self.secrets().create(&PostParams::default(), &secret).await.unwrap();
    }

    pub fn provider_manifest(&self, name: &str) -> Value {
        json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "KeyProvider",
            "metadata": {"name": name},
            "spec": {"openServiceBroker": {
                "url": self.broker.url(),
                "auth": {"basic": {"secretRef": {"name": "broker-login"}}},
            }, "limits": {"timeout": "5s"}},
        })
    }

    pub fn key_manifest(&self, name: &str) -> Value {
        let Instance { id, offering, plan, .. } = &self.instance;
        json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {"name": name},
            "spec": {
                "providerRef": {"name": "broker"},
                "instance": {"id": id, "offering": offering, "plan": plan},
            },
        })
    }

    pub async fn create<K>(&self, manifest: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + serde::de::DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(manifest).unwrap();
        Api::namespaced(self.client.clone(), &self.namespace)
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    pub async fn create_key(&self, name: &str) -> ServiceKey {
        self.create(self.key_manifest(name)).await
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn keys(&self) -> Api<ServiceKey> {
        self.api()
    }

    pub fn secrets(&self) -> Api<Secret> {
        self.api()
    }

    /// Waits until the object satisfies the condition, without polling.
    pub async fn wait<K>(
        &self,
        api: Api<K>,
        name: &str,
        what: &str,
        holds: impl FnMut(Option<&K>) -> bool,
    ) -> Option<K>
    where
        K: kube::Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + 'static,
    {
        wait(api, name, what, holds).await
    }

    pub async fn wait_ready(&self, name: &str) -> ServiceKey {
        self.wait(self.keys(), name, "ready", |key| {
            key.is_some_and(|key| condition(key, "Ready") == Some("True"))
        })
        .await
        .unwrap()
    }

    /// Waits until the ServiceKey is ready and its status contains the id of its key. After a crash between the writes
    /// of the Secret and the status, the operator first has to request the id from the remote side.
    pub async fn wait_ready_with_id(&self, name: &str) -> ServiceKey {
        let has_id = |key: &ServiceKey| {
            let known = key.status.as_ref().and_then(|status| status.key.as_ref());
            known.is_some_and(|key| !key.id.is_empty())
        };
        self.wait(self.keys(), name, "ready with an id", |key| {
            key.is_some_and(|key| condition(key, "Ready") == Some("True") && has_id(key))
        })
        .await
        .unwrap()
    }

    /// Waits until this many ServiceKeys of the namespace are ready.
    pub async fn wait_all_ready(&self, count: usize) {
        let keys = watcher(self.keys(), watcher::Config::default()).default_backoff().applied_objects();
        let mut keys = std::pin::pin!(keys);
        let mut ready = BTreeSet::new();
        let all = tokio::time::timeout(PATIENCE, async {
            while ready.len() < count {
                let key = keys.try_next().await.unwrap().unwrap();
                if condition(&key, "Ready") == Some("True") {
                    ready.insert(key.name_any());
                }
            }
        });
        if all.await.is_err() {
            panic!("only {} of {count} ServiceKeys in `{}` are ready", ready.len(), self.namespace);
        }
    }

    pub async fn wait_for_provider(&self, name: &str) {
        self.wait(self.api::<KeyProvider>(), name, "ready", |provider| {
            let status = provider.and_then(|provider| provider.status.as_ref());
            let conditions = status.iter().flat_map(|status| &status.conditions);
            conditions.clone().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
        .await;
    }

    /// Fails unless the Secret contains exactly these credentials, which belong to this key.
    pub async fn assert_secret_holds(
        &self,
        name: &str,
        credentials: &serde_json::Map<String, Value>,
        key: &impl std::fmt::Debug,
    ) {
        let held = entries(&self.secrets().get(name).await.unwrap());
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let expected = credentials.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        // `assert_eq` would print the credentials.
        assert!(held == expected, "the Secret does not contain the credentials of {key:?}");
    }

    pub async fn wait_gone(&self, name: &str) {
        self.wait(self.keys(), name, "gone", |key| key.is_none()).await;
    }
}

impl Stage {
    /// A stage whose API server a test may kill, because no other test uses it. Like the shared one, it ends with the
    /// process.
    pub async fn on_a_plane_of_its_own() -> Self {
        let plane = Box::leak(Box::new(ControlPlane::builder().start().await.unwrap()));
        let instance = Instance::new("training-app-db", "postgresql", "small");
        Self::set_on(plane, FakeBroker::builder().start().await.unwrap(), instance).await
    }
}

/// Allows loopback, where all fakes listen, and shows their answers from the first one on.
pub fn loopback_in_the_open() -> AddressPolicy {
    let loopback: Vec<Network> = vec!["127.0.0.0/8".parse().unwrap()];
    AddressRules { allow: loopback.clone(), disclose: loopback, ..AddressRules::default() }.into()
}

/// The status of a condition.
pub fn condition<'a>(key: &'a ServiceKey, type_: &str) -> Option<&'a str> {
    find(key, type_).map(|condition| condition.status.as_str())
}

/// The reason of a condition.
pub fn reason<'a>(key: &'a ServiceKey, type_: &str) -> Option<&'a str> {
    find(key, type_).map(|condition| condition.reason.as_str())
}

/// The message of a condition; empty if there is no such condition.
pub fn message<'a>(key: &'a ServiceKey, type_: &str) -> &'a str {
    find(key, type_).map_or("", |condition| condition.message.as_str())
}

fn find<'a>(key: &'a ServiceKey, type_: &str) -> Option<&'a Condition> {
    key.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
}

/// The entries of a Secret, as text.
pub fn entries(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.clone().unwrap_or_default();
    data.into_iter().map(|(name, value)| (name, String::from_utf8(value.0).unwrap())).collect()
}

/// Starts an operator on a control plane.
pub fn run_operator(plane: &ControlPlane, user: User, options: Options) -> Running {
    run(plane.config_as(&user), user, options, |operator| operator)
}

fn ahead(by: SignedDuration) -> Clock {
    Clock::new(move || Timestamp::now() + by)
}

fn run(config: Config, user: User, options: Options, with: impl FnOnce(Operator) -> Operator) -> Running {
    let metrics = Metrics::default();
    let client = client(config, &metrics).unwrap();
    let operator = with(Operator::new(client, options).with_metrics(metrics.clone()));
    let task = tokio::spawn(operator.run(std::future::pending())).abort_handle();
    Running { user, metrics, task }
}

/// Waits until the object satisfies the condition, without polling.
pub async fn wait<K>(
    api: Api<K>,
    name: &str,
    what: &str,
    mut holds: impl FnMut(Option<&K>) -> bool,
) -> Option<K>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let mut last = None;
    let changes = watcher::watch_object(api, name).default_backoff();
    let mut changes = std::pin::pin!(changes);
    let found = tokio::time::timeout(PATIENCE, async {
        while let Some(object) = changes.try_next().await.unwrap() {
            last.clone_from(&object);
            last.iter_mut().for_each(|object| object.managed_fields_mut().clear());
            if holds(object.as_ref()) {
                return;
            }
        }
    });
    match found.await {
        Ok(()) => last,
        Err(_) => panic!("`{name}` was never {what}; it is {last:#?}"),
    }
}
