//! The operator reports keys of IBM Cloud with its own mark that no ServiceKey has, and revokes them if the provider
//! says so. The names of keys contain the cluster but no namespace, so a ClusterKeyProvider may not adopt every key;
//! this is tested here too.

use std::ops::{Deref, DerefMut};

use serde_json::{Value, json};
use servicekey_operator::api::Reason;
use testkit::ibm_cloud::{Call, FakeIbmCloud, Key, Route};

use crate::support::{
    cluster::{Cluster, LOGIN, PROVIDER, orphans_named},
    conditions::Reports,
    ibm::{API_KEY, INSTANCE},
};

const OF_ANOTHER_CLUSTER: &str = "left-sk1a2b3c4d-6f1d3c1a-3f43-4d0c-9d5e-5f3f0c5f8a01-1";

/// A cluster whose operator frequently checks its one account of IBM Cloud.
struct IbmCluster {
    cluster: Cluster,
    ibm: FakeIbmCloud,
}

impl Deref for IbmCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl DerefMut for IbmCluster {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}

impl IbmCluster {
    async fn start(policy: &str) -> Self {
        let ibm = FakeIbmCloud::builder().start().await.unwrap();
        let remote = json!({"ibmCloud": {
            "auth": {"apiKey": {"secretRef": {"name": LOGIN}}},
            "iamUrl": ibm.iam_url(),
            "resourceControllerUrl": ibm.url(),
            "orphans": policy,
        }});
        let cluster = Cluster::start(remote, json!({"apikey": API_KEY})).await;
        Self { cluster, ibm }
    }

    /// Creates a ServiceKey, waits until it is ready, and returns its key.
    async fn ready(&self, name: &str, fields: Value) -> Key {
        self.ask_for(name, INSTANCE, fields).await;
        let told = self.wait_ready(name).await.status.unwrap().key.unwrap();
        self.ibm.key(&told.id).unwrap()
    }

    /// Waits for the answers to this many further lists of all keys.
    async fn wait_for_lists(&self, more: usize) {
        let answered = |calls: &[Call]| {
            calls.iter().filter(|call| call.route == Route::Keys && call.status.is_some()).count()
        };
        let before = answered(&self.ibm.calls());
        self.ibm.wait_for_calls(|calls| answered(calls) >= before + more).await.unwrap();
    }

    fn living(&self) -> Vec<String> {
        self.ibm.live_keys().into_iter().map(|key| key.guid).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_has_is_reported_and_stays() {
    let mut cluster = IbmCluster::start("Report").await;
    cluster.ready("kept", json!({})).await;
    let left = cluster.ready("left", json!({})).await;
    cluster.ibm.add_key(INSTANCE, "by-hand").unwrap();
    cluster.ibm.add_key(INSTANCE, OF_ANOTHER_CLUSTER).unwrap();

    cluster.delete_by_force("left").await;
    cluster.wait_for_orphans(orphans_named(&[&left.name])).await;
    let note = cluster.wait_event("OrphansFound").await;
    assert!(note.contains(&format!("`{}`", left.name)) && note.contains(&left.guid), "{note}");
    let metrics = cluster.metrics();
    let orphans = format!(r#"servicekeys_orphans{{provider_namespace="",provider="{PROVIDER}"}}"#);
    assert!(metrics.contains(&format!("{orphans} 1")), "{metrics}");
    assert_eq!(cluster.living().len(), 4);

    // The report ends once the key was deleted by hand.
    assert!(cluster.ibm.forget(&left.guid));
    cluster.wait_for_orphans(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_has_is_revoked_where_the_provider_says_so() {
    let mut cluster = IbmCluster::start("Delete").await;
    let kept = cluster.ready("kept", json!({})).await;
    let left = cluster.ready("left", json!({"ibmCloud": {"access": {"roles": ["Writer"]}}})).await;
    let by_hand = cluster.ibm.add_key(INSTANCE, "by-hand").unwrap();
    let theirs = cluster.ibm.add_key(INSTANCE, OF_ANOTHER_CLUSTER).unwrap();

    cluster.delete_by_force("left").await;
    let is_gone = |keys: &[Key]| keys.iter().any(|key| key.guid == left.guid && key.removed);
    cluster.ibm.wait_until(is_gone).await.unwrap();
    assert!(cluster.wait_event("OrphanRevoked").await.contains(&left.guid));
    cluster.wait_for_lists(3).await;
    cluster.wait_for_orphans(None).await;
    assert_eq!(cluster.living(), [kept.guid, by_hand.guid, theirs.guid]);
    // Its policy and service ID are deleted with it.
    assert_eq!((cluster.ibm.policies(), cluster.ibm.service_ids()), (vec![], vec![]));
    let metrics = cluster.metrics();
    assert!(metrics.contains(r#"servicekeys_orphans_revoked_total{backend="IbmCloud"} 1"#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_to_be_retained_is_no_orphan() {
    let cluster = IbmCluster::start("Delete").await;
    let retained = cluster.ready("retained", json!({"deletionPolicy": "Retain"})).await;
    cluster.delete("retained").await;
    cluster.wait_for_lists(3).await;
    let keys = cluster.ibm.live_keys();
    let [key] = keys.as_slice() else { panic!("expected exactly one key: {keys:#?}") };
    assert_eq!((&key.guid, key.name.as_str()), (&retained.guid, "retained"));
    cluster.wait_for_orphans(None).await;
}

/// A ServiceKey that was restored from a backup may not name all its keys. Only a person can decide whether such a key
/// is needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_its_service_key_does_not_know_is_never_revoked_by_itself() {
    let cluster = IbmCluster::start("Delete").await;
    let known = cluster.ready("kept", json!({})).await;
    let start = known.name.strip_suffix("-1").unwrap();
    let unknown = cluster.ibm.add_key(INSTANCE, &format!("{start}-7")).unwrap();
    cluster.wait_for_orphans(orphans_named(&[&unknown.name])).await;
    cluster.wait_for_lists(3).await;
    assert_eq!(cluster.living(), [known.guid, unknown.guid]);
}

/// Two requests for the same key took effect. The status names the one in the Secret; the other one is deleted with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_key_of_the_same_name_is_reported_and_goes_with_the_first() {
    let cluster = IbmCluster::start("Delete").await;
    let known = cluster.ready("kept", json!({})).await;
    let twin = cluster.ibm.add_key(INSTANCE, &known.name).unwrap();
    cluster.wait_for_orphans(orphans_named(&[&twin.name])).await;
    assert!(cluster.wait_event("OrphansFound").await.contains(&twin.guid));
    cluster.wait_for_lists(3).await;
    assert_eq!(cluster.living(), [known.guid, twin.guid]);

    cluster.delete("kept").await;
    assert_eq!(cluster.ibm.live_keys(), []);
    cluster.wait_for_orphans(None).await;
}

/// A key's mark names no namespace, so any tenant of the provider could claim such a key.
#[tokio::test(flavor = "multi_thread")]
async fn through_a_shared_login_only_keys_without_a_mark_are_taken_over() {
    let cluster = IbmCluster::start("Report").await;
    let theirs = cluster.ibm.add_key(INSTANCE, OF_ANOTHER_CLUSTER).unwrap();
    cluster.ask_for("left", INSTANCE, json!({"adoption": "IfExists"})).await;
    let refused = cluster.wait_key("left", Reason::KeyConflict).await;
    refused.says("if that ServiceKey no longer exists, rename the key to `left` there");
    assert_eq!(cluster.ibm.key(&theirs.guid), Some(theirs));

    let by_hand = cluster.ibm.add_key(INSTANCE, "by-hand").unwrap();
    let adopted = cluster.ready("by-hand", json!({"adoption": "IfExists"})).await;
    assert_eq!(adopted.guid, by_hand.guid);
    assert_eq!(cluster.ibm.count(Route::CreateKey), 0);
}
