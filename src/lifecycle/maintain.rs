//! The Secret's entries are right: update the status, repair the rest of the Secret, revoke keys that are due, and
//! rotate on schedule.

use jiff::Timestamp;

use super::{
    Attempted, Flaw, KeyRecord, KubernetesEffect, Loss, LossCause, Observed, PreviousKey, ProviderView,
    Recorded, RemoteEffect, RotationPolicy, Sequence, StagingView, Step, Unusable,
    create::{self, NewKey},
    operation::late_until,
    order::decisions,
    parameters, report, restart,
    restore::{self, are_hidden, is_over, is_to_be_rehearsed, is_valid, omit_previous, read_again, store},
    revoke::{self, Unwanted, to_clean_up, unbind},
    revoke_first::{self, CurrentKey},
    rotation, unusable,
    verification::{self, Unverified},
};

decisions! {
    /// The Secret contains the credentials of the current key, and workloads keep using them during all further steps.
    "Maintain the key", Intact<'_> => Step:

    /// The Secret names a key that the status does not explain, and the provider can't be called to confirm it.
    wait_for_provider_to_confirm,
    /// The operator could not find out whether the remote side has that key. Its backoff ends first.
    wait_for_failed_confirmation,
    /// Every user who may edit the Secret can name a key in it. The remote side has to show that key first.
    confirm_claimed_key,
    /// The status follows the Secret before the operator decides about other keys.
    record_current_key,
    /// A key exists, so the ServiceKey must not disappear before the key is revoked.
    add_finalizer,
    /// The operator has attempted the restart, so no further reconcile has to do it now.
    record_restart,
    /// The kubelets know the current key by now, so new pods start with it.
    restart_workloads,
    /// The user wants another key when the content of `parametersFrom` changes, and it was not read lately.
    read_parameters,
    /// An attempt failed while the next credentials are in hand. Its backoff ends first.
    wait_for_failed_write,
    /// The user wants the service to accept new credentials before they are published.
    verify_next_key,
    /// The remote side may show credentials only once, so the operator stores them before it calls again.
    store_next_key,
    /// The staged credentials are published, or the operator is about to revoke their key.
    discard_staged_credentials,
    /// A repair failed. Its backoff ends before the next one.
    wait_for_failed_repair,
    /// New templates need the credentials, and the remote side has returned them again.
    store_credentials,
    /// Another writer that undoes each repair at once must not cause endless repairs.
    wait_for_contested_secret,
    /// The Secret has all entries, so the operator repairs the rest without the remote side.
    restore_secret,
    /// New templates need the credentials, and the provider can't be called to read them.
    wait_for_provider_to_read,
    /// New templates need the credentials, and the remote side may return them again.
    read_credentials,
    /// No consumer may find a key in the Secret after it was revoked.
    omit_previous_key,
    /// The credentials of the next key fit no Secret, so it is of no use.
    revoke_unusable_key,
    /// The current key was missing in a list, or its id at the remote side is not known.
    confirm_current_key,
    /// A request with an unknown outcome may have created a key.
    clean_up_lost_key,
    /// The overlap of a replaced key is over, or the next key that was begun is no longer wanted.
    revoke_unwanted_key,
    /// The service has not accepted the next key yet.
    wait_for_verification,
    /// The next key is due, and the user chose to revoke the current one first.
    revoke_current_key_first,
    /// The credentials of the current key can't be read again. The operator creates no next key for a Secret that the
    /// API server refuses.
    rehearse_secret,
    /// The current key is gone, has reached its age, was created from other fields, or its credentials are not returned
    /// again.
    create_next_key,
    /// The operator could not find out whether the current key still exists.
    wait_unconfirmed,
    /// A rotation or a revocation is due, and the provider is not ready or does not permit it.
    wait_for_provider,
    /// A rotation or a revocation failed. Its backoff ends before the next attempt.
    wait_for_failed_attempt,
    /// Another key would be just as unusable until the ServiceKey or its provider changes.
    wait_for_usable_key,
    /// Only the three newest keys may exist, and consumers may use each of them until its overlap is over.
    wait_for_overlap,
    else
    /// Nothing is due before the next time in the schedule.
    wait_until_due
}

/// A ServiceKey whose Secret contains the credentials of the current key.
pub(super) struct Intact<'a> {
    pub observed: &'a Observed,
    pub key: &'a KeyRecord,
}

impl<'a> Intact<'a> {
    fn is_only_claimed(&self) -> bool {
        self.observed.is_only_claimed(self.key)
    }

    fn is_gone(&self) -> bool {
        self.observed.recorded.loss_of(self.key.sequence).is_some()
    }

    /// The next key, if its credentials are in hand. The operator does not publish one that is not verified if it is no
    /// longer needed.
    fn next_in_hand(&self) -> Option<&'a KeyRecord> {
        let attempt = self.observed.recorded.attempt()?;
        let in_hand = self.observed.run.in_hand.as_ref().filter(|in_hand| in_hand.sequence == attempt);
        let is_refused = verification::refused(self.observed, attempt).is_some();
        in_hand.filter(|next| {
            let is_verified = verification::unverified(self.observed, next).is_none();
            !is_refused && (is_verified || self.needs_next())
        })
    }

    /// The next key, if its credentials are in hand and have to be verified.
    fn unverified(&self) -> Option<Unverified<'a>> {
        verification::unverified(self.observed, self.next_in_hand()?)
    }

    /// The flaw of the Secret that a repair with the same key can correct.
    fn flaw(&self) -> Option<Flaw> {
        let is_repairable =
            self.observed.desired.problem.is_none() && !self.is_gone() && !self.needs_another_key();
        self.observed.secret.flaw().filter(|_| is_repairable)
    }

    /// Whether the templates have changed and the key's credentials are not returned again. After the next key is
    /// recorded, the operator does not try to read them again.
    fn needs_another_key(&self) -> bool {
        let Self { observed, key } = self;
        let is_hidden = are_hidden(observed, key) || observed.run.conflicting == Some(key.sequence);
        let is_begun = observed.recorded.attempt().is_some_and(|attempt| attempt > key.sequence);
        observed.secret.flaw() == Some(Flaw::Outdated) && (is_hidden || is_begun)
    }

    /// The key after this one, if its credentials fit no Secret.
    fn unusable_next(&self) -> Option<&'a Unusable> {
        unusable::known(self.observed).filter(|unusable| unusable.sequence > self.key.sequence)
    }

    /// Whether the operator has to look up the current key, because its existence or its id is not known.
    fn is_in_doubt(&self) -> bool {
        let Self { observed, key } = self;
        let is_unsure = observed.missed == Some(key.sequence) || key.id.is_none();
        is_unsure && !observed.run.has_seen(key.sequence) && !self.is_gone()
    }

    /// Whether the revocation of the current key before the next one has begun.
    fn revokes_first_now(&self) -> bool {
        self.observed.recorded.revokes_first() && !self.is_gone()
    }

    /// Whether the operator revokes the current key before it creates the next one.
    fn revokes_first(&self) -> bool {
        self.revokes_first_now() || self.observed.desired.rotation.revokes_first && !self.is_gone()
    }

    /// Whether another key is due. A revocation of the current key that has begun is completed, because the key may be
    /// revoked already.
    fn needs_next(&self) -> bool {
        let Self { observed, key } = self;
        let is_refused = verification::refused(observed, key.sequence.next()).is_some();
        let is_due = self.is_gone() || rotation::is_due(observed, key) || self.needs_another_key();
        (observed.desired.problem.is_none() && is_due && !is_refused || self.revokes_first_now())
            && self.unusable_next().is_none()
    }

    /// The replaced keys that have to be gone before the next key is created.
    fn in_the_way(&self) -> impl Iterator<Item = &'a PreviousKey> {
        let current = self.key.sequence;
        self.observed.recorded.previous.iter().filter(move |previous| previous.is_in_the_way(current))
    }

    fn is_crowded(&self) -> bool {
        self.needs_next() && self.in_the_way().next().is_some()
    }

    /// Whether the next key can wait for the overlap of an older one: the current key works, and the user has not set
    /// the overlap to zero since.
    fn can_wait_for_overlap(&self) -> bool {
        let Self { observed, key } = self;
        let RotationPolicy { overlap, max_overlap, .. } = observed.desired.rotation;
        let has_overlap = !overlap.is_zero() || max_overlap.is_some();
        has_overlap && !self.is_gone() && key.expired(observed.now).is_none()
    }

    /// Until when a key that is in the way stays: its overlap ends, and no request can create it again.
    fn stays_until(&self, previous: &PreviousKey) -> Option<Timestamp> {
        let overlap = previous.revoke_at.filter(|_| self.can_wait_for_overlap());
        overlap.max(late_until(self.observed, previous.sequence))
    }

    /// The replaced key that is due to be revoked.
    fn replaced(&self) -> Option<Sequence> {
        let needs_next = self.needs_next();
        let is_due = |previous: &&PreviousKey| {
            let can_wait = previous.revoke_at.is_some() && self.can_wait_for_overlap();
            let is_in_the_way = needs_next && previous.is_in_the_way(self.key.sequence) && !can_wait;
            self.is_final(previous.sequence) && (is_in_the_way || is_over(previous, self.observed))
        };
        self.observed.recorded.previous.iter().find(is_due).map(|previous| previous.sequence)
    }

    /// Whether a revocation of this key would be the last one: no request for it can still take effect.
    fn is_final(&self, sequence: Sequence) -> bool {
        late_until(self.observed, sequence).is_none_or(|late| late <= self.observed.now)
    }

    /// The key to revoke: a replaced one, or the next one if it is no longer wanted.
    fn unwanted(&self) -> Option<Sequence> {
        let attempt = || self.observed.recorded.attempt().filter(|_| !self.needs_next());
        let unwanted = || attempt().or_else(|| self.refused_next());
        self.replaced().or_else(|| unwanted().filter(|sequence| self.is_final(*sequence)))
    }

    /// The next key, if the service did not accept it, and the remote side has not confirmed that it is gone.
    fn refused_next(&self) -> Option<Sequence> {
        let next = self.key.sequence.next();
        verification::refused(self.observed, next).filter(|refused| !refused.revoked).map(|_| next)
    }

    fn revokes(&self) -> bool {
        to_clean_up(self.observed).is_some() || self.unwanted().is_some()
    }

    /// Whether the operator has to create the next key, or to revoke the current one for it.
    fn rotates(&self) -> bool {
        let waits_for_room = revoke::has_failed(self.observed) || self.replaced().is_none();
        self.needs_next() && !(self.is_crowded() && waits_for_room)
    }

    /// Whether the operator can create the next key now. A failed revocation does not block a rotation, unless it must
    /// come first: otherwise each attempt would create a key that the operator has to revoke. A failed confirmation
    /// does not block a rotation either.
    fn can_rotate(&self) -> bool {
        let goes_on = self.observed.run.failure.as_ref().is_none_or(|failure| match failure.attempted {
            Attempted::Revoke => {
                let is_in_the_way = self.observed.run.conflicting == Some(self.key.sequence.next());
                !self.revokes_first() && !is_in_the_way && revoke::lost_key(self.observed).is_none()
            }
            Attempted::Confirm => true,
            Attempted::Provision
            | Attempted::Parameters
            | Attempted::Permission
            | Attempted::Render
            | Attempted::Store
            | Attempted::Release => false,
        });
        self.is_available() && self.rotates() && goes_on
    }

    fn is_available(&self) -> bool {
        matches!(self.observed.provider, ProviderView::Available)
    }

    /// Whether a call to the remote side is due, and the provider permits it.
    fn calls(&self) -> bool {
        match self.observed.provider {
            ProviderView::Available => self.is_in_doubt() || self.revokes() || self.rotates(),
            ProviderView::Closed(_) => self.revokes(),
            ProviderView::Unavailable(_) => false,
        }
    }

    /// Whether a failed attempt, other than a confirmation, holds back the revocation of a replaced key. A rotation and a
    /// revocation that both fail must not take turns without a pause.
    fn is_held_back(&self) -> bool {
        let failure = self.observed.run.failure.as_ref();
        failure.is_some_and(|failure| failure.attempted != Attempted::Confirm)
    }

    /// Whether the remote side can be called to revoke keys.
    fn can_revoke(&self) -> bool {
        match self.observed.provider {
            ProviderView::Available | ProviderView::Closed(_) => true,
            ProviderView::Unavailable(_) => false,
        }
    }
}

fn wait_for_provider_to_confirm(intact: &Intact<'_>) -> Option<Step> {
    let problem = intact.observed.provider.obstacle().filter(|_| intact.is_only_claimed())?;
    Some(Step::Wait(report::waiting(intact.observed, problem)))
}

fn wait_for_failed_confirmation(intact: &Intact<'_>) -> Option<Step> {
    let failure = intact.observed.run.failure.as_ref().filter(|_| intact.is_only_claimed())?;
    Some(Step::Wait(report::failed(intact.observed, failure)))
}

fn confirm_claimed_key(intact: &Intact<'_>) -> Option<Step> {
    intact.is_only_claimed().then_some(Step::Execute(RemoteEffect::Confirm(intact.key.sequence)))
}

fn record_current_key(Intact { observed, key }: &Intact<'_>) -> Option<Step> {
    let mut recorded = observed.recorded.advanced_to(key, observed);
    if observed.run.absent.contains(&key.sequence) {
        recorded.loss = recorded.loss.or(Some(Loss::found(observed, LossCause::Lost)));
    }
    if let (Some(current), Some(found)) = (&mut recorded.key, &observed.run.present)
        && current.sequence == found.sequence
    {
        current.id = Some(found.id.clone());
        current.name = found.name.clone().or(current.name.take());
    }
    if let Some(current) = &mut recorded.key
        && observed.desired.inputs.is_new_baseline_for(&current.inputs)
    {
        current.inputs = observed.desired.inputs.clone();
    }
    (recorded != observed.recorded).then(|| Step::record(report::settled(observed, &recorded, key)))
}

fn add_finalizer(Intact { observed, .. }: &Intact<'_>) -> Option<Step> {
    (!observed.desired.finalizer).then_some(Step::Apply(KubernetesEffect::AddFinalizer))
}

fn record_restart(Intact { observed, key }: &Intact<'_>) -> Option<Step> {
    let recorded = restart::attempted(observed)?;
    Some(Step::record(report::settled(observed, &recorded, key)))
}

fn restart_workloads(Intact { observed, .. }: &Intact<'_>) -> Option<Step> {
    let (restart, companions) = restart::due(observed)?;
    Some(Step::Apply(KubernetesEffect::RestartWorkloads { restart: restart.clone(), companions }))
}

fn wait_for_failed_write(intact: &Intact<'_>) -> Option<Step> {
    intact.next_in_hand()?;
    rotation_failed(intact)
}

fn verify_next_key(intact: &Intact<'_>) -> Option<Step> {
    let step = verification::decide(&intact.unverified()?);
    (!matches!(step, Step::Wait(_))).then_some(step)
}

fn store_next_key(intact: &Intact<'_>) -> Option<Step> {
    let next = intact.next_in_hand()?;
    intact.unverified().is_none().then(|| store(intact.observed, next))
}

fn wait_for_verification(intact: &Intact<'_>) -> Option<Step> {
    Some(verification::decide(&intact.unverified()?))
}

fn discard_staged_credentials(intact: &Intact<'_>) -> Option<Step> {
    let Intact { observed, key } = intact;
    let is_of_use = match observed.staging {
        StagingView::Holds(staged) => {
            staged > key.sequence && observed.recorded.attempt() == Some(staged) && intact.needs_next()
        }
        StagingView::Damaged => false,
        StagingView::Absent | StagingView::Foreign { .. } => return None,
    };
    (!is_of_use).then_some(Step::Apply(KubernetesEffect::DiscardStaged))
}

fn wait_for_failed_repair(intact: &Intact<'_>) -> Option<Step> {
    intact.flaw()?;
    rotation_failed(intact)
}

fn store_credentials(intact: &Intact<'_>) -> Option<Step> {
    intact.flaw()?;
    let in_hand = intact.observed.run.in_hand.as_ref();
    let current = in_hand.filter(|in_hand| in_hand.sequence == intact.key.sequence)?;
    Some(store(intact.observed, current))
}

fn wait_for_contested_secret(intact: &Intact<'_>) -> Option<Step> {
    intact.flaw()?;
    let until = restore::contested_until(intact.observed)?;
    Some(Step::Wait(report::repair_waits(intact.observed, intact.key, until)))
}

fn restore_secret(intact: &Intact<'_>) -> Option<Step> {
    (intact.flaw()? == Flaw::Edited).then_some(Step::Apply(KubernetesEffect::RestoreSecret))
}

fn wait_for_provider_to_read(intact: &Intact<'_>) -> Option<Step> {
    intact.flaw()?;
    let problem = intact.observed.provider.obstacle()?;
    Some(Step::Wait(report::rotation_waiting(intact.observed, intact.key, problem)))
}

fn read_credentials(intact: &Intact<'_>) -> Option<Step> {
    intact.flaw().map(|_| read_again(intact.observed, intact.key))
}

fn omit_previous_key(Intact { observed, key }: &Intact<'_>) -> Option<Step> {
    let previous = observed.secret.previous()?;
    let is_outdated = !observed.desired.keeps_previous || !is_valid(observed, previous);
    is_outdated.then(|| omit_previous(observed, key))
}

fn read_parameters(Intact { observed, key }: &Intact<'_>) -> Option<Step> {
    let is_due = parameters::is_read_due(observed, key) && observed.desired.problem.is_none();
    is_due.then_some(Step::Apply(KubernetesEffect::ReadParameters))
}

fn revoke_unusable_key(intact: &Intact<'_>) -> Option<Step> {
    let (observed, unusable) = (intact.observed, intact.unusable_next()?);
    let is_due = unusable::is_to_be_revoked(observed, unusable) && !revoke::has_failed(observed);
    (is_due && intact.is_available()).then(|| unbind(observed, unusable.sequence))
}

fn confirm_current_key(intact: &Intact<'_>) -> Option<Step> {
    let is_due = intact.is_in_doubt() && intact.observed.run.failure.is_none();
    (is_due && intact.is_available()).then_some(Step::Execute(RemoteEffect::Confirm(intact.key.sequence)))
}

fn clean_up_lost_key(intact: &Intact<'_>) -> Option<Step> {
    let sequence = to_clean_up(intact.observed).filter(|_| intact.can_revoke())?;
    Some(unbind(intact.observed, sequence))
}

fn revoke_unwanted_key(intact: &Intact<'_>) -> Option<Step> {
    let Intact { observed, key } = intact;
    let sequence = intact.unwanted().filter(|_| intact.can_revoke() && !intact.is_held_back())?;
    Some(revoke::decide(&Unwanted { observed, sequence, key }))
}

fn revoke_current_key_first(intact: &Intact<'_>) -> Option<Step> {
    let Intact { observed, key } = intact;
    let recorded = observed.recorded.clone();
    (intact.can_rotate() && intact.revokes_first())
        .then(|| revoke_first::decide(&CurrentKey { observed, key, recorded }))
}

fn rehearse_secret(intact: &Intact<'_>) -> Option<Step> {
    let Intact { observed, key } = intact;
    let is_begun = observed.recorded.attempt() == Some(key.sequence.next());
    let is_unasked = intact.needs_another_key() && !is_begun;
    (intact.can_rotate() && is_unasked && is_to_be_rehearsed(observed))
        .then_some(Step::Apply(KubernetesEffect::RehearseSecret))
}

fn create_next_key(intact: &Intact<'_>) -> Option<Step> {
    let Intact { observed, key } = intact;
    let recorded: Recorded = observed.recorded.clone();
    let predecessor = recorded.loss.is_none().then_some(key.sequence);
    let (sequence, recorded) = (key.sequence.next(), Some(recorded));
    intact.can_rotate().then(|| create::decide(&NewKey { observed, sequence, predecessor, recorded }))
}

fn wait_unconfirmed(intact: &Intact<'_>) -> Option<Step> {
    let Intact { observed, key } = intact;
    let failure = observed.run.failure.as_ref().filter(|_| intact.calls())?;
    let is_about_key = failure.attempted == Attempted::Confirm;
    is_about_key.then(|| Step::Wait(report::unconfirmed(observed, key, failure)))
}

fn wait_for_provider(intact: &Intact<'_>) -> Option<Step> {
    let Intact { observed, key } = intact;
    let (problem, is_due) = match &observed.provider {
        ProviderView::Available => return None,
        ProviderView::Closed(problem) => (problem, intact.rotates() && !intact.revokes()),
        ProviderView::Unavailable(problem) => (problem, intact.rotates() || intact.revokes()),
    };
    is_due.then(|| Step::Wait(report::rotation_waiting(observed, key, problem)))
}

fn wait_for_failed_attempt(intact: &Intact<'_>) -> Option<Step> {
    let is_about_this = intact.calls() || intact.unusable_next().is_some();
    if is_about_this { rotation_failed(intact) } else { None }
}

fn wait_for_usable_key(intact: &Intact<'_>) -> Option<Step> {
    let unusable = intact.unusable_next()?;
    Some(Step::Wait(report::rotation_blocked(intact.observed, intact.key, unusable)))
}

fn wait_for_overlap(intact: &Intact<'_>) -> Option<Step> {
    let Intact { observed, key } = intact;
    let ends = |previous: &PreviousKey| Some((intact.stays_until(previous)?, previous.sequence));
    let (until, last) = intact.in_the_way().filter_map(ends).max()?;
    let is_blocked = intact.needs_next() && until > observed.now;
    is_blocked.then(|| Step::Wait(report::waits_for_overlap(observed, key, last, until)))
}

fn wait_until_due(Intact { observed, key }: &Intact<'_>) -> Step {
    Step::Wait(report::wait_settled(observed, key))
}

fn rotation_failed(Intact { observed, key }: &Intact<'_>) -> Option<Step> {
    let failure = observed.run.failure.as_ref()?;
    Some(Step::Wait(report::rotation_failed(observed, key, failure)))
}
