//! A ServiceKey that is being deleted: revoke every key that may exist, delete the Secret, remove the finalizer.

use std::collections::BTreeSet;

use super::{
    Attempted, ErrorClass, Failure, KubernetesEffect, Observed, OperationStage, Problem, ProviderView,
    Recorded, RemoteEffect, RemoteOperation, SecretView, Sequence, Step,
    former_keys::{self, FormerKeys},
    operation::{is_finally_revoked, may_return_until, pending_operation},
    order::decisions,
    report,
    revoke::follow,
};

decisions! {
    /// The ServiceKey is being deleted. The operator removes the finalizer last.
    "Delete", Deletion<'_> => Step:

    /// The operator has already removed the finalizer.
    wait_for_the_end,
    /// Every tenant may write finalizers and Secrets. They cause no call to a provider that never admitted the
    /// namespace.
    wait_for_admission,
    /// A Secret from a backup may contain a key of the ServiceKey, so that key is revoked as well.
    continue_with_former_keys,
    /// Revoking a key failed. Its backoff ends before the next attempt.
    wait_for_failed_revocation,
    /// A key has to be revoked, and the remote side can't be called.
    wait_for_provider_to_revoke,
    /// The remote side is still creating or revoking the key.
    follow_operation,
    /// A request with an unknown outcome may still create the key. The last revocation comes after that time.
    wait_for_late_key,
    /// The remote side has created the key in the background. Once it revokes the key, no process may poll its creation.
    record_end_of_creation,
    /// The credentials stop working before the Secret is deleted, so no copy of them keeps working.
    revoke_key,
    /// Removing the mark of a key failed. Its backoff ends before the next attempt.
    wait_for_failed_release,
    /// The mark of a key has to be removed, and the remote side can't be called.
    wait_for_provider_to_release,
    /// The user keeps the key. Without its mark, the operator never reports it as an orphan.
    release_key,
    /// The cache contains no Secret of the operator, and may be stale.
    look_up_secret,
    /// Removing the marks of the Secret failed. The user keeps the Secret, so the operator does not delete it instead.
    wait_for_failed_secret_release,
    /// The user keeps the Secret together with the key.
    release_secret,
    /// No key is left whose credentials are not published yet.
    discard_staged_credentials,
    /// The Secret belongs to the operator.
    delete_secret,
    else
    /// No key and no Secret is left, apart from those that the user keeps.
    remove_finalizer
}

pub(super) struct Deletion<'a> {
    observed: &'a Observed,
    /// Every key that may exist at the remote side and was not confirmed gone.
    remaining: BTreeSet<Sequence>,
}

impl<'a> Deletion<'a> {
    pub(super) fn new(observed: &'a Observed) -> Self {
        Self { observed, remaining: remaining(observed) }
    }

    fn to_revoke(&self) -> Option<Sequence> {
        self.remaining.first().copied().filter(|_| !self.observed.desired.keeps_keys())
    }

    /// The next key that stays and still has the operator's mark.
    fn to_release(&self) -> Option<Sequence> {
        let Observed { desired, run, marks_keys, .. } = self.observed;
        let next = self.remaining.difference(&run.released).next().copied();
        next.filter(|_| *marks_keys && !desired.abandon)
    }

    /// The problem that makes calls to the remote side impossible.
    fn outage(&self) -> Option<&'a Problem> {
        match &self.observed.provider {
            ProviderView::Unavailable(problem) => Some(problem),
            ProviderView::Available | ProviderView::Closed(_) => None,
        }
    }

    fn has_secret(&self) -> bool {
        matches!(self.observed.secret, SecretView::Damaged { .. } | SecretView::Intact { .. })
    }

    fn keeps_secret(&self) -> bool {
        self.observed.desired.retain && self.observed.desired.retains_secret && self.has_secret()
    }
}

fn wait_for_the_end(Deletion { observed, .. }: &Deletion<'_>) -> Option<Step> {
    (!observed.desired.finalizer).then(|| Step::Wait(report::deletion_done(observed)))
}

fn wait_for_admission(Deletion { observed, .. }: &Deletion<'_>) -> Option<Step> {
    let Observed { desired, provider, marks_keys, .. } = observed;
    let calls_the_remote_side = !desired.keeps_keys() || desired.retain && *marks_keys;
    if desired.abandon || !calls_the_remote_side || !was_never_admitted(observed) {
        return None;
    }
    let problem = provider.obstacle()?;
    Some(Step::Wait(if desired.retain {
        report::release_waiting(observed, problem)
    } else {
        report::deletion_waiting(observed, problem)
    }))
}

fn continue_with_former_keys(Deletion { observed, .. }: &Deletion<'_>) -> Option<Step> {
    let SecretView::Former { uid, sequence, looked_up, obstacle: None } = observed.secret else {
        return None;
    };
    let keys = FormerKeys { observed, former: uid, sequence, looked_up };
    (!former_keys::has_own_keys(observed) && keys.may_be_accepted()).then(|| former_keys::decide(&keys))
}

fn wait_for_failed_revocation(deletion: &Deletion<'_>) -> Option<Step> {
    deletion.to_revoke()?;
    let failure = deletion.observed.run.failure.as_ref()?;
    Some(Step::Wait(report::deletion_failed(deletion.observed, failure)))
}

fn wait_for_provider_to_revoke(deletion: &Deletion<'_>) -> Option<Step> {
    deletion.to_revoke()?;
    Some(Step::Wait(report::deletion_waiting(deletion.observed, deletion.outage()?)))
}

fn follow_operation(deletion: &Deletion<'_>) -> Option<Step> {
    let (observed, sequence) = (deletion.observed, deletion.to_revoke()?);
    let work = [RemoteOperation::Bind, RemoteOperation::Unbind]
        .into_iter()
        .find_map(|operation| pending_operation(observed, operation, sequence))?;
    Some(follow(observed, work))
}

fn wait_for_late_key(deletion: &Deletion<'_>) -> Option<Step> {
    let (observed, sequence) = (deletion.observed, deletion.to_revoke()?);
    Some(Step::Wait(report::deletion_outwaits(observed, may_return_until(observed, sequence)?)))
}

fn record_end_of_creation(deletion: &Deletion<'_>) -> Option<Step> {
    let (observed, sequence) = (deletion.observed, deletion.to_revoke()?);
    observed
        .recorded
        .operation_on(sequence)?
        .is_accepted()
        .then(|| Step::record(report::revoking(observed, sequence)))
}

fn revoke_key(deletion: &Deletion<'_>) -> Option<Step> {
    deletion.to_revoke().map(|sequence| Step::Execute(RemoteEffect::Unbind(sequence)))
}

fn wait_for_failed_release(deletion: &Deletion<'_>) -> Option<Step> {
    deletion.to_release()?;
    let failure = deletion.observed.run.failure.as_ref()?;
    Some(Step::Wait(report::release_failed(deletion.observed, failure)))
}

fn wait_for_provider_to_release(deletion: &Deletion<'_>) -> Option<Step> {
    deletion.to_release()?;
    Some(Step::Wait(report::release_waiting(deletion.observed, deletion.outage()?)))
}

fn release_key(deletion: &Deletion<'_>) -> Option<Step> {
    deletion.to_release().map(|sequence| Step::Execute(RemoteEffect::Release(sequence)))
}

fn look_up_secret(Deletion { observed, .. }: &Deletion<'_>) -> Option<Step> {
    (observed.secret == SecretView::Unknown).then_some(Step::Apply(KubernetesEffect::LookUpSecret))
}

fn wait_for_failed_secret_release(deletion: &Deletion<'_>) -> Option<Step> {
    let failure = deletion.observed.run.failure.as_ref()?;
    let has_failed = deletion.keeps_secret() && failure.attempted == Attempted::Store;
    has_failed.then(|| Step::Wait(report::failed(deletion.observed, failure)))
}

fn release_secret(deletion: &Deletion<'_>) -> Option<Step> {
    deletion.keeps_secret().then_some(Step::Apply(KubernetesEffect::ReleaseSecret))
}

fn discard_staged_credentials(Deletion { observed, .. }: &Deletion<'_>) -> Option<Step> {
    observed.staging.is_ours().then_some(Step::Apply(KubernetesEffect::DiscardStaged))
}

fn delete_secret(deletion: &Deletion<'_>) -> Option<Step> {
    deletion.has_secret().then_some(Step::Apply(KubernetesEffect::DeleteSecret))
}

fn remove_finalizer(Deletion { observed, remaining }: &Deletion<'_>) -> Step {
    let left_behind = observed.desired.keeps_keys().then(|| remaining.iter().copied().collect());
    Step::Apply(KubernetesEffect::RemoveFinalizer { left_behind: left_behind.unwrap_or_default() })
}

/// Whether the status or this process knows of a key that may exist.
pub(super) fn knows_of_a_key(observed: &Observed) -> bool {
    // A former UID names the keys to continue with, but does not prove that one exists.
    let blank = Recorded { former: observed.recorded.former, ..Recorded::default() };
    observed.run.knows_of_a_key() || observed.recorded != blank
}

/// Whether nothing shows that the provider ever admitted the namespace. Every user of the namespace may write
/// finalizers and Secrets.
fn was_never_admitted(observed: &Observed) -> bool {
    !observed.admitted && !knows_of_a_key(observed)
}

/// Whether no key is known, and the remote side refused every request for one and its revocation. A remote side that
/// does not know the instance refuses both. If it had created a key in spite of a refusal, it would revoke it.
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

/// Whether the status records no key, except one that was about to be created.
fn remembers_no_key(recorded: &Recorded) -> bool {
    let Recorded { key, previous, operation, loss, restart: _, verification, former } = recorded;
    let only_planned = operation.as_ref().is_none_or(|operation| operation.stage == OperationStage::Planned);
    let is_empty = key.is_none() && previous.is_empty() && loss.is_none() && verification.is_none();
    is_empty && former.is_none() && only_planned
}

/// Every key that may exist at the remote side and was not confirmed gone.
pub(super) fn remaining(observed: &Observed) -> BTreeSet<Sequence> {
    if was_never_admitted(observed) || every_bind_was_refused(observed) {
        return BTreeSet::new();
    }
    let elsewhere = [observed.secret.key(), observed.run.in_hand.as_ref(), observed.run.stored.as_ref()];
    let elsewhere = elsewhere.into_iter().flatten().map(|key| key.sequence);
    // If the status records no key, the keys from the Secret and from memory replace its default, the first key. A
    // claim that the record does not explain does not replace it.
    let mut keys: BTreeSet<_> = elsewhere.collect();
    let explained = keys.iter().all(|sequence| observed.recorded.explains(*sequence));
    if keys.is_empty() || !explained || observed.recorded != Recorded::default() {
        keys.extend(observed.recorded.sequences());
    }
    keys.extend(observed.secret.key().into_iter().flat_map(|key| observed.recorded.skipped(key.sequence)));
    keys.retain(|sequence| !is_finally_revoked(observed, *sequence));
    keys
}
