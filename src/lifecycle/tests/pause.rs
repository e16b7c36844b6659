//! Decisions during a pause that the remote side asked for.

use rstest::rstest;

use super::*;

fn until() -> Timestamp {
    now().checked_add(MINUTE).unwrap()
}

/// A ServiceKey that is about to request its first key from a remote side that asked for a pause of a minute.
fn paused() -> Observed {
    Observed { pause: Some(until()), ..asking() }
}

/// A paused ServiceKey whose Secret contains this key.
fn paused_with(key: KeyRecord) -> Observed {
    Observed { pause: Some(until()), ..holding(key) }
}

fn told(ready: bool, reason: Reason) -> Option<PublishedReady> {
    Some(PublishedReady { ready, reason })
}

#[rstest]
#[case::a_bind(paused(), Step::Execute(RemoteEffect::Bind { sequence: Sequence::FIRST, predecessor: None }))]
#[case::a_check(
    Observed { desired: Desired { finalizer: false, ..paused().desired }, ..paused() },
    Step::Execute(RemoteEffect::CheckInstance)
)]
#[case::a_revocation(
    Observed { desired: Desired { deleting: true, ..paused().desired }, ..paused_with(key("now")) },
    Step::Execute(RemoteEffect::Unbind(Sequence::FIRST))
)]
#[case::a_fetch(
    Observed { secret: SecretView::Damaged { key: Some(key("now")), previous: None }, ..paused_with(key("now")) },
    Step::Execute(RemoteEffect::Fetch(Sequence::FIRST))
)]
fn the_remote_side_is_left_alone_until_the_pause_ends(#[case] observed: Observed, #[case] afterwards: Step) {
    let rest = rest(&observed);
    assert_eq!(rest.requeue, Requeue::PauseEnds(until()));
    assert!(!rest.report.ready.ready && !rest.quiet);
    assert_eq!(rest.report.ready.reason, Reason::RateLimited);
    assert_eq!(decide(&Observed { now: until(), ..observed }), afterwards);
}

#[test]
fn what_asks_nobody_is_done_all_the_same() {
    let unlooked = Observed { secret: SecretView::Unknown, ..paused() };
    assert_eq!(decide(&unlooked), Step::Apply(KubernetesEffect::RehearseSecret));
    let in_hand = Observed { run: RunState { in_hand: Some(key("now")), ..RunState::default() }, ..paused() };
    assert_eq!(
        decide(&in_hand),
        Step::Apply(KubernetesEffect::WriteSecret { key: Box::new(key("now")), previous: None })
    );
}

#[test]
fn a_key_that_works_stays_ready_while_its_rotation_waits() {
    let operation = Some(Operation::bind(Sequence::FIRST.next()));
    let mut observed = paused_with(key("before"));
    observed.recorded.operation = operation;
    let rest = rest(&observed);
    assert!(rest.report.ready.ready);
    assert_eq!(rest.report.rotating.unwrap().reason, Reason::RateLimited);
    assert_eq!(rest.requeue, Requeue::PauseEnds(until()));
}

#[rstest]
#[case::what_failed_before(told(false, Reason::BindRejected), true)]
#[case::that_it_is_asked_too_much(told(false, Reason::RateLimited), true)]
#[case::what_is_true_no_more(told(true, Reason::Available), false)]
#[case::what_is_about_something_else(told(false, Reason::ProviderNotReady), false)]
fn a_pause_does_not_hide_what_says_more(#[case] told: Option<PublishedReady>, #[case] stays: bool) {
    assert_eq!(rest(&Observed { published: told, ..paused() }).quiet, stays);
    let throttled = Failure {
        attempted: Attempted::Provision,
        class: ErrorClass::Throttled,
        message: "slow down".to_owned(),
        retry_after: None,
    };
    let failed = Observed {
        run: RunState { failure: Some(throttled), ..RunState::default() },
        published: told,
        ..paused()
    };
    assert_eq!(rest(&failed).quiet, stays);
}
