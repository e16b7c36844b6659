//! A ClusterKeyProvider serves the namespaces that it allows, as soon as it allows them. The operator serves the whole
//! cluster, so each test has a cluster of its own.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{ClusterKeyProvider, Reason, ServiceKey, custom_resource_definitions},
    testing::{AddressPolicy, Options, Restrictions},
};
use testkit::{
    broker::{FakeBroker, Route},
    control_plane::ControlPlane,
};

use crate::support::{
    conditions::{Reports, wait_for},
    rights,
    stage::{Running, run_operator, wait},
};

/// A cluster with one operator, one broker, and one namespace whose keys use the providers.
struct Cluster {
    _operator: Running,
    broker: FakeBroker,
    client: Client,
    /// The namespace of the Secrets that ClusterKeyProviders name.
    system: String,
    tenant: String,
    _plane: ControlPlane,
}

impl Cluster {
    async fn start() -> Self {
        let plane = ControlPlane::builder().start().await.unwrap();
        plane.install_crds(&custom_resource_definitions()).await.unwrap();
        let (system, tenant) =
            (plane.namespace("system").await.unwrap(), plane.namespace("tenant").await.unwrap());
        let user = rights::to_serve_cluster(&plane, &system).await;
        let options = Options {
            cluster_resource_namespace: system.clone(),
            namespaces: None,
            concurrency: 32,
            check_interval: std::time::Duration::from_secs(600),
            addresses: AddressPolicy::admitting(["127.0.0.0/8".parse().unwrap()]),
            service_account_token: PathBuf::new(),
            ibm_cloud_settling: servicekey_operator::testing::IbmCloudConfig::SETTLING,
            secrets: Restrictions::default(),
            verify_networks: Vec::new(),
        };
        let operator = run_operator(&plane, user, options);
        let broker = FakeBroker::builder().start().await.unwrap();
        Self { _operator: operator, broker, client: plane.admin(), system, tenant, _plane: plane }
    }

    fn providers(&self) -> Api<ClusterKeyProvider> {
        Api::all(self.client.clone())
    }

    fn keys(&self) -> Api<ServiceKey> {
        Api::namespaced(self.client.clone(), &self.tenant)
    }

    async fn create_login(&self) {
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "broker-login"},
            "stringData": {"username": "operator", "password": "broker-password"},
        }))
        .unwrap();
        let secrets = Api::namespaced(self.client.clone(), &self.system);
        secrets.create(&PostParams::default(), &secret).await.unwrap();
    }

    /// Creates a provider, and a ServiceKey of the same name that uses it.
    async fn create(&self, name: &str, allowed_namespaces: Value) {
        let provider = serde_json::from_value(json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ClusterKeyProvider",
            "metadata": {"name": name},
            "spec": {
                "openServiceBroker": {
                    "url": self.broker.url(),
                    "auth": {"basic": {"secretRef": {"name": "broker-login"}}},
                },
                "allowedNamespaces": allowed_namespaces,
            },
        }));
        self.providers().create(&PostParams::default(), &provider.unwrap()).await.unwrap();
        let key = serde_json::from_value(json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {"name": name},
            "spec": {
                "providerRef": {"kind": "ClusterKeyProvider", "name": name},
                "instance": {"id": "training-app-db", "offering": "postgresql", "plan": "small"},
            },
        }));
        self.keys().create(&PostParams::default(), &key.unwrap()).await.unwrap();
    }

    /// Makes a provider allow only these namespaces, and waits until the operator has observed the change.
    async fn allow(&self, provider: &str, namespaces: Value) {
        // A merge patch would keep the previous selection, so remove it first.
        for namespaces in [Value::Null, namespaces] {
            let patch = Patch::Merge(json!({"spec": {"allowedNamespaces": namespaces}}));
            self.providers().patch(provider, &PatchParams::default(), &patch).await.unwrap();
        }
        wait(self.providers(), provider, "observed", |provider| {
            provider.is_some_and(|provider| {
                let observed = provider.status.as_ref().and_then(|status| status.observed_generation);
                observed == provider.metadata.generation
            })
        })
        .await;
    }

    async fn label_tenant(&self, labels: Value) {
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.patch(&self.tenant, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn is_served(&self, name: &str) {
        wait_for(self.keys(), name, true, Reason::Available).await;
    }

    async fn is_not_allowed(&self, name: &str) {
        let key = wait_for(self.keys(), name, false, Reason::ProviderNotAllowed).await;
        key.says(&format!(
            "ClusterKeyProvider `{name}` does not admit keys from the namespace `{}`; name it in the provider's \
             `spec.allowedNamespaces`",
            self.tenant
        ));
        assert!(key.is_stalled());
    }

    async fn delete_key(&self, name: &str) {
        self.keys().delete(name, &Default::default()).await.unwrap();
        wait(self.keys(), name, "gone", |key| key.is_none()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_allowed_is_served_and_nobody_else() {
    let cluster = Cluster::start().await;
    cluster.create_login().await;
    cluster.create("open", json!({})).await;
    cluster.create("closed", Value::Null).await;
    cluster.create("by-name", json!({"names": ["somebody-else"]})).await;
    cluster.create("by-label", json!({"selector": {"matchLabels": {"team": "data"}}})).await;

    cluster.is_served("open").await;
    for name in ["closed", "by-name", "by-label"] {
        cluster.is_not_allowed(name).await;
        wait_for(cluster.providers(), name, true, Reason::Available).await;
    }
    assert_eq!(cluster.broker.count(Route::Bind), 1);

    // Each change admits one ServiceKey, which then continues without an edit.
    cluster.allow("by-name", json!({"names": [&cluster.tenant]})).await;
    cluster.is_served("by-name").await;
    cluster.label_tenant(json!({"team": "data"})).await;
    cluster.is_served("by-label").await;
    cluster.is_not_allowed("closed").await;
    cluster.allow("closed", json!({})).await;
    cluster.is_served("closed").await;
    assert_eq!(cluster.broker.bindings().len(), 4);
}

/// The existing key continues to work and can be revoked, but the operator creates no other one.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_longer_allowed_keeps_the_key_and_may_delete_it() {
    let cluster = Cluster::start().await;
    cluster.create("mine", json!({})).await;
    let provider = wait_for(cluster.providers(), "mine", false, Reason::LoginSecretMissing).await;
    provider.says(&format!("the Secret `broker-login` does not exist in the namespace `{}`", cluster.system));
    wait_for(cluster.keys(), "mine", false, Reason::ProviderNotReady).await.says(provider.message());
    cluster.create_login().await;
    cluster.is_served("mine").await;

    cluster.allow("mine", json!({"names": ["somebody-else"]})).await;
    let parameters = Patch::Merge(json!({"spec": {"parameters": {"permissions": "all"}}}));
    cluster.keys().patch("mine", &PatchParams::default(), &parameters).await.unwrap();
    let key = wait(cluster.keys(), "mine", "waiting to rotate", |key| {
        let rotating = key.and_then(|key| key.condition(servicekey_operator::api::ConditionType::Rotating));
        rotating.is_some_and(|condition| condition.reason == Reason::ProviderNotAllowed.as_str())
    });
    assert!(key.await.unwrap().is(true, Reason::Available));
    assert_eq!(cluster.broker.count(Route::Bind), 1);

    cluster.delete_key("mine").await;
    assert_eq!(cluster.broker.bindings(), []);
}
