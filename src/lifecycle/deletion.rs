//! Decisions for a ServiceKey that is being deleted: revoke every key that may exist, remove the Secret, let go.

use std::collections::BTreeSet;

use super::{
    Effect, ProviderView, SecretView, Sequence, Step, Work, World,
    operation::{is_gone, late_until, under_way},
    provision::follow,
    report,
};

pub(super) fn decide(world: &World) -> Step {
    if !world.desired.finalizer {
        return Step::Rest(report::let_go(world));
    }
    let keeps_keys = world.desired.abandon || world.desired.retain;
    if !keeps_keys && let Some(sequence) = remaining(world).first() {
        return revoke(world, *sequence);
    }
    match &world.secret {
        SecretView::Unknown => Step::Act(Effect::LookUpSecret),
        SecretView::Damaged { .. } | SecretView::Intact { .. } => Step::Act(Effect::DeleteSecret),
        SecretView::Absent | SecretView::Foreign { .. } => Step::Act(Effect::RemoveFinalizer {
            left_behind: if keeps_keys { remaining(world).into_iter().collect() } else { Vec::new() },
        }),
    }
}

fn revoke(world: &World, sequence: Sequence) -> Step {
    if let Some(failure) = &world.round.failure {
        return Step::Rest(report::deletion_failed(world, failure));
    }
    if let ProviderView::Unavailable(problem) = &world.provider {
        return Step::Rest(report::deletion_waiting(world, problem));
    }
    let work = [Work::Bind, Work::Unbind].into_iter().find_map(|work| under_way(world, work, sequence));
    if let Some(work) = work {
        return follow(world, work);
    }
    match late_until(world, sequence) {
        Some(late) if late > world.now && world.round.revoked.contains_key(&sequence) => {
            Step::Rest(report::deletion_outwaits(world, late))
        }
        _ => Step::Act(Effect::Unbind(sequence)),
    }
}

/// Every key that may exist at the remote side and was not confirmed gone.
fn remaining(world: &World) -> BTreeSet<Sequence> {
    let memory = &world.memory;
    let mut keys: BTreeSet<_> = memory.previous.iter().map(|key| key.sequence).collect();
    keys.extend(memory.key.as_ref().map(|key| key.sequence));
    keys.extend(world.secret.key().map(|key| key.sequence));
    keys.extend(world.round.in_hand.as_ref().map(|key| key.sequence));
    if keys.is_empty() || memory.operation.is_some() {
        keys.insert(memory.attempt().unwrap_or(Sequence::FIRST));
    }
    keys.retain(|sequence| !is_gone(world, *sequence));
    keys
}
