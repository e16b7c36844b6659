//! The operator notices with one list of all keys that a key was deleted at the Cloud Foundry, and replaces it by a
//! regular rotation. It does not mistake keys that its login may no longer see for deleted keys.

use std::time::Duration;

use serde_json::json;
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::cloud_foundry::{FakeCloudFoundry, Role, Route};

use crate::support::{
    conditions::{Reports, wait_for},
    foundry::{FoundryStage, INSTANCE, KEY, later_name},
    stage::{condition, entries, reason, wait},
};

/// Often enough that no test waits for a check.
const OFTEN: Duration = Duration::from_millis(200);
/// The largest number of keys on one page of a list.
const MOST_ON_A_PAGE: usize = 5000;

async fn wait_ready_with(stage: &FoundryStage, sequence: u32) -> ServiceKey {
    let number = |key: &ServiceKey| key.status.as_ref()?.key.as_ref().map(|key| key.sequence);
    let is_it = |key: &ServiceKey| number(key) == Some(sequence) && condition(key, "Ready") == Some("True");
    wait(stage.keys(), KEY, "ready with another key", |key| key.is_some_and(is_it)).await.unwrap()
}

/// Waits for this many further lists. The second one belongs to a check that began after the call of this function.
async fn wait_for_lists(stage: &FoundryStage, more: usize) {
    let before = stage.foundry.count(Route::Keys);
    let lists = |calls: &[testkit::cloud_foundry::Call]| {
        calls.iter().filter(|call| call.route == Route::Keys && call.status.is_some()).count()
    };
    stage.foundry.wait_for_calls(|calls| lists(calls) >= before + more).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_vanishes_is_replaced_in_order_with_an_event() {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator_checking(OFTEN).await;
    stage.create_key(KEY).await;
    let lost = stage.wait_ready_with_the_one_key(KEY).await.status.unwrap().key.unwrap();
    let held = entries(&stage.secrets().get(KEY).await.unwrap());

    stage.foundry.allow_look_ups(1);
    assert!(stage.foundry.forget(&lost.id));
    assert!(
        stage
            .wait_event(KEY, Reason::KeyLost.as_str())
            .await
            .contains("no longer has key 1, which the operator did not revoke")
    );
    let ready = wait_ready_with(&stage, 2).await;
    let keys = stage.foundry.live_keys();
    let [key] = keys.as_slice() else { panic!("expected exactly one key: {keys:#?}") };
    assert_eq!(key.name, later_name(&ready, KEY, 2));
    stage.assert_holds(&ready, key).await;
    assert!(
        entries(&stage.secrets().get(KEY).await.unwrap()) != held,
        "the Secret still contains the lost credentials"
    );
    // The operator also confirms that the lost key is gone.
    stage
        .wait(stage.keys(), KEY, "settled", |key| {
            let status = key.and_then(|key| key.status.as_ref()).unwrap();
            status.previous_keys.is_empty() && status.operation.is_none()
        })
        .await;
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vanished_while_nobody_looked_is_noticed_at_the_start() {
    let stage = FoundryStage::set().await;
    let operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let lost = stage.wait_ready_with_the_one_key(KEY).await.status.unwrap().key.unwrap();
    drop(operator);

    stage.foundry.allow_look_ups(1);
    assert!(stage.foundry.forget(&lost.id));
    let _operator = stage.start_operator().await;
    let ready = wait_ready_with(&stage, 2).await;
    stage.assert_holds(&ready, &stage.foundry.live_keys()[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_vanished_with_its_keys_is_told() {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator_checking(OFTEN).await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;

    // One lookup because the list does not show the key, and one to prove its owner before it is revoked.
    stage.foundry.allow_look_ups(2);
    assert!(stage.foundry.forget_instance(INSTANCE));
    let told = wait(stage.keys(), KEY, "stalled", |key| key.is_some_and(Reports::is_stalled)).await.unwrap();
    assert_eq!(reason(&told, "Stalled"), Some(Reason::InstanceNotFound.as_str()));
    assert_eq!(condition(&told, "Ready"), Some("False"));
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_lost_its_role_loses_no_key() {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator_checking(OFTEN).await;
    stage.create_key(KEY).await;
    let before = stage.wait_ready_with_the_one_key(KEY).await;

    stage.foundry.change_role("alice", Role::None);
    stage.wait_foundry(Reason::InvalidSpec).await;
    stage.foundry.change_role("alice", Role::SpaceDeveloper);
    wait_for(stage.api::<KeyProvider>(), "foundry", true, Reason::Available).await;
    wait_for_lists(&stage, 2).await;
    let after = stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(after.status.unwrap().key, before.status.unwrap().key);
}

/// If the provider names no space, a deleted instance looks the same as one that the login may not see.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_sight_is_not_taken_for_gone() {
    let stage = FoundryStage::set().await;
    let spec = json!({"spec": {"cloudFoundry": {"organization": null, "space": null}}});
    let merge = kube::api::Patch::Merge(spec);
    stage.api::<KeyProvider>().patch("foundry", &kube::api::PatchParams::default(), &merge).await.unwrap();
    let _operator = stage.start_operator_checking(OFTEN).await;
    let guid = stage.foundry.instance_guid(INSTANCE).unwrap();
    stage.create_key_of(KEY, json!({"id": guid})).await;
    let before = stage.wait_ready_with_the_one_key(KEY).await;

    stage.foundry.allow_look_ups(1000);
    stage.foundry.change_role("alice", Role::None);
    let told = wait_for(stage.keys(), KEY, true, Reason::Unconfirmed).await;
    told.says("or the login may not see it");
    stage.foundry.change_role("alice", Role::SpaceDeveloper);
    let after = wait_for(stage.keys(), KEY, true, Reason::Available).await;
    assert_eq!(after.status.unwrap().key, before.status.unwrap().key);
    assert_eq!(stage.foundry.count(Route::Create), 1);
    stage.wait_ready_with_the_one_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_shows_five_thousand_keys() {
    let stage = FoundryStage::set_with(FakeCloudFoundry::builder().start().await.unwrap()).await;
    let operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    drop(operator);
    let labels = [
        ("servicekeys.dev/managed-by", "servicekey-operator"),
        ("servicekeys.dev/owner", "6f1d3c1a-3f43-4d0c-9d5e-5f3f0c5f8a01"),
    ];
    for number in 1..MOST_ON_A_PAGE {
        stage.foundry.add_labelled_key(INSTANCE, &format!("key-{number}"), labels).unwrap();
    }
    let before = stage.foundry.calls().len();
    let _operator = stage.start_operator().await;
    wait_for_lists(&stage, 1).await;
    let calls = stage.foundry.calls().split_off(before);
    let check = [Route::Root, Route::Token, Route::Organizations, Route::Spaces, Route::Keys];
    assert_eq!(calls.iter().map(|call| call.route).collect::<Vec<_>>(), check);
}
