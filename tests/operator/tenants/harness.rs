//! Two tenants of one cluster, an operator that serves all of it, and ClusterKeyProviders between them.
//!
//! Each tenant sends its requests as a service account with that tenant's rights in its own namespace. The operator has
//! the shipped rights. The administrator's actions and the assertions of a test use [`Tenants::admin`].

use std::{collections::BTreeMap, fmt::Debug, path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Namespace, Secret, ServiceAccount},
        rbac::v1::{Role, RoleBinding},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{ClusterKeyProvider, KeyProvider, Reason, ServiceKey, custom_resource_definitions},
    testing::{AddressPolicy, Options, Restrictions},
};
use testkit::{
    broker::FakeBroker,
    cloud_foundry::FakeCloudFoundry,
    control_plane::{ControlPlane, User, documents},
    ibm_cloud::FakeIbmCloud,
};
use tokio::{
    sync::OnceCell,
    time::{sleep, timeout},
};

use super::abuse::Actor;
use crate::support::{
    conditions::{Reports, wait_for},
    foundry, ibm, rights,
    stage::{PATIENCE, Running, entries, loopback_in_the_open, run_operator, wait},
};

/// A kind of object that tenants create in their namespaces.
pub trait Namespaced:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Serialize + Clone + Debug
{
}

impl<K> Namespaced for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Serialize
        + Clone
        + Debug
{
}

/// The roles that let tenants use the custom resources.
const USER_ROLES: &str = include_str!("../../../deploy/kustomize/crds/user-roles.yaml");

/// A control plane with one operator that serves all its namespaces.
struct Cluster {
    plane: ControlPlane,
    /// The operator's namespace, which contains the logins of ClusterKeyProviders.
    system: String,
    operator: User,
    options: Options,
}

impl Cluster {
    async fn start() -> Self {
        let plane = ControlPlane::builder().with_controller_manager(true).start().await.unwrap();
        plane.install_crds(&custom_resource_definitions()).await.unwrap();
        for role in documents(USER_ROLES).unwrap() {
            plane.apply(&role).await.unwrap();
        }
        let system = plane.namespace("system").await.unwrap();
        let operator = rights::to_serve_cluster(&plane, &system).await;
        let options = Options {
            cluster_resource_namespace: system.clone(),
            namespaces: None,
            concurrency: 32,
            check_interval: Duration::from_secs(600),
            addresses: loopback_in_the_open(),
            service_account_token: PathBuf::new(),
            ibm_cloud_settling: ibm::SETTLING,
            secrets: Restrictions::default(),
            verify_networks: Vec::new(),
        };
        Self { plane, system, operator, options }
    }

    /// The cluster that most attacks share.
    async fn shared() -> Arc<Self> {
        static SHARED: OnceCell<Arc<Cluster>> = OnceCell::const_new();
        Self::once(&SHARED, |_| {}).await
    }

    /// The cluster whose operator treats loopback, where all fakes listen, like any other private network.
    async fn guarded() -> Arc<Self> {
        static GUARDED: OnceCell<Arc<Cluster>> = OnceCell::const_new();
        Self::once(&GUARDED, |options| {
            options.addresses = AddressPolicy::admitting(["127.0.0.0/8".parse().unwrap()]);
        })
        .await
    }

    /// A cluster that several tests share. Its operator has its own thread, and ends with the process.
    async fn once(cell: &'static OnceCell<Arc<Self>>, change: fn(&mut Options)) -> Arc<Self> {
        let start = || async move {
            let mut cluster = Self::start().await;
            change(&mut cluster.options);
            let cluster = Arc::new(cluster);
            let runner = Arc::clone(&cluster);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let _operator =
                        run_operator(&runner.plane, runner.operator.clone(), runner.options.clone());
                    std::future::pending::<()>().await;
                });
            });
            cluster
        };
        Arc::clone(cell.get_or_init(start).await)
    }
}

/// An attacker and a victim.
pub struct Tenants {
    pub admin: Client,
    /// The operator's namespace.
    pub system: String,
    pub victim: Tenant,
    pub attacker: Tenant,
    /// The operator, if this test has its own.
    pub operator: Option<Running>,
    cluster: Arc<Cluster>,
}

/// A user with rights in only one namespace.
pub struct Tenant {
    pub namespace: String,
    pub user: User,
    /// A client that sends requests as this tenant.
    pub client: Client,
    /// Whether [`Tenants::add_cluster_provider`] admits its namespace.
    is_admitted: bool,
}

impl Tenants {
    /// Two tenants with new namespaces in the shared cluster. The victim has the role `edit`.
    pub async fn meet(attacker: Actor) -> Self {
        Self::meet_in(Cluster::shared().await, attacker).await
    }

    /// The same in a cluster where a KeyProvider shows answers only after the server has proved that it is a remote
    /// side.
    pub async fn meet_guarded(attacker: Actor) -> Self {
        Self::meet_in(Cluster::guarded().await, attacker).await
    }

    /// The same in a cluster of their own, whose operator is not started: see [`start_operator`](Self::start_operator).
    pub async fn meet_alone(attacker: Actor) -> Self {
        Self::meet_in(Arc::new(Cluster::start().await), attacker).await
    }

    async fn meet_in(cluster: Arc<Cluster>, attacker: Actor) -> Self {
        let victim = Tenant::settle(&cluster.plane, Actor::Editor).await;
        let attacker = Tenant::settle(&cluster.plane, attacker).await;
        let (admin, system) = (cluster.plane.admin(), cluster.system.clone());
        Self { admin, system, victim, attacker, operator: None, cluster }
    }

    /// One more tenant like the attacker, in a namespace of its own.
    pub async fn another(&self, actor: Actor) -> Tenant {
        Tenant::settle(&self.cluster.plane, actor).await
    }

    /// Starts the operator of a cluster that the test does not share, with changed options.
    pub fn start_operator(&mut self, change: impl FnOnce(&mut Options)) {
        let mut options = self.cluster.options.clone();
        change(&mut options);
        self.operator = Some(run_operator(&self.cluster.plane, self.cluster.operator.clone(), options));
    }

    pub fn plane(&self) -> &ControlPlane {
        &self.cluster.plane
    }

    /// The operator's user, for an operator that runs as a process.
    pub fn operator_user(&self) -> &User {
        &self.cluster.operator
    }

    /// Creates a ClusterKeyProvider with this spec and login. It admits the victim's namespace, and also the attacker's
    /// unless the attacker is an outsider. Returns its name once it is ready.
    pub async fn add_cluster_provider(&self, spec: Value, login: (&str, Value)) -> String {
        let provider = self.add_unready_cluster_provider(spec, login).await;
        wait_for(Api::<ClusterKeyProvider>::all(self.admin.clone()), &provider, true, Reason::Available)
            .await;
        provider
    }

    /// The same without waiting until it is ready.
    pub async fn add_unready_cluster_provider(&self, spec: Value, (login, data): (&str, Value)) -> String {
        let name = format!("shared-{}", self.victim.namespace);
        let secrets: Api<Secret> = Api::namespaced(self.admin.clone(), &self.system);
        // All tests store their logins in the same namespace.
        let own_login = format!("{login}-{}", self.victim.namespace);
        let secret = json!({"metadata": {"name": own_login}, "stringData": data});
        secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
        let spec = spec.to_string().replace(&format!("\"{login}\""), &format!("\"{own_login}\""));
        let mut spec: Value = serde_json::from_str(&spec).unwrap();
        let tenants = [&self.victim, &self.attacker].into_iter().filter(|tenant| tenant.is_admitted);
        let names: Vec<_> = tenants.map(|tenant| tenant.namespace.clone()).collect();
        spec["allowedNamespaces"] = json!({"names": names});
        let provider = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ClusterKeyProvider",
            "metadata": {"name": name},
            "spec": spec,
        });
        let providers: Api<ClusterKeyProvider> = Api::all(self.admin.clone());
        providers.create(&PostParams::default(), &serde_json::from_value(provider).unwrap()).await.unwrap();
        name
    }

    pub async fn add_cluster_broker(&self, broker: &FakeBroker) -> String {
        self.add_cluster_provider(broker_spec(broker), ("broker-login", broker_login())).await
    }

    pub async fn add_cluster_foundry(&self, foundry: &FakeCloudFoundry) -> String {
        self.add_cluster_provider(foundry_spec(foundry), ("cf-login", foundry::password())).await
    }

    pub async fn add_cluster_ibm(&self, ibm: &FakeIbmCloud) -> String {
        self.add_cluster_provider(ibm_spec(ibm), ("ibm-login", json!({"apikey": ibm::API_KEY}))).await
    }

    /// Changes the spec of a ClusterKeyProvider, as its administrator.
    pub async fn change_cluster_provider(&self, name: &str, spec: Value) {
        let providers: Api<ClusterKeyProvider> = Api::all(self.admin.clone());
        let patch = Patch::Merge(json!({"spec": spec}));
        let changed = providers.patch(name, &PatchParams::default(), &patch).await.unwrap();
        wait(providers, name, "observed", |provider| {
            let status = provider.and_then(|provider| provider.status.as_ref());
            status.is_some_and(|status| status.observed_generation >= changed.metadata.generation)
        })
        .await;
    }

    /// Enforces the shipped policies on the tenants. Otherwise they do not apply, so that attacks show what the
    /// operator itself withstands. Policies take effect with a delay: see [`until_refused`].
    pub async fn guard(&self) {
        let namespaces: Api<Namespace> = Api::all(self.admin.clone());
        let guarded = Patch::Merge(json!({"metadata": {"labels": {rights::UNGUARDED: null}}}));
        for tenant in [&self.victim, &self.attacker] {
            namespaces.patch(&tenant.namespace, &PatchParams::default(), &guarded).await.unwrap();
        }
    }

    /// Grants the attacker these rights in its namespace.
    pub async fn grant_attacker(&self, name: &str, rules: Value) {
        let Tenant { namespace, user, .. } = &self.attacker;
        let role: Role = serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules})).unwrap();
        let roles: Api<Role> = Api::namespaced(self.admin.clone(), namespace);
        roles.create(&PostParams::default(), &role).await.unwrap();
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "tenant", "namespace": namespace}],
        }))
        .unwrap();
        let bindings: Api<RoleBinding> = Api::namespaced(self.admin.clone(), namespace);
        bindings.create(&PostParams::default(), &binding).await.unwrap();
        self.plane().until_allowed(user, &role.rules.unwrap(), Some(namespace)).await.unwrap();
    }

    /// Creates an object in the attacker's namespace, as its administrator.
    pub async fn give<K: Namespaced>(&self, manifest: Value) -> K {
        let api: Api<K> = Api::namespaced(self.admin.clone(), &self.attacker.namespace);
        api.create(&PostParams::default(), &serde_json::from_value(manifest).unwrap()).await.unwrap()
    }

    /// The entries of a Secret, read as the administrator.
    pub async fn secret_of(&self, tenant: &Tenant, name: &str) -> BTreeMap<String, String> {
        let secrets: Api<Secret> = Api::namespaced(self.admin.clone(), &tenant.namespace);
        entries(&secrets.get(name).await.unwrap())
    }
}

impl Tenant {
    /// Creates a namespace, and a service account with the actor's rights in it.
    async fn settle(plane: &ControlPlane, actor: Actor) -> Self {
        let namespaces: Api<Namespace> = Api::all(plane.admin());
        let namespace = json!({"metadata": {"generateName": "tenant-", "labels": {rights::UNGUARDED: ""}}});
        let namespace = serde_json::from_value(namespace).unwrap();
        let namespace = namespaces.create(&PostParams::default(), &namespace).await.unwrap().name_any();
        let name = "tenant";
        let account = json!({"metadata": {"name": name}});
        let accounts: Api<ServiceAccount> = Api::namespaced(plane.admin(), &namespace);
        accounts.create(&PostParams::default(), &serde_json::from_value(account).unwrap()).await.unwrap();
        let user = plane.service_account(&namespace, name).await.unwrap();
        let roles: &[&str] = match actor {
            Actor::Editor | Actor::Outsider | Actor::RemoteSide | Actor::Sidecar => &["edit"],
            Actor::KeyWriter => &["servicekey-operator-view", "servicekey-operator-edit"],
        };
        for role in roles {
            let binding: RoleBinding = serde_json::from_value(json!({
                "metadata": {"name": role},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            }))
            .unwrap();
            let bindings: Api<RoleBinding> = Api::namespaced(plane.admin(), &namespace);
            bindings.create(&PostParams::default(), &binding).await.unwrap();
        }
        let rule =
            json!({"apiGroups": ["servicekeys.dev"], "resources": ["servicekeys"], "verbs": ["create"]});
        let rules = [serde_json::from_value(rule).unwrap()];
        plane.until_allowed(&user, &rules, Some(&namespace)).await.unwrap();
        let client = plane.client_as(&user);
        Self { namespace, user, client, is_admitted: actor != Actor::Outsider }
    }

    /// The objects of a kind in this tenant's namespace, with this tenant's rights.
    pub fn api<K: Namespaced>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn keys(&self) -> Api<ServiceKey> {
        self.api()
    }

    pub fn secrets(&self) -> Api<Secret> {
        self.api()
    }

    /// Creates an object, or returns the refusal.
    pub async fn try_create<K: Namespaced>(&self, manifest: Value) -> kube::Result<K> {
        self.api().create(&PostParams::default(), &serde_json::from_value(manifest).unwrap()).await
    }

    pub async fn create<K: Namespaced>(&self, manifest: Value) -> K {
        self.try_create(manifest).await.unwrap()
    }

    /// Patches an object with this tenant's rights.
    pub async fn patch<K: Namespaced>(&self, name: &str, patch: Value) -> K {
        self.api().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
    }

    /// Creates a ServiceKey for an instance of a ClusterKeyProvider, with further fields in its spec.
    pub async fn ask_cluster_provider(
        &self,
        provider: &str,
        name: &str,
        instance: Value,
        fields: Value,
    ) -> ServiceKey {
        let provider = json!({"kind": "ClusterKeyProvider", "name": provider});
        self.create(key_manifest(name, provider, instance, fields)).await
    }

    /// Creates a KeyProvider with this spec, and its login Secret if one is given.
    pub async fn add_provider(&self, name: &str, spec: Value, login: Option<(&str, Value)>) {
        if let Some((login, data)) = login {
            self.create::<Secret>(json!({"metadata": {"name": login}, "stringData": data})).await;
        }
        self.create::<KeyProvider>(json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "KeyProvider",
            "metadata": {"name": name},
            "spec": spec,
        }))
        .await;
    }

    pub async fn wait_provider(&self, name: &str, ready: bool, reason: Reason) -> KeyProvider {
        wait_for(self.api::<KeyProvider>(), name, ready, reason).await
    }

    pub async fn wait_ready(&self, name: &str) -> ServiceKey {
        wait_for(self.keys(), name, true, Reason::Available).await
    }

    pub async fn wait_key(&self, name: &str, ready: bool, reason: Reason) -> ServiceKey {
        wait_for(self.keys(), name, ready, reason).await
    }

    /// Waits until `Ready` of a ServiceKey contains this text.
    pub async fn wait_says(&self, name: &str, words: &str) -> ServiceKey {
        let says = |key: Option<&ServiceKey>| key.is_some_and(|key| key.message().contains(words));
        wait(self.keys(), name, "saying so", says).await.unwrap()
    }

    pub async fn delete_key(&self, name: &str) {
        self.keys().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn wait_gone(&self, name: &str) {
        wait(self.keys(), name, "gone", |key| key.is_none()).await;
    }
}

/// Repeats a dry run until a policy refuses it, and returns the refusal. Policies take effect with a delay after a
/// change of them, or of the objects that they depend on.
pub async fn until_refused<T>(attempt: impl AsyncFn() -> kube::Result<T>) -> String {
    let refused = async {
        loop {
            match attempt().await {
                Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => {
                    return status.message.clone();
                }
                Err(error) => panic!("refused, but not by a policy: {error}"),
                Ok(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    };
    timeout(PATIENCE, refused).await.expect("a policy refuses it in time")
}

pub fn dry_run() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

pub fn dry_patch() -> PatchParams {
    PatchParams { dry_run: true, ..PatchParams::default() }
}

/// A ServiceKey with further fields in its spec.
pub fn key_manifest(name: &str, provider: Value, instance: Value, fields: Value) -> Value {
    let mut manifest = json!({
        "apiVersion": "servicekeys.dev/v1alpha1",
        "kind": "ServiceKey",
        "metadata": {"name": name},
        "spec": {"providerRef": provider, "instance": instance},
    });
    manifest["spec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    manifest
}

/// The spec of a provider for a broker, with the login `broker-login`.
pub fn broker_spec(broker: &FakeBroker) -> Value {
    json!({
        "openServiceBroker": {
            "url": broker.url(),
            "auth": {"basic": {"secretRef": {"name": "broker-login"}}},
        },
        "limits": {"timeout": "5s", "requestsPerSecond": 1000},
    })
}

/// The entries of `broker-login`.
pub fn broker_login() -> Value {
    json!({"username": "operator", "password": "broker-password"})
}

/// The spec of a provider for a Cloud Foundry, with the login `cf-login`.
pub fn foundry_spec(foundry: &FakeCloudFoundry) -> Value {
    json!({
        "cloudFoundry": {
            "apiUrl": foundry.url(),
            "auth": foundry::by_password(),
            "organization": "acme",
            "space": "dev",
        },
        "limits": {"timeout": "5s", "requestsPerSecond": 1000},
    })
}

/// The spec of a provider for an IBM Cloud, with the login `ibm-login`.
pub fn ibm_spec(ibm: &FakeIbmCloud) -> Value {
    json!({
        "ibmCloud": {
            "auth": ibm::by_api_key(),
            "iamUrl": ibm.iam_url(),
            "resourceControllerUrl": ibm.url(),
        },
        "limits": {"timeout": "5s", "requestsPerSecond": 1000},
    })
}

/// The instance that all fakes have, as a broker names it.
pub fn instance_of_broker() -> Value {
    json!({"id": "training-app-db", "offering": "postgresql", "plan": "small"})
}

/// The same instance, as Cloud Foundry and IBM Cloud name it.
pub fn instance_by_name() -> Value {
    json!({"name": foundry::INSTANCE})
}
