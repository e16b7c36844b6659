//! Decisions for a ServiceKey that is being deleted: revoke every key that may exist, remove the Secret, let go.

use std::collections::BTreeSet;

use super::{
    Attempted, Effect, ErrorClass, Failure, Recorded, OperationKind, ProviderView, SecretView, Sequence, Step,
    RemoteOperation, Observed, inheritance,
    operation::{is_gone, late_until, under_way},
    provision::follow,
    report,
};

pub(super) fn decide(world: &Observed) -> Step {
    if !world.desired.finalizer {
        return Step::Wait(report::let_go(world));
    }
    let asks_the_remote_side = !world.desired.keeps_keys() || world.desired.retain && world.marks_keys;
    if !world.desired.abandon
        && asks_the_remote_side
        && was_never_admitted(world)
        && let Some(problem) = world.provider.obstacle()
    {
        return Step::Wait(if world.desired.retain {
            report::release_waiting(world, problem)
        } else {
            report::deletion_waiting(world, problem)
        });
    }
    if let SecretView::Former { uid, sequence, obstacle: None } = &world.secret
        && inheritance::is_possible(world)
        && let Some(step) = inheritance::accept(world, *uid, *sequence)
    {
        return step;
    }
    if !world.desired.keeps_keys()
        && let Some(sequence) = remaining(world).first()
    {
        return revoke(world, *sequence);
    }
    if world.marks_keys
        && !world.desired.abandon
        && let Some(sequence) = remaining(world).difference(&world.round.released).next()
    {
        return release(world, *sequence);
    }
    match &world.secret {
        SecretView::Unknown => Step::Act(Effect::LookUpSecret),
        SecretView::Damaged { .. } | SecretView::Intact { .. } => {
            let stays = world.desired.retain && world.desired.retains_secret;
            if stays { release_secret(world) } else { Step::Act(Effect::DeleteSecret) }
        }
        SecretView::Absent | SecretView::Foreign { .. } | SecretView::Former { .. } => {
            Step::Act(Effect::RemoveFinalizer {
                left_behind: if world.desired.keeps_keys() {
                    remaining(world).into_iter().collect()
                } else {
                    Vec::new()
                },
            })
        }
    }
}

/// A key that stays for good must not be taken for one that was forgotten.
fn release(world: &Observed, sequence: Sequence) -> Step {
    match (&world.round.failure, &world.provider) {
        (Some(failure), _) => Step::Wait(report::release_failed(world, failure)),
        (None, ProviderView::Unavailable(problem)) => Step::Wait(report::release_waiting(world, problem)),
        (None, _) => Step::Act(Effect::Release(sequence)),
    }
}

fn release_secret(world: &Observed) -> Step {
    match &world.round.failure {
        Some(failure) if failure.attempted == Attempted::Store => Step::Wait(report::failed(world, failure)),
        _ => Step::Act(Effect::ReleaseSecret),
    }
}

fn revoke(world: &Observed, sequence: Sequence) -> Step {
    if let Some(failure) = &world.round.failure {
        return Step::Wait(report::deletion_failed(world, failure));
    }
    if let ProviderView::Unavailable(problem) = &world.provider {
        return Step::Wait(report::deletion_waiting(world, problem));
    }
    let work = [RemoteOperation::Bind, RemoteOperation::Unbind].into_iter().find_map(|work| under_way(world, work, sequence));
    if let Some(work) = work {
        return follow(world, work);
    }
    match late_until(world, sequence) {
        Some(late) if late > world.now && world.round.revoked.contains_key(&sequence) => {
            Step::Wait(report::deletion_outwaits(world, late))
        }
        _ => Step::Act(Effect::Unbind(sequence)),
    }
}

/// Whether the status or this process knows of a key that may exist.
fn knows_of_a_key(world: &Observed) -> bool {
    // Whose keys it goes on with tells of none that it has.
    let blank = Recorded { former: world.memory.former, ..Recorded::default() };
    world.round.knows_of_a_key() || world.memory != blank
}

/// What to do for a ServiceKey that is gone although the operator did not let it go.
pub(super) fn wind_up(world: &Observed) -> Step {
    let is_left_alone = world.desired.suspended;
    if is_left_alone || !knows_of_a_key(world) {
        let left_behind = if is_left_alone { remaining(world) } else { BTreeSet::new() };
        return Step::Act(Effect::RemoveFinalizer { left_behind: left_behind.into_iter().collect() });
    }
    super::decide(world)
}

/// Whether nothing shows that the provider ever admitted the namespace: anybody may write finalizers and Secrets.
fn was_never_admitted(world: &Observed) -> bool {
    !world.admitted && !knows_of_a_key(world)
}

/// Whether nothing tells of a key, every request for one was refused, and so is its revocation: a remote side that knows no
/// such instance refuses both. One that created a key although it said otherwise would revoke it.
fn every_bind_was_refused(world: &Observed) -> bool {
    let refused = |failure: &Failure| {
        failure.attempted == Attempted::Revoke
            && matches!(failure.class, ErrorClass::Rejected | ErrorClass::Gone)
    };
    let is_known =
        world.round.knows_of_a_key() || !remembers_no_key(&world.memory) || world.secret.key().is_some();
    world.all_refused && !is_known && world.round.failure.as_ref().is_some_and(refused)
}

/// Whether the status knows of no key but one that was about to be created.
fn remembers_no_key(memory: &Recorded) -> bool {
    let Recorded { key, previous, operation, gone, former } = memory;
    let only_planned = operation
        .as_ref()
        .is_none_or(|operation| operation.kind == OperationKind::Bind && operation.since.is_none());
    key.is_none() && previous.is_empty() && gone.is_none() && former.is_none() && only_planned
}

/// Every key that may exist at the remote side and was not confirmed gone.
fn remaining(world: &Observed) -> BTreeSet<Sequence> {
    if was_never_admitted(world) || every_bind_was_refused(world) {
        return BTreeSet::new();
    }
    let elsewhere = [world.secret.key(), world.round.in_hand.as_ref(), world.round.stored.as_ref()];
    let elsewhere = elsewhere.into_iter().flatten().map(|key| key.sequence);
    // Where the status knows of none, what is known elsewhere stands for the first that it may have made, unless that is
    // a claim that nothing explains.
    let mut keys: BTreeSet<_> = elsewhere.collect();
    let explained = keys.iter().all(|sequence| world.memory.explains(*sequence));
    if keys.is_empty() || !explained || world.memory != Recorded::default() {
        keys.extend(world.memory.sequences());
    }
    keys.extend(world.secret.key().into_iter().flat_map(|key| world.memory.skipped(key.sequence)));
    keys.retain(|sequence| !is_gone(world, *sequence));
    keys
}
