//! Pauses: what is decided while the remote side wants to be left alone.

use rstest::rstest;

use super::*;

fn until() -> Timestamp {
    now().checked_add(MINUTE).unwrap()
}

/// A ServiceKey that is about to ask for its first key, of a remote side that wants to be left alone for a minute.
fn paused() -> World {
    World { pause: Some(until()), ..asking() }
}

/// One whose Secret holds this key.
fn paused_with(key: KeyRecord) -> World {
    World { pause: Some(until()), ..holding(key) }
}

fn told(ready: bool, reason: Reason) -> Option<Told> {
    Some(Told { ready, reason })
}

#[rstest]
#[case::a_bind(paused(), Effect::Bind { sequence: Sequence::FIRST, predecessor: None })]
#[case::a_check(
    World { desired: Desired { finalizer: false, ..paused().desired }, ..paused() },
    Effect::CheckInstance
)]
#[case::a_revocation(
    World { desired: Desired { deleting: true, ..paused().desired }, ..paused_with(key("now")) },
    Effect::Unbind(Sequence::FIRST)
)]
#[case::a_fetch(
    World { secret: SecretView::Damaged { key: Some(key("now")), previous: None }, ..paused_with(key("now")) },
    Effect::Fetch(Sequence::FIRST)
)]
fn the_remote_side_is_left_alone_until_the_pause_ends(#[case] world: World, #[case] afterwards: Effect) {
    let rest = rest(&world);
    assert_eq!(rest.wake, Wake::PauseEnds(until()));
    assert!(!rest.report.ready.ready && !rest.quiet);
    assert_eq!(rest.report.ready.reason, Reason::RateLimited);
    assert_eq!(decide(&World { now: until(), ..world }), Step::Act(afterwards));
}

#[test]
fn what_asks_nobody_is_done_all_the_same() {
    let unlooked = World { secret: SecretView::Unknown, ..paused() };
    assert_eq!(decide(&unlooked), Step::Act(Effect::RehearseSecret));
    let in_hand = World { round: Round { in_hand: Some(key("now")), ..Round::default() }, ..paused() };
    assert_eq!(
        decide(&in_hand),
        Step::Act(Effect::WriteSecret { key: Box::new(key("now")), previous: None })
    );
}

#[test]
fn a_key_that_works_stays_ready_while_its_rotation_waits() {
    let operation = Some(Operation::bind(Sequence::FIRST.next()));
    let mut world = paused_with(key("before"));
    world.memory.operation = operation;
    let rest = rest(&world);
    assert!(rest.report.ready.ready);
    assert_eq!(rest.report.rotating.unwrap().reason, Reason::RateLimited);
    assert_eq!(rest.wake, Wake::PauseEnds(until()));
}

#[rstest]
#[case::what_failed_before(told(false, Reason::BindRejected), true)]
#[case::that_it_is_asked_too_much(told(false, Reason::RateLimited), true)]
#[case::what_is_true_no_more(told(true, Reason::Available), false)]
#[case::what_is_about_something_else(told(false, Reason::ProviderNotReady), false)]
fn a_pause_does_not_hide_what_says_more(#[case] told: Option<Told>, #[case] stays: bool) {
    assert_eq!(rest(&World { told, ..paused() }).quiet, stays);
    let throttled = Failure {
        attempted: Attempted::Provision,
        class: ErrorClass::Throttled,
        message: "slow down".to_owned(),
        retry_after: None,
    };
    let failed = World { round: Round { failure: Some(throttled), ..Round::default() }, told, ..paused() };
    assert_eq!(rest(&failed).quiet, stays);
}
