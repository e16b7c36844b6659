//! Events. A separate task publishes them, so a failed event never blocks a reconcile.

use rstest::rstest;

use super::fixtures::*;

#[rstest]
#[case::a_permission_is_missing(403)]
#[case::there_is_one_already(409)]
#[case::the_namespace_is_gone(404)]
#[case::it_is_invalid(422)]
#[case::too_much_is_asked(429)]
#[case::the_api_server_is_in_trouble(500)]
#[tokio::test]
async fn an_event_that_is_refused_holds_nothing_up(#[case] code: u16) {
    let mut scene = scene(service_key().finalized()).await.holding_credentials(1).refusing_first_event(code);
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), invalid("no"));
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretRejected", "no");

    scene.after_the_backoff();
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    let reasons: Vec<_> = scene.events().await.into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, ["SecretWritten"], "the next event is published");
}

#[tokio::test]
async fn a_stored_secret_is_an_event() {
    let mut scene = scene(service_key().finalized()).await.holding_credentials(1);
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    let note = "the credentials of key 1 are in the Secret `db`";
    assert_eq!(scene.events().await, [("SecretWritten".to_owned(), note.to_owned())]);
}

#[tokio::test]
async fn a_problem_is_an_event_when_it_begins() {
    let mut scene = scene(service_key()).await;
    for words in ["no", "still no", "not yet"] {
        scene.expect(rehearse_new_secret(), invalid(words));
        scene.expect(write_status(), works());
        assert_eq!(scene.reconcile().await, "failed, requeued");
        scene.assert_not_ready("SecretRejected", words);
        scene.after_the_backoff();
    }
    let reasons: Vec<_> = scene.events().await.into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, ["SecretRejected"]);
}

#[tokio::test]
async fn keys_that_stay_are_an_event() {
    let mut scene = scene(service_key().finalized().with_key(1).retaining_key().deleting()).await;
    scene.expect(look_up_secret(), works());
    scene.expect(patch_key(), works());
    assert_eq!(scene.reconcile().await, "gone, awaits a change");
    let events = scene.events().await;
    assert_eq!(events[0].0, "KeysLeftBehind");
    assert!(events[0].1.contains("keys 1 stay at the remote side"), "{events:?}");
}
