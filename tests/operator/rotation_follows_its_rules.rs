//! Rotations that the user asks for: at once, by an annotation; and with room made for the next key first, where a
//! service allows one key only.

use axum::http::StatusCode;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::broker::{Fault, Route};

use crate::{
    conditions::Reports,
    stage::{Stage, condition, reason, wait},
};

const NAME: &str = "monitoring-creds";

fn sequence(key: &ServiceKey) -> Option<u32> {
    Some(key.status.as_ref()?.key.as_ref()?.sequence)
}

impl Stage {
    /// Merges this annotation into the ServiceKey; `null` takes it away.
    async fn request_rotation(&self, value: Value) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"servicekeys.dev/rotate": value}}}));
        self.keys().patch(NAME, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until the ServiceKey is ready with the key of this number and nothing else.
    async fn wait_settled_with(&self, number: u32) -> ServiceKey {
        let settled = |key: &ServiceKey| {
            let status = key.status.as_ref().unwrap();
            sequence(key) == Some(number)
                && condition(key, "Ready") == Some("True")
                && status.previous_keys.is_empty()
                && status.operation.is_none()
        };
        wait(self.keys(), NAME, "settled with the key", |key| key.is_some_and(settled)).await.unwrap()
    }

    async fn create_rotating(&self, rotation: Value) {
        let mut manifest = self.key_manifest(NAME);
        manifest["spec"]["rotation"] = rotation;
        self.create::<ServiceKey>(manifest).await;
        self.wait_ready_with_the_only_key(NAME).await;
    }

    fn binds_and_unbinds(&self) -> Vec<Route> {
        let calls = self.broker.calls().into_iter().map(|call| call.route);
        calls.filter(|route| [Route::Bind, Route::Unbind].contains(route)).collect()
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

    // What was asked for once is not done again: neither by another process, nor when the annotation goes.
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

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_makes_room_is_revoked_before_the_next_one_is_made() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_rotating(json!({"strategy": "Replace"})).await;
    stage.request_rotation(json!("now")).await;
    stage.wait_settled_with(2).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    // That the first one is gone is confirmed once more, as of any key that was replaced.
    assert_eq!(stage.binds_and_unbinds(), [Route::Bind, Route::Unbind, Route::Bind, Route::Unbind]);
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

    stage.broker.clear_faults();
    stage.wait_settled_with(2).await;
    stage.wait_ready_with_the_only_key(NAME).await;
}
