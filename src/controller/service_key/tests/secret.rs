//! `WriteSecret`: the operator keeps the credentials in memory until the API server has stored them.

use rstest::rstest;
use serde_json::json;

use super::fixtures::*;

/// The first key, which an earlier reconcile created.
async fn holding_the_first_key() -> Scene {
    scene(service_key().finalized()).await.holding_credentials(1)
}

/// A rotation whose next key an earlier reconcile created.
async fn holding_the_next_key() -> Scene {
    let next = json!({"kind": "Bind", "sequence": 2, "planIds": {"serviceId": "s-1", "planId": "p-1"}});
    let key = service_key().finalized().with_key(1).with_operation(next);
    scene(key).await.with_own_secret(1).holding_credentials(2)
}

#[tokio::test]
async fn a_new_secret_belongs_to_the_service_key() {
    let mut scene = holding_the_first_key().await;
    scene.expect(look_up_secret(), works());
    let secret = json!({
        "metadata": {
            "name": NAME,
            "labels": {"app.kubernetes.io/managed-by": "servicekey-operator", "servicekeys.dev/owner-uid": UID},
            "annotations": {"servicekeys.dev/sequence": "1"},
            "resourceVersion": null,
        },
        "data": {"username": "YXBw"},
    });
    scene.expect(create_secret().with(secret), works());
    let stored = json!({"status": {"key": {"sequence": 1}, "binding": {"name": NAME}}});
    scene.expect(write_status().with(stored), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(scene.status()["secret"]["resourceVersion"], scene.secret_version());
    let owner = &scene.api.secret().unwrap()["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["uid"], &owner["controller"]), (&json!(UID), &json!(true)));
    assert!(scene.broker.calls().is_empty());
}

#[tokio::test]
async fn a_secret_is_replaced_in_the_version_that_was_observed() {
    let mut scene = holding_the_next_key().await;
    let meta = json!({
        "uid": scene.api.secret().unwrap()["metadata"]["uid"],
        "resourceVersion": scene.secret_version(),
        "annotations": {"servicekeys.dev/sequence": "2"},
    });
    scene.expect(read_secret(), works());
    scene.expect(replace_secret().with(json!({"metadata": meta})), works());
    scene
        .expect(write_status().with(json!({"status": {"key": {"sequence": 2}, "operation": null}})), works());
    scene.reconcile().await;
    scene.assert_ready_with(2);
}

#[rstest]
#[case::a_permission_is_missing(
    forbidden("secrets is forbidden: User \"operator\" cannot create resource \"secrets\""),
    "the API server refuses the Secret `db`: the Kubernetes API could not create the Secret: secrets is forbidden: User \
     \"operator\" cannot create resource \"secrets\""
)]
#[case::a_quota_is_used_up(forbidden("exceeded quota: secrets"), "exceeded quota: secrets")]
#[case::a_webhook_refuses_it(
    invalid("admission webhook \"policy\" denied the request: no"),
    "denied the request: no"
)]
#[tokio::test]
async fn a_refused_secret_is_reported_and_the_credentials_are_kept(
    #[case] answer: Answer,
    #[case] words: &str,
) {
    let mut scene = holding_the_first_key().await;
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), answer);
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretRejected", words);

    scene.after_the_backoff();
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    scene.assert_ready_with(1);
    assert!(scene.broker.calls().is_empty(), "the operator does not request the key again");
}

#[tokio::test]
async fn a_refusal_that_repeats_the_credentials_is_shown_without_them() {
    let mut scene = holding_the_first_key().await;
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), invalid("denied: {\"password\": \"correct horse battery\"}"));
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretRejected", "denied");
    assert!(!scene.status().to_string().contains("correct horse battery"), "{}", scene.status());
}

#[tokio::test]
async fn an_immutable_secret_is_to_be_deleted_by_the_user() {
    let mut scene = holding_the_next_key().await;
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), invalid("data: Forbidden: field is immutable when `immutable` is set"));
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    assert_eq!(scene.condition("Ready").0, "True", "the credentials of key 1 work");
    let (_, reason, message) = scene.condition("Rotating");
    assert_eq!(reason, "SecretRejected");
    assert!(message.ends_with("; delete the Secret, and the operator creates it again"), "{message}");
}

#[tokio::test]
async fn a_secret_that_is_stored_in_another_way_is_reported() {
    let mut scene = holding_the_first_key().await;
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works_with(json!({"data": {"password": "c3dhcHBlZA=="}})));
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretRejected", "the API server stores the Secret `db` with");
}

#[tokio::test]
async fn a_secret_that_appeared_meanwhile_is_left_to_its_owner() {
    let mut scene = holding_the_first_key().await;
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), overtaken_by(foreign_secret()));
    scene.expect(look_up_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretConflict", "the Secret's name is taken");
}

#[tokio::test]
async fn a_secret_that_was_deleted_meanwhile_is_created() {
    let mut scene = holding_the_next_key().await;
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), overtaken_by_deletion());
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    scene.assert_ready_with(2);
}

/// Four attempts, each of which fails because another writer is faster, and a write of the status.
async fn four_conflicts() -> Scene {
    let mut scene = holding_the_next_key().await;
    scene.expect(read_secret(), works());
    for _ in 0..4 {
        scene.expect(replace_secret(), conflict());
        scene.expect(look_up_secret(), works());
    }
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene
}

#[tokio::test]
async fn a_writer_that_is_faster_each_time_is_reported_after_four_attempts() {
    let mut scene = four_conflicts().await;
    let conditions = scene.status()["conditions"].to_string();
    assert!(conditions.contains("SecretContested"), "{conditions}");
    assert!(conditions.contains("another writer changed the Secret `db` each time"), "{conditions}");

    scene.after_the_backoff();
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    scene.assert_ready_with(2);
    assert!(scene.broker.calls().is_empty(), "the operator does not request the key again");
}

/// The operator also reads the Secret after the last conflict: it still contains key 1.
#[tokio::test]
async fn a_writer_that_is_faster_does_not_make_the_current_key_unready() {
    let scene = four_conflicts().await;
    scene.assert_ready_with(1);
}
