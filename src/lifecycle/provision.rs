//! Decisions for a ServiceKey that is to live: make its key, keep its Secret right, replace the key in order.

use jiff::Timestamp;

use super::{
    Attempted, Desired, ErrorClass, Failure, Flaw, KeyRecord, KubernetesEffect, LossCause, LostKey, Observed,
    Operation, OperationKind, PendingOperation, PlanView, PreviousKey, ProviderView, Recorded, RemoteEffect,
    RemoteOperation, Requeue, RunState, SecretView, Sequence, Step, Unusable, Wait, full_second, inheritance,
    operation::{is_gone, late_until, lost, pending_operation},
    report, rotation,
};

pub(super) fn decide(observed: &Observed) -> Step {
    match current_key(observed) {
        Some(key) => keep(observed, key),
        None => restore(observed),
    }
}

/// That a key may have been made is written down before anything else: nothing else would tell after a crash.
pub(super) fn record_loss(observed: &Observed) -> Option<Step> {
    let (sequence, since) = lost(observed)?;
    let spent =
        !observed.desired.deleting && current_key(observed).is_some_and(|key| key.sequence >= sequence);
    (observed.desired.finalizer && !spent)
        .then(|| Step::record(report::cleaning_up(observed, sequence, since)))
}

/// The key in an intact Secret, unless the Secret is older than what the status remembers.
fn current_key(observed: &Observed) -> Option<&KeyRecord> {
    match &observed.secret {
        SecretView::Intact { key, .. } => {
            let newest = observed.recorded.key.as_ref().is_none_or(|known| known.sequence <= key.sequence);
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
fn restore(observed: &Observed) -> Step {
    if let SecretView::Former { uid, sequence, obstacle } = &observed.secret {
        return inheritance::decide(observed, *uid, *sequence, obstacle.as_ref());
    }
    let to_clean_up = to_clean_up(observed);
    if to_clean_up.is_none()
        && let Some(failure) = &observed.run.failure
    {
        return Step::Wait(report::failed(observed, failure));
    }
    if let Some(unrecorded) = record_stored(observed) {
        return unrecorded;
    }
    if let Some(problem) = &observed.desired.problem {
        return Step::Wait(report::waiting(observed, problem));
    }
    if let Some(problem) = observed.provider.obstacle() {
        return Step::Wait(report::waiting(observed, problem));
    }
    match &observed.secret {
        // No key is created for a Secret that a quota or a policy refuses.
        SecretView::Unknown if !knows_a_key(observed) => {
            return Step::Apply(KubernetesEffect::RehearseSecret);
        }
        SecretView::Unknown => return Step::Apply(KubernetesEffect::LookUpSecret),
        SecretView::Foreign { holder } => return Step::Wait(report::secret_conflict(observed, holder)),
        SecretView::Absent
        | SecretView::Former { .. }
        | SecretView::Damaged { .. }
        | SecretView::Intact { .. } => {}
    }
    if !observed.desired.finalizer {
        // What no key can be made for is not held back: the way to correct it is to delete it.
        let may_be_held = observed.run.instance_checked || knows_a_key(observed);
        return if may_be_held {
            Step::Apply(KubernetesEffect::AddFinalizer)
        } else {
            Step::Execute(RemoteEffect::CheckInstance)
        };
    }
    if let Some(sequence) = to_clean_up {
        return unbind(observed, sequence);
    }
    let lost = newest(observed.recorded.key.as_ref(), observed.secret.key());
    let oldest_wanted = lost.map_or(Sequence::FIRST, |key| key.sequence);
    let is_wanted = |key: &&KeyRecord| {
        key.sequence >= oldest_wanted && observed.recorded.departure(key.sequence).is_none()
    };
    if let Some(key) = observed.run.in_hand.as_ref().filter(is_wanted) {
        return store(observed, key);
    }
    if let Some(until) = repair_waits(observed) {
        return Step::Wait(report::contested(observed, until));
    }
    match lost {
        None => first_key(observed),
        Some(key) => recover(observed, key),
    }
}

/// Records a key whose Secret was deleted or changed before the status named the key. The next step is then a repair, which has
/// a backoff.
fn record_stored(observed: &Observed) -> Option<Step> {
    let stored = observed.run.stored.as_ref()?;
    let is_known = observed.recorded.key.as_ref().is_some_and(|known| known.sequence >= stored.sequence);
    if is_known || !observed.desired.finalizer {
        return None;
    }
    if observed.secret == SecretView::Unknown {
        return Some(Step::Apply(KubernetesEffect::LookUpSecret));
    }
    Some(Step::record(report::lost_at_once(observed, advanced_to(observed, stored), stored.sequence)))
}

/// The time of the next repair, if the last one was a moment ago: another writer may undo each repair at once.
fn repair_waits(observed: &Observed) -> Option<Timestamp> {
    observed.repair_from.filter(|from| *from > observed.now)
}

/// Whether a key is known that was made, or may have been.
fn knows_a_key(observed: &Observed) -> bool {
    observed.recorded != Recorded::default()
        || observed.secret.key().is_some()
        || observed.run.in_hand.is_some()
}

/// The key that a lost answer may have left, and that was not confirmed gone in this round.
fn to_clean_up(observed: &Observed) -> Option<Sequence> {
    let Operation { kind: OperationKind::CleanUp, sequence, .. } = observed.recorded.operation.as_ref()?
    else {
        return None;
    };
    let in_hand = observed.run.in_hand.as_ref().is_some_and(|key| key.sequence == *sequence);
    let made_again = pending_operation(observed, RemoteOperation::Bind, *sequence).is_some()
        || observed.run.has_completed(*sequence);
    let pending =
        !observed.run.revoked.contains_key(sequence) && !in_hand && !made_again && !revoke_failed(observed);
    let pending = pending
        && unusable(observed, *sequence).is_none_or(|unusable| is_to_be_given_back(observed, unusable));
    pending.then_some(*sequence)
}

/// Revokes a key, or waits until the remote side has.
pub(super) fn unbind(observed: &Observed, sequence: Sequence) -> Step {
    match pending_operation(observed, RemoteOperation::Unbind, sequence) {
        Some(work) => follow(observed, work),
        None => Step::Execute(RemoteEffect::Unbind(sequence)),
    }
}

/// Revokes a key that no Secret can hold, and makes no other one before anything changes. One whose credentials somebody
/// may use already stays.
fn give_back(observed: &Observed, unusable: &Unusable) -> Step {
    let Unusable { sequence, .. } = unusable;
    let stays = is_in_use(observed, *sequence) || observed.desired.adopts;
    if !stays && is_to_be_given_back(observed, unusable) {
        return unbind(observed, *sequence);
    }
    Step::Wait(report::waiting_for_another_key(observed, unusable))
}

/// Whether the remote side has not confirmed yet that the key is gone, or did so when it could still come back.
fn is_to_be_given_back(observed: &Observed, unusable: &Unusable) -> bool {
    let late = late_until(observed, unusable.sequence);
    unusable.revoked.is_none_or(|revoked| late.is_some_and(|late| revoked < late && late <= observed.now))
}

/// What is known of this key, where no Secret can hold it.
fn unusable(observed: &Observed, sequence: Sequence) -> Option<&Unusable> {
    known_unusable(observed).filter(|unusable| unusable.sequence == sequence)
}

/// The key that no Secret can hold, until it is time to try again.
fn known_unusable(observed: &Observed) -> Option<&Unusable> {
    let is_over = |unusable: &&Unusable| unusable.again().is_some_and(|again| again <= observed.now);
    observed.run.unusable.as_ref().filter(|unusable| !is_over(unusable))
}

/// Whether somebody may use the credentials of this key.
fn is_in_use(observed: &Observed, sequence: Sequence) -> bool {
    let is_known = observed.recorded.key.as_ref().is_some_and(|key| key.sequence == sequence);
    is_known
        || match &observed.secret {
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
fn store(observed: &Observed, key: &KeyRecord) -> Step {
    // Statuses hold full seconds, and what the Secret says must be what the status can say.
    let late_until = late_until(observed, key.sequence).map(full_second);
    let key = Box::new(KeyRecord { late_until, ..key.clone() });
    let previous = companion(observed, key.sequence);
    Step::Apply(KubernetesEffect::WriteSecret { key, previous })
}

/// The key whose credentials stay in the Secret besides those of this one: the one before it, for as long as it is valid.
fn companion(observed: &Observed, sequence: Sequence) -> Option<Sequence> {
    let Desired { keeps_previous, rotation, .. } = &observed.desired;
    let held = observed.secret.key()?.sequence;
    let is_replaced_now = held < sequence;
    let previous = if is_replaced_now { Some(held) } else { observed.secret.previous() };
    let stays_valid = |previous: &Sequence| {
        if is_replaced_now {
            !rotation.overlap.is_zero() && observed.recorded.departure(*previous).is_none()
        } else {
            is_valid(observed, &observed.recorded, *previous)
        }
    };
    previous.filter(|previous| *keeps_previous && stays_valid(previous))
}

/// Whether a key that was replaced is not to be revoked yet.
fn is_valid(observed: &Observed, recorded: &Recorded, sequence: Sequence) -> bool {
    let mut previous = recorded.previous.iter();
    previous.any(|previous| previous.sequence == sequence && !is_over(previous, observed))
}

/// Whether the overlap of a key that was replaced is over.
fn is_over(previous: &PreviousKey, observed: &Observed) -> bool {
    previous.revoke_at.is_some_and(|revoke_at| revoke_at <= observed.now)
}

/// Takes the previous key out of the Secret, so that nobody finds it there once it is revoked.
fn omit_previous(observed: &Observed, key: &KeyRecord) -> Step {
    match &observed.run.failure {
        Some(failure) if failure.attempted == Attempted::Store => {
            Step::Wait(report::rotation_failed(observed, key, failure))
        }
        _ => Step::Apply(KubernetesEffect::OmitPrevious),
    }
}

/// Asks how far the remote side is, when it is time.
pub(super) fn follow(observed: &Observed, work: PendingOperation) -> Step {
    match work.next_poll {
        Some(time) if time <= observed.now => Step::Execute(RemoteEffect::Poll(work)),
        _ => Step::Wait(report::under_way(observed, &work)),
    }
}

/// Makes a key, or waits until the remote side has; one that is being revoked, because it was of no use, first goes.
fn make(observed: &Observed, sequence: Sequence, predecessor: Option<Sequence>) -> Step {
    let work = [RemoteOperation::Unbind, RemoteOperation::Bind]
        .into_iter()
        .find_map(|work| pending_operation(observed, work, sequence));
    if let Some(work) = work {
        return follow(observed, work);
    }
    if !observed.run.has_completed(sequence) {
        return note_plan(observed, sequence)
            .unwrap_or(Step::Execute(RemoteEffect::Bind { sequence, predecessor }));
    }
    if observed.run.unreadable == Some(sequence) || observed.run.absent.contains(&sequence) {
        return Step::Wait(report::not_shown(observed, sequence));
    }
    Step::Execute(RemoteEffect::Fetch(sequence))
}

/// Reads and notes the ids of the plan before the operator creates the key, so that it can revoke the key after the catalog has
/// changed. It first revokes a key that may exist with other ids.
fn note_plan(observed: &Observed, sequence: Sequence) -> Option<Step> {
    let ids = match &observed.plan {
        PlanView::NotNeeded => return None,
        PlanView::Unknown => return Some(read_plan(observed)),
        PlanView::Known(ids) => ids,
    };
    let noted = observed.noted(sequence);
    if noted.as_ref() == Some(ids) {
        return None;
    }
    if noted.is_some() && !observed.all_refused && !observed.run.revoked.contains_key(&sequence) {
        return Some(unbind(observed, sequence));
    }
    if observed.run.recorded == Some(sequence) {
        let message = "the API server does not store `status.operation.planIds`, which the operator needs to revoke keys; \
                       apply the CustomResourceDefinitions of this release";
        return Some(refused_here(observed, ErrorClass::Rejected, message));
    }
    let known = observed.recorded.operation.clone().filter(|operation| operation.sequence == sequence);
    let operation = known.unwrap_or(Operation::bind(sequence)).with_plan(Some(ids.clone()));
    let recorded = Recorded { operation: Some(operation), ..observed.recorded.clone() };
    Some(Step::record(report::creating(observed, recorded, sequence)))
}

/// Reads what the broker calls the plan. Without that no key is created.
fn read_plan(observed: &Observed) -> Step {
    if observed.run.instance_checked {
        let message = "the catalog that was read could not be kept; it is read again";
        return refused_here(observed, ErrorClass::Transient, message);
    }
    Step::Execute(RemoteEffect::CheckInstance)
}

/// A rest because the operator itself can't go on.
fn refused_here(observed: &Observed, class: ErrorClass, message: &str) -> Step {
    let (attempted, message) = (Attempted::Provision, message.to_owned());
    let failure = Failure { attempted, class, message, retry_after: None };
    Step::Wait(match current_key(observed) {
        Some(key) => report::rotation_failed(observed, key, &failure),
        None => report::failed(observed, &failure),
    })
}

/// No key is known: the one that is made has the first sequence, or the one that was tried last.
fn first_key(observed: &Observed) -> Step {
    let sequence = observed.recorded.attempt().unwrap_or(Sequence::FIRST);
    if let Some(unusable) = unusable(observed, sequence) {
        return give_back(observed, unusable);
    }
    if observed.run.conflicting != Some(sequence) {
        return make(observed, sequence, None);
    }
    // The key was made by an attempt whose answer was lost, from other fields or to be shown only once.
    if observed.secret == SecretView::Absent {
        return unbind(observed, sequence);
    }
    // A Secret of ours may hold its credentials: it is replaced in order.
    let mut recorded = observed.recorded.clone();
    let late_until = late_until(observed, sequence).map(full_second);
    recorded.replace(sequence, None, late_until, observed.now, observed.desired.rotation.overlap).plan_ids =
        observed.noted(sequence);
    make_next(observed, recorded, sequence.next(), None)
}

/// The key is known but its Secret is not right: read the credentials again. Where the key is gone, does not show them
/// again, or is to be rotated because the user asked for it, make the next one.
fn recover(observed: &Observed, lost: &KeyRecord) -> Step {
    let (sequence, next) = (lost.sequence, lost.sequence.next());
    let RunState { absent, conflicting, .. } = &observed.run;
    // One that was gone once is of no use, even if a late answer has brought it back.
    let gone = absent.contains(&sequence) || observed.recorded.departure(sequence).is_some();
    let is_unwanted = gone || rotation::is_requested(observed, lost);
    if is_unwanted && !gone && observed.desired.rotation.makes_room {
        return make_room(observed, advanced_to(observed, lost), lost);
    }
    let is_in_the_way = [Some(sequence), Some(next)].contains(conflicting);
    if is_unwanted || is_hidden(observed, lost) || is_in_the_way {
        if let Some(unusable) = unusable(observed, next) {
            return give_back(observed, unusable);
        }
        let recorded = advanced_to(observed, lost);
        if recorded.attempt() != Some(next) && is_to_be_rehearsed(observed) {
            return Step::Apply(KubernetesEffect::RehearseSecret);
        }
        if let Some(oldest) = crowding(&recorded) {
            return make_way(observed, recorded, oldest);
        }
        let predecessor = (!gone).then_some(sequence);
        return make_next(observed, recorded, next, predecessor);
    }
    if let Some(unusable) = unusable(observed, sequence) {
        return give_back(observed, unusable);
    }
    read_again(observed, lost)
}

/// Asks for the credentials of a key that exists. A repeated bind may create it again, which is of no use where the Secret
/// can't be written.
fn read_again(observed: &Observed, key: &KeyRecord) -> Step {
    if observed.run.unreadable != Some(key.sequence) {
        Step::Execute(RemoteEffect::Fetch(key.sequence))
    } else if is_to_be_rehearsed(observed) {
        Step::Apply(KubernetesEffect::RehearseSecret)
    } else {
        Step::Execute(RemoteEffect::Repeat(key.sequence))
    }
}

/// Whether the remote side shows the credentials of this key no more, neither to a fetch nor to a repeated bind.
fn is_hidden(observed: &Observed, key: &KeyRecord) -> bool {
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

/// Whether it is unknown if the Secret that is there can be written: it may be immutable, or have another type.
fn is_to_be_rehearsed(observed: &Observed) -> bool {
    observed.secret != SecretView::Absent && !observed.run.rehearsed
}

/// The key that has to go before another one is made: there are never more than the next, the current and one before it.
fn crowding(recorded: &Recorded) -> Option<Sequence> {
    recorded.previous.first().filter(|_| recorded.previous.len() > 1).map(|previous| previous.sequence)
}

/// Revokes the oldest key, before another one takes the place of a key whose credentials are lost.
fn make_way(observed: &Observed, mut recorded: Recorded, oldest: Sequence) -> Step {
    if let Some(failure) = &observed.run.failure {
        return Step::Wait(report::failed(observed, failure));
    }
    let late = late_until(observed, oldest).filter(|late| *late > observed.now);
    if let Some(late) = late.filter(|_| observed.run.revoked.contains_key(&oldest)) {
        return Step::Wait(Wait::new(Requeue::At(late), report::replacing_lost(observed, recorded)));
    }
    if !is_gone(observed, oldest) {
        return unbind(observed, oldest);
    }
    recorded.previous.retain(|previous| previous.sequence != oldest);
    Step::record(report::replacing_lost(observed, recorded))
}

/// The Secret is right: bring the status up to it, revoke what is due, rotate when it is time.
fn keep(observed: &Observed, key: &KeyRecord) -> Step {
    if is_to_be_confirmed(observed, key) {
        return confirm(observed, key);
    }
    let mut recorded = advanced_to(observed, key);
    if observed.run.absent.contains(&key.sequence) {
        recorded.gone = recorded.gone.or(Some(gone(observed, key, LossCause::Lost)));
    }
    if let (Some(key), Some(found)) = (&mut recorded.key, &observed.run.present)
        && key.sequence == found.sequence
    {
        key.id = Some(found.id.clone());
        key.name = found.name.clone().or(key.name.take());
    }
    if recorded != observed.recorded {
        return Step::record(report::settled(observed, &recorded, key));
    }
    if !observed.desired.finalizer {
        return Step::Apply(KubernetesEffect::AddFinalizer);
    }
    if let Some(next) =
        observed.run.in_hand.as_ref().filter(|in_hand| Some(in_hand.sequence) == recorded.attempt())
    {
        return match &observed.run.failure {
            None => store(observed, next),
            Some(failure) => Step::Wait(report::rotation_failed(observed, key, failure)),
        };
    }
    if let Some(step) = mend(observed, &recorded, key) {
        return step;
    }
    let is_outdated = |previous| !observed.desired.keeps_previous || !is_valid(observed, &recorded, previous);
    if observed.secret.previous().is_some_and(is_outdated) {
        return omit_previous(observed, key);
    }
    if let Some(unusable) = unusable_next(observed, key)
        && is_to_be_given_back(observed, unusable)
        && matches!(observed.provider, ProviderView::Available)
        && !revoke_failed(observed)
    {
        return unbind(observed, unusable.sequence);
    }
    let pending = RemoteDuties::of(observed, key);
    match &observed.provider {
        ProviderView::Available if pending.anything() => pending.next_step(observed, recorded, key),
        ProviderView::Closed(_) if pending.revokes() => {
            RemoteDuties { doubt: false, rotation: false, room: false, ..pending }
                .next_step(observed, recorded, key)
        }
        ProviderView::Closed(problem) | ProviderView::Unavailable(problem)
            if pending.rotation || pending.revokes() =>
        {
            Step::Wait(report::rotation_waiting(observed, key, problem))
        }
        _ => match (unusable_next(observed, key), &observed.run.failure) {
            (Some(_), Some(failure)) => Step::Wait(report::rotation_failed(observed, key, failure)),
            (Some(unusable), None) => Step::Wait(report::rotation_blocked(observed, key, unusable)),
            (None, _) => Step::Wait(report::rest_settled(observed, key)),
        },
    }
}

/// Repairs a Secret whose entries are right, with the same key. If new templates need the credentials and the remote side
/// does not show them again, the next key replaces this one in order.
fn mend(observed: &Observed, recorded: &Recorded, key: &KeyRecord) -> Option<Step> {
    let flaw = observed.secret.flaw()?;
    let is_gone = recorded.departure(key.sequence).is_some();
    if observed.desired.problem.is_some() || is_gone || needs_another_key(observed, recorded, key) {
        return None;
    }
    let in_hand = observed.run.in_hand.as_ref().filter(|in_hand| in_hand.sequence == key.sequence);
    if let Some(failure) = &observed.run.failure {
        return Some(Step::Wait(report::rotation_failed(observed, key, failure)));
    }
    if let Some(in_hand) = in_hand {
        return Some(store(observed, in_hand));
    }
    if let Some(until) = repair_waits(observed) {
        return Some(Step::Wait(report::repair_waits(observed, key, until)));
    }
    Some(match (flaw, observed.provider.obstacle()) {
        (Flaw::Edited, _) => Step::Apply(KubernetesEffect::RestoreSecret),
        (Flaw::Outdated, Some(problem)) => Step::Wait(report::rotation_waiting(observed, key, problem)),
        (Flaw::Outdated, None) => read_again(observed, key),
    })
}

/// Whether the templates have changed and the credentials of the key are not shown again. Once the next key is written
/// down, nothing else is tried.
fn needs_another_key(observed: &Observed, recorded: &Recorded, key: &KeyRecord) -> bool {
    let is_hidden = is_hidden(observed, key) || observed.run.conflicting == Some(key.sequence);
    let is_begun = recorded.attempt().is_some_and(|attempt| attempt > key.sequence);
    observed.secret.flaw() == Some(Flaw::Outdated) && (is_hidden || is_begun)
}

/// Whether the Secret claims to hold a key that nothing explains, and the remote side can tell whether there is one.
fn is_to_be_confirmed(observed: &Observed, key: &KeyRecord) -> bool {
    let is_stored = observed.run.stored.as_ref().is_some_and(|stored| stored.sequence == key.sequence);
    let explained = observed.recorded.explains(key.sequence) || is_stored;
    observed.marks_keys && !explained && !observed.run.has_seen(key.sequence)
}

/// Asks whether there is such a key before anything follows from it.
fn confirm(observed: &Observed, key: &KeyRecord) -> Step {
    match (observed.provider.obstacle(), &observed.run.failure) {
        (Some(problem), _) => Step::Wait(report::waiting(observed, problem)),
        (None, Some(failure)) => Step::Wait(report::failed(observed, failure)),
        (None, None) => Step::Execute(RemoteEffect::Confirm(key.sequence)),
    }
}

/// The memory once the Secret holds the credentials of `key`.
fn advanced_to(observed: &Observed, key: &KeyRecord) -> Recorded {
    observed.recorded.advanced_to(key, observed)
}

fn gone(observed: &Observed, key: &KeyRecord, why: LossCause) -> LostKey {
    LostKey { sequence: key.sequence, since: full_second(observed.now), why }
}

/// The key after this one, where no Secret can hold it.
fn unusable_next<'a>(observed: &'a Observed, key: &KeyRecord) -> Option<&'a Unusable> {
    known_unusable(observed).filter(|unusable| unusable.sequence > key.sequence)
}

/// What is to be done at the remote side besides the current key.
struct RemoteDuties {
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

impl RemoteDuties {
    fn of(observed: &Observed, key: &KeyRecord) -> Self {
        let gone = observed.recorded.departure(key.sequence).is_some();
        let due =
            gone || rotation::is_due(observed, key) || needs_another_key(observed, &observed.recorded, key);
        // What was begun is carried through: the key may be revoked by now.
        let making_room = observed.recorded.makes_room() && !gone;
        let rotation = observed.desired.problem.is_none() && due || making_room;
        let rotation = rotation && unusable_next(observed, key).is_none();
        // One more key would be more than the set allows: the oldest goes first.
        let crowded = rotation && observed.recorded.previous.len() > 1;
        let over = |sequence| late_until(observed, sequence).is_none_or(|late| late <= observed.now);
        let revocation = observed
            .recorded
            .previous
            .iter()
            .filter(|previous| over(previous.sequence))
            .find(|previous| crowded || is_over(previous, observed))
            .map(|previous| previous.sequence);
        let discarded = observed.recorded.attempt().filter(|_| !rotation);
        let is_unsure = observed.missed == Some(key.sequence) || key.id.is_none();
        Self {
            doubt: is_unsure && !observed.run.has_seen(key.sequence) && !gone,
            revocation,
            clean_up: to_clean_up(observed),
            discarded_attempt: discarded.filter(|sequence| over(*sequence)),
            rotation: rotation && !(crowded && (revoke_failed(observed) || revocation.is_none())),
            room: making_room || observed.desired.rotation.makes_room && !gone,
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
    fn next_step(&self, observed: &Observed, recorded: Recorded, key: &KeyRecord) -> Step {
        if self.doubt && observed.run.failure.is_none() {
            return Step::Execute(RemoteEffect::Confirm(key.sequence));
        }
        if let Some(sequence) = self.clean_up {
            return unbind(observed, sequence);
        }
        let unwanted = self.revocation.or(self.discarded_attempt).filter(|_| !revoke_failed(observed));
        if let Some(sequence) = unwanted {
            return revoke(observed, recorded, sequence, key);
        }
        match &observed.run.failure {
            Some(failure) if self.room && failure.attempted == Attempted::Revoke => {
                Step::Wait(report::rotation_failed(observed, key, failure))
            }
            failure if self.rotation && !failure.as_ref().is_some_and(holds_up_a_rotation) => {
                if self.room {
                    return make_room(observed, recorded, key);
                }
                let next = key.sequence.next();
                let is_unasked =
                    needs_another_key(observed, &recorded, key) && recorded.attempt() != Some(next);
                if is_unasked && is_to_be_rehearsed(observed) {
                    return Step::Apply(KubernetesEffect::RehearseSecret);
                }
                let predecessor = recorded.gone.is_none().then_some(key.sequence);
                make_next(observed, recorded, next, predecessor)
            }
            Some(failure) if failure.attempted == Attempted::Confirm => {
                Step::Wait(report::unconfirmed(observed, key, failure))
            }
            Some(failure) => Step::Wait(report::rotation_failed(observed, key, failure)),
            None => Step::Wait(report::rest_settled(observed, key)),
        }
    }
}

const fn holds_up_a_rotation(failure: &Failure) -> bool {
    !matches!(failure.attempted, Attempted::Revoke | Attempted::Confirm)
}

fn revoke_failed(observed: &Observed) -> bool {
    observed.run.failure.as_ref().is_some_and(|failure| failure.attempted == Attempted::Revoke)
}

/// Revokes a key that is not the current one, and forgets it once it is gone.
fn revoke(observed: &Observed, mut recorded: Recorded, sequence: Sequence, key: &KeyRecord) -> Step {
    // A key that the remote side is still making can't be revoked yet.
    if let Some(work) = pending_operation(observed, RemoteOperation::Bind, sequence) {
        return follow(observed, work);
    }
    if observed.secret.previous() == Some(sequence) {
        return omit_previous(observed, key);
    }
    if !is_gone(observed, sequence) {
        return unbind(observed, sequence);
    }
    recorded.previous.retain(|previous| previous.sequence != sequence);
    recorded.operation = recorded.operation.filter(|operation| operation.sequence != sequence);
    Step::record(report::settled(observed, &recorded, key))
}

/// Revokes the current key, so that there is room for the next one. The status says so first: whatever becomes of the
/// wish to have another one, the current one is of no use from then on.
fn make_room(observed: &Observed, mut recorded: Recorded, key: &KeyRecord) -> Step {
    let next = key.sequence.next();
    if !observed.run.revoked.contains_key(&key.sequence) && !observed.run.rehearsed {
        return Step::Apply(KubernetesEffect::RehearseSecret);
    }
    if !recorded.makes_room() {
        recorded.operation = Some(Operation::revoke_first(next));
        return Step::record(report::rotating(observed, recorded, next));
    }
    if !observed.run.revoked.contains_key(&key.sequence) {
        return unbind(observed, key.sequence);
    }
    recorded.operation = Some(Operation::bind(next).with_plan(observed.plan.ids().cloned()));
    recorded.gone = Some(gone(observed, key, LossCause::Revoked));
    Step::record(report::settled(observed, &recorded, key))
}

/// Makes the key that follows the current one. The status says so first: only what it names may exist.
fn make_next(
    observed: &Observed,
    mut recorded: Recorded,
    next: Sequence,
    predecessor: Option<Sequence>,
) -> Step {
    if recorded.attempt() != Some(next) {
        if observed.plan == PlanView::Unknown {
            return read_plan(observed);
        }
        recorded.operation = Some(Operation::bind(next).with_plan(observed.plan.ids().cloned()));
        return Step::record(report::rotating(observed, recorded, next));
    }
    if observed.run.conflicting == Some(next) {
        return unbind(observed, next);
    }
    make(observed, next, predecessor)
}

fn newest<'a>(a: Option<&'a KeyRecord>, b: Option<&'a KeyRecord>) -> Option<&'a KeyRecord> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.sequence > a.sequence { b } else { a }),
        (a, b) => a.or(b),
    }
}
