//! The Secret is missing or wrong: get credentials for it, of the same key if possible.

use jiff::Timestamp;

use super::{
    Attempted, Desired, ErrorClass, Failure, KeyRecord, KubernetesEffect, Observed, PreviousKey, Recorded,
    RemoteEffect, Requeue, RunState, SecretView, Sequence, Step, Unusable, Wait, consumers,
    create::{self, NewKey},
    full_second,
    operation::{is_finally_revoked, late_until, may_return_until},
    order::decisions,
    report,
    revoke::{outwait_late_revocation, to_clean_up, unbind},
    revoke_first::{self, CurrentKey},
    rotation, unusable, verification,
};

decisions! {
    /// The Secret is missing or wrong, so consumers may have no credentials.
    "Restore the Secret", Observed => Step:

    /// Another writer was faster each time. The report has to say whether the Secret still contains credentials that
    /// work.
    look_up_contested_secret,
    /// An attempt failed. Its backoff ends first, unless a key of a request with an unknown outcome has to be revoked.
    wait_for_failed_attempt,
    /// A watch that restarts shows no Secret for a moment, so the operator reads the Secret that it has just stored.
    look_up_stored_secret,
    /// The Secret disappeared before the status named its key. After the status names it, this is a repair, which has a
    /// backoff.
    record_stored_key,
    /// Only the user can correct the spec.
    wait_for_spec,
    /// The remote side can't be called, or the provider permits no key.
    wait_for_provider,
    /// Every user who may edit the Secret can name a key in it. The remote side has to show that key first.
    confirm_claimed_key,
    /// A quota or a policy may refuse the Secret. The operator finds out before it creates a first key.
    rehearse_secret,
    /// The cache contains only Secrets of the operator, so the operator looks by name for one of another owner.
    look_up_secret,
    /// The operator never writes a Secret of another owner, so it creates no key for one.
    refuse_foreign_secret,
    /// A ServiceKey that can't get a key gets no finalizer, because the user corrects it by deleting it.
    check_instance,
    /// No step that can create a key comes before the finalizer.
    add_finalizer,
    /// A request with an unknown outcome may have created a key, which would conflict with the next attempt.
    clean_up_lost_key,
    /// The user wants the service to accept new credentials before they are published.
    verify_credentials,
    /// The remote side may show credentials only once, so the operator stores them before it calls again.
    store_credentials,
    /// The service did not accept the key in time, so its credentials are of no use.
    discard_refused_credentials,
    /// The service did not accept the key in time.
    revoke_refused_key,
    /// The key is gone, so the next one may have its number.
    record_refused_key,
    /// The service may accept another key later.
    wait_after_refused_key,
    /// Another writer that undoes each repair at once must not cause endless repairs.
    wait_for_contested_secret,
    /// The next key is not verified yet, or was refused. Workloads need the current one meanwhile.
    read_current_credentials,
    /// The user requested another key, and the service allows only one.
    revoke_current_key_first,
    /// The credentials of this key fit no Secret, and no workload can use them.
    revoke_unusable_key,
    /// Another key would be just as unusable until the ServiceKey or its provider changes.
    wait_for_usable_key,
    /// An attempt without an answer created the first key from other fields, and no Secret contains its credentials.
    revoke_unstored_first_key,
    /// An attempt without an answer created the first key from other fields, and the Secret may contain its
    /// credentials.
    replace_first_key,
    /// The operator creates no other key for a Secret that the API server refuses to write.
    rehearse_secret_of_next_key,
    /// A request for the oldest key may still take effect. The last revocation comes after that time.
    wait_for_late_oldest_key,
    /// Only the three newest keys may exist, so the operator revokes the oldest before it creates another one.
    revoke_oldest_key,
    /// The oldest key is gone, so the status need not name it any more.
    forget_oldest_key,
    /// The key is gone, its credentials are not returned again, or the user requested another one.
    create_next_key,
    /// An earlier request to revoke this key may still take effect, so its credentials may soon be of no use.
    wait_for_late_revocation,
    /// The key exists, and the remote side may return its credentials again.
    read_credentials,
    else
    /// No key is known.
    create_first_key
}

fn look_up_contested_secret(observed: &Observed) -> Option<Step> {
    let Failure { attempted, class, .. } = observed.run.failure.as_ref()?;
    let is_contested = *attempted == Attempted::Store && *class == ErrorClass::Transient;
    if is_contested { look_up_secret(observed) } else { None }
}

fn wait_for_failed_attempt(observed: &Observed) -> Option<Step> {
    let failure = observed.run.failure.as_ref()?;
    // A confirmation comes before the clean-up, so it would be repeated at once.
    let comes_first = failure.attempted == Attempted::Confirm;
    (comes_first || to_clean_up(observed).is_none()).then(|| Step::Wait(report::failed(observed, failure)))
}

/// The key whose credentials this process stored, if the status does not name it.
fn stored_key(observed: &Observed) -> Option<&KeyRecord> {
    let is_unknown = |stored: &&KeyRecord| {
        observed.recorded.key.as_ref().is_none_or(|known| known.sequence < stored.sequence)
    };
    observed.run.stored.as_ref().filter(is_unknown).filter(|_| observed.desired.finalizer)
}

fn look_up_stored_secret(observed: &Observed) -> Option<Step> {
    stored_key(observed)?;
    (observed.secret == SecretView::Unknown).then_some(Step::Apply(KubernetesEffect::LookUpSecret))
}

fn record_stored_key(observed: &Observed) -> Option<Step> {
    let stored = stored_key(observed)?;
    let recorded = observed.recorded.advanced_to(stored, observed);
    Some(Step::record(report::overwritten(observed, recorded, stored.sequence)))
}

fn wait_for_spec(observed: &Observed) -> Option<Step> {
    let problem = observed.desired.problem.as_ref()?;
    Some(Step::Wait(report::waiting(observed, problem)))
}

fn wait_for_provider(observed: &Observed) -> Option<Step> {
    let problem = observed.provider.obstacle()?;
    Some(Step::Wait(report::waiting(observed, problem)))
}

fn confirm_claimed_key(observed: &Observed) -> Option<Step> {
    let key = observed.secret.key().filter(|key| observed.is_only_claimed(key))?;
    Some(Step::Execute(RemoteEffect::Confirm(key.sequence)))
}

/// Whether a known key was created, or may have been.
fn knows_a_key(observed: &Observed) -> bool {
    let Observed { recorded, secret, run, .. } = observed;
    *recorded != Recorded::default() || secret.key().is_some() || run.in_hand.is_some()
}

fn rehearse_secret(observed: &Observed) -> Option<Step> {
    let is_for_first_key = observed.secret == SecretView::Unknown && !knows_a_key(observed);
    is_for_first_key.then_some(Step::Apply(KubernetesEffect::RehearseSecret))
}

fn look_up_secret(observed: &Observed) -> Option<Step> {
    (observed.secret == SecretView::Unknown).then_some(Step::Apply(KubernetesEffect::LookUpSecret))
}

fn refuse_foreign_secret(observed: &Observed) -> Option<Step> {
    match &observed.secret {
        SecretView::Foreign { holder } => Some(Step::Wait(report::secret_conflict(observed, holder))),
        SecretView::Unknown
        | SecretView::Absent
        | SecretView::Former { .. }
        | SecretView::Damaged { .. }
        | SecretView::Intact { .. } => None,
    }
}

fn check_instance(observed: &Observed) -> Option<Step> {
    let is_checked = observed.desired.finalizer || observed.run.instance_checked || knows_a_key(observed);
    (!is_checked).then_some(Step::Execute(RemoteEffect::CheckInstance))
}

fn add_finalizer(observed: &Observed) -> Option<Step> {
    (!observed.desired.finalizer).then_some(Step::Apply(KubernetesEffect::AddFinalizer))
}

fn clean_up_lost_key(observed: &Observed) -> Option<Step> {
    to_clean_up(observed).map(|sequence| unbind(observed, sequence))
}

/// The key in hand, if its credentials are wanted.
fn wanted_in_hand(observed: &Observed) -> Option<&KeyRecord> {
    let oldest_wanted = newest_known_key(observed).map_or(Sequence::FIRST, |key| key.sequence);
    let is_wanted = |key: &&KeyRecord| {
        key.sequence >= oldest_wanted
            && observed.recorded.loss_of(key.sequence).is_none()
            && verification::refused(observed, key.sequence).is_none()
    };
    observed.run.in_hand.as_ref().filter(is_wanted)
}

/// The step of a verification. While the next key is verified, the Secret gets the current one.
fn verify_credentials(observed: &Observed) -> Option<Step> {
    let unverified = verification::unverified(observed, wanted_in_hand(observed)?)?;
    match verification::decide(&unverified) {
        step @ Step::Apply(KubernetesEffect::StageCredentials(_)) => Some(step),
        step => readable_meanwhile(observed).is_none().then_some(step),
    }
}

fn store_credentials(observed: &Observed) -> Option<Step> {
    let key = wanted_in_hand(observed)?;
    verification::unverified(observed, key).is_none().then(|| store(observed, key))
}

/// The number of the next key, if the service did not accept it in time.
fn refused_key(observed: &Observed) -> Option<(Sequence, verification::Refused)> {
    let next = newest_known_key(observed).map(|known| known.sequence.next());
    let sequence = next.unwrap_or_else(|| first_sequence(observed));
    verification::refused(observed, sequence).map(|refused| (sequence, refused))
}

fn discard_refused_credentials(observed: &Observed) -> Option<Step> {
    refused_key(observed)?;
    observed.staging.is_ours().then_some(Step::Apply(KubernetesEffect::DiscardStaged))
}

fn revoke_refused_key(observed: &Observed) -> Option<Step> {
    let (sequence, refused) = refused_key(observed)?;
    let is_done = is_finally_revoked(observed, sequence) || may_return_until(observed, sequence).is_some();
    (!refused.revoked && !is_done).then(|| unbind(observed, sequence))
}

fn record_refused_key(observed: &Observed) -> Option<Step> {
    let (sequence, refused) = refused_key(observed)?;
    let recorded = observed.recorded.clone().after_revocation(sequence);
    let is_gone = !refused.revoked && is_finally_revoked(observed, sequence);
    is_gone.then(|| Step::record(report::verification_failed(observed, recorded)))
}

/// The current key, if its credentials may be read again while the next one is verified or waits.
fn readable_meanwhile(observed: &Observed) -> Option<&KeyRecord> {
    newest_known_key(observed).filter(|key| {
        let can_be_read = !is_lost(observed, key)
            && !are_hidden(observed, key)
            && observed.run.conflicting != Some(key.sequence);
        can_be_read && verification::is_under_way(observed, key.sequence.next())
    })
}

fn wait_after_refused_key(observed: &Observed) -> Option<Step> {
    let (sequence, refused) = refused_key(observed)?;
    let late = may_return_until(observed, sequence).filter(|_| !refused.revoked);
    let until = late.unwrap_or(refused.until);
    let waits = late.is_some() || readable_meanwhile(observed).is_none();
    waits.then(|| Step::Wait(report::waiting_after_verification(observed, until)))
}

/// Reads the credentials of the current key while the next one is verified or waits.
fn read_current_credentials(observed: &Observed) -> Option<Step> {
    let key = readable_meanwhile(observed)?;
    Some(outwait_late_revocation(observed, key.sequence).unwrap_or_else(|| read_again(observed, key)))
}

fn wait_for_contested_secret(observed: &Observed) -> Option<Step> {
    let until = contested_until(observed)?;
    Some(Step::Wait(report::contested(observed, until)))
}

/// The newest key that the status or the Secret names.
fn newest_known_key(observed: &Observed) -> Option<&KeyRecord> {
    let known = observed.secret.key().into_iter().chain(&observed.recorded.key);
    known.max_by_key(|key| key.sequence)
}

/// Whether the key is gone. A key that was gone once is of no use, even if a late request has created it again.
fn is_lost(observed: &Observed, key: &KeyRecord) -> bool {
    observed.run.absent.contains(&key.sequence) || observed.recorded.loss_of(key.sequence).is_some()
}

fn revoke_current_key_first(observed: &Observed) -> Option<Step> {
    let key = newest_known_key(observed).filter(|key| {
        observed.desired.rotation.revokes_first
            && rotation::is_requested(observed, key)
            && !is_lost(observed, key)
    })?;
    let recorded = observed.recorded.advanced_to(key, observed);
    Some(revoke_first::decide(&CurrentKey { observed, key, recorded }))
}

/// The key that the next one replaces, because its credentials are not available or not wanted.
fn replaced_key(observed: &Observed) -> Option<&KeyRecord> {
    newest_known_key(observed).filter(|key| {
        let in_the_way = [key.sequence, key.sequence.next()].map(Some);
        is_lost(observed, key)
            || rotation::is_requested(observed, key)
            || are_hidden(observed, key)
            || in_the_way.contains(&observed.run.conflicting)
    })
}

/// The number of the first key or of its replacement: that of the last attempt, or 1.
fn first_sequence(observed: &Observed) -> Sequence {
    observed.recorded.attempt().unwrap_or(Sequence::FIRST)
}

/// The wanted key, if its credentials fit no Secret.
fn unusable_key(observed: &Observed) -> Option<&Unusable> {
    let replaced = replaced_key(observed).map(|key| key.sequence.next());
    let known = || newest_known_key(observed).map(|key| key.sequence);
    unusable::of(observed, replaced.or_else(known).unwrap_or_else(|| first_sequence(observed)))
}

fn revoke_unusable_key(observed: &Observed) -> Option<Step> {
    let unusable = unusable_key(observed)?;
    let stays = unusable::may_be_in_use(observed, unusable.sequence);
    let is_due = !stays && unusable::is_to_be_revoked(observed, unusable);
    is_due.then(|| unbind(observed, unusable.sequence))
}

fn wait_for_usable_key(observed: &Observed) -> Option<Step> {
    let unusable = unusable_key(observed)?;
    Some(Step::Wait(report::waiting_for_another_key(observed, unusable)))
}

/// The first key, if an attempt without an answer created it from other fields, or its credentials are not returned
/// again.
fn conflicting_first_key(observed: &Observed) -> Option<Sequence> {
    let sequence = first_sequence(observed);
    let is_in_the_way = newest_known_key(observed).is_none() && observed.run.conflicting == Some(sequence);
    is_in_the_way.then_some(sequence)
}

fn revoke_unstored_first_key(observed: &Observed) -> Option<Step> {
    let sequence = conflicting_first_key(observed)?;
    (observed.secret == SecretView::Absent).then(|| unbind(observed, sequence))
}

fn replace_first_key(observed: &Observed) -> Option<Step> {
    let sequence = conflicting_first_key(observed)?;
    let late_until = late_until(observed, sequence).map(full_second);
    let mut recorded = observed.recorded.clone();
    recorded.replace(sequence, None, late_until, observed.now, observed.desired.rotation.overlap).plan_ids =
        observed.noted(sequence);
    let sequence = sequence.next();
    Some(create::decide(&NewKey { observed, sequence, predecessor: None, recorded: Some(recorded) }))
}

/// The key that the next one replaces, and the record that is up to date with that key.
fn replacement(observed: &Observed) -> Option<(&KeyRecord, Recorded)> {
    let key = replaced_key(observed)?;
    Some((key, observed.recorded.advanced_to(key, observed)))
}

fn rehearse_secret_of_next_key(observed: &Observed) -> Option<Step> {
    let (key, recorded) = replacement(observed)?;
    let is_begun = recorded.attempt() == Some(key.sequence.next());
    (!is_begun && is_to_be_rehearsed(observed)).then_some(Step::Apply(KubernetesEffect::RehearseSecret))
}

/// The key to revoke before another one is created, and the record meanwhile.
fn oldest_key(observed: &Observed) -> Option<(Sequence, Recorded)> {
    let (key, recorded) = replacement(observed)?;
    let oldest = recorded.previous.iter().find(|previous| previous.is_in_the_way(key.sequence))?.sequence;
    Some((oldest, recorded))
}

fn wait_for_late_oldest_key(observed: &Observed) -> Option<Step> {
    let (oldest, recorded) = oldest_key(observed)?;
    let late = may_return_until(observed, oldest)?;
    Some(Step::Wait(Wait::new(Requeue::At(late), report::replacing_lost(observed, recorded))))
}

fn revoke_oldest_key(observed: &Observed) -> Option<Step> {
    let (oldest, _) = oldest_key(observed)?;
    (!is_finally_revoked(observed, oldest)).then(|| unbind(observed, oldest))
}

fn forget_oldest_key(observed: &Observed) -> Option<Step> {
    let (oldest, mut recorded) = oldest_key(observed)?;
    recorded.previous.retain(|previous| previous.sequence != oldest);
    Some(Step::record(report::replacing_lost(observed, recorded)))
}

fn create_next_key(observed: &Observed) -> Option<Step> {
    let (key, recorded) = replacement(observed)?;
    let predecessor = (!is_lost(observed, key)).then_some(key.sequence);
    let (sequence, recorded) = (key.sequence.next(), Some(recorded));
    Some(create::decide(&NewKey { observed, sequence, predecessor, recorded }))
}

fn wait_for_late_revocation(observed: &Observed) -> Option<Step> {
    outwait_late_revocation(observed, newest_known_key(observed)?.sequence)
}

fn read_credentials(observed: &Observed) -> Option<Step> {
    newest_known_key(observed).map(|key| read_again(observed, key))
}

fn create_first_key(observed: &Observed) -> Step {
    create::decide(&NewKey::first(observed, first_sequence(observed)))
}

pub(super) fn store(observed: &Observed, key: &KeyRecord) -> Step {
    // Statuses contain full seconds, and the status must be able to repeat the value in the Secret.
    let late_until = late_until(observed, key.sequence).map(full_second);
    let key = Box::new(KeyRecord { late_until, ..key.clone() });
    let previous = companion(observed, key.sequence);
    Step::Apply(KubernetesEffect::WriteSecret { key, previous })
}

/// The previous key whose credentials stay in the Secret in addition to those of this one, for as long as it is valid.
fn companion(observed: &Observed, sequence: Sequence) -> Option<Sequence> {
    let Desired { keeps_previous, rotation, .. } = &observed.desired;
    let held = observed.secret.key()?.sequence;
    let is_replaced_now = held < sequence;
    let previous = if is_replaced_now { Some(held) } else { observed.secret.previous() };
    let stays_valid = |previous: &Sequence| {
        if is_replaced_now {
            let has_overlap = !rotation.overlap.is_zero() || rotation.max_overlap.is_some();
            has_overlap && observed.recorded.loss_of(*previous).is_none()
        } else {
            is_valid(observed, *previous)
        }
    };
    previous.filter(|previous| *keeps_previous && stays_valid(previous))
}

/// Whether the overlap of a replaced key has not ended.
pub(super) fn is_valid(observed: &Observed, sequence: Sequence) -> bool {
    let mut previous = observed.recorded.previous.iter();
    let stays = || consumers::may_be_used(observed, sequence);
    previous.any(|previous| previous.sequence == sequence && (!is_over(previous, observed) || stays()))
}

/// Whether the overlap of a replaced key has ended.
pub(super) fn is_over(previous: &PreviousKey, observed: &Observed) -> bool {
    previous.revoke_at.is_some_and(|revoke_at| revoke_at <= observed.now)
}

pub(super) fn omit_previous(observed: &Observed, key: &KeyRecord) -> Step {
    match &observed.run.failure {
        Some(failure) if failure.attempted == Attempted::Store => {
            Step::Wait(report::rotation_failed(observed, key, failure))
        }
        _ => Step::Apply(KubernetesEffect::OmitPrevious),
    }
}

/// Reads the credentials of an existing key. A repeated bind may create the key again, which is of no use if the Secret
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

/// Whether neither a fetch nor a repeated bind returns the credentials of this key again.
pub(super) fn are_hidden(observed: &Observed, key: &KeyRecord) -> bool {
    let RunState { unreadable, unrepeatable, in_hand, .. } = &observed.run;
    let is_in_hand = in_hand.as_ref().is_some_and(|in_hand| in_hand.sequence == key.sequence);
    let is_shown_by_a_repeat = *unrepeatable != Some(key.sequence) && can_be_repeated(observed, key);
    *unreadable == Some(key.sequence) && !is_in_hand && !is_shown_by_a_repeat
}

/// Whether the request that created the key can be sent again without creating another one. The operator must derive
/// the key's id, and the fields that the key is created from must be unchanged.
fn can_be_repeated(observed: &Observed, key: &KeyRecord) -> bool {
    !observed.marks_keys && observed.desired.inputs.is_fulfilled_by(&key.inputs)
}

/// Whether the operator still has to find out if the existing Secret can be written. It may be immutable, or have
/// another type.
pub(super) fn is_to_be_rehearsed(observed: &Observed) -> bool {
    observed.secret != SecretView::Absent && !observed.run.rehearsed
}

/// The time of the next repair, if the last one was a moment ago. Another writer may undo each repair at once.
pub(super) fn contested_until(observed: &Observed) -> Option<Timestamp> {
    observed.repair_from.filter(|from| *from > observed.now)
}
