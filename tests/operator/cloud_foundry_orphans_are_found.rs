//! Keys with this operator's mark that no ServiceKey has are reported, and revoked where the provider says so. Only an
//! operator that serves the whole cluster can tell; so each test has a cluster of its own.

use std::{path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{ClusterKeyProvider, Orphans, Reason, ServiceKey, custom_resource_definitions},
    backend::AddressPolicy,
    controller::Options,
};
use testkit::{
    cloud_foundry::{FakeCloudFoundry, Key, Route},
    control_plane::{ControlPlane, User},
};

use crate::{
    conditions::{wait_event, wait_for},
    foundry::{INSTANCE, PASSWORD},
    stage::{Running, run_operator, wait},
};

/// A cluster whose operator looks at the one Cloud Foundry all the time.
struct Cluster {
    /// Nobody while the operator is away.
    operator: Option<Running>,
    user: User,
    options: Options,
    foundry: FakeCloudFoundry,
    client: Client,
    tenant: String,
    plane: ControlPlane,
}

impl Cluster {
    async fn start(policy: Option<&str>) -> Self {
        let plane = ControlPlane::builder().start().await.unwrap();
        plane.install_crds(&custom_resource_definitions()).await.unwrap();
        let (system, tenant) =
            (plane.namespace("system").await.unwrap(), plane.namespace("tenant").await.unwrap());
        let user = plane.new_user().unwrap();
        plane.grant_cluster_admin(&user).await.unwrap();
        let options = Options {
            cluster_resource_namespace: system.clone(),
            namespaces: None,
            concurrency: 32,
            check_interval: Duration::from_millis(200),
            addresses: AddressPolicy::admitting(["127.0.0.0/8".parse().unwrap()]),
            service_account_token: PathBuf::new(),
        };
        let foundry = FakeCloudFoundry::builder().start().await.unwrap();
        let mut cluster =
            Self { operator: None, user, options, foundry, client: plane.admin(), tenant, plane };
        cluster.start_operator();
        let login = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "cf-login"},
            "stringData": {"username": "alice", "password": PASSWORD},
        });
        let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &system);
        secrets.create(&PostParams::default(), &serde_json::from_value(login).unwrap()).await.unwrap();
        let provider = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ClusterKeyProvider",
            "metadata": {"name": "foundry"},
            "spec": {
                "cloudFoundry": {
                    "apiUrl": cluster.foundry.url(),
                    "auth": {"password": {"secretRef": {"name": "cf-login"}}},
                    "organization": "acme",
                    "space": "dev",
                    "orphans": policy.unwrap_or("Report"),
                },
                "limits": {"timeout": "5s", "requestsPerSecond": 1000},
                "allowedNamespaces": {},
            },
        });
        let provider = serde_json::from_value(provider).unwrap();
        cluster.providers().create(&PostParams::default(), &provider).await.unwrap();
        cluster
    }

    fn start_operator(&mut self) {
        self.operator = Some(run_operator(&self.plane, self.user.clone(), self.options.clone()));
    }

    fn metrics(&self) -> String {
        self.operator.as_ref().unwrap().metrics.text()
    }

    fn providers(&self) -> Api<ClusterKeyProvider> {
        Api::all(self.client.clone())
    }

    fn keys(&self) -> Api<ServiceKey> {
        Api::namespaced(self.client.clone(), &self.tenant)
    }

    /// A ServiceKey that is ready, and its key.
    async fn ready(&self, name: &str, spec: Value) -> Key {
        let mut manifest = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {"name": name},
            "spec": {
                "providerRef": {"kind": "ClusterKeyProvider", "name": "foundry"},
                "instance": {"name": INSTANCE},
                "keyName": name,
            },
        });
        manifest["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let key = serde_json::from_value(manifest).unwrap();
        self.keys().create(&PostParams::default(), &key).await.unwrap();
        wait_for(self.keys(), name, true, Reason::Available).await;
        self.foundry.key_named(INSTANCE, name).unwrap()
    }

    /// Deletes a ServiceKey as somebody does who takes its finalizer away while the operator is not there.
    async fn delete_by_force(&mut self, name: &str) {
        self.operator = None;
        let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        self.keys().patch(name, &PatchParams::default(), &bare).await.unwrap();
        self.keys().delete(name, &DeleteParams::default()).await.unwrap();
        wait(self.keys(), name, "gone", |key| key.is_none()).await;
        self.start_operator();
    }

    async fn wait_for_orphans(&self, orphans: Option<Orphans>) {
        let shown = |provider: &ClusterKeyProvider| provider.status.clone().unwrap_or_default().orphans;
        let holds = |provider: Option<&ClusterKeyProvider>| provider.is_some_and(|it| shown(it) == orphans);
        wait(self.providers(), "foundry", "with these orphans", holds).await;
    }

    /// Waits until this many lists of all keys have been answered from now on.
    async fn wait_for_lists(&self, more: usize) {
        let answered = |calls: &[testkit::cloud_foundry::Call]| {
            calls.iter().filter(|call| call.route == Route::Keys && call.status.is_some()).count()
        };
        let before = answered(&self.foundry.calls());
        self.foundry.wait_for_calls(|calls| answered(calls) >= before + more).await.unwrap();
    }

    async fn wait_event(&self, reason: &str) -> String {
        wait_event(Api::namespaced(self.client.clone(), "default"), "foundry", reason).await
    }
}

fn named(names: &[&str]) -> Option<Orphans> {
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Some(Orphans { count: u32::try_from(names.len()).unwrap(), names })
}

const MARK: (&str, &str) = ("servicekeys.dev/managed-by", "servicekey-operator");
const OWNER: (&str, &str) = ("servicekeys.dev/owner", "6f1d3c1a-3f43-4d0c-9d5e-5f3f0c5f8a01");

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_has_is_reported_and_stays() {
    let mut cluster = Cluster::start(None).await;
    cluster.ready("kept", json!({})).await;
    let left = cluster.ready("left", json!({})).await;
    // Neither what somebody made by hand is an orphan, nor what another cluster made.
    cluster.foundry.add_key(INSTANCE, "by-hand").unwrap();
    let other = [MARK, OWNER, ("servicekeys.dev/cluster", "another")];
    cluster.foundry.add_labelled_key(INSTANCE, "of-another-cluster", other).unwrap();

    cluster.delete_by_force("left").await;
    cluster.wait_for_orphans(named(&["left"])).await;
    let note = cluster.wait_event("OrphansFound").await;
    assert!(note.contains("`left`") && note.contains(&left.guid), "{note}");
    let metrics = cluster.metrics();
    assert!(
        metrics.contains(r#"servicekeys_orphans{provider_namespace="",provider="foundry"} 1"#),
        "{metrics}"
    );
    assert_eq!(cluster.foundry.live_keys().len(), 4);

    // Whoever sees to it by hand is told no longer.
    assert!(cluster.foundry.forget(&left.guid));
    cluster.wait_for_orphans(None).await;
    assert!(cluster.metrics().contains(r#"provider="foundry"} 0"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_has_is_revoked_where_the_provider_says_so() {
    let mut cluster = Cluster::start(Some("Delete")).await;
    let kept = cluster.ready("kept", json!({})).await;
    cluster.ready("left", json!({})).await;
    let by_hand = cluster.foundry.add_key(INSTANCE, "by-hand").unwrap();

    cluster.delete_by_force("left").await;
    cluster.foundry.wait_until(|keys| keys.len() == 2).await.unwrap();
    let guids: Vec<_> = cluster.foundry.live_keys().into_iter().map(|key| key.guid).collect();
    assert_eq!(guids, [kept.guid, by_hand.guid]);
    assert!(cluster.wait_event("OrphanRevoked").await.contains("`left`"));
    cluster.wait_for_lists(2).await;
    cluster.wait_for_orphans(None).await;
    let metrics = cluster.metrics();
    assert!(metrics.contains(r#"servicekeys_orphans_revoked_total{backend="CloudFoundry"} 1"#), "{metrics}");
}

/// What the user wants to keep is no orphan: it is an ordinary key of the Cloud Foundry from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_to_be_retained_is_no_orphan() {
    let cluster = Cluster::start(Some("Delete")).await;
    let retained = cluster.ready("retained", json!({"deletionPolicy": "Retain"})).await;
    cluster.keys().delete("retained", &DeleteParams::default()).await.unwrap();
    wait(cluster.keys(), "retained", "gone", |key| key.is_none()).await;
    let keys = cluster.foundry.live_keys();
    let [key] = keys.as_slice() else { panic!("there is not one key: {keys:#?}") };
    assert_eq!((&key.guid, key.labels.len(), key.annotations.len()), (&retained.guid, 0, 0));
    cluster.wait_for_lists(3).await;
    assert_eq!(cluster.foundry.live_keys().len(), 1);
    cluster.wait_for_orphans(None).await;
}

/// A ServiceKey that came back from a backup may know less than there is; only a person can tell what is right.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_its_service_key_does_not_know_is_never_revoked_by_itself() {
    let cluster = Cluster::start(Some("Delete")).await;
    let known = cluster.ready("kept", json!({})).await;
    let marks = known.labels.iter().map(|(label, value)| (label.as_str(), value.as_str()));
    let unknown = cluster.foundry.add_labelled_key(INSTANCE, "unknown", marks).unwrap();
    cluster.foundry.annotate(&unknown.guid, [("servicekeys.dev/sequence", "7")]);
    cluster.wait_for_orphans(named(&["unknown"])).await;
    cluster.wait_for_lists(3).await;
    assert_eq!(cluster.foundry.live_keys().len(), 2);
}
