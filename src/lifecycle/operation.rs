//! Asynchronous operations of the remote side, and requests whose outcome is unknown.

use std::time::Duration;

use jiff::Timestamp;

use super::{Inputs, Observed, PlanIds, Sequence, full_second};

/// The longest time that the remote side may take for one operation, unless it asks for less.
pub(crate) const LONGEST_OPERATION: Duration = Duration::from_secs(3600);

/// How long an operation may take before the status shows it. Most are complete by then.
const SILENT_FOR: Duration = Duration::from_secs(5);

/// When to first poll an operation that another process began.
const FIRST_POLL: Duration = Duration::from_millis(500);

/// An operation that the remote side completes asynchronously.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemoteOperation {
    Bind,
    Unbind,
}

/// A key that may exist beside the current one, as the status records it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// The number of the key.
    pub sequence: Sequence,
    /// The ids of the plan that the key is created with.
    pub plan_ids: Option<PlanIds>,
    pub stage: OperationStage,
}

/// The stage of a recorded operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OperationStage {
    /// The operator is about to create the key.
    Planned,
    /// The remote side has accepted the request for the key and works on it.
    Accepted {
        /// The remote side's name for the operation.
        token: Option<String>,
        /// When the remote side accepted it.
        since: Timestamp,
        /// The digests that the key is created from, if the status has them.
        inputs: Option<Inputs>,
    },
    /// The operator revokes the key before its next attempt, because the outcome of a request is unknown, or the key
    /// is of no use.
    CleanUp {
        /// When the outcome became unknown, if the status has the time.
        since: Option<Timestamp>,
    },
    /// The operator revokes the current key before it creates this one.
    RevokeFirst,
}

impl Operation {
    pub(super) fn with_plan(self, plan_ids: Option<PlanIds>) -> Self {
        Self { plan_ids, ..self }
    }

    const fn new(sequence: Sequence, stage: OperationStage) -> Self {
        Self { sequence, plan_ids: None, stage }
    }

    /// The operator is about to create the key.
    pub(super) const fn bind(sequence: Sequence) -> Self {
        Self::new(sequence, OperationStage::Planned)
    }

    /// The operator is about to revoke the key before this one.
    pub(super) const fn revoke_first(sequence: Sequence) -> Self {
        Self::new(sequence, OperationStage::RevokeFirst)
    }

    /// The operator revokes the key before its next attempt to create it. The outcome of the last attempt is unknown
    /// since that time; `None` if it is known.
    pub(super) const fn clean_up(sequence: Sequence, since: Option<Timestamp>) -> Self {
        Self::new(sequence, OperationStage::CleanUp { since })
    }

    /// Whether the operator revokes the key because the outcome of a request for it is unknown.
    pub(crate) const fn has_unknown_outcome(&self) -> bool {
        matches!(self.stage, OperationStage::CleanUp { since: Some(_) })
    }

    /// Whether the operator revokes the key before its next attempt to create it.
    pub(super) const fn cleans_up(&self) -> bool {
        matches!(self.stage, OperationStage::CleanUp { .. })
    }

    /// Whether the remote side has accepted the request for the key.
    pub(super) const fn is_accepted(&self) -> bool {
        matches!(self.stage, OperationStage::Accepted { .. })
    }

    /// Whether the operator creates the key, or is about to.
    pub(super) const fn creates(&self) -> bool {
        matches!(self.stage, OperationStage::Planned | OperationStage::Accepted { .. })
    }
}

/// An operation that the remote side accepted and that is not known to be complete.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PendingOperation {
    pub operation: RemoteOperation,
    /// The key of the operation.
    pub sequence: Sequence,
    /// The remote side's name for the operation.
    pub token: Option<String>,
    /// When the remote side accepted the operation.
    pub since: Timestamp,
    /// When the operator polls the operation for the last time.
    pub ends: Timestamp,
    /// When to poll next; `None` until that is decided.
    pub next_poll: Option<Timestamp>,
    /// The pause that the remote side asked for.
    pub retry_after: Option<Duration>,
    /// When the first poll is useful.
    pub first_poll: Duration,
    /// The remote side's last message about the operation.
    pub said: Option<String>,
    /// Whether the remote side refused to report the state of the operation.
    pub is_refused: bool,
    /// Digest of the fields that the key is created from.
    pub inputs: Inputs,
}

impl PendingOperation {
    /// Whether the operator stops waiting: the time is over, and the result of the last poll is known.
    pub(crate) fn is_given_up(&self, now: Timestamp) -> bool {
        self.ends <= now && self.next_poll.is_none()
    }

    /// Whether the operation takes so long that the status shows it.
    pub(super) fn is_unpublished(&self, now: Timestamp) -> bool {
        after(self.since, SILENT_FOR) <= now
    }
}

/// The pending operation on this key, from memory or from the status.
pub(super) fn pending_operation(
    observed: &Observed,
    work: RemoteOperation,
    sequence: Sequence,
) -> Option<PendingOperation> {
    let known = known_operation(observed)?;
    let is_over = known.is_given_up(observed.now) || stops_waiting(observed, &known);
    (known.operation == work && known.sequence == sequence && !is_over).then_some(known)
}

/// Whether the operator stops waiting for a bind: the ServiceKey is being deleted, and the remote side refuses to
/// report the state of the bind. The operator then revokes the key.
fn stops_waiting(observed: &Observed, known: &PendingOperation) -> bool {
    let is_unwanted = observed.desired.deleting && !observed.desired.keeps_keys();
    known.operation == RemoteOperation::Bind && known.is_refused && is_unwanted
}

/// The key of a bind whose outcome is unknown since that time, if the status does not record this yet.
pub(super) fn lost(observed: &Observed) -> Option<(Sequence, Timestamp)> {
    let exhausted = known_operation(observed)
        .filter(|known| known.operation == RemoteOperation::Bind && known.is_given_up(observed.now))
        .map(|known| (known.sequence, full_second(known.ends)));
    let abandoned = known_operation(observed)
        .filter(|known| stops_waiting(observed, known))
        .map(|known| (known.sequence, full_second(observed.now)));
    // The remote side may have lost the key after it had created it. It may also show a new key a while later.
    let unshown = observed.run.completed.as_ref();
    let unshown = unshown
        .filter(|work| work.ends <= observed.now && observed.run.absent.contains(&work.sequence))
        .map(|work| (work.sequence, full_second(work.ends)));
    let (sequence, since) = observed.run.lost.or(exhausted).or(abandoned).or(unshown)?;
    // If the outcome becomes unknown again later, this process remembers the time. A later process assumes the worst
    // case (`grace.unknown_until`).
    let known = observed.recorded.operation_on(sequence).is_some_and(Operation::has_unknown_outcome);
    (!known).then_some((sequence, since))
}

fn known_operation(observed: &Observed) -> Option<PendingOperation> {
    let remembered = || {
        let Operation { sequence, stage: OperationStage::Accepted { token, since, inputs }, plan_ids: _ } =
            observed.recorded.operation.clone()?
        else {
            return None;
        };
        (!observed.run.has_completed(sequence)).then(|| PendingOperation {
            operation: RemoteOperation::Bind,
            sequence,
            token,
            since,
            ends: after(since, LONGEST_OPERATION),
            next_poll: Some(observed.now),
            retry_after: None,
            first_poll: FIRST_POLL,
            said: None,
            is_refused: false,
            inputs: inputs.unwrap_or_default(),
        })
    };
    observed.run.pending.clone().or_else(remembered)
}

/// Whether the key is permanently gone: the remote side confirmed this when no request could create it again.
pub(super) fn is_finally_revoked(observed: &Observed, sequence: Sequence) -> bool {
    let late = late_until(observed, sequence);
    let confirmed = observed.run.revoked.get(&sequence);
    confirmed.is_some_and(|confirmed| late.is_none_or(|late| late <= *confirmed))
}

/// Until when a bind may still create this key again, although the remote side has confirmed that it is gone. The last
/// revocation comes after that time.
pub(super) fn may_return_until(observed: &Observed, sequence: Sequence) -> Option<Timestamp> {
    let late = late_until(observed, sequence).filter(|late| *late > observed.now)?;
    observed.run.revoked.contains_key(&sequence).then_some(late)
}

/// Until when a bind of this key may still take effect, although the operator has stopped waiting for it.
pub(super) fn late_until(observed: &Observed, sequence: Sequence) -> Option<Timestamp> {
    let Observed { recorded, run, grace, .. } = observed;
    let cleaned_up = recorded.operation.as_ref().and_then(|operation| match operation.stage {
        OperationStage::CleanUp { since } => Some((operation.sequence, since?)),
        OperationStage::Planned | OperationStage::Accepted { .. } | OperationStage::RevokeFirst => None,
    });
    let lost = [cleaned_up, run.given_up];
    let lost = lost.into_iter().flatten().filter(|(of, _)| *of == sequence).map(|(_, since)| since).max();
    let known = [recorded.key.as_ref(), observed.secret.key()];
    let known = known.into_iter().flatten().map(|key| (key.sequence, key.late_until));
    let previous = recorded.previous.iter().map(|key| (key.sequence, key.late_until));
    let mut records = known.chain(previous).filter(|(of, _)| *of == sequence).peekable();
    let unknown = grace.unknown_until.filter(|_| records.peek().is_none());
    records
        .filter_map(|(_, until)| until)
        .chain(lost.map(|since| after(since, grace.patience)))
        .chain(unknown)
        .max()
}

/// Until when an earlier request to revoke this key may still take effect. If ids are derived, it would revoke the key
/// that is created again with this number.
pub(super) fn late_revocation_until(observed: &Observed, sequence: Sequence) -> Option<Timestamp> {
    let Observed { run, grace, marks_keys, now, .. } = observed;
    let unsure = run.unsure_revocation.filter(|(of, _)| *of == sequence);
    // An earlier process may have sent the same request, which the status then shows.
    let was_recorded = observed.recorded.operation_on(sequence).is_some_and(Operation::cleans_up);
    let unknown = grace.unknown_until.filter(|_| was_recorded && run.revoked.contains_key(&sequence));
    let late = unsure.map(|(_, since)| after(since, grace.patience)).max(unknown);
    late.filter(|late| late > now && !marks_keys)
}

fn after(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// An operation whose time is over after ten seconds.
    fn work(next_poll: Option<i64>) -> PendingOperation {
        PendingOperation {
            operation: RemoteOperation::Unbind,
            sequence: Sequence::FIRST,
            token: None,
            since: at(0),
            ends: at(10),
            next_poll: next_poll.map(at),
            retry_after: None,
            first_poll: FIRST_POLL,
            said: None,
            is_refused: false,
            inputs: Inputs::default(),
        }
    }

    #[rstest]
    #[case::its_time_is_not_over(work(None), 9, false)]
    #[case::nobody_has_looked_yet(work(Some(10)), 10, false)]
    #[case::nobody_has_looked_for_long(work(Some(10)), 99, false)]
    #[case::the_last_look_showed_no_end(work(None), 10, true)]
    fn work_is_given_up_after_a_last_look(
        #[case] work: PendingOperation,
        #[case] now: i64,
        #[case] given_up: bool,
    ) {
        assert_eq!(work.is_given_up(at(now)), given_up);
    }
}
