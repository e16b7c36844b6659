//! `AddFinalizer` and `RemoveFinalizer`: patches with a precondition on the version that the operator read.

use rstest::rstest;
use serde_json::json;

use super::fixtures::*;
use crate::api::marks::FINALIZER;

#[tokio::test]
async fn a_new_key_is_created_by_these_requests() {
    let mut scene = scene(service_key().with_finalizer("example.com/audit")).await;
    scene.expect(rehearse_new_secret(), works());
    scene.expect(
        patch_key().with(json!({"metadata": {
            "uid": UID,
            "resourceVersion": scene.key_version(),
            "finalizers": ["example.com/audit", FINALIZER],
            "annotations": {"servicekeys.dev/plan-ids": r#"{"serviceId":"s-1","planId":"p-1"}"#},
        }})),
        works(),
    );
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(scene.broker.calls(), ["PUT binding"]);
    scene.assert_ready_with(1);
}

#[rstest]
#[case::another_writer_was_faster(conflict())]
#[case::the_service_key_is_gone(not_found())]
#[tokio::test]
async fn no_key_is_created_before_the_finalizer_is_stored(#[case] answer: Answer) {
    let mut scene = scene(service_key()).await;
    scene.expect(rehearse_new_secret(), works());
    scene.expect(patch_key(), answer);
    assert_eq!(scene.reconcile().await, "outdated, requeued");
    assert!(scene.broker.calls().is_empty());

    scene.another_writer_edits_the_key(|key| key["metadata"]["labels"] = json!({"team": "a"}));
    scene.expect(rehearse_new_secret(), works());
    let version = json!({"metadata": {"resourceVersion": scene.key_version(), "finalizers": [FINALIZER]}});
    scene.expect(patch_key().with(version), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

/// A deleted ServiceKey that keeps its key, so that no key is left to revoke.
fn released() -> KeyFixture {
    service_key().with_finalizer("example.com/audit").finalized().retaining_key().deleting()
}

#[tokio::test]
async fn the_finalizers_of_others_stay() {
    let mut scene = scene(released()).await;
    scene.expect(look_up_secret(), works());
    scene.expect(
        patch_key().with(json!({"metadata": {
            "uid": UID,
            "resourceVersion": scene.key_version(),
            "finalizers": ["example.com/audit"],
        }})),
        works(),
    );
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
    assert_eq!(scene.api.key().unwrap()["metadata"]["finalizers"], json!(["example.com/audit"]));
    scene.cache_catches_up();
    assert_eq!(scene.reconcile().await, "waiting, awaits a change", "no request is left to send");
}

#[tokio::test]
async fn a_service_key_that_is_gone_needs_no_finalizer_removed() {
    let mut scene = scene(released()).await;
    scene.expect(look_up_secret(), works());
    scene.expect(patch_key(), not_found());
    assert_eq!(scene.reconcile().await, "outdated, requeued");

    scene.api.remove_key();
    scene.cache_catches_up();
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
    assert!(!scene.was_handed_over());
}

#[tokio::test]
async fn a_conflict_on_the_removal_is_followed_by_one_of_the_new_version() {
    let mut scene = scene(released()).await;
    scene.expect(look_up_secret(), works());
    scene.expect(patch_key(), conflict());
    assert_eq!(scene.reconcile().await, "outdated, requeued");

    scene.another_writer_edits_the_key(|key| {
        key["metadata"]["finalizers"] = json!([FINALIZER, "example.com/b"])
    });
    scene.expect(look_up_secret(), works());
    let removal =
        json!({"metadata": {"resourceVersion": scene.key_version(), "finalizers": ["example.com/b"]}});
    scene.expect(patch_key().with(removal), works());
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
}

/// The operator may have removed the finalizer, so the deletion of the ServiceKey does not surprise it.
#[tokio::test]
async fn a_removal_without_an_answer_counts_as_done_once_the_service_key_is_gone() {
    let mut scene = scene(service_key().finalized().with_key(1).retaining_key().deleting()).await;
    scene.expect(look_up_secret(), works());
    scene.expect(patch_key(), works_unheard());
    assert_eq!(scene.reconcile().await, "error, requeued");
    scene.cache_catches_up();
    assert!(!scene.was_handed_over());
}

#[tokio::test]
async fn a_service_key_whose_finalizer_a_user_removed_is_handed_over() {
    let mut scene = scene(service_key().finalized().with_key(1).suspended()).await;
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "waiting, awaits a change");
    scene.api.remove_key();
    scene.cache_catches_up();
    assert!(scene.was_handed_over());
}

/// The keys of a restored ServiceKey are also those of the former one, whose UID counts as being revoked meanwhile.
#[tokio::test]
async fn the_keys_of_a_restored_service_key_are_revoked_after_a_user_removed_its_finalizer() {
    let mut scene = scene(service_key().finalized().with_key(1)).await;
    scene.another_writer_edits_the_key(|key| {
        key["status"]["formerUid"] = json!("0c1d2e3f-0000-4000-8000-00000000000b");
    });
    scene.context.wait_ready().await;
    scene.api.remove_key();
    scene.cache_catches_up();
    scene.expect(look_up_secret(), works());
    scene.clean_up().await;
    assert_eq!(scene.broker.calls(), ["DELETE binding"]);
    assert_eq!(scene.context.departures.len(), 0);
}

/// The watch shows the end of the ServiceKey while a reconcile waits for the broker. The reconcile then reserves the
/// Secret's name once more, and releases it when it ends.
#[tokio::test]
async fn a_service_key_that_disappears_during_its_reconcile_reserves_no_secret() {
    let mut scene = scene(service_key().finalized()).await;
    scene.expect(rehearse_new_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), not_found());
    let outcome = scene.reconcile_while(|scene| {
        scene.api.remove_key();
        scene.cache_catches_up();
        assert_eq!(scene.context.reservations.len(), 0, "the watch released it");
    });
    assert_eq!(outcome.await, "outdated, requeued");
    assert_eq!(scene.context.reservations.len(), 0);
    assert!(scene.was_handed_over());
}
