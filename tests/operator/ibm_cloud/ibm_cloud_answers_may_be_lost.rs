//! Lose an answer of IBM Cloud: there is exactly one key, or none.

use rstest::rstest;
use testkit::ibm_cloud::{FakeIbmCloud, Fault, Instance, Quirks, Route, StatusCode};

use crate::support::ibm::{INSTANCE, IbmStage, KEY};

#[rstest]
#[case::cut(Fault::Cut)]
#[case::bad_gateway(Fault::Html(StatusCode::BAD_GATEWAY))]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_bind_leaves_one_key(#[case] fault: Fault, #[values(false, true)] effect: bool) {
    let stage = IbmStage::set().await;
    let lost = fault.on(Route::CreateKey);
    stage.ibm.inject(if effect { lost.after_effect() } else { lost });
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.ibm.keys().len(), 1, "another one was made before");
    assert_eq!(stage.count(&[Route::CreateKey]), if effect { 1 } else { 2 });
    assert_eq!(stage.count(&[Route::DeleteKey]), 0, "nothing is cleaned up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_show_at_once_is_waited_for() {
    let quirks = Quirks { looks_without_new_keys: 3, lists_without_new_keys: true, ..Quirks::default() };
    let stage = IbmStage::set_with(FakeIbmCloud::builder().quirks(quirks).start().await.unwrap()).await;
    stage.ibm.inject(Fault::Cut.on(Route::CreateKey).after_effect());
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.ibm.keys().len(), 1, "another one was made");
}

/// The answer is lost, and the ServiceKey is deleted before the key shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_show_at_once_is_revoked_all_the_same() {
    let quirks = Quirks { looks_without_new_keys: 2, lists_without_new_keys: true, ..Quirks::default() };
    let stage = IbmStage::set_with(FakeIbmCloud::builder().quirks(quirks).start().await.unwrap()).await;
    stage.ibm.inject(Fault::Cut.on(Route::CreateKey).after_effect());
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.ibm.wait_until(|keys| keys.len() == 1).await.unwrap();
    stage.delete_and_leave_no_key(KEY).await;
}

/// Two keys of one name: the late one is nobody's, and goes with the ServiceKey at the latest.
#[tokio::test(flavor = "multi_thread")]
async fn a_bind_that_takes_effect_late_leaves_nothing_behind() {
    let stage = IbmStage::set().await;
    stage.ibm.inject(Fault::Late.on(Route::CreateKey));
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.ibm.release_late(), 1);
    assert_eq!(stage.ibm.live_keys().len(), 2);
    stage.delete_and_leave_no_key(KEY).await;
}

/// Nobody is shown the credentials again that were in it: the key is of no use.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_with_credentials_that_are_shown_once_leaves_one_key() {
    let instance = Instance::new(INSTANCE).one_time();
    let ibm = FakeIbmCloud::builder().without_instances().instance(instance).start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    stage.ibm.inject(Fault::Cut.on(Route::CreateKey).after_effect());
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    let keys = stage.ibm.keys();
    assert_eq!(keys.iter().map(|key| key.removed).collect::<Vec<_>>(), [true, false]);
    stage.delete_and_leave_no_key(KEY).await;
}

/// As after two requests whose answers were lost, of which one took effect late.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_keys_of_one_name_one_is_kept() {
    let stage = IbmStage::set().await;
    let uid = stage.create_key(KEY).await.metadata.uid.unwrap();
    let name = format!("{KEY}-sk-{uid}-1");
    let twins = [(); 2].map(|()| stage.ibm.add_key(INSTANCE, &name).unwrap());
    let other = stage.ibm.add_key(INSTANCE, &format!("{KEY}-sk-{uid}-2")).unwrap();
    let _operator = stage.start_operator().await;
    let ready = stage.wait_ready(KEY).await;
    // Which one may be left to chance: both may be of the same moment.
    let kept = stage.ibm.keys_named(&name);
    let [kept] = kept.as_slice() else { panic!("one of the two is not kept: {kept:#?}") };
    assert!(twins.iter().any(|twin| twin.guid == kept.guid));
    stage.assert_holds(&ready, kept).await;
    assert!(!stage.ibm.key(&other.guid).unwrap().removed, "it has another name");
    assert_eq!(stage.count(&[Route::CreateKey]), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_an_unbind_leaves_nothing(#[values(false, true)] effect: bool) {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    // The client itself sends a DELETE once more where it went out on a kept connection.
    let cut = Fault::Cut.on(Route::DeleteKey).times(2);
    stage.ibm.inject(if effect { cut.after_effect() } else { cut });
    stage.delete_and_leave_no_key(KEY).await;
}
