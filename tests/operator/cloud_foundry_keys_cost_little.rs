//! What a key costs at a Cloud Foundry, counted: it is made, its credentials are read, and all are watched together.

use std::time::{Duration, Instant};

use futures::future::join_all;
use testkit::cloud_foundry::Route;

use crate::foundry::FoundryStage;

const MANY: usize = 200;
/// How long nothing has to happen for it to count as rest.
const REST: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_cost_little_more_than_two_requests_each_and_nothing_after_a_restart() {
    let stage = FoundryStage::set().await;
    let operator = stage.start_operator().await;
    stage.wait_for_provider("foundry").await;
    let names: Vec<_> = (0..MANY).map(|number| format!("key-{number}")).collect();
    let began = Instant::now();
    join_all(names.iter().map(|name| stage.ask_for(name))).await;
    stage.wait_all_ready(MANY).await;
    println!("{MANY} keys were ready after {:?}", began.elapsed());

    let calls = stage.foundry.calls().len();
    println!("{calls} calls, {} of them lists of keys", stage.count(&[Route::Keys]));
    assert_eq!(stage.count(&[Route::Create, Route::Details]), 2 * MANY);
    assert_eq!(stage.count(&[Route::Key, Route::Job]), 0);
    assert!(calls * 10 <= MANY * 22, "{calls} calls for {MANY} keys");

    drop(operator);
    let _operator = stage.start_operator().await;
    // Proves that nothing happens, which no watch can tell.
    tokio::time::sleep(REST).await;
    let after: Vec<_> = stage.foundry.calls().split_off(calls).into_iter().map(|call| call.route).collect();
    let check = [Route::Root, Route::Token, Route::Organizations, Route::Spaces, Route::Keys];
    assert_eq!(after, check, "only the provider is checked, and all its keys with one list");
}
