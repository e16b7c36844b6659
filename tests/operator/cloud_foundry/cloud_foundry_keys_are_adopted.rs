//! `adoption: IfExists` adopts an existing key, but never one that belongs to another ServiceKey.

use kube::api::{Patch, PatchParams};
use rstest::rstest;
use serde_json::json;
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::cloud_foundry::{Fault, Key, Route};

use crate::support::{
    conditions::Reports,
    foundry::{FoundryStage, INSTANCE, KEY},
};

const LOST_CLUSTER: &str = "11111111-3f43-4d0c-9d5e-5f3f0c5f8a01";

impl FoundryStage {
    /// Creates a ServiceKey that adopts the key with its name.
    async fn ask_for_what_is_there(&self, name: &str) -> ServiceKey {
        let mut manifest = self.manifest(name);
        manifest["spec"]["keyName"] = json!(KEY);
        manifest["spec"]["adoption"] = json!("IfExists");
        self.create(manifest).await
    }

    /// Adds a key that was created for a ServiceKey of this namespace that no longer exists.
    fn add_key_of_a_gone_one(&self, namespace: &str) -> Key {
        let labels = [
            ("servicekeys.dev/managed-by", "servicekey-operator"),
            ("servicekeys.dev/owner", "6f1d3c1a-3f43-4d0c-9d5e-5f3f0c5f8a01"),
            ("servicekeys.dev/cluster", LOST_CLUSTER),
        ];
        let key = self.foundry.add_labelled_key(INSTANCE, KEY, labels).unwrap();
        let told = [
            ("servicekeys.dev/namespace", namespace),
            ("servicekeys.dev/name", KEY),
            ("servicekeys.dev/sequence", "1"),
            ("servicekeys.dev/inputs", "other"),
        ];
        assert!(self.foundry.annotate(&key.guid, told));
        self.foundry.key(&key.guid).unwrap()
    }

    async fn assert_is_adopted(&self, key: &Key) {
        let ready = self.wait_ready_with_the_one_key(KEY).await;
        let adopted = self.foundry.key(&key.guid).unwrap();
        assert_eq!(adopted.labels["servicekeys.dev/owner"], ready.metadata.uid.unwrap());
        assert_eq!(adopted.annotations["servicekeys.dev/namespace"], self.namespace);
        assert!(self.wait_event(KEY, "KeyAdopted").await.contains(&format!("`{KEY}`")));
        self.delete_and_leave_no_key(KEY).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_by_hand_is_taken_over() {
    let stage = FoundryStage::set().await;
    let by_hand = stage.foundry.add_key(INSTANCE, KEY).unwrap();
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY).await;
    stage.assert_is_adopted(&by_hand).await;
}

/// The other operator's marks stay, so that it recognizes the key until it is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_operator_is_taken_over_with_its_marks() {
    let stage = FoundryStage::set().await;
    let mark = ("service-operator.example.com/owner", "6f1d3c1a-3f43-4d0c-9d5e-5f3f0c5f8a01");
    let of_another = stage.foundry.add_labelled_key(INSTANCE, KEY, [mark]).unwrap();
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.foundry.key(&of_another.guid).unwrap().labels[mark.0], mark.1);
    stage.assert_is_adopted(&of_another).await;
}

/// A cluster is gone, and its ServiceKeys are created again in a new one, whose provider names the old cluster.
#[rstest]
#[case::by_its_id(LOST_CLUSTER)]
#[case::by_its_first_digits(&LOST_CLUSTER[..8])]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_lost_cluster_is_found_again(#[case] cluster: &str) {
    let stage = FoundryStage::set().await;
    let old = stage.add_key_of_a_gone_one(&stage.namespace);
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY).await;
    stage
        .wait_key(KEY, Reason::KeyConflict)
        .await
        .says("which belongs to a ServiceKey of another namespace or cluster");
    let lost = Patch::Merge(json!({"spec": {"cloudFoundry": {"adoptFromClusters": [cluster]}}}));
    stage.api::<KeyProvider>().patch("foundry", &PatchParams::default(), &lost).await.unwrap();
    stage.assert_is_adopted(&old).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_namespace_is_not_taken_over() {
    let stage = FoundryStage::set().await;
    let theirs = stage.add_key_of_a_gone_one("somewhere-else");
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY).await;
    stage
        .wait_key(KEY, Reason::KeyConflict)
        .await
        .says("which belongs to a ServiceKey of another namespace or cluster");
    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    assert_eq!(stage.foundry.keys(), [theirs]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_want_the_same_key_one_gets_it() {
    let stage = FoundryStage::set().await;
    stage.foundry.add_key(INSTANCE, KEY).unwrap();
    let (one, other) = ("one", "other");
    stage.ask_for_what_is_there(one).await;
    stage.ask_for_what_is_there(other).await;
    let _operator = stage.start_operator().await;
    let settled = |key: &ServiceKey| key.is(true, Reason::Available) || key.is(false, Reason::KeyConflict);
    let mut ready = Vec::new();
    for name in [one, other] {
        let is_settled = |key: Option<&ServiceKey>| key.is_some_and(settled);
        let key = stage.wait(stage.keys(), name, "settled", is_settled).await.unwrap();
        ready.extend(key.is(true, Reason::Available).then_some(name));
    }
    let [winner] = ready.as_slice() else { panic!("{ready:?} have the key") };
    let key = stage.foundry.keys().pop().unwrap();
    let uid = stage.keys().get(winner).await.unwrap().metadata.uid.unwrap();
    assert_eq!(key.labels["servicekeys.dev/owner"], uid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_there_is_made() {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.count(&[Route::Update]), 0);
    stage.delete_and_leave_no_key(KEY).await;
}

#[rstest]
#[case::before(Fault::Cut.on(Route::Update))]
#[case::after(Fault::Cut.on(Route::Update).after_effect())]
#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_that_breaks_off_is_taken_up(#[case] fault: testkit::cloud_foundry::Injection<Route>) {
    let stage = FoundryStage::set().await;
    let by_hand = stage.foundry.add_key(INSTANCE, KEY).unwrap();
    stage.foundry.inject(fault);
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY).await;
    let ready = stage.wait_ready_with_the_one_key(KEY).await;
    let adopted = stage.foundry.key(&by_hand.guid).unwrap();
    assert_eq!(adopted.labels["servicekeys.dev/owner"], ready.metadata.uid.unwrap());
    stage.delete_and_leave_no_key(KEY).await;
}
