//! The operator reports keys with its own mark that no ServiceKey has, and revokes them if the provider says so. Only
//! an operator that serves the whole cluster can know this, so each test has a cluster of its own.

use std::ops::{Deref, DerefMut};

use serde_json::{Value, json};
use testkit::cloud_foundry::{Call, FakeCloudFoundry, Fault, Key, Route};

use crate::support::{
    cluster::{Cluster, LOGIN, PROVIDER, orphans_named},
    foundry::{INSTANCE, PASSWORD},
};

/// A cluster whose operator frequently checks its one Cloud Foundry.
struct FoundryCluster {
    cluster: Cluster,
    foundry: FakeCloudFoundry,
}

impl Deref for FoundryCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl DerefMut for FoundryCluster {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}

impl FoundryCluster {
    async fn start(policy: Option<&str>) -> Self {
        let foundry = FakeCloudFoundry::builder().start().await.unwrap();
        let remote = json!({"cloudFoundry": {
            "apiUrl": foundry.url(),
            "auth": {"password": {"secretRef": {"name": LOGIN}}},
            "organization": "acme",
            "space": "dev",
            "orphans": policy.unwrap_or("Report"),
        }});
        let cluster = Cluster::start(remote, json!({"username": "alice", "password": PASSWORD})).await;
        Self { cluster, foundry }
    }

    /// Creates a ServiceKey, waits until it is ready, and returns its key.
    async fn ready(&self, name: &str, fields: Value) -> Key {
        self.ask_for(name, INSTANCE, fields).await;
        self.wait_ready(name).await;
        self.foundry.key_named(INSTANCE, name).unwrap()
    }

    /// Waits for the answers to this many further lists of all keys.
    async fn wait_for_lists(&self, more: usize) {
        let answered = |calls: &[Call]| {
            calls.iter().filter(|call| call.route == Route::Keys && call.status.is_some()).count()
        };
        let before = answered(&self.foundry.calls());
        self.foundry.wait_for_calls(|calls| answered(calls) >= before + more).await.unwrap();
    }
}

const MARK: (&str, &str) = ("servicekeys.dev/managed-by", "servicekey-operator");
const OWNER: (&str, &str) = ("servicekeys.dev/owner", "6f1d3c1a-3f43-4d0c-9d5e-5f3f0c5f8a01");

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_has_is_reported_and_stays() {
    let mut cluster = FoundryCluster::start(None).await;
    cluster.ready("kept", json!({})).await;
    let left = cluster.ready("left", json!({})).await;
    // Neither a key that was created by hand nor one of another cluster is an orphan.
    cluster.foundry.add_key(INSTANCE, "by-hand").unwrap();
    let other = [MARK, OWNER, ("servicekeys.dev/cluster", "another")];
    cluster.foundry.add_labelled_key(INSTANCE, "of-another-cluster", other).unwrap();

    cluster.delete_by_force("left").await;
    cluster.wait_for_orphans(orphans_named(&["left"])).await;
    let note = cluster.wait_event("OrphansFound").await;
    assert!(note.contains("`left`") && note.contains(&left.guid), "{note}");
    let metrics = cluster.metrics();
    let orphans = format!(r#"servicekeys_orphans{{provider_namespace="",provider="{PROVIDER}"}}"#);
    assert!(metrics.contains(&format!("{orphans} 1")), "{metrics}");
    assert_eq!(cluster.foundry.live_keys().len(), 4);

    // The report ends once the key was deleted by hand.
    assert!(cluster.foundry.forget(&left.guid));
    cluster.wait_for_orphans(None).await;
    assert!(cluster.metrics().contains(&format!("{orphans} 0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_has_is_revoked_where_the_provider_says_so() {
    let mut cluster = FoundryCluster::start(Some("Delete")).await;
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

/// A key that the user wants to keep is not an orphan. The operator removes its marks, and it is an ordinary key of the
/// Cloud Foundry.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_to_be_retained_is_no_orphan() {
    let cluster = FoundryCluster::start(Some("Delete")).await;
    let retained = cluster.ready("retained", json!({"deletionPolicy": "Retain"})).await;
    cluster.delete("retained").await;
    let keys = cluster.foundry.live_keys();
    let [key] = keys.as_slice() else { panic!("expected exactly one key: {keys:#?}") };
    assert_eq!((&key.guid, key.labels.len(), key.annotations.len()), (&retained.guid, 0, 0));
    cluster.wait_for_lists(3).await;
    assert_eq!(cluster.foundry.live_keys().len(), 1);
    cluster.wait_for_orphans(None).await;
}

/// A ServiceKey that was restored from a backup may not name all its keys. Only a person can decide whether such a key
/// is needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_its_service_key_does_not_know_is_never_revoked_by_itself() {
    let cluster = FoundryCluster::start(Some("Delete")).await;
    let known = cluster.ready("kept", json!({})).await;
    let marks = known.labels.iter().map(|(label, value)| (label.as_str(), value.as_str()));
    let unknown = cluster.foundry.add_labelled_key(INSTANCE, "unknown", marks).unwrap();
    cluster.foundry.annotate(&unknown.guid, [("servicekeys.dev/sequence", "7")]);
    cluster.wait_for_orphans(orphans_named(&["unknown"])).await;
    cluster.wait_for_lists(3).await;
    assert_eq!(cluster.foundry.live_keys().len(), 2);
}

/// A user with a right to label the login must not be able to prevent the detection of orphans.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_given_up_leaves_what_the_one_before_it_showed() {
    let mut cluster = FoundryCluster::start(None).await;
    cluster.ready("left", json!({})).await;
    cluster.foundry.inject(Fault::Hang.on(Route::Keys).forever());
    cluster.delete_by_force("left").await;
    cluster.foundry.clear_faults();
    let lists = |calls: &[Call]| calls.iter().filter(|call| call.route == Route::Keys).count();
    let before = lists(&cluster.foundry.calls());
    // The first and the third list are answered; the second one, and all after the third, never are.
    let answered = || Fault::edit(|_| {}).on(Route::Keys);
    for fault in [answered(), Fault::Hang.on(Route::Keys), answered(), Fault::Hang.on(Route::Keys).forever()]
    {
        cluster.foundry.inject(fault);
    }
    cluster.foundry.wait_for_calls(|calls| lists(calls) >= before + 2).await.unwrap();
    cluster.touch_login().await;
    cluster.wait_for_orphans(orphans_named(&["left"])).await;
    cluster.foundry.wait_for_calls(|calls| lists(calls) >= before + 4).await.unwrap();
}
