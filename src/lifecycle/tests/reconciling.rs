//! The conditions for tools that wait for a ServiceKey, in addition to `Ready`: it is still reconciling, or stalled.

use rstest::rstest;

use super::*;

/// A ServiceKey whose Secret contains a key that was created from other fields.
fn edited() -> Observed {
    holding(key("before"))
}

/// A ServiceKey whose Secret contains a key that has exceeded its age.
fn aged() -> Observed {
    let observed = holding(key("now"));
    let rotation = RotationPolicy { every: Some(MINUTE), ..observed.desired.rotation };
    let desired = Desired { rotation, ..observed.desired.clone() };
    Observed { desired, now: now() + 2 * MINUTE, ..observed }
}

/// A status that records the current key, and an earlier one that is still valid.
fn overlapping(observed: Observed) -> Observed {
    let mut recorded = Recorded::default();
    recorded.replace(Sequence::FIRST, None, None, now(), MINUTE);
    let key = KeyRecord { sequence: Sequence::FIRST.next(), ..key("before") };
    recorded.key = Some(key.clone());
    Observed { recorded, secret: SecretView::Intact { key, previous: None, flaw: None }, ..observed }
}

fn suspended(observed: Observed) -> Observed {
    Observed { desired: Desired { suspended: true, ..observed.desired.clone() }, ..observed }
}

fn failing(class: ErrorClass, observed: Observed) -> Observed {
    let failure = Failure {
        attempted: Attempted::Provision,
        class,
        message: "bind failed".to_owned(),
        retry_after: None,
    };
    let recorded =
        Recorded { operation: Some(Operation::bind(Sequence::FIRST.next())), ..observed.recorded.clone() };
    Observed { recorded, run: RunState { failure: Some(failure), ..RunState::default() }, ..observed }
}

fn closed(observed: Observed) -> Observed {
    let problem = Problem { reason: Reason::ProviderNotAllowed, message: "not allowed".to_owned() };
    Observed { provider: ProviderView::Closed(problem), ..observed }
}

/// The status of a decision, whether it is written before the next step or during a wait.
fn report(observed: &Observed) -> Report {
    match decide(observed) {
        Step::Wait(rest) => *rest.report,
        Step::Apply(KubernetesEffect::Record(report)) => *report,
        step => panic!("{step:?}"),
    }
}

/// The reasons of `Reconciling` and of `Stalled`, and whether `Ready` is true.
#[rstest]
#[case::done(holding(key("now")), true, None, None)]
#[case::a_first_key_that_fails(
    failing(ErrorClass::Transient, Observed { secret: SecretView::Absent, recorded: Recorded::default(), ..edited() }),
    false,
    Some(Reason::RemoteUnreachable),
    None
)]
#[case::a_first_key_that_is_refused(
    failing(ErrorClass::Rejected, Observed { secret: SecretView::Absent, recorded: Recorded::default(), ..edited() }),
    false,
    None,
    Some(Reason::BindRejected)
)]
#[case::another_key_was_asked_for(edited(), true, Some(Reason::Rotating), None)]
#[case::and_the_status_is_behind(
    Observed { recorded: Recorded::default(), ..edited() },
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
    #[case] observed: Observed,
    #[case] ready: bool,
    #[case] reconciling: Option<Reason>,
    #[case] stalled: Option<Reason>,
) {
    let report = report(&observed);
    let reason = |problem: &Option<Problem>| problem.as_ref().map(|problem| problem.reason);
    assert_eq!(report.ready.ready, ready, "{report:?}");
    assert_eq!(reason(&report.reconciling()), reconciling, "{report:?}");
    assert_eq!(reason(&report.stalled), stalled, "{report:?}");
}
