//! Lose an answer, or kill the operator between any two steps: there is exactly one key at a Cloud Foundry, or none.

use rstest::rstest;
use testkit::{
    Moment::{self, AfterEffect, BeforeEffect},
    cloud_foundry::{FakeCloudFoundry, Fault, Pace, Route},
    gateway::{Method, Requests},
};

use crate::support::{
    evidence::settled,
    foundry::{FoundryStage, KEY},
    process::Process,
};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_bind_leaves_one_key(
    #[values(false, true)] effect: bool,
    #[values(1, 3)] times: usize,
) {
    let stage = FoundryStage::set().await;
    let cut = Fault::Cut.on(Route::Create).times(times);
    stage.foundry.inject(if effect { cut.after_effect() } else { cut });
    let _operator = stage.start_operator().await;
    stage.ask_for(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.foundry.keys()[0].number, 1, "another one was made before");
    assert_eq!(stage.count(&[Route::Delete]), 0, "nothing is cleaned up");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_an_unbind_leaves_nothing(#[values(false, true)] effect: bool) {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    stage.ask_for(KEY).await;
    stage.wait_ready(KEY).await;
    // The client itself sends a DELETE once more where it went out on a kept connection.
    let cut = Fault::Cut.on(Route::Delete).times(2);
    stage.foundry.inject(if effect { cut.after_effect() } else { cut });
    stage.delete_and_leave_no_key(KEY).await;
}

/// A bind may take effect when its answer was given up long ago.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_bind_and_its_repetition_make_one_key() {
    let stage = FoundryStage::set().await;
    stage.foundry.inject(Fault::Late.on(Route::Create));
    let _operator = stage.start_operator().await;
    stage.ask_for(KEY).await;
    stage.wait_ready(KEY).await;
    assert_eq!(stage.foundry.release_late(), 0, "the name is taken by then");
    stage.wait_ready_with_the_one_key(KEY).await;
}

#[rstest]
#[case::bind(Route::Create)]
#[case::look(Route::Keys)]
#[case::fetch(Route::Details)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_makes_a_key(
    #[case] route: Route,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
    #[values(Pace::at_once(), Pace::looks(2))] pace: Pace,
) {
    let foundry = FakeCloudFoundry::builder().pace(pace).start().await.unwrap();
    let stage = FoundryStage::set_with(foundry).await;
    let operator = Process::start(&stage).await;
    stage.wait_for_provider("foundry").await;
    let gate = stage.foundry.gate(route, moment);
    stage.ask_for(KEY).await;
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    settled(&stage, KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.foundry.keys()[0].number, 1, "another one was made before");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_stores_a_key(#[values(BeforeEffect, AfterEffect)] moment: Moment) {
    let stage = FoundryStage::set().await;
    let operator = Process::start(&stage).await;
    stage.wait_for_provider("foundry").await;
    let gate = operator.gateway.gate(Requests::to(Method::POST, "secrets"), moment);
    stage.ask_for(KEY).await;
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    settled(&stage, KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.foundry.keys()[0].number, 1, "another one was made before");
}

#[rstest]
#[case::unbind(Route::Delete)]
#[case::look(Route::Keys)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_revokes_a_key(
    #[case] route: Route,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
    #[values(Pace::at_once(), Pace::looks(2))] pace: Pace,
) {
    let foundry = FakeCloudFoundry::builder().pace(pace).start().await.unwrap();
    let stage = FoundryStage::set_with(foundry).await;
    let operator = Process::start(&stage).await;
    stage.ask_for(KEY).await;
    stage.wait_ready(KEY).await;
    let gate = stage.foundry.gate(route, moment);
    stage.delete_key(KEY).await;
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    stage.wait_gone(KEY).await;
    assert_eq!(stage.foundry.keys(), []);
    assert!(stage.secrets().get_opt(KEY).await.unwrap().is_none());
}
