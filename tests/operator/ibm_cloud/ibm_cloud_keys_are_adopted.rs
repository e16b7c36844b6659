//! `adoption: IfExists` adopts an existing key, but never one that belongs to another ServiceKey. IBM Cloud
//! distinguishes keys only by their names, so the operator renames an adopted key.

use kube::api::{Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::{
    Moment::{self, AfterEffect, BeforeEffect},
    gateway::{Method, Requests},
    ibm_cloud::{Access, FakeIbmCloud, Fault, Injection, Instance, Key, Login, Quirks, Redaction, Route},
};

use crate::support::{
    conditions::Reports,
    evidence::settled,
    ibm::{API_KEY, INSTANCE, IbmStage, KEY},
    process::Process,
};

const OTHER: &str = "other";
const AUDITING: &str = "audit-events";
/// A key that was created and rotated in a cluster that no longer exists.
const OF_A_LOST_CLUSTER: &str = "monitoring-creds-sk1a2b3c4d-6f1d3c1a-3f43-4d0c-9d5e-5f3f0c5f8a01-4";

impl IbmStage {
    /// Creates a ServiceKey that adopts the key of the tutorial's ServiceKey.
    async fn ask_for_what_is_there(&self, name: &str, fields: Value) -> ServiceKey {
        let mut wanted = json!({"keyName": KEY, "adoption": "IfExists"});
        wanted.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.create_key_with(name, wanted).await
    }

    /// Waits until the ServiceKey has only this key, under the operator's name, and fails if another key was created.
    async fn assert_is_adopted(&self, key: &Key) -> ServiceKey {
        let ready = self.wait_ready_with_the_one_key(KEY).await;
        let keys = self.ibm.keys();
        assert_eq!(keys.iter().map(|key| key.guid.as_str()).collect::<Vec<_>>(), [key.guid.as_str()]);
        assert_eq!(keys[0].name, format!("{KEY}-sk-{}-1", ready.metadata.uid.as_deref().unwrap()));
        assert_eq!(self.count(&[Route::CreateKey]), 0);
        ready
    }

    /// Adds a cluster that no longer exists to the provider's `adoptFromClusters`.
    async fn name_the_lost_cluster(&self, cluster: &str) {
        let lost = Patch::Merge(json!({"spec": {"ibmCloud": {"adoptFromClusters": [cluster]}}}));
        self.api::<KeyProvider>().patch("ibm", &PatchParams::default(), &lost).await.unwrap();
    }

    /// Fails unless this key is unchanged, and no key was created.
    fn assert_is_left_alone(&self, key: &Key) {
        assert_eq!(self.ibm.key(&key.guid).as_ref(), Some(key));
        assert_eq!(self.count(&[Route::CreateKey, Route::RenameKey]), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_by_hand_is_taken_over_rotated_and_revoked() {
    let stage = IbmStage::set().await;
    let by_hand = stage.ibm.add_key(INSTANCE, KEY).unwrap();
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("ibm").await;
    let before = stage.ibm.calls().len();
    stage.ask_for_what_is_there(KEY, json!({"rotation": {"overlap": "0s"}})).await;
    let ready = stage.wait_ready(KEY).await;
    let adopted = stage.ibm.key(&by_hand.guid).unwrap();
    stage.assert_holds(&ready, &adopted).await;
    let told = ready.status.unwrap().key.unwrap();
    assert_eq!(told.created_by.as_deref(), Some("IBMid-somebody"));
    assert_eq!(told.role.as_deref(), Some("crn:v1:bluemix:public:iam::::serviceRole:Writer"), "its own");
    let note = stage.wait_event(KEY, "KeyAdopted").await;
    assert!(note.contains(&format!("adopted the existing key `{KEY}` as key 1")), "{note}");
    let mut calls = stage.routes_since(before);
    calls.retain(|route| ![Route::Instances, Route::Roles].contains(route));
    assert_eq!(calls, [Route::Keys, Route::KeysOfInstance, Route::Key, Route::RenameKey]);

    stage.change_key(KEY, json!({"parameters": {"HMAC": true}})).await;
    let is_rotated = |keys: &[Key]| {
        let living: Vec<_> = keys.iter().filter(|key| !key.removed).collect();
        living.len() == 1 && living[0].name.ends_with("-2")
    };
    stage.ibm.wait_until(is_rotated).await.unwrap();
    assert!(stage.ibm.key(&by_hand.guid).unwrap().removed);
    assert_eq!(stage.count(&[Route::KeysOfInstance]), 1, "only the first key is looked up");
    stage.delete_and_leave_no_key(KEY).await;
}

/// A cluster is gone, and its ServiceKeys are created again in a new one, whose provider names the old cluster.
#[rstest]
#[case::by_its_id("1a2b3c4d-3f43-4d0c-9d5e-5f3f0c5f8a01")]
#[case::by_the_digits_in_the_name("1a2b3c4d")]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_lost_cluster_is_found_again(#[case] cluster: &str) {
    let stage = IbmStage::set().await;
    let old = stage.ibm.add_key(INSTANCE, OF_A_LOST_CLUSTER).unwrap();
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY, json!({})).await;
    let refused = stage.wait_key(KEY, Reason::KeyConflict).await;
    refused.says("add the cluster's id to `adoptFromClusters`");
    stage.assert_is_left_alone(&old);
    stage.name_the_lost_cluster(cluster).await;
    stage.assert_is_adopted(&old).await;
    assert!(stage.wait_event(KEY, "KeyAdopted").await.contains(OF_A_LOST_CLUSTER));
    stage.delete_and_leave_no_key(KEY).await;
}

/// A key that `deletionPolicy: Retain` left behind has no mark.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_retained_is_taken_up_again() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, json!({"deletionPolicy": "Retain"})).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    stage.ask_for_what_is_there(KEY, json!({})).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.ibm.keys().len(), 1, "another key was created");
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_there_is_made() {
    let stage = IbmStage::set().await;
    let another = stage.ibm.add_key(INSTANCE, "monitoring-creds-of-others").unwrap();
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY, json!({})).await;
    let ready = stage.wait_ready(KEY).await;
    let made = stage.ibm.live_keys().pop().unwrap();
    stage.assert_holds(&ready, &made).await;
    assert_eq!((stage.count(&[Route::CreateKey]), stage.count(&[Route::RenameKey])), (1, 0));
    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    assert_eq!(stage.ibm.live_keys(), [another]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_living_service_key_is_its_own() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let theirs = stage.wait_ready_with_the_one_key(KEY).await;
    stage.ask_for_what_is_there(OTHER, json!({})).await;
    let refused = stage.wait_key(OTHER, Reason::KeyConflict).await;
    refused.says("bears the mark of another ServiceKey, here or in another cluster");
    assert!(refused.is_stalled());
    assert_eq!(stage.count(&[Route::RenameKey]), 0);
    stage.assert_holds(&theirs, &stage.ibm.live_keys()[0]).await;

    // Names of keys need not be unique. Without adoption, the operator creates a second key with this name.
    stage.change_key(OTHER, json!({"adoption": "Never"})).await;
    stage.wait_ready(OTHER).await;
    stage.delete_key(OTHER).await;
    stage.wait_gone(OTHER).await;
    stage.wait_ready_with_the_one_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_want_the_same_key_one_gets_it() {
    let stage = IbmStage::set().await;
    let by_hand = stage.ibm.add_key(INSTANCE, KEY).unwrap();
    for name in [KEY, OTHER] {
        stage.ask_for_what_is_there(name, json!({})).await;
    }
    let _operator = stage.start_operator().await;
    let settled = |key: &ServiceKey| key.is(true, Reason::Available) || key.is(false, Reason::KeyConflict);
    let mut ready = Vec::new();
    for name in [KEY, OTHER] {
        let is_settled = |key: Option<&ServiceKey>| key.is_some_and(settled);
        let key = stage.wait(stage.keys(), name, "settled", is_settled).await.unwrap();
        ready.extend(key.is(true, Reason::Available).then_some(key));
    }
    let [winner] = ready.as_slice() else { panic!("{ready:?} have the key") };
    let keys = stage.ibm.keys();
    assert_eq!(keys.iter().map(|key| &key.guid).collect::<Vec<_>>(), [&by_hand.guid]);
    stage.assert_holds(winner, &keys[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_that_may_be_meant_are_named_until_one_is_left() {
    let stage = IbmStage::set().await;
    let by_hand = stage.ibm.add_key(INSTANCE, KEY).unwrap();
    let old = stage.ibm.add_key(INSTANCE, OF_A_LOST_CLUSTER).unwrap();
    stage.name_the_lost_cluster("1a2b3c4d").await;
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY, json!({})).await;
    let refused = stage.wait_key(KEY, Reason::KeyConflict).await;
    refused.says("2 keys of the instance match, and none of them is adopted");
    for key in [&by_hand, &old] {
        refused.says(&format!("`{}` ({})", key.name, key.guid));
        stage.assert_is_left_alone(key);
    }
    assert!(stage.ibm.forget(&by_hand.guid));
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.ibm.live_keys()[0].guid, old.guid);
    assert_eq!(stage.count(&[Route::CreateKey]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_redacted_is_left_alone_until_it_is_shown() {
    let quirks = Quirks { redaction: Some(Redaction::Redacted), ..Quirks::default() };
    let stage = IbmStage::set_with(FakeIbmCloud::builder().quirks(quirks).start().await.unwrap()).await;
    let by_hand = stage.ibm.add_key(INSTANCE, KEY).unwrap();
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY, json!({})).await;
    let refused = stage.wait_key(KEY, Reason::CredentialsRedacted).await;
    refused.says("the key `monitoring-creds` is not adopted: its credentials are not shown to this login");
    stage.assert_is_left_alone(&by_hand);
    stage.ibm.change_quirks(|quirks| quirks.redaction = None);
    stage.assert_is_adopted(&by_hand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_shown_once_is_left_alone() {
    let instance = Instance::new(INSTANCE).one_time();
    let ibm = FakeIbmCloud::builder().without_instances().instance(instance).start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    let by_hand = stage.ibm.add_key(INSTANCE, KEY).unwrap();
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY, json!({})).await;
    let refused = stage.wait_key(KEY, Reason::KeyConflict).await;
    refused.says("its credentials were shown only at its creation");
    stage.assert_is_left_alone(&by_hand);
    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    assert_eq!(stage.ibm.live_keys(), [by_hand]);
}

async fn auditing() -> IbmStage {
    let ibm = FakeIbmCloud::builder().instance(Instance::auditing(AUDITING)).start().await.unwrap();
    IbmStage::set_with(ibm).await
}

fn for_auditing(key_name: &str) -> Value {
    json!({"instance": {"name": AUDITING}, "ibmCloud": {"role": "Manager"}, "keyName": key_name})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_an_auditing_instance_is_taken_over_by_its_name() {
    let stage = auditing().await;
    let by_hand = stage.ibm.add_key_of_role(AUDITING, KEY, "Manager").unwrap();
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY, for_auditing(KEY)).await;
    stage.assert_is_adopted(&by_hand).await;
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_of_an_auditing_instance_is_left_alone() {
    let stage = auditing().await;
    let by_hand = stage.ibm.add_key_of_role(AUDITING, "by-hand", "Manager").unwrap();
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY, for_auditing(KEY)).await;
    stage.wait_ready(KEY).await;
    assert_eq!((stage.count(&[Route::RenameKey]), stage.ibm.live_keys().len()), (0, 2));
    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    assert_eq!(stage.ibm.live_keys(), [by_hand]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditing_key_whose_service_key_the_login_may_not_see_is_left_alone() {
    let editor = Login::api_key("editor", API_KEY).access(Access::Editor);
    let ibm = FakeIbmCloud::builder().without_logins().login(editor).instance(Instance::auditing(AUDITING));
    let stage = IbmStage::set_with(ibm.start().await.unwrap()).await;
    let by_hand = stage.ibm.add_key_of_role(AUDITING, KEY, "Reader").unwrap();
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY, for_auditing(KEY)).await;
    let refused = stage.wait_key(KEY, Reason::CredentialsRedacted).await;
    refused.says("is not adopted: its credentials contain no `service_key`");
    stage.assert_is_left_alone(&by_hand);
    stage.ibm.change_access("editor", Access::Full);
    stage.assert_is_adopted(&by_hand).await;
}

#[rstest]
#[case::cut(Fault::Cut.on(Route::RenameKey))]
#[case::cut_after_it_was_done(Fault::Cut.on(Route::RenameKey).after_effect())]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_an_adoption_costs_nothing(#[case] fault: Injection<Route>) {
    let stage = IbmStage::set().await;
    let by_hand = stage.ibm.add_key(INSTANCE, KEY).unwrap();
    stage.ibm.inject(fault);
    let _operator = stage.start_operator().await;
    stage.ask_for_what_is_there(KEY, json!({})).await;
    stage.assert_is_adopted(&by_hand).await;
    stage.delete_and_leave_no_key(KEY).await;
}

#[rstest]
#[case::look(Route::KeysOfInstance)]
#[case::read(Route::Key)]
#[case::rename(Route::RenameKey)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_takes_a_key_over(
    #[case] route: Route,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = IbmStage::set().await;
    let by_hand = stage.ibm.add_key(INSTANCE, KEY).unwrap();
    let operator = Process::start(&stage).await;
    let gate = stage.ibm.gate(route, moment);
    stage.ask_for_what_is_there(KEY, json!({})).await;
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    settled(&stage, KEY).await;
    stage.assert_is_adopted(&by_hand).await;
    stage.delete_and_leave_no_key(KEY).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_stores_a_key_that_it_took_over(#[values(BeforeEffect, AfterEffect)] moment: Moment) {
    let stage = IbmStage::set().await;
    let by_hand = stage.ibm.add_key(INSTANCE, KEY).unwrap();
    let operator = Process::start(&stage).await;
    let gate = operator.gateway.gate(Requests::to(Method::POST, "secrets"), moment);
    stage.ask_for_what_is_there(KEY, json!({})).await;
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    settled(&stage, KEY).await;
    stage.assert_is_adopted(&by_hand).await;
    assert_eq!(stage.count(&[Route::RenameKey]), 1);
    stage.delete_and_leave_no_key(KEY).await;
}
