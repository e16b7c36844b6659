//! Decisions for a ServiceKey that is to live: make its key, keep its Secret right, replace the key in order.

use jiff::Timestamp;

use super::{
    Attempted, LossCause, Desired, Effect, ErrorClass, Failure, Flaw, LostKey, KeyRecord, Recorded, Operation,
    OperationKind, PlanView, PreviousKey, ProviderView, Rest, RunState, SecretView, Sequence, Step, PendingOperation,
    Unusable, Requeue, RemoteOperation, Observed, full_second, inheritance,
    operation::{is_gone, late_until, lost, under_way},
    report, rotation,
};

pub(super) fn decide(world: &Observed) -> Step {
    match current_key(world) {
        Some(key) => keep(world, key),
        None => restore(world),
    }
}

/// That a key may have been made is written down before anything else: nothing else would tell after a crash.
pub(super) fn record_loss(world: &Observed) -> Option<Step> {
    let (sequence, since) = lost(world)?;
    let spent = !world.desired.deleting && current_key(world).is_some_and(|key| key.sequence >= sequence);
    (world.desired.finalizer && !spent).then(|| Step::record(report::cleaning_up(world, sequence, since)))
}

/// The key in an intact Secret, unless the Secret is older than what the status remembers.
fn current_key(world: &Observed) -> Option<&KeyRecord> {
    match &world.secret {
        SecretView::Intact { key, .. } => {
            let newest = world.memory.key.as_ref().is_none_or(|known| known.sequence <= key.sequence);
            newest.then_some(key)
        }
        SecretView::Unknown
        | SecretView::Absent
        | SecretView::Foreign { .. }
        | SecretView::Former { .. }
        | SecretView::Damaged { .. } => None,
    }
}

/// The Secret is missing or wrong: get credentials for it, of the key that it held if that is possible.
fn restore(world: &Observed) -> Step {
    if let SecretView::Former { uid, sequence, obstacle } = &world.secret {
        return inheritance::decide(world, *uid, *sequence, obstacle.as_ref());
    }
    let to_clean_up = to_clean_up(world);
    if to_clean_up.is_none()
        && let Some(failure) = &world.round.failure
    {
        return Step::Wait(report::failed(world, failure));
    }
    if let Some(unrecorded) = record_stored(world) {
        return unrecorded;
    }
    if let Some(problem) = &world.desired.problem {
        return Step::Wait(report::waiting(world, problem));
    }
    if let Some(problem) = world.provider.obstacle() {
        return Step::Wait(report::waiting(world, problem));
    }
    match &world.secret {
        // No key is created for a Secret that a quota or a policy refuses.
        SecretView::Unknown if !knows_a_key(world) => return Step::Act(Effect::RehearseSecret),
        SecretView::Unknown => return Step::Act(Effect::LookUpSecret),
        SecretView::Foreign { holder } => return Step::Wait(report::secret_conflict(world, holder)),
        SecretView::Absent
        | SecretView::Former { .. }
        | SecretView::Damaged { .. }
        | SecretView::Intact { .. } => {}
    }
    if !world.desired.finalizer {
        // What no key can be made for is not held back: the way to correct it is to delete it.
        let may_be_held = world.round.instance_checked || knows_a_key(world);
        return Step::Act(if may_be_held { Effect::AddFinalizer } else { Effect::CheckInstance });
    }
    if let Some(sequence) = to_clean_up {
        return unbind(world, sequence);
    }
    let lost = newest(world.memory.key.as_ref(), world.secret.key());
    let oldest_wanted = lost.map_or(Sequence::FIRST, |key| key.sequence);
    let is_wanted =
        |key: &&KeyRecord| key.sequence >= oldest_wanted && world.memory.departure(key.sequence).is_none();
    if let Some(key) = world.round.in_hand.as_ref().filter(is_wanted) {
        return store(world, key);
    }
    if let Some(until) = repair_waits(world) {
        return Step::Wait(report::contested(world, until));
    }
    match lost {
        None => first_key(world),
        Some(key) => recover(world, key),
    }
}

/// Records a key whose Secret was deleted or changed before the status named the key. The next step is then a repair, which has
/// a backoff.
fn record_stored(world: &Observed) -> Option<Step> {
    let stored = world.round.stored.as_ref()?;
    let is_known = world.memory.key.as_ref().is_some_and(|known| known.sequence >= stored.sequence);
    if is_known || !world.desired.finalizer {
        return None;
    }
    if world.secret == SecretView::Unknown {
        return Some(Step::Act(Effect::LookUpSecret));
    }
    Some(Step::record(report::lost_at_once(world, advanced_to(world, stored), stored.sequence)))
}

/// The time of the next repair, if the last one was a moment ago: another writer may undo each repair at once.
fn repair_waits(world: &Observed) -> Option<Timestamp> {
    world.repair_from.filter(|from| *from > world.now)
}

/// Whether a key is known that was made, or may have been.
fn knows_a_key(world: &Observed) -> bool {
    world.memory != Recorded::default() || world.secret.key().is_some() || world.round.in_hand.is_some()
}

/// The key that a lost answer may have left, and that was not confirmed gone in this round.
fn to_clean_up(world: &Observed) -> Option<Sequence> {
    let Operation { kind: OperationKind::CleanUp, sequence, .. } = world.memory.operation.as_ref()? else {
        return None;
    };
    let in_hand = world.round.in_hand.as_ref().is_some_and(|key| key.sequence == *sequence);
    let made_again =
        under_way(world, RemoteOperation::Bind, *sequence).is_some() || world.round.has_completed(*sequence);
    let pending =
        !world.round.revoked.contains_key(sequence) && !in_hand && !made_again && !revoke_failed(world);
    let pending =
        pending && unusable(world, *sequence).is_none_or(|unusable| is_to_be_given_back(world, unusable));
    pending.then_some(*sequence)
}

/// Revokes a key, or waits until the remote side has.
pub(super) fn unbind(world: &Observed, sequence: Sequence) -> Step {
    match under_way(world, RemoteOperation::Unbind, sequence) {
        Some(work) => follow(world, work),
        None => Step::Act(Effect::Unbind(sequence)),
    }
}

/// Revokes a key that no Secret can hold, and makes no other one before anything changes. One whose credentials somebody
/// may use already stays.
fn give_back(world: &Observed, unusable: &Unusable) -> Step {
    let Unusable { sequence, .. } = unusable;
    let stays = is_in_use(world, *sequence) || world.desired.adopts;
    if !stays && is_to_be_given_back(world, unusable) {
        return unbind(world, *sequence);
    }
    Step::Wait(report::waiting_for_another_key(world, unusable))
}

/// Whether the remote side has not confirmed yet that the key is gone, or did so when it could still come back.
fn is_to_be_given_back(world: &Observed, unusable: &Unusable) -> bool {
    let late = late_until(world, unusable.sequence);
    unusable.revoked.is_none_or(|revoked| late.is_some_and(|late| revoked < late && late <= world.now))
}

/// What is known of this key, where no Secret can hold it.
fn unusable(world: &Observed, sequence: Sequence) -> Option<&Unusable> {
    known_unusable(world).filter(|unusable| unusable.sequence == sequence)
}

/// The key that no Secret can hold, until it is time to try again.
fn known_unusable(world: &Observed) -> Option<&Unusable> {
    let is_over = |unusable: &&Unusable| unusable.again().is_some_and(|again| again <= world.now);
    world.round.unusable.as_ref().filter(|unusable| !is_over(unusable))
}

/// Whether somebody may use the credentials of this key.
fn is_in_use(world: &Observed, sequence: Sequence) -> bool {
    let is_known = world.memory.key.as_ref().is_some_and(|key| key.sequence == sequence);
    is_known
        || match &world.secret {
            SecretView::Absent => false,
            SecretView::Intact { key, .. } | SecretView::Damaged { key: Some(key), .. } => {
                key.sequence == sequence
            }
            SecretView::Damaged { key: None, .. }
            | SecretView::Unknown
            | SecretView::Foreign { .. }
            | SecretView::Former { .. } => true,
        }
}

/// Stores the credentials in hand, with what is to be known of their key.
fn store(world: &Observed, key: &KeyRecord) -> Step {
    // Statuses hold full seconds, and what the Secret says must be what the status can say.
    let late_until = late_until(world, key.sequence).map(full_second);
    let key = Box::new(KeyRecord { late_until, ..key.clone() });
    let previous = companion(world, key.sequence);
    Step::Act(Effect::WriteSecret { key, previous })
}

/// The key whose credentials stay in the Secret besides those of this one: the one before it, for as long as it is valid.
fn companion(world: &Observed, sequence: Sequence) -> Option<Sequence> {
    let Desired { keeps_previous, rotation, .. } = &world.desired;
    let held = world.secret.key()?.sequence;
    let is_replaced_now = held < sequence;
    let previous = if is_replaced_now { Some(held) } else { world.secret.previous() };
    let stays_valid = |previous: &Sequence| {
        if is_replaced_now {
            !rotation.overlap.is_zero() && world.memory.departure(*previous).is_none()
        } else {
            is_valid(world, &world.memory, *previous)
        }
    };
    previous.filter(|previous| *keeps_previous && stays_valid(previous))
}

/// Whether a key that was replaced is not to be revoked yet.
fn is_valid(world: &Observed, memory: &Recorded, sequence: Sequence) -> bool {
    let mut previous = memory.previous.iter();
    previous.any(|previous| previous.sequence == sequence && !is_over(previous, world))
}

/// Whether the overlap of a key that was replaced is over.
fn is_over(previous: &PreviousKey, world: &Observed) -> bool {
    previous.revoke_at.is_some_and(|revoke_at| revoke_at <= world.now)
}

/// Takes the previous key out of the Secret, so that nobody finds it there once it is revoked.
fn omit_previous(world: &Observed, key: &KeyRecord) -> Step {
    match &world.round.failure {
        Some(failure) if failure.attempted == Attempted::Store => {
            Step::Wait(report::rotation_failed(world, key, failure))
        }
        _ => Step::Act(Effect::OmitPrevious),
    }
}

/// Asks how far the remote side is, when it is time.
pub(super) fn follow(world: &Observed, work: PendingOperation) -> Step {
    match work.next_poll {
        Some(time) if time <= world.now => Step::Act(Effect::Poll(work)),
        _ => Step::Wait(report::under_way(world, &work)),
    }
}

/// Makes a key, or waits until the remote side has; one that is being revoked, because it was of no use, first goes.
fn make(world: &Observed, sequence: Sequence, predecessor: Option<Sequence>) -> Step {
    let work = [RemoteOperation::Unbind, RemoteOperation::Bind].into_iter().find_map(|work| under_way(world, work, sequence));
    if let Some(work) = work {
        return follow(world, work);
    }
    if !world.round.has_completed(sequence) {
        return note_plan(world, sequence).unwrap_or(Step::Act(Effect::Bind { sequence, predecessor }));
    }
    if world.round.unreadable == Some(sequence) || world.round.absent.contains(&sequence) {
        return Step::Wait(report::not_shown(world, sequence));
    }
    Step::Act(Effect::Fetch(sequence))
}

/// Reads and notes the ids of the plan before the operator creates the key, so that it can revoke the key after the catalog has
/// changed. It first revokes a key that may exist with other ids.
fn note_plan(world: &Observed, sequence: Sequence) -> Option<Step> {
    let ids = match &world.plan {
        PlanView::NotNeeded => return None,
        PlanView::Unknown => return Some(read_plan(world)),
        PlanView::Known(ids) => ids,
    };
    let noted = world.noted(sequence);
    if noted.as_ref() == Some(ids) {
        return None;
    }
    if noted.is_some() && !world.all_refused && !world.round.revoked.contains_key(&sequence) {
        return Some(unbind(world, sequence));
    }
    if world.round.recorded == Some(sequence) {
        let message = "the API server does not store `status.operation.planIds`, which the operator needs to revoke keys; \
                       apply the CustomResourceDefinitions of this release";
        return Some(refused_here(world, ErrorClass::Rejected, message));
    }
    let known = world.memory.operation.clone().filter(|operation| operation.sequence == sequence);
    let operation = known.unwrap_or(Operation::bind(sequence)).of_plan(Some(ids.clone()));
    let memory = Recorded { operation: Some(operation), ..world.memory.clone() };
    Some(Step::record(report::creating(world, memory, sequence)))
}

/// Reads what the broker calls the plan. Without that no key is created.
fn read_plan(world: &Observed) -> Step {
    if world.round.instance_checked {
        let message = "the catalog that was read could not be kept; it is read again";
        return refused_here(world, ErrorClass::Transient, message);
    }
    Step::Act(Effect::CheckInstance)
}

/// A rest because the operator itself can't go on.
fn refused_here(world: &Observed, class: ErrorClass, message: &str) -> Step {
    let (attempted, message) = (Attempted::Provision, message.to_owned());
    let failure = Failure { attempted, class, message, retry_after: None };
    Step::Wait(match current_key(world) {
        Some(key) => report::rotation_failed(world, key, &failure),
        None => report::failed(world, &failure),
    })
}

/// No key is known: the one that is made has the first sequence, or the one that was tried last.
fn first_key(world: &Observed) -> Step {
    let sequence = world.memory.attempt().unwrap_or(Sequence::FIRST);
    if let Some(unusable) = unusable(world, sequence) {
        return give_back(world, unusable);
    }
    if world.round.conflicting != Some(sequence) {
        return make(world, sequence, None);
    }
    // The key was made by an attempt whose answer was lost, from other fields or to be shown only once.
    if world.secret == SecretView::Absent {
        return unbind(world, sequence);
    }
    // A Secret of ours may hold its credentials: it is replaced in order.
    let mut memory = world.memory.clone();
    let late_until = late_until(world, sequence).map(full_second);
    memory.replace(sequence, None, late_until, world.now, world.desired.rotation.overlap).plan_ids =
        world.noted(sequence);
    make_next(world, memory, sequence.next(), None)
}

/// The key is known but its Secret is not right: read the credentials again. Where the key is gone, does not show them
/// again, or is to be rotated because the user asked for it, make the next one.
fn recover(world: &Observed, lost: &KeyRecord) -> Step {
    let (sequence, next) = (lost.sequence, lost.sequence.next());
    let RunState { absent, conflicting, .. } = &world.round;
    // One that was gone once is of no use, even if a late answer has brought it back.
    let gone = absent.contains(&sequence) || world.memory.departure(sequence).is_some();
    let is_unwanted = gone || rotation::is_requested(world, lost);
    if is_unwanted && !gone && world.desired.rotation.makes_room {
        return make_room(world, advanced_to(world, lost), lost);
    }
    let is_in_the_way = [Some(sequence), Some(next)].contains(conflicting);
    if is_unwanted || is_hidden(world, lost) || is_in_the_way {
        if let Some(unusable) = unusable(world, next) {
            return give_back(world, unusable);
        }
        let memory = advanced_to(world, lost);
        if memory.attempt() != Some(next) && is_to_be_rehearsed(world) {
            return Step::Act(Effect::RehearseSecret);
        }
        if let Some(oldest) = crowding(&memory) {
            return make_way(world, memory, oldest);
        }
        let predecessor = (!gone).then_some(sequence);
        return make_next(world, memory, next, predecessor);
    }
    if let Some(unusable) = unusable(world, sequence) {
        return give_back(world, unusable);
    }
    read_again(world, lost)
}

/// Asks for the credentials of a key that exists. A repeated bind may create it again, which is of no use where the Secret
/// can't be written.
fn read_again(world: &Observed, key: &KeyRecord) -> Step {
    Step::Act(if world.round.unreadable != Some(key.sequence) {
        Effect::Fetch(key.sequence)
    } else if is_to_be_rehearsed(world) {
        Effect::RehearseSecret
    } else {
        Effect::Repeat(key.sequence)
    })
}

/// Whether the remote side shows the credentials of this key no more, neither to a fetch nor to a repeated bind.
fn is_hidden(world: &Observed, key: &KeyRecord) -> bool {
    let RunState { unreadable, unrepeatable, in_hand, .. } = &world.round;
    let is_in_hand = in_hand.as_ref().is_some_and(|in_hand| in_hand.sequence == key.sequence);
    let is_shown_by_a_repeat = *unrepeatable != Some(key.sequence) && can_be_repeated(world, key);
    *unreadable == Some(key.sequence) && !is_in_hand && !is_shown_by_a_repeat
}

/// Whether the request that created the key can be sent again without creating another one: the operator derives the key's
/// id, and nothing that the key is made from has changed since.
fn can_be_repeated(world: &Observed, key: &KeyRecord) -> bool {
    !world.marks_keys && key.inputs == world.desired.inputs
}

/// Whether it is unknown if the Secret that is there can be written: it may be immutable, or have another type.
fn is_to_be_rehearsed(world: &Observed) -> bool {
    world.secret != SecretView::Absent && !world.round.rehearsed
}

/// The key that has to go before another one is made: there are never more than the next, the current and one before it.
fn crowding(memory: &Recorded) -> Option<Sequence> {
    memory.previous.first().filter(|_| memory.previous.len() > 1).map(|previous| previous.sequence)
}

/// Revokes the oldest key, before another one takes the place of a key whose credentials are lost.
fn make_way(world: &Observed, mut memory: Recorded, oldest: Sequence) -> Step {
    if let Some(failure) = &world.round.failure {
        return Step::Wait(report::failed(world, failure));
    }
    let late = late_until(world, oldest).filter(|late| *late > world.now);
    if let Some(late) = late.filter(|_| world.round.revoked.contains_key(&oldest)) {
        return Step::Wait(Rest::new(Requeue::At(late), report::replacing_lost(world, memory)));
    }
    if !is_gone(world, oldest) {
        return unbind(world, oldest);
    }
    memory.previous.retain(|previous| previous.sequence != oldest);
    Step::record(report::replacing_lost(world, memory))
}

/// The Secret is right: bring the status up to it, revoke what is due, rotate when it is time.
fn keep(world: &Observed, key: &KeyRecord) -> Step {
    if is_to_be_confirmed(world, key) {
        return confirm(world, key);
    }
    let mut memory = advanced_to(world, key);
    if world.round.absent.contains(&key.sequence) {
        memory.gone = memory.gone.or(Some(gone(world, key, LossCause::Lost)));
    }
    if let (Some(key), Some(found)) = (&mut memory.key, &world.round.present)
        && key.sequence == found.sequence
    {
        key.id = Some(found.id.clone());
        key.name = found.name.clone().or(key.name.take());
    }
    if memory != world.memory {
        return Step::record(report::settled(world, &memory, key));
    }
    if !world.desired.finalizer {
        return Step::Act(Effect::AddFinalizer);
    }
    if let Some(next) =
        world.round.in_hand.as_ref().filter(|in_hand| Some(in_hand.sequence) == memory.attempt())
    {
        return match &world.round.failure {
            None => store(world, next),
            Some(failure) => Step::Wait(report::rotation_failed(world, key, failure)),
        };
    }
    if let Some(step) = mend(world, &memory, key) {
        return step;
    }
    let is_outdated = |previous| !world.desired.keeps_previous || !is_valid(world, &memory, previous);
    if world.secret.previous().is_some_and(is_outdated) {
        return omit_previous(world, key);
    }
    if let Some(unusable) = unusable_next(world, key)
        && is_to_be_given_back(world, unusable)
        && matches!(world.provider, ProviderView::Available)
        && !revoke_failed(world)
    {
        return unbind(world, unusable.sequence);
    }
    let pending = Pending::of(world, key);
    match &world.provider {
        ProviderView::Available if pending.anything() => pending.next_step(world, memory, key),
        ProviderView::Closed(_) if pending.revokes() => {
            Pending { doubt: false, rotation: false, room: false, ..pending }.next_step(world, memory, key)
        }
        ProviderView::Closed(problem) | ProviderView::Unavailable(problem)
            if pending.rotation || pending.revokes() =>
        {
            Step::Wait(report::rotation_waiting(world, key, problem))
        }
        _ => match (unusable_next(world, key), &world.round.failure) {
            (Some(_), Some(failure)) => Step::Wait(report::rotation_failed(world, key, failure)),
            (Some(unusable), None) => Step::Wait(report::rotation_blocked(world, key, unusable)),
            (None, _) => Step::Wait(report::rest_settled(world, key)),
        },
    }
}

/// Repairs a Secret whose entries are right, with the same key. If new templates need the credentials and the remote side
/// does not show them again, the next key replaces this one in order.
fn mend(world: &Observed, memory: &Recorded, key: &KeyRecord) -> Option<Step> {
    let flaw = world.secret.flaw()?;
    let is_gone = memory.departure(key.sequence).is_some();
    if world.desired.problem.is_some() || is_gone || needs_another_key(world, memory, key) {
        return None;
    }
    let in_hand = world.round.in_hand.as_ref().filter(|in_hand| in_hand.sequence == key.sequence);
    if let Some(failure) = &world.round.failure {
        return Some(Step::Wait(report::rotation_failed(world, key, failure)));
    }
    if let Some(in_hand) = in_hand {
        return Some(store(world, in_hand));
    }
    if let Some(until) = repair_waits(world) {
        return Some(Step::Wait(report::repair_waits(world, key, until)));
    }
    Some(match (flaw, world.provider.obstacle()) {
        (Flaw::Edited, _) => Step::Act(Effect::RestoreSecret),
        (Flaw::Outdated, Some(problem)) => Step::Wait(report::rotation_waiting(world, key, problem)),
        (Flaw::Outdated, None) => read_again(world, key),
    })
}

/// Whether the templates have changed and the credentials of the key are not shown again. Once the next key is written
/// down, nothing else is tried.
fn needs_another_key(world: &Observed, memory: &Recorded, key: &KeyRecord) -> bool {
    let is_hidden = is_hidden(world, key) || world.round.conflicting == Some(key.sequence);
    let is_begun = memory.attempt().is_some_and(|attempt| attempt > key.sequence);
    world.secret.flaw() == Some(Flaw::Outdated) && (is_hidden || is_begun)
}

/// Whether the Secret claims to hold a key that nothing explains, and the remote side can tell whether there is one.
fn is_to_be_confirmed(world: &Observed, key: &KeyRecord) -> bool {
    let is_stored = world.round.stored.as_ref().is_some_and(|stored| stored.sequence == key.sequence);
    let explained = world.memory.explains(key.sequence) || is_stored;
    world.marks_keys && !explained && !world.round.has_seen(key.sequence)
}

/// Asks whether there is such a key before anything follows from it.
fn confirm(world: &Observed, key: &KeyRecord) -> Step {
    match (world.provider.obstacle(), &world.round.failure) {
        (Some(problem), _) => Step::Wait(report::waiting(world, problem)),
        (None, Some(failure)) => Step::Wait(report::failed(world, failure)),
        (None, None) => Step::Act(Effect::Confirm(key.sequence)),
    }
}

/// The memory once the Secret holds the credentials of `key`.
fn advanced_to(world: &Observed, key: &KeyRecord) -> Recorded {
    world.memory.advanced_to(key, world)
}

fn gone(world: &Observed, key: &KeyRecord, why: LossCause) -> LostKey {
    LostKey { sequence: key.sequence, since: full_second(world.now), why }
}

/// The key after this one, where no Secret can hold it.
fn unusable_next<'a>(world: &'a Observed, key: &KeyRecord) -> Option<&'a Unusable> {
    known_unusable(world).filter(|unusable| unusable.sequence > key.sequence)
}

/// What is to be done at the remote side besides the current key.
struct Pending {
    /// Nobody knows whether the current key is still there, or which one it is.
    doubt: bool,
    revocation: Option<Sequence>,
    /// A lost answer may have left this one; it stays an attempt.
    clean_up: Option<Sequence>,
    /// This one is not wanted any more.
    discarded_attempt: Option<Sequence>,
    rotation: bool,
    /// The current key goes before the next one is made.
    room: bool,
}

impl Pending {
    fn of(world: &Observed, key: &KeyRecord) -> Self {
        let gone = world.memory.departure(key.sequence).is_some();
        let due = gone || rotation::is_due(world, key) || needs_another_key(world, &world.memory, key);
        // What was begun is carried through: the key may be revoked by now.
        let making_room = world.memory.makes_room() && !gone;
        let rotation = world.desired.problem.is_none() && due || making_room;
        let rotation = rotation && unusable_next(world, key).is_none();
        // One more key would be more than the set allows: the oldest goes first.
        let crowded = rotation && world.memory.previous.len() > 1;
        let over = |sequence| late_until(world, sequence).is_none_or(|late| late <= world.now);
        let revocation = world
            .memory
            .previous
            .iter()
            .filter(|previous| over(previous.sequence))
            .find(|previous| crowded || is_over(previous, world))
            .map(|previous| previous.sequence);
        let discarded = world.memory.attempt().filter(|_| !rotation);
        let is_unsure = world.missed == Some(key.sequence) || key.id.is_none();
        Self {
            doubt: is_unsure && !world.round.has_seen(key.sequence) && !gone,
            revocation,
            clean_up: to_clean_up(world),
            discarded_attempt: discarded.filter(|sequence| over(*sequence)),
            rotation: rotation && !(crowded && (revoke_failed(world) || revocation.is_none())),
            room: making_room || world.desired.rotation.makes_room && !gone,
        }
    }

    const fn anything(&self) -> bool {
        self.doubt || self.revokes() || self.rotation
    }

    const fn revokes(&self) -> bool {
        self.revocation.is_some() || self.clean_up.is_some() || self.discarded_attempt.is_some()
    }

    /// A revocation that fails must not hold up a rotation, nor a rotation that fails a revocation; and neither waits
    /// for a doubt to be settled.
    fn next_step(&self, world: &Observed, memory: Recorded, key: &KeyRecord) -> Step {
        if self.doubt && world.round.failure.is_none() {
            return Step::Act(Effect::Confirm(key.sequence));
        }
        if let Some(sequence) = self.clean_up {
            return unbind(world, sequence);
        }
        let unwanted = self.revocation.or(self.discarded_attempt).filter(|_| !revoke_failed(world));
        if let Some(sequence) = unwanted {
            return revoke(world, memory, sequence, key);
        }
        match &world.round.failure {
            Some(failure) if self.room && failure.attempted == Attempted::Revoke => {
                Step::Wait(report::rotation_failed(world, key, failure))
            }
            failure if self.rotation && !failure.as_ref().is_some_and(holds_up_a_rotation) => {
                if self.room {
                    return make_room(world, memory, key);
                }
                let next = key.sequence.next();
                let is_unasked = needs_another_key(world, &memory, key) && memory.attempt() != Some(next);
                if is_unasked && is_to_be_rehearsed(world) {
                    return Step::Act(Effect::RehearseSecret);
                }
                let predecessor = memory.gone.is_none().then_some(key.sequence);
                make_next(world, memory, next, predecessor)
            }
            Some(failure) if failure.attempted == Attempted::Confirm => {
                Step::Wait(report::unconfirmed(world, key, failure))
            }
            Some(failure) => Step::Wait(report::rotation_failed(world, key, failure)),
            None => Step::Wait(report::rest_settled(world, key)),
        }
    }
}

const fn holds_up_a_rotation(failure: &Failure) -> bool {
    !matches!(failure.attempted, Attempted::Revoke | Attempted::Confirm)
}

fn revoke_failed(world: &Observed) -> bool {
    world.round.failure.as_ref().is_some_and(|failure| failure.attempted == Attempted::Revoke)
}

/// Revokes a key that is not the current one, and forgets it once it is gone.
fn revoke(world: &Observed, mut memory: Recorded, sequence: Sequence, key: &KeyRecord) -> Step {
    // A key that the remote side is still making can't be revoked yet.
    if let Some(work) = under_way(world, RemoteOperation::Bind, sequence) {
        return follow(world, work);
    }
    if world.secret.previous() == Some(sequence) {
        return omit_previous(world, key);
    }
    if !is_gone(world, sequence) {
        return unbind(world, sequence);
    }
    memory.previous.retain(|previous| previous.sequence != sequence);
    memory.operation = memory.operation.filter(|operation| operation.sequence != sequence);
    Step::record(report::settled(world, &memory, key))
}

/// Revokes the current key, so that there is room for the next one. The status says so first: whatever becomes of the
/// wish to have another one, the current one is of no use from then on.
fn make_room(world: &Observed, mut memory: Recorded, key: &KeyRecord) -> Step {
    let next = key.sequence.next();
    if !world.round.revoked.contains_key(&key.sequence) && !world.round.rehearsed {
        return Step::Act(Effect::RehearseSecret);
    }
    if !memory.makes_room() {
        memory.operation = Some(Operation::revoke_first(next));
        return Step::record(report::rotating(world, memory, next));
    }
    if !world.round.revoked.contains_key(&key.sequence) {
        return unbind(world, key.sequence);
    }
    memory.operation = Some(Operation::bind(next).of_plan(world.plan.ids().cloned()));
    memory.gone = Some(gone(world, key, LossCause::Revoked));
    Step::record(report::settled(world, &memory, key))
}

/// Makes the key that follows the current one. The status says so first: only what it names may exist.
fn make_next(world: &Observed, mut memory: Recorded, next: Sequence, predecessor: Option<Sequence>) -> Step {
    if memory.attempt() != Some(next) {
        if world.plan == PlanView::Unknown {
            return read_plan(world);
        }
        memory.operation = Some(Operation::bind(next).of_plan(world.plan.ids().cloned()));
        return Step::record(report::rotating(world, memory, next));
    }
    if world.round.conflicting == Some(next) {
        return unbind(world, next);
    }
    make(world, next, predecessor)
}

fn newest<'a>(a: Option<&'a KeyRecord>, b: Option<&'a KeyRecord>) -> Option<&'a KeyRecord> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.sequence > a.sequence { b } else { a }),
        (a, b) => a.or(b),
    }
}
