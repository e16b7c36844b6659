//! Decisions for a ServiceKey that is to live: make its key, keep its Secret right, replace the key in order.

use super::{
    Attempted, Effect, KeyRecord, Memory, ProviderView, SecretView, Sequence, Step, World, report, rotation,
};

pub(super) fn decide(world: &World) -> Step {
    match current_key(world) {
        Some(key) => keep(world, key),
        None => restore(world),
    }
}

/// The key in an intact Secret, unless the Secret is older than what the status remembers.
fn current_key(world: &World) -> Option<&KeyRecord> {
    match &world.secret {
        SecretView::Intact { key } => {
            let newest = world.memory.key.as_ref().is_none_or(|known| known.sequence <= key.sequence);
            newest.then_some(key)
        }
        SecretView::Unknown
        | SecretView::Absent
        | SecretView::Foreign { .. }
        | SecretView::Damaged { .. } => None,
    }
}

/// The Secret is missing or wrong: get credentials for it, of the key that it held if that is possible.
fn restore(world: &World) -> Step {
    if let Some(failure) = &world.round.failure {
        return Step::Rest(report::failed(world, failure));
    }
    if let Some(problem) = &world.desired.problem {
        return Step::Rest(report::waiting(world, problem));
    }
    if let Some(problem) = world.provider.obstacle() {
        return Step::Rest(report::waiting(world, problem));
    }
    match &world.secret {
        SecretView::Unknown => return Step::Act(Effect::LookUpSecret),
        SecretView::Foreign { holder } => return Step::Rest(report::secret_conflict(world, holder)),
        SecretView::Absent | SecretView::Damaged { .. } | SecretView::Intact { .. } => {}
    }
    if !world.desired.finalizer {
        return Step::Act(Effect::AddFinalizer);
    }
    let lost = newest(world.memory.key.as_ref(), world.secret.key());
    let oldest_wanted = lost.map_or(Sequence::FIRST, |key| key.sequence);
    if let Some(key) = world.round.in_hand.as_ref().filter(|key| key.sequence >= oldest_wanted) {
        return Step::Act(Effect::WriteSecret(key.clone()));
    }
    match lost {
        None => first_key(world),
        Some(key) => recover(world, key),
    }
}

/// No key is known: the one that is made has the first sequence, or the one that was tried last.
fn first_key(world: &World) -> Step {
    let sequence = world.memory.attempt.unwrap_or(Sequence::FIRST);
    if world.round.conflicting != Some(sequence) {
        return Step::Act(Effect::Bind(sequence));
    }
    // The key was made from other fields, by an attempt whose answer was lost.
    if world.secret == SecretView::Absent {
        return Step::Act(Effect::Unbind(sequence));
    }
    // A Secret of ours may hold its credentials: it is replaced in order.
    let mut memory = world.memory.clone();
    memory.replace(sequence, None, &world.desired, world.now);
    make_next(world, memory, sequence.next())
}

/// The key is known but its Secret is not right: read the credentials again, ask for the same key again, or,
/// where both are impossible, make the next one.
fn recover(world: &World, lost: &KeyRecord) -> Step {
    let sequence = lost.sequence;
    if world.round.conflicting == Some(sequence) || world.round.conflicting == Some(sequence.next()) {
        let memory = world.memory.advanced_to(lost, &world.desired, world.now);
        return make_next(world, memory, sequence.next());
    }
    if world.round.unreadable == Some(sequence) {
        return Step::Act(Effect::Bind(sequence));
    }
    Step::Act(Effect::Fetch(sequence))
}

/// The Secret is right: bring the status up to it, revoke what is due, rotate when it is time.
fn keep(world: &World, key: &KeyRecord) -> Step {
    let memory = world.memory.advanced_to(key, &world.desired, world.now);
    if memory != world.memory {
        return Step::Act(Effect::Record(report::settled(world, &memory, key)));
    }
    if !world.desired.finalizer {
        return Step::Act(Effect::AddFinalizer);
    }
    if let Some(next) =
        world.round.in_hand.as_ref().filter(|in_hand| Some(in_hand.sequence) == memory.attempt)
    {
        return match &world.round.failure {
            None => Step::Act(Effect::WriteSecret(next.clone())),
            Some(failure) => Step::Rest(report::rotation_failed(world, key, failure)),
        };
    }
    let pending = Pending::of(world, key);
    match &world.provider {
        ProviderView::Available if pending.anything() => pending.next_step(world, memory, key),
        ProviderView::Closed(_) if pending.revokes() => {
            Pending { rotation: false, ..pending }.next_step(world, memory, key)
        }
        ProviderView::Closed(problem) | ProviderView::Unavailable(problem) if pending.anything() => {
            Step::Rest(report::rotation_waiting(world, key, problem))
        }
        _ => Step::Rest(report::rest_settled(world, key)),
    }
}

/// What is to be done at the remote side besides the current key.
struct Pending {
    revocation: Option<Sequence>,
    discarded_attempt: Option<Sequence>,
    rotation: bool,
}

impl Pending {
    fn of(world: &World, key: &KeyRecord) -> Self {
        let rotation = world.desired.problem.is_none() && rotation::is_due(&world.desired, key, world.now);
        // One more key would be more than the set allows: the oldest goes first.
        let crowded = rotation && world.memory.previous.len() > 1;
        let revocation = world
            .memory
            .previous
            .iter()
            .find(|previous| crowded || previous.revoke_at <= world.now)
            .map(|previous| previous.sequence);
        Self {
            revocation,
            discarded_attempt: world.memory.attempt.filter(|_| !rotation),
            rotation: rotation && !(crowded && revoke_failed(world)),
        }
    }

    const fn anything(&self) -> bool {
        self.revokes() || self.rotation
    }

    const fn revokes(&self) -> bool {
        self.revocation.is_some() || self.discarded_attempt.is_some()
    }

    /// A revocation that fails must not hold up a rotation, nor a rotation that fails a revocation.
    fn next_step(&self, world: &World, memory: Memory, key: &KeyRecord) -> Step {
        let clean_up = self.revocation.or(self.discarded_attempt).filter(|_| !revoke_failed(world));
        if let Some(sequence) = clean_up {
            return revoke(world, memory, sequence, key);
        }
        match &world.round.failure {
            Some(failure) if !(self.rotation && failure.attempted == Attempted::Revoke) => {
                Step::Rest(report::rotation_failed(world, key, failure))
            }
            _ => make_next(world, memory, key.sequence.next()),
        }
    }
}

fn revoke_failed(world: &World) -> bool {
    world.round.failure.as_ref().is_some_and(|failure| failure.attempted == Attempted::Revoke)
}

/// Revokes a key that is not the current one, and forgets it once it is gone.
fn revoke(world: &World, mut memory: Memory, sequence: Sequence, key: &KeyRecord) -> Step {
    if !world.round.revoked.contains(&sequence) {
        return Step::Act(Effect::Unbind(sequence));
    }
    memory.previous.retain(|previous| previous.sequence != sequence);
    memory.attempt = memory.attempt.filter(|attempt| *attempt != sequence);
    Step::Act(Effect::Record(report::settled(world, &memory, key)))
}

/// Makes the key that follows the current one. The status says so first: only what it names may exist.
fn make_next(world: &World, mut memory: Memory, next: Sequence) -> Step {
    if memory.attempt != Some(next) {
        memory.attempt = Some(next);
        return Step::Act(Effect::Record(report::rotating(world, memory, next)));
    }
    if world.round.conflicting == Some(next) {
        return Step::Act(Effect::Unbind(next));
    }
    Step::Act(Effect::Bind(next))
}

fn newest<'a>(a: Option<&'a KeyRecord>, b: Option<&'a KeyRecord>) -> Option<&'a KeyRecord> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.sequence > a.sequence { b } else { a }),
        (a, b) => a.or(b),
    }
}
