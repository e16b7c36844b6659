//! `RehearseSecret` and `LookUpSecret`: the operator checks the Secret before it creates a key.

use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use rstest::rstest;
use serde_json::json;

use super::fixtures::*;

#[tokio::test]
async fn a_rehearsal_sends_the_layout_with_placeholders() {
    let secret = json!({"labels": {"team": "a"}, "template": {"data": {"url": "{{ username }}"}}});
    let mut scene = scene(service_key().specifying("secret", secret)).await;
    let rehearsed = json!({
        "metadata": {"name": NAME, "labels": {"team": "a", "servicekeys.dev/owner-uid": UID}},
        "data": {"url": "e30="},
    });
    scene.expect(rehearse_new_secret().with(rehearsed), invalid("no"));
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    let sent = &scene.api.sent()[0].body;
    assert_eq!(sent["data"], json!({"url": "e30="}), "no other entry");
    assert!(sent["metadata"]["resourceVersion"].is_null());
}

#[rstest]
#[case::a_permission_is_missing(
    forbidden(
        "secrets is forbidden: User \"operator\" cannot create resource \"secrets\" in API group \"\" in the namespace \
     \"apps\""
    ),
    "cannot create resource \"secrets\""
)]
#[case::a_quota_is_used_up(forbidden("exceeded quota: secrets, used: secrets=10"), "exceeded quota")]
#[case::a_webhook_refuses_it(
    invalid("admission webhook \"policy\" denied the request"),
    "denied the request"
)]
#[tokio::test]
async fn no_key_is_created_for_a_secret_that_is_refused(#[case] answer: Answer, #[case] words: &str) {
    let mut scene = scene(service_key()).await;
    scene.expect(rehearse_new_secret(), answer);
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretRejected", words);
    assert!(scene.broker.calls().is_empty());
    assert_eq!(
        scene.api.key().unwrap()["metadata"]["finalizers"],
        json!(null),
        "the user may delete it at once"
    );

    // A change in the cache does not shorten the backoff.
    scene.cache_catches_up();
    assert_eq!(scene.reconcile().await, "stalled, requeued");
    scene.after_the_backoff();
    scene.expect(rehearse_new_secret(), works());
    scene.expect(patch_key(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

#[tokio::test]
async fn an_altered_secret_is_found_before_the_key_is_created() {
    let mut scene = scene(service_key()).await;
    scene.expect(rehearse_new_secret(), works_with(json!({"data": {"password": "c3dhcHBlZA=="}})));
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretRejected", "the API server stores the Secret `db` with");
}

#[tokio::test]
async fn a_name_that_is_taken_is_looked_up() {
    let mut scene = scene(service_key()).await.with_unseen_secret(foreign_secret());
    scene.expect(rehearse_new_secret(), works());
    scene.expect(look_up_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretConflict", "delete that Secret");
    assert!(scene.broker.calls().is_empty());
}

#[tokio::test]
async fn a_webhook_that_knows_no_dry_run_holds_nothing_up() {
    let mut scene = scene(service_key()).await;
    scene.expect(rehearse_new_secret(), bad_request("admission webhook \"policy\" does not support dry run"));
    scene.expect(look_up_secret(), works());
    scene.expect(patch_key(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

#[tokio::test]
async fn a_webhook_that_knows_no_dry_run_does_not_hide_a_foreign_secret() {
    let mut scene = scene(service_key()).await.with_unseen_secret(foreign_secret());
    scene.expect(rehearse_new_secret(), bad_request("admission webhook \"policy\" does not support dry run"));
    scene.expect(look_up_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretConflict", "delete that Secret");
}

/// The Secret has lost its password, and the broker does not return the credentials again.
#[tokio::test]
async fn another_key_is_created_only_for_a_secret_that_can_be_written() {
    let mut scene = scene(service_key().finalized().with_key(1)).await.with_lost_password(1);
    let repeated = AtomicBool::default();
    scene.broker.answers(move |method, _| match *method {
        Method::PUT if repeated.swap(true, Ordering::SeqCst) => (201, json!({"credentials": credentials()})),
        _ => (200, json!({})),
    });
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    let rehearsed = json!({"metadata": {"resourceVersion": scene.secret_version()}});
    scene.expect(rehearse_existing_secret().with(rehearsed), invalid("no"));
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretRejected", "no");
    assert_eq!(scene.broker.calls(), ["GET binding"]);

    scene.after_the_backoff();
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(rehearse_existing_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    let next = json!({"status": {"operation": {"kind": "Bind", "sequence": 2}}});
    scene.expect(write_status().with(next), works());
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    scene.assert_ready_with(2);
}
