//! `Record`, and the status at the end of a reconcile. After a failed write of the status, the operator repeats the
//! write and no other effect.

use std::time::Duration;

use http::Method;
use rstest::rstest;
use serde_json::{Value, json};

use super::fixtures::*;

#[tokio::test]
async fn each_write_names_the_version_that_the_last_one_returned() {
    let mut scene = scene(service_key().finalized().suspended()).await;
    let version = scene.key_version();
    let first = json!({"metadata": {"uid": UID, "resourceVersion": version}});
    scene.expect(write_status().with(first), works());
    assert_eq!(scene.reconcile().await, "waiting, awaits a change");
    assert_ne!(scene.key_version(), version);

    // The cache does not contain the first write yet.
    scene.later(Duration::from_secs(1));
    assert_eq!(scene.reconcile().await, "waiting, awaits a change", "the same status is not written again");

    let cached = scene.key_version();
    scene.another_writer_edits_the_key(|key| {
        key["spec"]["parameters"] = json!({"size": 3});
        key["metadata"]["generation"] = json!(2);
    });
    assert_ne!(scene.key_version(), cached);
    let second =
        json!({"metadata": {"resourceVersion": scene.key_version()}, "status": {"observedGeneration": 2}});
    scene.expect(write_status().with(second), works());
    assert_eq!(scene.reconcile().await, "waiting, awaits a change");
}

/// The broker begins to create the key.
fn accept(method: &Method, path: &str) -> (u16, Value) {
    match *method {
        Method::PUT => (202, json!({"operation": "op-1"})),
        Method::GET if path.ends_with("/last_operation") => (200, json!({"state": "in progress"})),
        _ => panic!("{method} {path}"),
    }
}

#[rstest]
#[case::another_writer_was_faster(conflict(), "outdated, requeued")]
#[case::the_definition_refuses_it(invalid("status.operation: Invalid value"), "error, requeued")]
#[case::a_permission_is_missing(forbidden("servicekeys/status is forbidden"), "error, requeued")]
#[case::the_api_server_is_in_trouble(internal_error(), "error, requeued")]
#[case::the_connection_is_lost(closes(), "error, requeued")]
#[tokio::test]
async fn the_record_of_a_started_operation_is_not_lost(#[case] answer: Answer, #[case] outcome: &str) {
    let mut scene = scene(service_key().finalized()).await;
    scene.broker.answers(accept);
    scene.expect(rehearse_new_secret(), works());
    assert_eq!(scene.reconcile().await, "under_way, requeued", "most operations are over soon");

    scene.later(Duration::from_secs(10));
    scene.expect(rehearse_new_secret(), works());
    let operation = json!({"status": {"operation": {"kind": "Bind", "sequence": 1, "token": "op-1"}}});
    scene.expect(write_status().with(operation.clone()), answer);
    assert_eq!(scene.reconcile().await, outcome);
    assert!(scene.status().is_null());

    scene.another_writer_edits_the_key(|key| key["metadata"]["labels"] = json!({"team": "a"}));
    scene.expect(rehearse_new_secret(), works());
    scene.expect(write_status().with(operation), works());
    assert_eq!(scene.reconcile().await, "under_way, requeued");
    let binds = scene.broker.calls().into_iter().filter(|call| call == "PUT binding");
    assert_eq!(binds.count(), 1, "{:?}", scene.broker.calls());
}

/// The answer does not show whether the broker created the key.
fn lose_the_answer(method: &Method, _: &str) -> (u16, Value) {
    if method == Method::PUT { (500, json!({})) } else { (200, json!({})) }
}

#[rstest]
#[case::another_writer_was_faster(conflict(), "outdated, requeued")]
#[case::the_definition_refuses_it(invalid("status.operation: Invalid value"), "error, requeued")]
#[case::a_permission_is_missing(forbidden("servicekeys/status is forbidden"), "error, requeued")]
#[case::the_api_server_is_in_trouble(internal_error(), "error, requeued")]
#[case::the_connection_is_lost(closes(), "error, requeued")]
#[tokio::test]
async fn a_key_that_may_exist_is_recorded_before_it_is_revoked(
    #[case] answer: Answer,
    #[case] outcome: &str,
) {
    let mut scene = scene(service_key().finalized()).await;
    scene.broker.answers(lose_the_answer);
    scene.expect(rehearse_new_secret(), works());
    let record = json!({"status": {"operation": {"kind": "CleanUp", "sequence": 1}}});
    scene.expect(write_status().with(record.clone()), answer);
    assert_eq!(scene.reconcile().await, outcome);
    assert_eq!(scene.broker.calls(), ["PUT binding"], "nothing follows the failure");

    // The next reconcile still knows the key, and revokes it before it requests another one.
    scene.after_the_backoff();
    scene.broker.accept_all();
    scene.another_writer_edits_the_key(|key| key["metadata"]["labels"] = json!({"team": "a"}));
    scene.expect(write_status().with(record), works());
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status().with(json!({"status": {"key": {"sequence": 1}}})), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(scene.broker.calls(), ["PUT binding", "DELETE binding", "PUT binding"]);
}

/// A watch event wakes the ServiceKey before its backoff ends.
#[rstest]
#[case::another_writer_was_faster(conflict(), "outdated, requeued")]
#[case::a_permission_is_missing(forbidden("servicekeys/status is forbidden"), "error, requeued")]
#[case::the_connection_is_lost(closes(), "error, requeued")]
#[tokio::test]
async fn a_refused_bind_has_its_backoff_although_its_status_is_not_stored(
    #[case] answer: Answer,
    #[case] outcome: &str,
) {
    let mut scene = scene(service_key().finalized()).await;
    scene.broker.answers(|_, _| (400, json!({"description": "no"})));
    scene.expect(rehearse_new_secret(), works());
    scene.expect(write_status(), answer);
    assert_eq!(scene.reconcile().await, outcome);

    scene.another_writer_edits_the_key(|key| key["metadata"]["labels"] = json!({"team": "a"}));
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "stalled, requeued");
    scene.assert_not_ready("BindRejected", "no");
    assert_eq!(scene.broker.calls(), ["PUT binding"]);
}

/// Otherwise the operator would send a request every half second as long as the API server refuses the status.
#[tokio::test]
async fn failed_writes_of_a_status_have_growing_waits() {
    let mut scene = scene(service_key().finalized().suspended()).await;
    for _ in 0..6 {
        scene.expect(write_status(), internal_error());
        assert_eq!(scene.reconcile().await, "error, requeued");
    }
    let mut next = Duration::ZERO;
    scene.with_local_state(|local| next = local.wait(None));
    assert!(next >= Duration::from_secs(32), "{next:?} after six failures");

    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "waiting, awaits a change");
    scene.with_local_state(|local| next = local.wait(None));
    assert!(next <= Duration::from_secs(1), "{next:?} after a success");
}

#[rstest]
#[case::another_writer_was_faster(conflict(), "outdated, requeued")]
#[case::the_service_key_is_not_there(not_found(), "outdated, requeued")]
#[case::the_definition_refuses_it(invalid("status.key: Invalid value"), "error, requeued")]
#[case::a_permission_is_missing(forbidden("servicekeys/status is forbidden"), "error, requeued")]
#[case::too_much_is_asked(too_many_requests(), "error, requeued")]
#[case::the_api_server_is_in_trouble(internal_error(), "error, requeued")]
#[case::the_connection_is_lost(closes(), "error, requeued")]
#[tokio::test]
async fn the_record_of_a_stored_key_is_not_lost(#[case] answer: Answer, #[case] outcome: &str) {
    let mut scene = scene(service_key().finalized()).await.holding_credentials(1);
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), answer);
    assert_eq!(scene.reconcile().await, outcome);

    // The caches of ServiceKeys and of Secrets are both behind.
    let record =
        json!({"status": {"key": {"sequence": 1}, "secret": {"resourceVersion": scene.secret_version()}}});
    scene.expect(write_status().with(record), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    scene.assert_ready_with(1);
    assert!(scene.broker.calls().is_empty());
}

/// A user deletes the Secret before the status names its key.
#[tokio::test]
async fn a_stored_key_is_recorded_although_its_secret_is_gone() {
    let mut scene = scene(service_key().finalized()).await.holding_credentials(1);
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), conflict());
    assert_eq!(scene.reconcile().await, "outdated, requeued");
    scene.cache_catches_up();
    scene.api.remove_secret();
    scene.cache_catches_up();

    scene.expect(look_up_secret(), works());
    scene.expect(write_status().with(json!({"status": {"key": {"sequence": 1}}})), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(scene.broker.calls(), ["GET binding"], "the credentials of the same key");
}

#[tokio::test]
async fn a_status_that_says_the_same_is_not_written() {
    let mut scene = scene(service_key().finalized()).await.holding_credentials(1);
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    scene.cache_catches_up();
    scene.after_the_backoff();
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

#[tokio::test]
async fn an_unread_part_is_reported_and_nothing_else_is_written() {
    let mut scene = scene(service_key().finalized().with_key(1).unread("spec")).await;
    scene.expect(
        write_status().with(json!({"metadata": {"resourceVersion": scene.key_version()}})),
        conflict(),
    );
    assert_eq!(scene.reconcile().await, "outdated, requeued");
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "stalled, awaits a change");
    scene.assert_not_ready("InvalidSpec", "spec");
    assert_eq!(scene.status()["key"]["sequence"], 1, "the record of the key stays");
    let annotations = &scene.api.sent()[0].body["metadata"]["annotations"];
    assert_eq!(
        annotations.as_object().unwrap().len(),
        1,
        "the note of the client is not written: {annotations}"
    );
}

#[tokio::test]
async fn a_status_that_was_not_read_is_not_overwritten() {
    let mut scene = scene(service_key().finalized().unread("status")).await;
    assert_eq!(scene.reconcile().await, "stalled, awaits a change");
}
