//! Lose an answer of a Cloud Foundry: there is exactly one key, or none.

use rstest::rstest;
use testkit::cloud_foundry::{Fault, Route};

use crate::support::foundry::{FoundryStage, KEY};

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
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.foundry.keys()[0].number, 1, "another one was made before");
    assert_eq!(stage.count(&[Route::Delete]), 0, "nothing is cleaned up");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_an_unbind_leaves_nothing(#[values(false, true)] effect: bool) {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
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
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    assert_eq!(stage.foundry.release_late(), 0, "the name is taken by then");
    stage.wait_ready_with_the_one_key(KEY).await;
}
