//! Read the credentials of a key again, and write them into the Secret.

use jiff::Timestamp;

use super::{
    Attempted, Desired, KeyRecord, KubernetesEffect, Observed, PreviousKey, RemoteEffect, RunState,
    SecretView, Sequence, Step, full_second, operation::late_until, report,
};

/// Stores the credentials in hand, with the record of their key.
pub(super) fn store(observed: &Observed, key: &KeyRecord) -> Step {
    // Statuses hold full seconds, and the status has to be able to repeat what the Secret says.
    let late_until = late_until(observed, key.sequence).map(full_second);
    let key = Box::new(KeyRecord { late_until, ..key.clone() });
    let previous = companion(observed, key.sequence);
    Step::Apply(KubernetesEffect::WriteSecret { key, previous })
}

/// The key whose credentials stay in the Secret beside those of this one: the one before it, for as long as it is valid.
fn companion(observed: &Observed, sequence: Sequence) -> Option<Sequence> {
    let Desired { keeps_previous, rotation, .. } = &observed.desired;
    let held = observed.secret.key()?.sequence;
    let is_replaced_now = held < sequence;
    let previous = if is_replaced_now { Some(held) } else { observed.secret.previous() };
    let stays_valid = |previous: &Sequence| {
        if is_replaced_now {
            !rotation.overlap.is_zero() && observed.recorded.departure(*previous).is_none()
        } else {
            is_valid(observed, *previous)
        }
    };
    previous.filter(|previous| *keeps_previous && stays_valid(previous))
}

/// Whether the overlap of a key that was replaced is not over.
pub(super) fn is_valid(observed: &Observed, sequence: Sequence) -> bool {
    let mut previous = observed.recorded.previous.iter();
    previous.any(|previous| previous.sequence == sequence && !is_over(previous, observed))
}

/// Whether the overlap of a key that was replaced is over.
pub(super) fn is_over(previous: &PreviousKey, observed: &Observed) -> bool {
    previous.revoke_at.is_some_and(|revoke_at| revoke_at <= observed.now)
}

/// Removes the credentials of the previous key from the Secret.
pub(super) fn omit_previous(observed: &Observed, key: &KeyRecord) -> Step {
    match &observed.run.failure {
        Some(failure) if failure.attempted == Attempted::Store => {
            Step::Wait(report::rotation_failed(observed, key, failure))
        }
        _ => Step::Apply(KubernetesEffect::OmitPrevious),
    }
}

/// Reads the credentials of a key that exists. A repeated bind may create the key again, which is of no use where the Secret
/// can't be written.
pub(super) fn read_again(observed: &Observed, key: &KeyRecord) -> Step {
    if observed.run.unreadable != Some(key.sequence) {
        Step::Execute(RemoteEffect::Fetch(key.sequence))
    } else if is_to_be_rehearsed(observed) {
        Step::Apply(KubernetesEffect::RehearseSecret)
    } else {
        Step::Execute(RemoteEffect::Repeat(key.sequence))
    }
}

/// Whether neither a fetch nor a repeated bind shows the credentials of this key again.
pub(super) fn are_hidden(observed: &Observed, key: &KeyRecord) -> bool {
    let RunState { unreadable, unrepeatable, in_hand, .. } = &observed.run;
    let is_in_hand = in_hand.as_ref().is_some_and(|in_hand| in_hand.sequence == key.sequence);
    let is_shown_by_a_repeat = *unrepeatable != Some(key.sequence) && can_be_repeated(observed, key);
    *unreadable == Some(key.sequence) && !is_in_hand && !is_shown_by_a_repeat
}

/// Whether the request that created the key can be sent again without creating another one: the operator derives the key's
/// id, and nothing that the key is made from has changed since.
fn can_be_repeated(observed: &Observed, key: &KeyRecord) -> bool {
    !observed.marks_keys && key.inputs == observed.desired.inputs
}

/// Whether it is unknown if the Secret that exists can be written: it may be immutable, or have another type.
pub(super) fn is_to_be_rehearsed(observed: &Observed) -> bool {
    observed.secret != SecretView::Absent && !observed.run.rehearsed
}

/// The time of the next repair, if the last one was a moment ago: another writer may undo each repair at once.
pub(super) fn contested_until(observed: &Observed) -> Option<Timestamp> {
    observed.repair_from.filter(|from| *from > observed.now)
}
