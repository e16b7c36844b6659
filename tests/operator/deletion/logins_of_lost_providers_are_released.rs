//! A provider may be removed by force or missing from a restore. The operator then removes that provider's finalizer
//! from the login Secret, so that it does not block a deletion permanently. The operator serves the whole cluster, so
//! each test has a cluster of its own.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use servicekey_operator::{
    api::{KeyProvider, Reason, custom_resource_definitions},
    testing::{AddressPolicy, Options, Restrictions},
};
use testkit::{broker::FakeBroker, control_plane::ControlPlane};

use crate::support::{
    conditions::wait_for,
    rights,
    stage::{Running, Stage, run_operator, wait},
};

/// The finalizer of a provider that never existed.
const ORPHAN: &str = "servicekeys.dev/login-of.00000000-0000-4000-8000-000000000000";
const FOREIGN_FINALIZER: &str = "example.com/backup";

/// A cluster with a broker, and a namespace of a tenant.
struct Cluster {
    broker: FakeBroker,
    plane: ControlPlane,
    tenant: String,
}

impl Cluster {
    async fn start() -> Self {
        let plane = ControlPlane::builder().with_controller_manager(true).start().await.unwrap();
        plane.install_crds(&custom_resource_definitions()).await.unwrap();
        let tenant = plane.namespace("tenant").await.unwrap();
        Self { broker: FakeBroker::builder().start().await.unwrap(), plane, tenant }
    }

    async fn start_operator(&self) -> Running {
        let system = self.plane.namespace("system").await.unwrap();
        let user = rights::to_serve_cluster(&self.plane, &system).await;
        let options = Options {
            cluster_resource_namespace: system,
            namespaces: None,
            concurrency: 32,
            check_interval: Duration::from_secs(600),
            addresses: AddressPolicy::admitting(["127.0.0.0/8".parse().unwrap()]),
            service_account_token: PathBuf::new(),
            ibm_cloud_settling: servicekey_operator::testing::IbmCloudConfig::SETTLING,
            secrets: Restrictions::default(),
            verify_networks: Vec::new(),
        };
        run_operator(&self.plane, user, options)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.plane.admin(), &self.tenant)
    }

    fn providers(&self) -> Api<KeyProvider> {
        Api::namespaced(self.plane.admin(), &self.tenant)
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.plane.admin())
    }

    async fn create_login(&self, name: &str, finalizers: &[&str]) {
        let secret = json!({
            "metadata": {"name": name, "finalizers": finalizers},
            "stringData": {"username": "operator", "password": "broker-password"},
        });
        let secret: Secret = serde_json::from_value(secret).unwrap();
        self.secrets().create(&PostParams::default(), &secret).await.unwrap();
    }

    async fn create_provider(&self, name: &str, login: &str) -> KeyProvider {
        let provider = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "KeyProvider",
            "metadata": {"name": name},
            "spec": {"openServiceBroker": {
                "url": self.broker.url(),
                "auth": {"basic": {"secretRef": {"name": login}}},
            }},
        });
        let provider = serde_json::from_value(provider).unwrap();
        self.providers().create(&PostParams::default(), &provider).await.unwrap()
    }

    async fn wait_for_finalizers(&self, secret: &str, finalizers: &[String]) {
        let wanted: BTreeSet<_> = finalizers.iter().collect();
        wait(self.secrets(), secret, "with only these finalizers", |secret| {
            secret.is_some_and(|secret| secret.finalizers().iter().collect::<BTreeSet<_>>() == wanted)
        })
        .await;
    }
}

fn login_of(provider: &KeyProvider) -> String {
    format!("servicekeys.dev/login-of.{}", provider.uid().unwrap())
}

#[tokio::test]
async fn a_namespace_with_the_login_of_a_lost_provider_ends() {
    let cluster = Cluster::start().await;
    let _operator = cluster.start_operator().await;
    cluster.create_login("restored", &[ORPHAN]).await;
    cluster.create_login("backed-up", &[FOREIGN_FINALIZER, ORPHAN]).await;
    cluster.create_login("held", &[]).await;
    let provider = cluster.create_provider("broker", "held").await;
    cluster.wait_for_finalizers("held", &[login_of(&provider)]).await;

    cluster.namespaces().delete(&cluster.tenant, &DeleteParams::default()).await.unwrap();
    wait(cluster.secrets(), "restored", "gone", |secret| secret.is_none()).await;
    cluster.wait_for_finalizers("backed-up", &[FOREIGN_FINALIZER.to_owned()]).await;
    let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    cluster.secrets().patch("backed-up", &PatchParams::default(), &bare).await.unwrap();
    wait(cluster.namespaces(), &cluster.tenant, "gone", |namespace| namespace.is_none()).await;
}

#[tokio::test]
async fn a_login_that_a_provider_names_keeps_the_finalizers_of_living_providers_only() {
    let cluster = Cluster::start().await;
    cluster.create_login("login", &[ORPHAN]).await;
    let provider = cluster.create_provider("broker", "login").await;
    let other = cluster.create_provider("other", "login").await;
    // This provider exists, but this version of the operator can't parse it.
    let newer = json!({
        "apiVersion": "servicekeys.dev/v1alpha1",
        "kind": "KeyProvider",
        "metadata": {
            "name": "newer",
            "namespace": cluster.tenant,
            "uid": "11111111-1111-4111-8111-111111111111",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generation": 1,
        },
        "spec": {"openServiceBroker": {"auth": "a form of a later version"}},
    });
    cluster.plane.store("servicekeys.dev/keyproviders", &newer).await.unwrap();
    let newer = "servicekeys.dev/login-of.11111111-1111-4111-8111-111111111111".to_owned();
    let finalizers = json!({"metadata": {"finalizers": [ORPHAN, newer]}});
    let patch = Patch::Merge(finalizers);
    cluster.secrets().patch("login", &PatchParams::default(), &patch).await.unwrap();

    let _operator = cluster.start_operator().await;
    cluster.wait_for_finalizers("login", &[login_of(&provider), login_of(&other), newer]).await;
}

/// This operator can't list ClusterKeyProviders, and one of them may need the login.
#[tokio::test]
async fn an_operator_of_single_namespaces_leaves_finalizers_that_it_can_not_judge() {
    let stage = Stage::set().await;
    let orphan = Patch::Merge(json!({"metadata": {"finalizers": [ORPHAN]}}));
    stage.secrets().patch("broker-login", &PatchParams::default(), &orphan).await.unwrap();
    let _operator = stage.start_operator().await;
    let provider = wait_for(stage.api::<KeyProvider>(), "broker", true, Reason::Available).await;
    let login = stage.secrets().get("broker-login").await.unwrap();
    assert_eq!(login.finalizers(), [ORPHAN.to_owned(), login_of(&provider)]);
}
