//! Counts the calls for a key at a Cloud Foundry: one to create it, one to read its credentials, and lists that watch
//! all keys together.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rstest::rstest;
use serde_json::json;
use servicekey_operator::api::ServiceKey;
use testkit::cloud_foundry::{FakeCloudFoundry, Pace, Route};

use crate::support::foundry::{FoundryStage, KEY};

const MANY: usize = 200;
/// The operator is at rest if it sends no request for this long.
const REST: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_cost_little_more_than_two_requests_each_and_nothing_after_a_restart() {
    let stage = FoundryStage::set().await;
    let operator = stage.start_operator().await;
    stage.wait_for_provider("foundry").await;
    let names: Vec<_> = (0..MANY).map(|number| format!("key-{number}")).collect();
    let began = Instant::now();
    join_all(names.iter().map(|name| stage.create_key(name))).await;
    stage.wait_all_ready(MANY).await;
    println!("{MANY} keys were ready after {:?}", began.elapsed());

    let calls = stage.foundry.calls().len();
    println!("{calls} calls, {} of them lists of keys", stage.count(&[Route::Keys]));
    assert_eq!(stage.count(&[Route::Create, Route::Details]), 2 * MANY);
    assert_eq!(stage.count(&[Route::Key, Route::Job]), 0);
    assert!(calls * 10 <= MANY * 22, "{calls} calls for {MANY} keys");

    drop(operator);
    let _operator = stage.start_operator().await;
    // Proves that nothing happens, which no watch can show.
    tokio::time::sleep(REST).await;
    let after: Vec<_> = stage.foundry.calls().split_off(calls).into_iter().map(|call| call.route).collect();
    let check = [Route::Root, Route::Token, Route::Organizations, Route::Spaces, Route::Keys];
    assert_eq!(after, check, "only the provider is checked, and all its keys with one list");
}

#[rstest]
#[case::at_once(Pace::at_once())]
#[case::in_the_background(Pace::looks(3))]
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_overlap_are_deleted_once_each(#[case] pace: Pace) {
    let stage = FoundryStage::set_with(FakeCloudFoundry::builder().pace(pace).start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    let change = json!({"parameters": {"permissions": "all"}, "rotation": {"overlap": "1h"}});
    stage.change_key(KEY, change).await;
    let both = |keys: &[testkit::cloud_foundry::Key]| keys.len() == 2 && keys.iter().all(|key| key.is_live());
    stage.foundry.wait_until(both).await.unwrap();
    let overlaps = |key: Option<&ServiceKey>| {
        key.and_then(|key| key.status.as_ref()).is_some_and(|status| status.previous_keys.len() == 1)
    };
    stage.wait(stage.keys(), KEY, "with a previous key", overlaps).await;
    assert_eq!(stage.count(&[Route::Delete]), 0, "both keys are valid");
    stage.delete_and_leave_no_key(KEY).await;
    assert_eq!(stage.count(&[Route::Delete]), 2);
}

/// The largest page has more entries than this API allows.
#[tokio::test(flavor = "multi_thread")]
async fn pages_are_as_large_as_the_api_admits() {
    let foundry = FakeCloudFoundry::builder().max_total_results(700).start().await.unwrap();
    let stage = FoundryStage::set_with(foundry).await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("foundry").await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    stage.delete_and_leave_no_key(KEY).await;
    let refused = stage.foundry.calls().iter().filter(|call| call.status == Some(400)).count();
    assert_eq!(refused, 2, "of 5,000 and of 1,000 keys");
}
