//! Decisions for a ServiceKey that is being deleted: revoke every key that may exist, remove the Secret, let go.

use std::collections::BTreeSet;

use super::{
    Attempted, ErrorClass, Failure, KubernetesEffect, Observed, OperationKind, ProviderView, Recorded,
    RemoteEffect, RemoteOperation, SecretView, Sequence, Step, inheritance,
    operation::{is_gone, late_until, pending_operation},
    provision::follow,
    report,
};

pub(super) fn decide(observed: &Observed) -> Step {
    if !observed.desired.finalizer {
        return Step::Wait(report::released(observed));
    }
    let asks_the_remote_side =
        !observed.desired.keeps_keys() || observed.desired.retain && observed.marks_keys;
    if !observed.desired.abandon
        && asks_the_remote_side
        && was_never_admitted(observed)
        && let Some(problem) = observed.provider.obstacle()
    {
        return Step::Wait(if observed.desired.retain {
            report::release_waiting(observed, problem)
        } else {
            report::deletion_waiting(observed, problem)
        });
    }
    if let SecretView::Former { uid, sequence, obstacle: None } = &observed.secret
        && inheritance::is_possible(observed)
        && let Some(step) = inheritance::accept(observed, *uid, *sequence)
    {
        return step;
    }
    if !observed.desired.keeps_keys()
        && let Some(sequence) = remaining(observed).first()
    {
        return revoke(observed, *sequence);
    }
    if observed.marks_keys
        && !observed.desired.abandon
        && let Some(sequence) = remaining(observed).difference(&observed.run.released).next()
    {
        return release(observed, *sequence);
    }
    match &observed.secret {
        SecretView::Unknown => Step::Apply(KubernetesEffect::LookUpSecret),
        SecretView::Damaged { .. } | SecretView::Intact { .. } => {
            let stays = observed.desired.retain && observed.desired.retains_secret;
            if stays { release_secret(observed) } else { Step::Apply(KubernetesEffect::DeleteSecret) }
        }
        SecretView::Absent | SecretView::Foreign { .. } | SecretView::Former { .. } => {
            Step::Apply(KubernetesEffect::RemoveFinalizer {
                left_behind: if observed.desired.keeps_keys() {
                    remaining(observed).into_iter().collect()
                } else {
                    Vec::new()
                },
            })
        }
    }
}

/// A key that stays for good must not be taken for one that was forgotten.
fn release(observed: &Observed, sequence: Sequence) -> Step {
    match (&observed.run.failure, &observed.provider) {
        (Some(failure), _) => Step::Wait(report::release_failed(observed, failure)),
        (None, ProviderView::Unavailable(problem)) => Step::Wait(report::release_waiting(observed, problem)),
        (None, _) => Step::Execute(RemoteEffect::Release(sequence)),
    }
}

fn release_secret(observed: &Observed) -> Step {
    match &observed.run.failure {
        Some(failure) if failure.attempted == Attempted::Store => {
            Step::Wait(report::failed(observed, failure))
        }
        _ => Step::Apply(KubernetesEffect::ReleaseSecret),
    }
}

fn revoke(observed: &Observed, sequence: Sequence) -> Step {
    if let Some(failure) = &observed.run.failure {
        return Step::Wait(report::deletion_failed(observed, failure));
    }
    if let ProviderView::Unavailable(problem) = &observed.provider {
        return Step::Wait(report::deletion_waiting(observed, problem));
    }
    let work = [RemoteOperation::Bind, RemoteOperation::Unbind]
        .into_iter()
        .find_map(|work| pending_operation(observed, work, sequence));
    if let Some(work) = work {
        return follow(observed, work);
    }
    match late_until(observed, sequence) {
        Some(late) if late > observed.now && observed.run.revoked.contains_key(&sequence) => {
            Step::Wait(report::deletion_outwaits(observed, late))
        }
        _ => Step::Execute(RemoteEffect::Unbind(sequence)),
    }
}

/// Whether the status or this process knows of a key that may exist.
fn knows_of_a_key(observed: &Observed) -> bool {
    // Whose keys it goes on with tells of none that it has.
    let blank = Recorded { former: observed.recorded.former, ..Recorded::default() };
    observed.run.knows_of_a_key() || observed.recorded != blank
}

/// What to do for a ServiceKey that is gone although the operator did not let it go.
pub(super) fn wind_up(observed: &Observed) -> Step {
    let is_left_alone = observed.desired.suspended;
    if is_left_alone || !knows_of_a_key(observed) {
        let left_behind = if is_left_alone { remaining(observed) } else { BTreeSet::new() };
        return Step::Apply(KubernetesEffect::RemoveFinalizer {
            left_behind: left_behind.into_iter().collect(),
        });
    }
    super::decide(observed)
}

/// Whether nothing shows that the provider ever admitted the namespace: anybody may write finalizers and Secrets.
fn was_never_admitted(observed: &Observed) -> bool {
    !observed.admitted && !knows_of_a_key(observed)
}

/// Whether nothing tells of a key, every request for one was refused, and so is its revocation: a remote side that knows no
/// such instance refuses both. One that created a key although it said otherwise would revoke it.
fn every_bind_was_refused(observed: &Observed) -> bool {
    let refused = |failure: &Failure| {
        failure.attempted == Attempted::Revoke
            && matches!(failure.class, ErrorClass::Rejected | ErrorClass::Gone)
    };
    let is_known = observed.run.knows_of_a_key()
        || !remembers_no_key(&observed.recorded)
        || observed.secret.key().is_some();
    observed.all_refused && !is_known && observed.run.failure.as_ref().is_some_and(refused)
}

/// Whether the status knows of no key but one that was about to be created.
fn remembers_no_key(recorded: &Recorded) -> bool {
    let Recorded { key, previous, operation, gone, former } = recorded;
    let only_planned = operation
        .as_ref()
        .is_none_or(|operation| operation.kind == OperationKind::Bind && operation.since.is_none());
    key.is_none() && previous.is_empty() && gone.is_none() && former.is_none() && only_planned
}

/// Every key that may exist at the remote side and was not confirmed gone.
fn remaining(observed: &Observed) -> BTreeSet<Sequence> {
    if was_never_admitted(observed) || every_bind_was_refused(observed) {
        return BTreeSet::new();
    }
    let elsewhere = [observed.secret.key(), observed.run.in_hand.as_ref(), observed.run.stored.as_ref()];
    let elsewhere = elsewhere.into_iter().flatten().map(|key| key.sequence);
    // Where the status knows of none, what is known elsewhere stands for the first that it may have made, unless that is
    // a claim that nothing explains.
    let mut keys: BTreeSet<_> = elsewhere.collect();
    let explained = keys.iter().all(|sequence| observed.recorded.explains(*sequence));
    if keys.is_empty() || !explained || observed.recorded != Recorded::default() {
        keys.extend(observed.recorded.sequences());
    }
    keys.extend(observed.secret.key().into_iter().flat_map(|key| observed.recorded.skipped(key.sequence)));
    keys.retain(|sequence| !is_gone(observed, *sequence));
    keys
}
