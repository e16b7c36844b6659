//! Keys that stay when their ServiceKey is deleted. If they have a mark, the operator removes it first. Their Secret
//! may stay, too.

use rstest::rstest;

use super::*;

/// A ServiceKey that is being deleted, whose marked key stays.
fn retained() -> Observed {
    let observed = holding(key("now"));
    let desired = Desired { deleting: true, retain: true, ..observed.desired.clone() };
    Observed { desired, marks_keys: true, ..observed }
}

fn released() -> RunState {
    RunState { released: [Sequence::FIRST].into(), ..RunState::default() }
}

fn unavailable() -> ProviderView {
    ProviderView::Unavailable(Problem { reason: Reason::ProviderNotReady, message: "no login".to_owned() })
}

#[rstest]
#[case::the_mark_goes_first(retained(), Step::Execute(RemoteEffect::Release(Sequence::FIRST)))]
#[case::then_the_secret(Observed { run: released(), ..retained() }, Step::Apply(KubernetesEffect::DeleteSecret))]
#[case::then_the_finalizer(
    Observed { run: released(), secret: SecretView::Absent, ..retained() },
    Step::Apply(KubernetesEffect::RemoveFinalizer { left_behind: vec![Sequence::FIRST] })
)]
#[case::where_there_are_no_marks_nobody_is_asked(
    Observed { marks_keys: false, provider: unavailable(), ..retained() },
    Step::Apply(KubernetesEffect::DeleteSecret)
)]
#[case::who_lets_go_of_the_key_leaves_the_mark(
    Observed { desired: Desired { abandon: true, ..retained().desired }, provider: unavailable(), ..retained() },
    Step::Apply(KubernetesEffect::DeleteSecret)
)]
#[case::a_key_that_is_not_to_stay_is_revoked(
    Observed { desired: Desired { retain: false, ..retained().desired }, ..retained() },
    Step::Execute(RemoteEffect::Unbind(Sequence::FIRST))
)]
fn a_key_that_stays_bears_no_mark(#[case] observed: Observed, #[case] expected: Step) {
    assert_eq!(decide(&observed), expected);
}

#[rstest]
#[case::with_its_key(true, Step::Apply(KubernetesEffect::ReleaseSecret))]
#[case::not_without_it(false, Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)))]
fn a_secret_stays_with_its_key(#[case] retain: bool, #[case] expected: Step) {
    let desired = Desired { retain, retains_secret: true, ..retained().desired };
    let observed = Observed { desired, marks_keys: false, ..retained() };
    assert_eq!(decide(&observed), expected);
    let gone = RunState { revoked: [(Sequence::FIRST, observed.now)].into(), ..RunState::default() };
    let last = if retain {
        Step::Apply(KubernetesEffect::ReleaseSecret)
    } else {
        Step::Apply(KubernetesEffect::DeleteSecret)
    };
    assert_eq!(decide(&Observed { run: gone, ..observed }), last);
}

#[test]
fn a_secret_that_can_not_be_left_is_not_deleted_instead() {
    let failure = Failure {
        attempted: Attempted::Store,
        class: ErrorClass::Rejected,
        message: "the API server refuses the Secret".to_owned(),
        retry_after: None,
    };
    let desired = Desired { retains_secret: true, ..retained().desired };
    let run = RunState { failure: Some(failure), ..RunState::default() };
    let failed = rest(&Observed { desired, run, marks_keys: false, ..retained() });
    assert_eq!(failed.requeue, Requeue::Retry { not_before: None });
    assert_eq!(failed.report.ready.reason, Reason::SecretRejected);
}

#[test]
fn the_mark_is_not_forgotten_where_it_can_not_be_taken_off_now() {
    let waiting = rest(&Observed { provider: unavailable(), ..retained() });
    assert_eq!((waiting.requeue, waiting.report.ready.reason), (Requeue::OnChange, Reason::ProviderNotReady));
    let failure = Failure {
        attempted: Attempted::Release,
        class: ErrorClass::Forbidden,
        message: "release failed".to_owned(),
        retry_after: None,
    };
    let failed =
        rest(&Observed { run: RunState { failure: Some(failure), ..RunState::default() }, ..retained() });
    assert_eq!(failed.requeue, Requeue::Retry { not_before: None });
    assert_eq!(failed.report.ready.reason, Reason::ReleaseFailed);
    assert!(
        failed.report.ready.message.contains("servicekeys.dev/abandon"),
        "{}",
        failed.report.ready.message
    );
}
