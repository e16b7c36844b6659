//! A job of the Cloud Controller may fail and leave its key unchanged. Only the job reports the failure.

use futures::future::join_all;
use kube::ResourceExt;
use servicekey_operator::api::Reason;
use testkit::cloud_foundry::{FakeCloudFoundry, Pace, Route, Work};

use crate::support::{
    conditions::Reports,
    foundry::{FoundryStage, KEY},
    stage::Running,
};

/// A stage with one key, whose deletion stays in progress until the test ends it.
async fn stage_with_a_key_that_is_being_deleted() -> (FoundryStage, Running, String) {
    let foundry = FakeCloudFoundry::builder().pace(Pace::until_told().only(Work::Delete));
    let stage = FoundryStage::set_with(foundry.start().await.unwrap()).await;
    let operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    stage.delete_key(KEY).await;
    let open = stage.foundry.wait_for_work(|open| open.len() == 1).await.unwrap();
    let key = open[0].key.clone();
    (stage, operator, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_broker_that_does_one_thing_at_a_time_are_all_revoked() {
    const KEYS: usize = 6;
    let foundry = FakeCloudFoundry::builder().one_at_a_time().start().await.unwrap();
    let stage = FoundryStage::set_with(foundry).await;
    let _operator = stage.start_operator().await;
    let names: Vec<_> = (0..KEYS).map(|number| format!("key-{number}")).collect();
    join_all(names.iter().map(|name| stage.create_key(name))).await;
    stage.wait_all_ready(KEYS).await;
    stage.foundry.change_pace(Pace::until_told().only(Work::Delete));
    join_all(names.iter().map(|name| stage.delete_key(name))).await;

    for left in (0..KEYS).rev() {
        // After two polls, the broker works on this deletion.
        stage.foundry.wait_for_work(|open| open.len() == 1 && open[0].looks > 1).await.unwrap();
        assert_eq!(stage.foundry.finish_all(), 1);
        stage.foundry.wait_until(|keys| keys.len() == left).await.unwrap();
    }
    join_all(names.iter().map(|name| stage.wait_gone(name))).await;
    assert_eq!(
        stage.count(&[Route::Delete]),
        2 * KEYS - 1,
        "the deletion of each key but the first was refused once"
    );
    assert_eq!(stage.count(&[Route::Job]), KEYS - 1, "the job of each refused deletion was read once");
}

/// The operator requests the deletion once more, and this time it succeeds.
async fn assert_a_second_request_revokes_it(stage: &FoundryStage) {
    stage.foundry.wait_for_work(|open| open.len() == 1).await.unwrap();
    assert_eq!(stage.foundry.finish_all(), 1);
    stage.wait_gone(KEY).await;
    assert_eq!(stage.foundry.keys(), []);
    assert_eq!(stage.count(&[Route::Delete]), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_whose_job_fails_is_told_and_asked_for_again() {
    let (stage, _operator, key) = stage_with_a_key_that_is_being_deleted().await;
    assert!(stage.foundry.fail_job(&key, "the database is in use"));
    let failing = stage.wait_key(KEY, Reason::RevokeFailed).await;
    failing.says(
        "unbind could not be completed: the database is in use; the operator retries until the key is revoked",
    );
    assert_a_second_request_revokes_it(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_whose_job_is_gone_is_told_and_asked_for_again() {
    let (stage, _operator, key) = stage_with_a_key_that_is_being_deleted().await;
    assert!(stage.foundry.lose_job(&key));
    let failing = stage.wait_key(KEY, Reason::RevokeFailed).await;
    failing.says("its job no longer exists, and the key is unchanged");
    assert_a_second_request_revokes_it(&stage).await;
}

/// A previous key that the broker failed to delete does not delay a rotation for an hour.
#[tokio::test(flavor = "multi_thread")]
async fn a_previous_key_whose_deletion_job_fails_is_revoked_in_the_end() {
    let foundry = FakeCloudFoundry::builder().pace(Pace::until_told().only(Work::Delete));
    let stage = FoundryStage::set_with(foundry.start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let first = stage.wait_ready(KEY).await;
    let change = serde_json::json!({"parameters": {"permissions": "all"}, "rotation": {"overlap": "0s"}});
    stage.change_key(KEY, change).await;
    let open = stage.foundry.wait_for_work(|open| open.len() == 1).await.unwrap();
    assert!(stage.foundry.fail_job(&open[0].key, "the database is in use"));
    stage.foundry.wait_for_work(|open| open.len() == 1).await.unwrap();
    assert_eq!(stage.foundry.finish_all(), 1);
    let keys = stage.foundry.wait_until(|keys| keys.len() == 1).await.unwrap();
    assert_eq!(keys[0].number, 2);
    let now = stage.wait_ready(KEY).await;
    assert_eq!(now.uid(), first.uid());
}
