//! The API server carries out a request, but the answer does not arrive. The next reconcile finds the result, and
//! repeats no other effect.

use super::fixtures::*;

#[tokio::test]
async fn a_finalizer_that_was_stored_is_found() {
    let mut scene = scene(service_key()).await;
    scene.expect(rehearse_new_secret(), works());
    scene.expect(patch_key(), works_unheard());
    assert_eq!(scene.reconcile().await, "error, requeued");
    assert!(scene.broker.calls().is_empty());

    // The cache does not contain the finalizer yet.
    scene.expect(rehearse_new_secret(), works());
    scene.expect(patch_key(), works());
    assert_eq!(scene.reconcile().await, "outdated, requeued");

    scene.cache_catches_up();
    scene.expect(rehearse_new_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(scene.broker.calls(), ["PUT binding"]);
}

#[tokio::test]
async fn a_secret_that_was_created_is_found() {
    let mut scene = scene(service_key().finalized()).await.holding_credentials(1);
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works_unheard());
    assert_eq!(scene.reconcile().await, "error, requeued");

    scene.expect(look_up_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    scene.assert_ready_with(1);
    assert!(scene.broker.calls().is_empty());
}

#[tokio::test]
async fn a_secret_that_was_repaired_is_found() {
    let mut scene = scene(service_key().finalized().with_key(1)).await.with_lost_label(1);
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), works_unheard());
    assert_eq!(scene.reconcile().await, "error, requeued");

    // The cache contains the Secret before the repair.
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

#[tokio::test]
async fn a_secret_that_was_deleted_is_found_to_be_gone() {
    let key = service_key().finalized().with_key(1).retaining_key().deleting();
    let mut scene = scene(key).await.with_own_secret(1);
    scene.expect(read_secret(), works());
    scene.expect(delete_secret(), works_unheard());
    assert_eq!(scene.reconcile().await, "error, requeued");

    // The cache still contains the Secret.
    scene.expect(delete_secret(), works());
    scene.expect(patch_key(), works());
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
}

#[tokio::test]
async fn a_status_that_was_written_is_not_written_again() {
    let mut scene = scene(service_key().finalized().suspended()).await;
    scene.expect(write_status(), works_unheard());
    assert_eq!(scene.reconcile().await, "error, requeued");

    // The cache does not contain the new status yet.
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "outdated, requeued");

    scene.cache_catches_up();
    assert_eq!(scene.reconcile().await, "waiting, awaits a change");
}

#[tokio::test]
async fn a_finalizer_that_was_removed_ends_the_service_key() {
    let mut scene = scene(service_key().finalized().with_key(1).retaining_key().deleting()).await;
    scene.expect(look_up_secret(), works());
    scene.expect(patch_key(), works_unheard());
    assert_eq!(scene.reconcile().await, "error, requeued");

    // The cache still contains the ServiceKey.
    scene.expect(look_up_secret(), works());
    scene.expect(patch_key(), works());
    assert_eq!(scene.reconcile().await, "outdated, requeued");

    scene.cache_catches_up();
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
    assert!(!scene.was_handed_over());
}
