//! Requests whose answers were lost, and which may still take effect.

use rstest::rstest;

use super::*;

/// The client sent the bind twice: the second one was answered, and the first one may be acted on after a revocation.
#[test]
fn a_revocation_outlasts_the_first_of_two_binds() {
    let late = Some(full_second(now().checked_add(MINUTE).unwrap()));
    let mut world = asking();
    world.round.learn(Answer::GivenUp(Sequence::FIRST, now()));
    world.round.learn(Answer::Issued(key("now")));
    let Step::Act(Effect::WriteSecret { key, .. }) = decide(&world) else { panic!("{:?}", decide(&world)) };
    assert_eq!(key.late_until, late);

    // Also by a process that knows nothing of it but what is stored.
    let mut world = holding(*key);
    world.desired.deleting = true;
    assert_eq!(decide(&world), Step::Act(Effect::Unbind(Sequence::FIRST)));
    world.round.learn(Answer::Revoked(Sequence::FIRST, now()));
    let Step::Wait(rest) = decide(&world) else { panic!("{:?}", decide(&world)) };
    assert_eq!(Some(rest.wake), late.map(Requeue::At));
}

/// A ServiceKey whose key is being created in the background.
fn at_work() -> Observed {
    let mut world = asking();
    world.round.under_way = Some(PendingOperation {
        work: RemoteOperation::Bind,
        sequence: Sequence::FIRST,
        token: None,
        since: now(),
        ends: now().checked_add(60 * MINUTE).unwrap(),
        next_poll: Some(now()),
        retry_after: None,
        first_look: Duration::ZERO,
        said: None,
        is_refused: false,
        inputs: "now".to_owned(),
    });
    world
}

fn unheard(world: &mut Observed, class: ErrorClass) {
    world.round.learn(Answer::Unheard { class, message: "400".to_owned(), retry_after: None });
}

/// What the broker refuses to say now it refuses for ever. The key may be there, or come.
#[rstest]
#[case(ErrorClass::Rejected)]
#[case(ErrorClass::Gone)]
#[case(ErrorClass::Forbidden)]
fn a_deletion_does_not_wait_for_a_bind_that_the_remote_side_says_nothing_of(#[case] class: ErrorClass) {
    let mut world = at_work();
    world.desired.deleting = true;
    assert!(matches!(decide(&world), Step::Act(Effect::Poll(_))));
    unheard(&mut world, class);
    let Step::Act(Effect::Record(report)) = decide(&world) else { panic!("{:?}", decide(&world)) };
    assert!(report.ready.message.contains("the remote side does not say how far it is: 400"), "{report:?}");
    world.memory = report.memory;
    assert_eq!(decide(&world), Step::Act(Effect::Unbind(Sequence::FIRST)));
    world.round.learn(Answer::Revoked(Sequence::FIRST, now()));
    let late = full_second(now().checked_add(MINUTE).unwrap());
    assert!(
        matches!(decide(&world), Step::Wait(rest) if rest.wake == Requeue::At(late)),
        "it may still be created"
    );
}

#[rstest]
#[case::that_is_wanted(ErrorClass::Rejected, false, false)]
#[case::that_is_to_stay(ErrorClass::Rejected, true, true)]
#[case::that_may_be_heard_of_later(ErrorClass::Transient, true, false)]
#[case::whose_remote_side_is_busy(ErrorClass::Throttled, true, false)]
fn any_other_bind_is_followed(#[case] class: ErrorClass, #[case] deleting: bool, #[case] retain: bool) {
    let mut world = at_work();
    (world.desired.deleting, world.desired.retain) = (deleting, retain);
    unheard(&mut world, class);
    assert!(
        !matches!(decide(&world), Step::Act(Effect::Record(_) | Effect::Unbind(_))),
        "{:?}",
        decide(&world)
    );
}
