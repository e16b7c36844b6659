//! Counts the calls for a key at IBM Cloud: one lookup and one creation. Lists watch all keys together.

use std::time::Duration;

use futures::future::join_all;
use testkit::ibm_cloud::{Call, FakeIbmCloud, Instance, Route};

use crate::support::{
    ibm::{INSTANCE, IbmStage, KEY},
    stage::{condition, wait},
};

const MANY: usize = 100;
/// The operator is at rest if it sends no request for this long.
const REST: Duration = Duration::from_secs(10);
/// Often enough that no test waits for a check.
const OFTEN: Duration = Duration::from_millis(200);

async fn roomy() -> FakeIbmCloud {
    let roomy = Instance::new(INSTANCE).key_limit(2000);
    FakeIbmCloud::builder().without_instances().instance(roomy).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_cost_two_requests_each_and_nothing_after_a_restart() {
    let stage = IbmStage::set_with(roomy().await).await;
    let operator = stage.start_operator().await;
    stage.wait_for_provider("ibm").await;
    let before = stage.ibm.calls().len();
    let names: Vec<_> = (0..MANY).map(|number| format!("key-{number}")).collect();
    join_all(names.iter().map(|name| stage.create_key(name))).await;
    stage.wait_all_ready(MANY).await;
    assert_eq!(stage.count(&[Route::Token]), 1);
    let mut once = stage.routes_since(before);
    once.retain(|route| ![Route::Keys, Route::CreateKey].contains(route));
    assert_eq!(once, [Route::Instances, Route::Roles], "all keys share these calls");
    assert_eq!(stage.count(&[Route::CreateKey]), MANY);
    let calls = stage.ibm.calls().len();
    assert!(calls <= 2 * MANY + 6, "{calls} calls for {MANY} keys");

    drop(operator);
    let _operator = stage.start_operator().await;
    // Proves that nothing happens, which no watch can show.
    tokio::time::sleep(REST).await;
    let check = [Route::Token, Route::Instances, Route::Keys];
    assert_eq!(
        stage.routes_since(calls),
        check,
        "only the provider is checked, and all its keys with one list"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_requests_show_a_thousand_keys() {
    let stage = IbmStage::set_with(roomy().await).await;
    for number in 0..1000 {
        stage.ibm.add_key(INSTANCE, &format!("by-hand-{number}")).unwrap();
    }
    let _operator = stage.start_operator().await;
    stage
        .ibm
        .wait_for_calls(|calls| calls.iter().filter(|call| call.route == Route::Keys).count() >= 10)
        .await
        .unwrap();
    // Proves that no call follows, which no watch can show.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.count(&[Route::Keys]), 10);
}

/// The account has more instances than fit on a page. One request finds an instance by its name anyway.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_among_many_is_found_with_one_request() {
    let mut ibm = FakeIbmCloud::builder().without_instances();
    for number in 0..150 {
        ibm = ibm.instance(Instance::new(format!("instance-{number}")));
    }
    let stage = IbmStage::set_with(ibm.instance(Instance::new(INSTANCE)).start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("ibm").await;
    let before = stage.count(&[Route::Instances]);
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.count(&[Route::Instances]) - before, 1);
}

/// More than two tokens expire while the operator frequently checks the provider. The fake treats the use of an expired
/// token as an error.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_renewed_before_they_end() {
    let ibm = FakeIbmCloud::builder().token_lifetime(Duration::from_secs(5)).start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    let _operator = stage.start_operator_checking(OFTEN).await;
    stage.create_key(KEY).await;
    let ready = stage.wait_ready_with_the_one_key(KEY).await;
    let is_third = |calls: &[Call]| {
        calls.iter().filter(|call| call.route == Route::Token && call.status.is_some()).count() >= 3
    };
    stage.ibm.wait_for_calls(is_third).await.unwrap();
    stage.create_key("reporting-creds").await;
    stage.wait_ready("reporting-creds").await;
    let first = &ready.status.unwrap().key.unwrap().id;
    assert!(!stage.ibm.key(first).unwrap().removed);
    assert_eq!(stage.ibm.keys().len(), 2);
    let refused = |call: &Call| call.status == Some(401);
    assert!(!stage.ibm.calls().iter().any(refused), "the operator used an expired token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_vanishes_is_replaced() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator_checking(OFTEN).await;
    stage.create_key(KEY).await;
    let lost = stage.wait_ready_with_the_one_key(KEY).await.status.unwrap().key.unwrap();
    assert!(stage.ibm.forget(&lost.id));
    let has_next = |key: &servicekey_operator::api::ServiceKey| {
        let number = key.status.as_ref().and_then(|status| status.key.as_ref()).map(|key| key.sequence);
        number == Some(2) && condition(key, "Ready") == Some("True")
    };
    wait(stage.keys(), KEY, "ready with another key", |key| key.is_some_and(has_next)).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    stage.delete_and_leave_no_key(KEY).await;
}
