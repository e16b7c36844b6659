//! Counts decisions and answers for the metrics, with few labels.

use super::reconciler::Reconciler;
use crate::{
    lifecycle::{Answer, Attempted, Requeue, Wait},
    runtime::metrics::{KeyOperation, KeyOutcome, ReconcileOutcome},
};

/// The outcome of a reconcile that ends in a wait.
pub(super) fn outcome(rest: &Wait) -> ReconcileOutcome {
    let report = &rest.report;
    match rest.requeue {
        Requeue::Retry { .. } => ReconcileOutcome::Failed,
        Requeue::PauseEnds(_) => ReconcileOutcome::Paused,
        Requeue::Poll => ReconcileOutcome::UnderWay,
        Requeue::OnChange | Requeue::At(_) if report.stalled.is_some() => ReconcileOutcome::Stalled,
        Requeue::OnChange | Requeue::At(_) if report.ready.ready => ReconcileOutcome::Settled,
        Requeue::At(_) => ReconcileOutcome::UnderWay,
        Requeue::OnChange => ReconcileOutcome::Waiting,
    }
}

/// Counts the answer of a remote side.
pub(super) fn count_answer(reconciler: &Reconciler<'_>, operation: KeyOperation, answer: &Answer) {
    let (backend, metrics) = (reconciler.backend_kind(), &reconciler.context.shared.metrics);
    metrics.count_key_operation(backend, operation, key_outcome(answer));
    let creates_key = matches!(operation, KeyOperation::Bind | KeyOperation::Poll);
    let rotates = reconciler.key.status.as_ref().is_some_and(|status| status.key.is_some());
    if creates_key && rotates && has_no_key(answer) {
        metrics.count_rotation(backend, false);
    }
}

/// Counts a verified key. A key that the service did not accept in time completes no rotation.
pub(super) fn count_verification(reconciler: &Reconciler<'_>, completed: bool) {
    let (backend, metrics) = (reconciler.backend_kind(), &reconciler.context.shared.metrics);
    metrics.count_verification(backend, completed);
    let rotates = reconciler.key.status.as_ref().is_some_and(|status| status.key.is_some());
    if rotates && !completed {
        metrics.count_rotation(backend, false);
    }
}

/// The outcome of an operation at a remote side.
const fn key_outcome(answer: &Answer) -> KeyOutcome {
    match answer {
        Answer::InstanceChecked
        | Answer::Rehearsed
        | Answer::Issued(_)
        | Answer::Completed(_)
        | Answer::Present(_)
        | Answer::Proved(true)
        | Answer::Revoked(..)
        | Answer::Released(_)
        | Answer::Stored(_)
        | Answer::Restarted(_, None)
        | Answer::Consumers(..)
        | Answer::StagingRead(_)
        | Answer::Verified(_) => KeyOutcome::Done,
        Answer::Accepted(_) | Answer::Running { .. } | Answer::PollFailed { .. } => KeyOutcome::UnderWay,
        Answer::Unreadable(_) | Answer::Unrepeatable(..) => KeyOutcome::Unreadable,
        Answer::Absent(_) | Answer::Proved(false) => KeyOutcome::Absent,
        Answer::Conflict(..) => KeyOutcome::Conflict,
        Answer::Lost(..) | Answer::Unsure(..) | Answer::GivenUp(..) => KeyOutcome::Lost,
        Answer::Unusable(..)
        | Answer::UnsureRevocation(..)
        | Answer::Restarted(_, Some(_))
        | Answer::Failed(_) => KeyOutcome::Failed,
    }
}

/// Whether the answer means that no key could be created.
const fn has_no_key(answer: &Answer) -> bool {
    match answer {
        Answer::Lost(..) | Answer::Unsure(..) | Answer::Unusable(..) => true,
        Answer::Failed(failure) => {
            matches!(failure.attempted, Attempted::Provision | Attempted::Parameters)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::*;
    use crate::{
        api::Reason,
        lifecycle::{Problem, Recorded, Report, Verdict},
    };

    #[rstest]
    #[case::all_is_well(Requeue::OnChange, true, false, ReconcileOutcome::Settled)]
    #[case::until_the_next_rotation(Requeue::At(Timestamp::MAX), true, false, ReconcileOutcome::Settled)]
    #[case::the_spec_makes_no_sense(Requeue::OnChange, true, true, ReconcileOutcome::Stalled)]
    #[case::there_is_no_provider(Requeue::OnChange, false, false, ReconcileOutcome::Waiting)]
    #[case::the_remote_side_is_at_work(Requeue::Poll, false, false, ReconcileOutcome::UnderWay)]
    #[case::the_next_look_has_its_time(Requeue::At(Timestamp::MAX), false, false, ReconcileOutcome::UnderWay)]
    #[case::too_much_was_asked(Requeue::PauseEnds(Timestamp::MAX), false, false, ReconcileOutcome::Paused)]
    #[case::it_failed(Requeue::Retry { not_before: None }, false, false, ReconcileOutcome::Failed)]
    #[case::it_was_refused(Requeue::Retry { not_before: None }, false, true, ReconcileOutcome::Failed)]
    fn a_rest_is_counted_by_what_ends_it(
        #[case] wake: Requeue,
        #[case] ready: bool,
        #[case] stalled: bool,
        #[case] expected: ReconcileOutcome,
    ) {
        let problem = Problem { reason: Reason::InvalidSpec, message: String::new() };
        let report = Report {
            recorded: Recorded::default(),
            pending: !ready,
            ready: Verdict { ready, reason: Reason::Available, message: String::new() },
            rotating: None,
            stalled: stalled.then_some(problem),
            next_rotation: None,
            revoking: None,
        };
        let rest = Wait::new(wake, report);
        assert_eq!(outcome(&rest), expected);
    }
}
