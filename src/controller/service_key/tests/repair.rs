//! `RestoreSecret` and `OmitPrevious`: the operator writes the Secret again with the content that it reads there.

use std::time::Duration;

use serde_json::json;

use super::fixtures::*;

/// Another writer removed a label from the Secret.
async fn edited() -> Scene {
    scene(service_key().finalized().with_key(1)).await.with_lost_label(1)
}

#[tokio::test]
async fn a_lost_label_is_restored_in_the_version_that_was_read() {
    let mut scene = edited().await;
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    let repaired = json!({"metadata": {
        "resourceVersion": scene.secret_version(),
        "labels": {"app.kubernetes.io/managed-by": "servicekey-operator"},
    }});
    scene.expect(replace_secret().with(repaired), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert!(scene.broker.calls().is_empty());
}

#[tokio::test]
async fn a_writer_that_was_faster_is_looked_at_again() {
    let mut scene = edited().await;
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), conflict());
    scene.expect(look_up_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

#[tokio::test]
async fn a_repair_that_is_refused_is_reported() {
    let mut scene = edited().await;
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), forbidden("cannot update resource \"secrets\""));
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    let (_, reason, message) = scene.condition("Rotating");
    assert_eq!(reason, "SecretRejected");
    assert!(message.contains("cannot update resource"), "{message}");
}

#[tokio::test]
async fn a_secret_that_is_gone_by_the_time_it_is_read_is_created_again() {
    let mut scene = edited().await;
    scene.expect(read_secret(), overtaken_by_deletion());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), works());
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(scene.broker.calls(), ["GET binding"], "the broker shows the credentials again");
}

/// The overlap of the first key has ended.
async fn after_the_overlap() -> Scene {
    let key = service_key().finalized().with_key(2).with_previous_key(1, "2026-11-24T11:59:00Z");
    let key = key.specifying("secret", json!({"previous": "Include"}));
    scene(key).await.with_own_secret_and_previous(2, 1)
}

#[tokio::test]
async fn the_previous_key_leaves_the_secret_before_it_is_revoked() {
    let mut scene = after_the_overlap().await;
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(
        replace_secret().with(json!({"metadata": {"resourceVersion": scene.secret_version()}})),
        works(),
    );
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(scene.broker.calls(), ["DELETE binding"]);
    let data = scene.api.secret().unwrap()["data"].as_object().unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["password", "username"]);
}

#[tokio::test]
async fn the_previous_key_is_not_revoked_while_the_secret_holds_it() {
    let mut scene = after_the_overlap().await;
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), internal_error());
    assert_eq!(scene.reconcile().await, "error, requeued");
    assert!(scene.broker.calls().is_empty());
}

/// Another writer changed the number in the Secret, and the spec has a problem, so that the operator does not repair the
/// Secret. It removes the previous key by the marks that it knows, as it decided by them.
#[tokio::test]
async fn the_previous_key_leaves_a_secret_with_another_number() {
    let key = service_key().finalized().with_key(2).with_previous_key(1, "2026-11-24T13:00:00Z");
    let key = key.specifying("secret", json!({"previous": "Include"}));
    let mut scene = scene(key).await.with_own_secret_and_previous(2, 1);
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;

    let mut secret = scene.api.secret().unwrap().clone();
    secret["metadata"]["annotations"]["servicekeys.dev/sequence"] = json!("7");
    scene.api.store_secret(secret);
    let template = json!({"data": {"url": "{{ password"}});
    scene.another_writer_edits_the_key(|key| {
        key["metadata"]["generation"] = json!(2);
        key["spec"]["secret"]["template"] = template;
    });
    scene.later(Duration::from_secs(7200));
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    let kept = json!({"metadata": {"annotations": {"servicekeys.dev/sequence": "2"}}});
    scene.expect(replace_secret().with(kept), works());
    // The entries do not fit the template, so each step reads the Secret.
    for _ in 0..2 {
        scene.expect(read_secret(), works());
    }
    scene.expect(write_status(), works());
    scene.expect(read_secret(), works());
    scene.reconcile().await;
    assert_eq!(scene.broker.calls(), ["DELETE binding"]);
}
