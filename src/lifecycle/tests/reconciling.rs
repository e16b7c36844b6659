//! What tools that wait for a ServiceKey are told, beside whether it is ready: that it is not done yet, or never will be.

use rstest::rstest;

use super::*;

/// Its Secret holds a key that was made from other fields.
fn edited() -> World {
    holding(key("before"))
}

/// Its Secret holds a key that is older than it may be.
fn aged() -> World {
    let world = holding(key("now"));
    let rotation = Rotation { every: Some(MINUTE), ..world.desired.rotation };
    let desired = Desired { rotation, ..world.desired.clone() };
    World { desired, now: now() + 2 * MINUTE, ..world }
}

/// Its status knows of nothing but a key that is still valid.
fn overlapping(world: World) -> World {
    let mut memory = Memory::default();
    memory.replace(Sequence::FIRST, None, None, now(), MINUTE);
    let key = KeyRecord { sequence: Sequence::FIRST.next(), ..key("before") };
    World { memory, secret: SecretView::Intact { key, previous: None, flaw: None }, ..world }
}

fn suspended(world: World) -> World {
    World { desired: Desired { suspended: true, ..world.desired.clone() }, ..world }
}

fn failing(class: ErrorClass, world: World) -> World {
    let failure = Failure {
        attempted: Attempted::Provision,
        class,
        message: "bind failed".to_owned(),
        retry_after: None,
    };
    let memory = Memory { operation: Some(Operation::bind(Sequence::FIRST.next())), ..world.memory.clone() };
    World { memory, round: Round { failure: Some(failure), ..Round::default() }, ..world }
}

fn closed(world: World) -> World {
    let problem = Problem { reason: Reason::ProviderNotAllowed, message: "not allowed".to_owned() };
    World { provider: ProviderView::Closed(problem), ..world }
}

/// What a decision shows, whether it is written before the next step or to rest with.
fn report(world: &World) -> Report {
    match decide(world) {
        Step::Rest(rest) => *rest.report,
        Step::Act(Effect::Record(report)) => *report,
        Step::Act(effect) => panic!("{effect:?}"),
    }
}

/// The reasons of `Reconciling` and of `Stalled`, and whether `Ready` holds.
#[rstest]
#[case::done(holding(key("now")), true, None, None)]
#[case::a_first_key_that_fails(
    failing(ErrorClass::Transient, World { secret: SecretView::Absent, memory: Memory::default(), ..edited() }),
    false,
    Some(Reason::RemoteUnreachable),
    None
)]
#[case::a_first_key_that_is_refused(
    failing(ErrorClass::Rejected, World { secret: SecretView::Absent, memory: Memory::default(), ..edited() }),
    false,
    None,
    Some(Reason::BindRejected)
)]
#[case::another_key_was_asked_for(edited(), true, Some(Reason::Rotating), None)]
#[case::and_the_status_is_behind(
    World { memory: Memory::default(), ..edited() },
    true,
    Some(Reason::Rotating),
    None
)]
#[case::and_an_earlier_key_is_still_valid(overlapping(edited()), true, Some(Reason::Rotating), None)]
#[case::it_fails(failing(ErrorClass::Transient, edited()), true, Some(Reason::RemoteUnreachable), None)]
#[case::it_is_refused(failing(ErrorClass::Rejected, edited()), true, None, Some(Reason::BindRejected))]
#[case::it_may_not_be_made(closed(edited()), true, None, Some(Reason::ProviderNotAllowed))]
#[case::it_may_not_be_made_yet(suspended(edited()), true, None, None)]
#[case::a_rotation_by_age_is_no_news(aged(), true, None, None)]
#[case::nor_where_it_fails(failing(ErrorClass::Transient, aged()), true, None, None)]
#[case::nor_where_it_is_refused(failing(ErrorClass::Rejected, aged()), true, None, None)]
#[case::suspended_without_a_key(suspended(asking()), false, None, None)]
fn who_waits_is_told_the_truth(
    #[case] world: World,
    #[case] ready: bool,
    #[case] reconciling: Option<Reason>,
    #[case] stalled: Option<Reason>,
) {
    let report = report(&world);
    let reason = |problem: &Option<Problem>| problem.as_ref().map(|problem| problem.reason);
    assert_eq!(report.ready.ready, ready, "{report:?}");
    assert_eq!(reason(&report.reconciling()), reconciling, "{report:?}");
    assert_eq!(reason(&report.stalled), stalled, "{report:?}");
}
