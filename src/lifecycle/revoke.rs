//! Revoke a key while its ServiceKey is not being deleted.

use super::{
    Attempted, KeyRecord, KubernetesEffect, Observed, Operation, PendingOperation, RemoteEffect,
    RemoteOperation, Sequence, StagingView, Step, consumers,
    operation::{is_finally_revoked, late_revocation_until, pending_operation},
    order::decisions,
    report, restore, unusable,
};

decisions! {
    /// A replaced or unwanted key has to be revoked, and the Secret is right.
    "Revoke a replaced key", Unwanted<'_> => Step:

    /// The remote side is still creating the key, and can't revoke it before.
    follow_creation,
    /// The user wants no key revoked that a pod may use.
    look_for_consumers,
    /// A pod may use the key. The operator looks again later.
    keep_for_consumers,
    /// No consumer may find a key in the Secret after it was revoked.
    omit_from_secret,
    /// The remote side has not confirmed that the key is gone.
    revoke_key,
    /// An earlier request to revoke the key may still take effect. Until then the status names the key, so that no
    /// process creates it again.
    wait_for_late_revocation,
    else
    /// The key is gone, so the status need not name it any more.
    forget_key
}

/// A key to revoke.
pub(super) struct Unwanted<'a> {
    pub observed: &'a Observed,
    pub sequence: Sequence,
    pub key: &'a KeyRecord,
}

fn follow_creation(Unwanted { observed, sequence, .. }: &Unwanted<'_>) -> Option<Step> {
    pending_operation(observed, RemoteOperation::Bind, *sequence).map(|work| follow(observed, work))
}

fn look_for_consumers(Unwanted { observed, sequence, .. }: &Unwanted<'_>) -> Option<Step> {
    let change = consumers::to_look_for(observed, *sequence)?;
    let is_known = consumers::found(observed, change).is_some();
    (!is_known).then_some(Step::Apply(KubernetesEffect::LookForConsumers(change)))
}

fn keep_for_consumers(Unwanted { observed, sequence, key }: &Unwanted<'_>) -> Option<Step> {
    let change = consumers::to_look_for(observed, *sequence)?;
    let recorded = consumers::kept(observed, change)?;
    Some(Step::record(report::settled(observed, &recorded, key)))
}

fn omit_from_secret(Unwanted { observed, sequence, key }: &Unwanted<'_>) -> Option<Step> {
    let is_in_secret = observed.secret.previous() == Some(*sequence);
    is_in_secret.then(|| restore::omit_previous(observed, key))
}

fn revoke_key(Unwanted { observed, sequence, .. }: &Unwanted<'_>) -> Option<Step> {
    (!is_finally_revoked(observed, *sequence)).then(|| unbind(observed, *sequence))
}

fn wait_for_late_revocation(Unwanted { observed, sequence, .. }: &Unwanted<'_>) -> Option<Step> {
    let may_come_again = observed.recorded.attempt() == Some(*sequence);
    if may_come_again { outwait_late_revocation(observed, *sequence) } else { None }
}

fn forget_key(Unwanted { observed, sequence, key }: &Unwanted<'_>) -> Step {
    let mut recorded = observed.recorded.clone();
    recorded.previous.retain(|previous| previous.sequence != *sequence);
    let recorded = recorded.after_revocation(*sequence);
    Step::record(report::settled(observed, &recorded, key))
}

/// Revokes a key, or waits until the remote side has revoked it.
///
/// A key that is created again with the same number can have the same id. The status records the revocation before, so
/// that after a crash no process creates the key while the request to revoke it may still take effect. Nor does a
/// process then poll the creation of a key that is gone.
pub(super) fn unbind(observed: &Observed, sequence: Sequence) -> Step {
    if is_unrecorded(observed, sequence) {
        return Step::record(report::revoking(observed, sequence));
    }
    unbind_at_once(observed, sequence)
}

/// The same for a key that is never created again, or whose record already shows that it has to be revoked.
///
/// The next key can have the same number. So the operator first discards credentials of this one that are not published.
pub(super) fn unbind_at_once(observed: &Observed, sequence: Sequence) -> Step {
    if observed.staging == StagingView::Holds(sequence) {
        return Step::Apply(KubernetesEffect::DiscardStaged);
    }
    match pending_operation(observed, RemoteOperation::Unbind, sequence) {
        Some(work) => follow(observed, work),
        None => Step::Execute(RemoteEffect::Unbind(sequence)),
    }
}

/// Whether the status has to show the revocation before it is sent: the status names the creation of the key, or the key
/// may be created again with the same id.
fn is_unrecorded(observed: &Observed, sequence: Sequence) -> bool {
    let Observed { recorded, marks_keys, .. } = observed;
    let current = recorded.key.as_ref().map(|key| key.sequence);
    let mut replaced = recorded.previous.iter().map(|key| key.sequence).chain(current);
    let operation = recorded.operation_on(sequence);
    let is_recorded = operation.is_some_and(Operation::cleans_up) || replaced.any(|key| key == sequence);
    !is_recorded && (!marks_keys || operation.is_some_and(Operation::is_accepted))
}

/// Waits while an earlier request to revoke the key may still take effect.
pub(super) fn outwait_late_revocation(observed: &Observed, sequence: Sequence) -> Option<Step> {
    let late = late_revocation_until(observed, sequence)?;
    Some(Step::Wait(report::creation_outwaits(observed, sequence, late)))
}

/// Polls an operation of the remote side when it is time.
pub(super) fn follow(observed: &Observed, work: PendingOperation) -> Step {
    match work.next_poll {
        Some(time) if time <= observed.now => Step::Execute(RemoteEffect::Poll(work)),
        _ => Step::Wait(report::under_way(observed, &work)),
    }
}

/// Whether the last revocation of this run failed.
pub(super) fn has_failed(observed: &Observed) -> bool {
    observed.run.failure.as_ref().is_some_and(|failure| failure.attempted == Attempted::Revoke)
}

/// The key of a request with an unknown outcome, until this reconcile has confirmed its revocation, or created it again.
pub(super) fn lost_key(observed: &Observed) -> Option<Sequence> {
    let sequence = &observed.recorded.operation.as_ref().filter(|operation| operation.cleans_up())?.sequence;
    let is_in_hand = observed.run.in_hand.as_ref().is_some_and(|key| key.sequence == *sequence);
    let is_created_again = pending_operation(observed, RemoteOperation::Bind, *sequence).is_some()
        || observed.run.has_completed(*sequence);
    let is_settled = observed.run.revoked.contains_key(sequence) || is_in_hand || is_created_again;
    let is_due = unusable::of(observed, *sequence)
        .is_none_or(|unusable| unusable::is_to_be_revoked(observed, unusable));
    (!is_settled && is_due).then_some(*sequence)
}

/// The same, unless the last attempt to revoke a key failed.
pub(super) fn to_clean_up(observed: &Observed) -> Option<Sequence> {
    lost_key(observed).filter(|_| !has_failed(observed))
}
