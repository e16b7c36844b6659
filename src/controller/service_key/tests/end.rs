//! `DeleteSecret` and `ReleaseSecret`: the Secret of a ServiceKey that is being deleted.

use std::time::Duration;

use http::Method;
use serde_json::json;

use super::fixtures::*;
use crate::api::marks::FINALIZER;

#[tokio::test]
async fn the_key_the_secret_and_the_finalizer_go_in_this_order() {
    let mut scene = scene(service_key().finalized().with_key(1).deleting()).await.with_own_secret(1);
    let precondition = json!({"preconditions": {
        "uid": scene.api.secret().unwrap()["metadata"]["uid"],
        "resourceVersion": scene.secret_version(),
    }});
    scene.expect(read_secret(), works());
    scene.expect(delete_secret().with(precondition), works());
    scene.expect(patch_key().with(json!({"metadata": {"uid": UID, "finalizers": []}})), works());
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
    assert_eq!(scene.broker.calls(), ["DELETE binding"]);
    assert!(scene.api.key().is_none() && scene.api.secret().is_none());
    scene.cache_catches_up();
    assert!(!scene.was_handed_over());
}

/// The broker revokes key 2 in the background. Meanwhile nothing is repeated for key 1, which is gone.
#[tokio::test]
async fn a_revocation_that_takes_its_time_repeats_no_other() {
    let key = service_key().finalized().with_key(2).with_previous_key(1, "2026-11-24T13:00:00Z");
    let mut scene = scene(key.deleting()).await.with_own_secret(2);
    let (mut revocations, mut polls) = (0, 0);
    scene.broker.answers_with(move |method| match *method {
        Method::DELETE => {
            revocations += 1;
            if revocations == 1 { (410, json!({})) } else { (202, json!({"operation": "o-1"})) }
        }
        _ => {
            polls += 1;
            (200, json!({"state": if polls < 3 { "in progress" } else { "succeeded" }}))
        }
    });
    scene.expect(read_secret(), works());
    scene.reconcile().await;
    scene.later(Duration::from_secs(60));
    scene.expect(write_status(), works());
    scene.reconcile().await;
    scene.later(Duration::from_secs(60));
    scene.reconcile().await;
    scene.later(Duration::from_secs(60));
    scene.expect(delete_secret(), works());
    scene.expect(patch_key(), works());
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
    let polled = ["GET last_operation"; 3];
    assert_eq!(scene.broker.calls(), [&["DELETE binding"; 2][..], &polled].concat());
    let revoked = scene.events().await.into_iter().filter(|(reason, _)| reason == "KeyRevoked");
    assert_eq!(revoked.count(), 2);
}

/// A deleted ServiceKey whose key stays.
async fn deleting() -> Scene {
    scene(service_key().finalized().with_key(1).retaining_key().deleting()).await.with_own_secret(1)
}

#[tokio::test]
async fn a_secret_that_is_gone_needs_no_deletion() {
    let mut scene = deleting().await;
    scene.expect(read_secret(), works());
    scene.expect(delete_secret(), not_found());
    scene.expect(patch_key(), works());
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
}

#[tokio::test]
async fn a_secret_that_was_changed_is_looked_at_before_it_is_deleted() {
    let mut scene = deleting().await;
    scene.expect(read_secret(), works());
    scene.expect(delete_secret(), conflict());
    scene.expect(look_up_secret(), works());
    scene.expect(delete_secret(), works());
    scene.expect(patch_key(), works());
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
}

/// After as many conflicts as any other write of the Secret may have, the operator waits for its backoff.
#[tokio::test]
async fn a_secret_that_changes_each_time_is_deleted_later() {
    let mut scene = deleting().await;
    scene.expect(read_secret(), works());
    for _ in 0..3 {
        scene.expect(delete_secret(), conflict());
        scene.expect(look_up_secret(), works());
    }
    scene.expect(delete_secret(), conflict());
    assert_eq!(scene.reconcile().await, "outdated, requeued");
}

#[tokio::test]
async fn a_secret_that_is_not_the_operators_any_more_is_not_deleted() {
    let mut scene = deleting().await;
    let observed = scene.secret_version();
    let precondition = json!({"preconditions": {"resourceVersion": observed}});
    scene.expect(read_secret(), works());
    scene.expect(delete_secret().with(precondition), overtaken_by(foreign_secret()));
    scene.expect(look_up_secret(), works());
    scene.expect(patch_key(), works());
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
    assert!(scene.api.secret().is_some());
}

#[tokio::test]
async fn the_finalizer_stays_as_long_as_the_secret_can_not_be_deleted() {
    let mut scene = deleting().await;
    scene.expect(read_secret(), works());
    scene.expect(delete_secret(), forbidden("cannot delete resource \"secrets\""));
    assert_eq!(scene.reconcile().await, "error, requeued");
    assert_eq!(scene.api.key().unwrap()["metadata"]["finalizers"], json!([FINALIZER]));
}

/// A deleted ServiceKey whose Secret stays with the key.
async fn releasing() -> Scene {
    scene(service_key().finalized().with_key(1).retaining_secret().deleting()).await.with_own_secret(1)
}

#[tokio::test]
async fn a_secret_that_stays_loses_the_marks_of_the_operator() {
    let mut scene = releasing().await;
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(
        replace_secret().with(json!({"metadata": {"resourceVersion": scene.secret_version()}})),
        works(),
    );
    scene.expect(patch_key(), works());
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
    let meta = &scene.api.secret().unwrap()["metadata"];
    assert_eq!((&meta["labels"], &meta["annotations"]), (&json!({}), &json!({})), "{meta}");
    assert!(!scene.events().await.is_empty());
}

#[tokio::test]
async fn a_release_that_another_writer_outran_is_repeated() {
    let mut scene = releasing().await;
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), conflict());
    scene.expect(look_up_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), works());
    scene.expect(patch_key(), works());
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
}

#[tokio::test]
async fn a_secret_that_is_not_the_operators_any_more_is_not_released() {
    let mut scene = releasing().await;
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), overtaken_by(foreign_secret()));
    scene.expect(look_up_secret(), works());
    scene.expect(patch_key(), works());
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
}

#[tokio::test]
async fn a_secret_whose_release_is_refused_is_not_deleted_instead() {
    let mut scene = releasing().await;
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), forbidden("cannot update resource \"secrets\""));
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretRejected", "cannot update resource \"secrets\"");
    assert_eq!(scene.api.key().unwrap()["metadata"]["finalizers"], json!([FINALIZER]));
}
