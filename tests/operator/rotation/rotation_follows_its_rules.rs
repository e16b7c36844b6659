//! Rotations that the user requests with an annotation, and rotations with `strategy: Replace`, which revoke the old
//! key first, for services that allow only one key. However many rotations follow each other, there are never more than
//! three keys. The Secret names the key that it contains.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::broker::{CredentialsRecipe, FakeBroker, Fault, Route};

use crate::support::{
    conditions::Reports,
    foundry::FoundryStage,
    ibm::IbmStage,
    rotation::sequence,
    stage::{Stage, condition, message, reason, wait},
    time::Time,
};

const NAME: &str = "monitoring-creds";
/// The largest number of keys of one ServiceKey.
const MOST_KEYS: u32 = 3;

impl Stage {
    /// Rotates repeatedly, much faster than the overlaps end. The key that would be the fourth one waits. Then ends the
    /// overlaps, and waits until the operator is done.
    async fn rotate_in_a_row(&self) {
        let done_with = |number: u32, previous: u32| {
            move |key: &ServiceKey| {
                let status = key.status.as_ref().unwrap();
                let kept = status.previous_keys.iter().map(|key| key.sequence);
                sequence(key) == Some(number) && status.operation.is_none() && kept.eq(previous..number)
            }
        };
        for number in 2..=MOST_KEYS {
            self.request_rotation(json!(number.to_string())).await;
            let done = done_with(number, 1);
            wait(self.keys(), NAME, "with the next key", |key| key.is_some_and(done)).await;
        }
        let fourth = MOST_KEYS + 1;
        self.request_rotation(json!(fourth.to_string())).await;
        let waits = |key: &ServiceKey| reason(key, "Rotating") == Some(Reason::WaitingForOverlap.as_str());
        let key = wait(self.keys(), NAME, "waiting", |key| key.is_some_and(waits)).await.unwrap();
        assert_eq!(condition(&key, "Ready"), Some("True"));
        assert_eq!(reason(&key, "Reconciling"), Some(Reason::WaitingForOverlap.as_str()));
        let said = message(&key, "Rotating");
        assert!(said.contains("created after key 1 is revoked, at "), "{said}");
        assert!(done_with(MOST_KEYS, 1)(&key), "every key stays for its overlap");

        self.change_key(NAME, json!({"rotation": {"overlap": "0s"}})).await;
        let done = done_with(fourth, fourth);
        let key = wait(self.keys(), NAME, "done", |key| key.is_some_and(done)).await.unwrap();
        assert_eq!(condition(&key, "Ready"), Some("True"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_value_of_the_annotation_makes_the_next_key_once() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.create_rotating(json!({"overlap": "0s"})).await;
    stage.request_rotation(json!("2026-11-24")).await;
    stage.wait_settled_with(2).await;
    stage.request_rotation(json!("again")).await;
    stage.wait_settled_with(3).await;

    // The operator handles each value once: neither a new process nor the removal of the annotation rotates again.
    drop(operator);
    let _operator = stage.start_operator().await;
    stage.request_rotation(Value::Null).await;
    stage.change_key(NAME, json!({"secret": {"labels": {"seen": "by-the-operator"}}})).await;
    stage
        .wait(stage.secrets(), NAME, "relabelled", |secret| {
            secret.is_some_and(|secret| secret.metadata.labels.as_ref().unwrap().contains_key("seen"))
        })
        .await;
    let key = stage.wait_ready_with_the_only_key(NAME).await;
    assert_eq!((sequence(&key), stage.broker.count(Route::Bind)), (Some(3), 3));
    stage.delete_and_leave_nothing(NAME).await;
}

/// A broker that gives all keys the same credentials until the flag is set.
async fn with_a_static_broker() -> (Stage, Arc<AtomicBool>) {
    let changes = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&changes);
    let recipe = CredentialsRecipe::new(move |_, number| {
        let number = if told.load(Ordering::SeqCst) { number } else { 0 };
        let credentials = json!({"username": "shared", "password": format!("p-{number}")});
        credentials.as_object().unwrap().clone()
    });
    (Stage::set_with(FakeBroker::builder().credentials(recipe).start().await.unwrap()).await, changes)
}

/// The credentials stay the same. Revoking the old key might invalidate them, so the operator keeps it and stops the
/// schedule.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_changes_no_credentials_is_told_and_ends_the_schedule() {
    let (stage, changes) = with_a_static_broker().await;
    let operator = stage.start_operator().await;
    stage.create_rotating(json!({"every": "10h", "overlap": "0s"})).await;
    stage.request_rotation(json!("now")).await;
    let told = |key: &ServiceKey| {
        sequence(key) == Some(2)
            && reason(key, "Rotating") == Some(Reason::RotationIneffective.as_str())
            && condition(key, "Ready") == Some("True")
    };
    let key =
        wait(stage.keys(), NAME, "reporting that the rotation has no effect", |key| key.is_some_and(told))
            .await
            .unwrap();
    let status = key.status.as_ref().unwrap();
    assert!(message(&key, "Rotating").contains("key 1 is not revoked"), "{}", message(&key, "Rotating"));
    assert_eq!((&status.next_rotation, &status.previous_keys[0].revoke_at), (&None, &None));
    stage.wait_event(NAME, "RotationIneffective").await;

    // Neither a restart nor the passage of time creates the next key.
    drop(operator);
    let _operator = stage.start_operator_ahead(SignedDuration::from_hours(30)).await;
    stage.create_key("another").await;
    stage.wait_ready("another").await;
    assert_eq!(stage.binds_and_unbinds(), [Route::Bind, Route::Bind, Route::Bind]);

    changes.store(true, Ordering::SeqCst);
    stage.request_rotation(json!("again")).await;
    stage.wait_settled_with(3).await;
    assert_eq!(stage.broker.bindings().len(), 2, "the third key, and another ServiceKey's");
    stage.delete_key("another").await;
    stage.wait_gone("another").await;
    stage.delete_and_leave_nothing(NAME).await;
}

/// A template may render the same entries for two keys with different credentials.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_effective_whatever_the_template_shows() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let mut manifest = stage.key_manifest(NAME);
    manifest["spec"]["rotation"] = json!({"overlap": "0s"});
    manifest["spec"]["secret"] = json!({"template": {"data": {"host": "{{ hostname }}"}}});
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready(NAME).await;
    stage.request_rotation(json!("now")).await;
    stage.wait_settled_with(2).await;
    assert_eq!(stage.broker.bindings().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_makes_room_is_revoked_before_the_next_one_is_made() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_rotating(json!({"strategy": "Replace"})).await;
    stage.request_rotation(json!("now")).await;
    stage.wait_settled_with(2).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    // The operator may confirm once more that the first key is gone, as for every replaced key.
    let calls = stage.binds_and_unbinds();
    let (order, confirmation) = calls.split_at(3);
    assert_eq!(order, [Route::Bind, Route::Unbind, Route::Bind]);
    assert!([&[][..], &[Route::Unbind]].contains(&confirmation), "{calls:?}");
    stage.delete_and_leave_nothing(NAME).await;
}

/// If the broker does not return the current key's credentials, a requested rotation still creates a new key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_can_not_be_read_makes_room_when_another_is_asked_for() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_rotating(json!({"strategy": "Replace"})).await;
    stage
        .broker
        .inject(Fault::Status(StatusCode::INTERNAL_SERVER_ERROR, json!({})).on(Route::Fetch).forever());
    stage.secrets().delete(NAME, &DeleteParams::default()).await.unwrap();
    let failed = |key: &ServiceKey| condition(key, "Ready") == Some("False");
    wait(stage.keys(), NAME, "not readable", |key| key.is_some_and(failed)).await;
    stage.request_rotation(json!("now")).await;
    stage.wait_settled_with(2).await;
    let calls = stage.binds_and_unbinds();
    assert_eq!(calls[..3], [Route::Bind, Route::Unbind, Route::Bind], "never two keys at once");
    stage.broker.clear_faults();
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_can_not_make_room_goes_on_working() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_rotating(json!({"strategy": "Replace"})).await;
    stage.broker.inject(Fault::Status(StatusCode::FORBIDDEN, json!({})).on(Route::Unbind).forever());
    stage.request_rotation(json!("now")).await;
    let failed = |key: &ServiceKey| reason(key, "Rotating") == Some(Reason::RevokeFailed.as_str());
    let key = wait(stage.keys(), NAME, "failing to rotate", |key| key.is_some_and(failed)).await.unwrap();
    assert_eq!((condition(&key, "Ready"), sequence(&key)), (Some("True"), Some(1)));
    assert_eq!(stage.broker.count(Route::Bind), 1);
    assert_eq!(stage.wait_event(NAME, "RevokeFailed").await, message(&key, "Rotating"));

    stage.broker.clear_faults();
    stage.wait_settled_with(2).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gap_is_told_while_the_next_key_can_not_be_made() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_rotating(json!({"strategy": "Replace"})).await;
    stage.broker.inject(Fault::Status(StatusCode::BAD_REQUEST, json!({})).on(Route::Bind).forever());
    stage.request_rotation(json!("now")).await;
    let stalled = |key: &ServiceKey| condition(key, "Stalled") == Some("True");
    let key = wait(stage.keys(), NAME, "stalled", |key| key.is_some_and(stalled)).await.unwrap();
    assert!(key.is(false, Reason::Rotating), "{:?}", key.conditions());
    key.says("key 1 was revoked at");
    assert_eq!(reason(&key, "Rotating"), Some(Reason::BindRejected.as_str()));
    assert_eq!(stage.wait_event(NAME, "BindRejected").await, message(&key, "Rotating"));

    stage.broker.clear_faults();
    stage.wait_settled_with(2).await;
    stage.wait_ready_with_the_only_key(NAME).await;
}

/// The largest number of keys at the same time, from the calls that created and revoked them.
fn most_at_once(calls: impl Iterator<Item = (bool, Option<u16>)>) -> usize {
    let done = calls.filter(|(_, status)| status.is_some_and(|status| (200..300).contains(&status)));
    let counts = done.scan(0, |keys, (makes_one, _)| {
        *keys = if makes_one { *keys + 1 } else { *keys - 1 };
        Some(*keys)
    });
    counts.max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_in_a_row_leave_no_more_than_three_keys_at_a_broker() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_rotating(json!({"overlap": "24h"})).await;
    stage.rotate_in_a_row().await;
    assert_eq!(stage.broker.bindings().len(), 1);
    let changes = stage.broker.calls().into_iter().filter_map(|call| match call.route {
        Route::Bind => Some((true, call.status)),
        Route::Unbind => Some((false, call.status)),
        _ => None,
    });
    assert_eq!(most_at_once(changes), 3);
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_in_a_row_leave_no_more_than_three_keys_at_a_cloud_foundry() {
    use testkit::cloud_foundry::Route;

    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    let mut manifest = stage.manifest(NAME);
    manifest["spec"]["rotation"] = json!({"overlap": "24h"});
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready_with_the_one_key(NAME).await;
    stage.rotate_in_a_row().await;
    assert_eq!(stage.foundry.keys().len(), 1);
    let changes = stage.foundry.calls().into_iter().filter_map(|call| match call.route {
        Route::Create => Some((true, call.status)),
        Route::Delete => Some((false, call.status)),
        _ => None,
    });
    assert_eq!(most_at_once(changes), 3);
    stage.delete_and_leave_no_key(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_in_a_row_leave_no_more_than_three_keys_at_ibm_cloud() {
    use testkit::ibm_cloud::Route;

    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(NAME, json!({"rotation": {"overlap": "24h"}})).await;
    stage.wait_ready_with_the_one_key(NAME).await;
    stage.rotate_in_a_row().await;
    assert_eq!(stage.ibm.live_keys().len(), 1);
    let changes = stage.ibm.calls().into_iter().filter_map(|call| match call.route {
        Route::CreateKey => Some((true, call.status)),
        Route::DeleteKey => Some((false, call.status)),
        _ => None,
    });
    assert_eq!(most_at_once(changes), 3);
    stage.delete_and_leave_no_key(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_tells_which_key_it_holds_and_when_that_was_made() {
    let stage = Stage::set().await;
    let time = Time::default();
    let _operator = stage.start_operator_by(time.clock()).await;
    stage.create_rotating(json!({"every": "720h", "overlap": "0s"})).await;
    let before = stage.secrets().get(NAME).await.unwrap().metadata.annotations.unwrap();
    time.leap(SignedDuration::from_hours(720));
    let key = stage.wait_settled_with(2).await.status.unwrap().key.unwrap();
    let after = stage.secrets().get(NAME).await.unwrap().metadata.annotations.unwrap();
    let told = |of: &BTreeMap<String, String>, what: &str| of[&format!("servicekeys.dev/{what}")].clone();
    assert_eq!([told(&before, "sequence"), told(&after, "sequence")], ["1", "2"]);
    let [made, remade] = [&before, &after].map(|of| told(of, "created-at").parse::<Timestamp>().unwrap());
    assert_eq!(remade, key.created_at.0);
    assert!(remade.duration_since(made) >= SignedDuration::from_hours(720), "{made}, {remade}");
}
