//! Create a key, after recording and revoking everything that must come first.

use super::{
    Attempted, ErrorClass, Failure, KubernetesEffect, Observed, Operation, OperationStage, PlanIds, PlanView,
    Recorded, RemoteEffect, RemoteOperation, Sequence, StagingView, Step,
    operation::pending_operation,
    order::decisions,
    report,
    revoke::{follow, outwait_late_revocation, unbind, unbind_at_once},
    verification,
};

decisions! {
    /// A key is due, and the Secret can be written.
    "Create a key", NewKey<'_> => Step:

    /// The operator records the ids of the plan together with the next key, so it reads them first.
    read_plan_of_next_key,
    /// Apart from the first key, only keys that the status names may exist. So the status names the next key before its
    /// creation.
    record_next_key,
    /// The next key exists already, created from other fields or with credentials that the remote side does not return.
    revoke_other_key,
    /// The credentials have to be staged, and another owner has a Secret of that name.
    refuse_foreign_staging_secret,
    /// An earlier process has received the key's credentials, which the remote side may not show again.
    read_staged_credentials,
    /// The remote side is still creating the key, or revoking an earlier one of the same number.
    follow_operation,
    /// The remote side reports that it created the key, but does not return it.
    wait_until_shown,
    /// The remote side created the key asynchronously, and returns its credentials only now.
    fetch_credentials,
    /// A broker requires the ids of the plan to revoke the key, and the catalog has not been read yet.
    read_plan,
    /// A key may exist with the recorded ids, and only these ids revoke it.
    revoke_key_of_other_plan,
    /// The API server dropped the ids when the operator recorded them.
    wait_for_definitions,
    /// An earlier request to revoke a key of this number may still take effect, and would revoke the new key.
    wait_for_late_revocation,
    /// Catalogs change, so the operator records the ids before it creates the key.
    record_plan,
    else
    /// Nothing is left to record or to revoke. The remote side returns the key if it exists already.
    bind
}

/// A key to create.
pub(super) struct NewKey<'a> {
    pub observed: &'a Observed,
    pub sequence: Sequence,
    /// The working key that it replaces.
    pub predecessor: Option<Sequence>,
    /// The record of the keys before it; `None` for the first key, which requires none.
    pub recorded: Option<Recorded>,
}

impl<'a> NewKey<'a> {
    /// The first key, or the one of the last attempt.
    pub(super) fn first(observed: &'a Observed, sequence: Sequence) -> Self {
        Self { observed, sequence, predecessor: None, recorded: None }
    }

    /// The record of the keys before this one, if the status does not say that this one may exist.
    fn unrecorded(&self) -> Option<&Recorded> {
        self.recorded.as_ref().filter(|recorded| recorded.attempted_bind() != Some(self.sequence))
    }

    fn has_completed(&self) -> bool {
        self.observed.run.has_completed(self.sequence)
    }

    /// The known plan ids, if the record has none or others.
    fn unrecorded_ids(&self) -> Option<&'a PlanIds> {
        let noted = self.observed.noted(self.sequence);
        self.observed.plan.ids().filter(|ids| noted.as_ref() != Some(ids))
    }
}

fn read_plan_of_next_key(new: &NewKey<'_>) -> Option<Step> {
    new.unrecorded()?;
    read_plan(new)
}

fn record_next_key(new: &NewKey<'_>) -> Option<Step> {
    let NewKey { observed, sequence, .. } = new;
    let operation = Operation::bind(*sequence).with_plan(observed.plan.ids().cloned());
    let recorded = Recorded { operation: Some(operation), ..new.unrecorded()?.clone() };
    Some(Step::record(report::rotating(observed, recorded, *sequence)))
}

fn revoke_other_key(NewKey { observed, sequence, recorded, .. }: &NewKey<'_>) -> Option<Step> {
    let is_in_the_way = recorded.is_some() && observed.run.conflicting == Some(*sequence);
    is_in_the_way.then(|| unbind(observed, *sequence))
}

fn refuse_foreign_staging_secret(NewKey { observed, .. }: &NewKey<'_>) -> Option<Step> {
    let is_verified = observed.desired.verification.is_some();
    if is_verified { verification::staging_conflict(observed) } else { None }
}

fn read_staged_credentials(NewKey { observed, sequence, .. }: &NewKey<'_>) -> Option<Step> {
    let is_staged = observed.staging == StagingView::Holds(*sequence) && !observed.run.staging_read;
    is_staged.then_some(Step::Apply(KubernetesEffect::ReadStaged(*sequence)))
}

fn follow_operation(NewKey { observed, sequence, .. }: &NewKey<'_>) -> Option<Step> {
    let work = [RemoteOperation::Unbind, RemoteOperation::Bind]
        .into_iter()
        .find_map(|operation| pending_operation(observed, operation, *sequence))?;
    Some(follow(observed, work))
}

fn wait_until_shown(new: &NewKey<'_>) -> Option<Step> {
    let NewKey { observed, sequence, .. } = new;
    let is_hidden = observed.run.unreadable == Some(*sequence) || observed.run.absent.contains(sequence);
    (new.has_completed() && is_hidden).then(|| Step::Wait(report::not_shown(observed, *sequence)))
}

fn fetch_credentials(new: &NewKey<'_>) -> Option<Step> {
    new.has_completed().then_some(Step::Execute(RemoteEffect::Fetch(new.sequence)))
}

fn read_plan(NewKey { observed, .. }: &NewKey<'_>) -> Option<Step> {
    if observed.plan != PlanView::Unknown {
        return None;
    }
    if observed.run.instance_checked {
        let message = "the broker's catalog could not be cached; reading it again";
        return Some(refused_here(observed, ErrorClass::Transient, message));
    }
    Some(Step::Execute(RemoteEffect::CheckInstance))
}

fn revoke_key_of_other_plan(new: &NewKey<'_>) -> Option<Step> {
    let NewKey { observed, sequence, .. } = new;
    new.unrecorded_ids()?;
    let may_exist = observed.noted(*sequence).is_some() && !observed.all_refused;
    (may_exist && !observed.run.revoked.contains_key(sequence)).then(|| unbind_at_once(observed, *sequence))
}

fn wait_for_definitions(new: &NewKey<'_>) -> Option<Step> {
    new.unrecorded_ids().filter(|_| new.observed.run.plan_recorded == Some(new.sequence))?;
    let message = "the API server does not store `status.operation.planIds`, which the operator needs to revoke keys; \
                   apply the CustomResourceDefinitions of this release";
    Some(refused_here(new.observed, ErrorClass::Rejected, message))
}

fn record_plan(new: &NewKey<'_>) -> Option<Step> {
    let NewKey { observed, sequence, .. } = new;
    let ids = new.unrecorded_ids()?.clone();
    // A key that was revoked with other ids is gone by now.
    let goes_on = |operation: &&Operation| operation.stage != OperationStage::CleanUp { since: None };
    let known = observed.recorded.operation_on(*sequence).filter(goes_on).cloned();
    let operation = known.unwrap_or(Operation::bind(*sequence)).with_plan(Some(ids));
    let recorded = Recorded { operation: Some(operation), ..observed.recorded.clone() };
    Some(Step::record(report::creating(observed, recorded, *sequence)))
}

fn wait_for_late_revocation(NewKey { observed, sequence, .. }: &NewKey<'_>) -> Option<Step> {
    outwait_late_revocation(observed, *sequence)
}

fn bind(NewKey { sequence, predecessor, .. }: &NewKey<'_>) -> Step {
    Step::Execute(RemoteEffect::Bind { sequence: *sequence, predecessor: *predecessor })
}

/// A wait because the operator itself has a problem.
fn refused_here(observed: &Observed, class: ErrorClass, message: &str) -> Step {
    let (attempted, message) = (Attempted::Provision, message.to_owned());
    let failure = Failure { attempted, class, message, retry_after: None };
    Step::Wait(match observed.current_key() {
        Some(key) => report::rotation_failed(observed, key, &failure),
        None => report::failed(observed, &failure),
    })
}
