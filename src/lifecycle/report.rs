//! The status to publish at each stage: what the operator records in it, and the text of its conditions.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Attempted, ErrorClass, Expiry, FailedVerification, Failure, KeyRecord, Loss, LossCause, Observed,
    Operation, OperationStage, PendingOperation, ProbeOutcome, Problem, Recorded, RemoteOperation, Report,
    Requeue, SecretView, Sequence, Unusable, Verdict, Verification, Wait, WorkloadRestart, full_second,
    operation, rotation,
    verification::{self, Refused},
};
use crate::api::Reason;

/// The Secret contains the credentials of `key`.
pub(super) fn settled(observed: &Observed, recorded: &Recorded, key: &KeyRecord) -> Report {
    let overlap = recorded.previous.iter().find_map(|previous| {
        let message = format!("key {} is revoked at {}", previous.sequence, previous.revoke_at?);
        Some(Problem { reason: Reason::Overlapping, message })
    });
    let overlap = failed_restart(recorded)
        .or_else(|| failed_verification(observed, recorded))
        .or_else(|| consumers(recorded))
        .or_else(|| ineffective(recorded, key))
        .or(overlap);
    let ready = match recorded.loss_of(key.sequence) {
        None => match expired(observed, key) {
            None => Verdict {
                ready: true,
                reason: Reason::Available,
                message: format!(
                    "the credentials of key {} are in the Secret{}",
                    key.sequence,
                    words_on_ignored_times(key)
                ),
            },
            Some(Problem { reason, message }) => Verdict { ready: false, reason, message },
        },
        Some(Loss { cause: LossCause::Revoked, since }) => Verdict {
            ready: false,
            reason: Reason::Rotating,
            message: format!("key {} was revoked at {since}, before the next key is created", key.sequence),
        },
        Some(Loss { cause: LossCause::Lost, since }) => Verdict {
            ready: false,
            reason: Reason::KeyLost,
            message: format!(
                "the remote side no longer has key {}, which the operator did not revoke (noticed at {since}); the \
                 next key replaces it",
                key.sequence
            ),
        },
    };
    Report {
        recorded: recorded.clone(),
        pending: !ready.ready || is_outdated(observed, key),
        ready,
        rotating: recorded.attempt().map(|next| rotation_pending(observed, next)).or(overlap),
        stalled: observed.desired.problem.clone(),
        next_rotation: rotation::next_rotation(observed, key),
        revoking: None,
    }
}

/// The message that the last rotation did not change the credentials, so that scheduled rotations end.
fn ineffective(recorded: &Recorded, key: &KeyRecord) -> Option<Problem> {
    if !key.same_credentials {
        return None;
    }
    let stay = recorded.previous.iter().filter(|previous| previous.revoke_at.is_none());
    let stay: Vec<_> = stay.map(|previous| previous.sequence.to_string()).collect();
    let stay = if stay.is_empty() {
        String::new()
    } else {
        format!(
            "; key {} is not revoked before the ServiceKey is deleted, because its revocation could invalidate the \
             credentials in the Secret",
            stay.join(" and key ")
        )
    };
    let message = format!(
        "the remote side gave key {} the credentials of the key before it, so the operator stopped rotating this \
         ServiceKey{stay}; to try again, annotate the ServiceKey with `servicekeys.dev/rotate`",
        key.sequence
    );
    Some(Problem { reason: Reason::RotationIneffective, message })
}

fn expired(observed: &Observed, key: &KeyRecord) -> Option<Problem> {
    let Expiry { at, source } = key.expired(observed.now)?;
    Some(Problem {
        reason: Reason::KeyExpired,
        message: format!(
            "key {} expired at {at}, according to {source}, and its credentials are still in the Secret; the next \
             key replaces it",
            key.sequence
        ),
    })
}

/// The times that limit the key's life and that the operator ignores.
fn words_on_ignored_times(key: &KeyRecord) -> String {
    key.ignored_times().map(|words| format!("; {words}")).collect()
}

/// Workloads that could not be restarted, and may still use the previous key.
fn failed_restart(recorded: &Recorded) -> Option<Problem> {
    let WorkloadRestart { sequence, due, problem, .. } = recorded.restart.as_ref()?;
    let problem = problem.as_ref()?;
    let message = format!(
        "could not restart all workloads with key {sequence}: {problem}; the next attempt is at {due}"
    );
    Some(Problem { reason: Reason::RestartFailed, message })
}

/// The next key, if the service did not accept it in time, and the operator waits because of that.
fn failed_verification(observed: &Observed, recorded: &Recorded) -> Option<Problem> {
    let failure = recorded.verification.as_ref()?;
    let Verification { sequence, failed, .. } = failure;
    let FailedVerification { problem, .. } = failed.as_ref()?;
    let Refused { until, .. } = verification::after_failure(observed, failure)?;
    let message = format!(
        "the service did not accept key {sequence} within `spec.rotation.verify.within`: {problem}; the operator revokes \
         that key, and creates another one at {until} at the earliest, or when you change `spec.rotation.verify` or the \
         annotation `servicekeys.dev/rotate`"
    );
    Some(Problem { reason: Reason::VerificationFailed, message })
}

/// Pods that may use a previous key.
fn consumers(recorded: &Recorded) -> Option<Problem> {
    recorded.previous.iter().find_map(|previous| {
        let words = previous.consumers.as_ref()?;
        let message = format!("key {} is not revoked yet: {words}", previous.sequence);
        Some(Problem { reason: Reason::ConsumersNotMoved, message })
    })
}

/// The key's expiry, if it is in the future.
fn next_expiry(observed: &Observed, key: &KeyRecord) -> Option<Timestamp> {
    key.expiry().map(|expiry| expiry.at).filter(|end| *end > observed.now)
}

/// Nothing is due before the next time in the schedule.
pub(super) fn wait_settled(observed: &Observed, key: &KeyRecord) -> Wait {
    let report = settled(observed, &observed.recorded, key);
    // While the spec has a problem that only the user can correct, the key is not rotated when its time has come.
    let rotation = report.next_rotation.filter(|next| *next > observed.now);
    // Until a refused key is confirmed gone, only its revocation is due.
    let refused = verification::refused(observed, key.sequence.next()).map(|refused| refused.until);
    let refused = refused.filter(|until| *until > observed.now);
    let times = next_revocation(observed).into_iter().chain(rotation).chain(refused);
    Wait::new(earliest(times.chain(next_expiry(observed, key))), report)
}

/// The earliest time at which a replaced or unconfirmed key is due to be revoked.
fn next_revocation(observed: &Observed) -> Option<Timestamp> {
    let previous = observed.recorded.previous.iter().filter_map(|previous| {
        let revoke_at = previous.revoke_at?;
        Some(operation::late_until(observed, previous.sequence).map_or(revoke_at, |late| late.max(revoke_at)))
    });
    let late = observed.recorded.attempt().and_then(|sequence| operation::late_until(observed, sequence));
    previous.chain(late).min()
}

/// The current key works, and the credentials of the next one fit no Secret.
pub(super) fn rotation_blocked(observed: &Observed, key: &KeyRecord, unusable: &Unusable) -> Wait {
    let report = blocked(observed, key, self::unusable(unusable));
    let next = next_revocation(observed).filter(|next| *next > observed.now);
    Wait::new(earliest(next.into_iter().chain(unusable.retry_at()).chain(next_expiry(observed, key))), report)
}

/// Only the three newest keys may exist, so the next one waits until the overlap of an older one is over.
pub(super) fn waits_for_overlap(
    observed: &Observed,
    key: &KeyRecord,
    previous: Sequence,
    until: Timestamp,
) -> Wait {
    let advice = if observed.desired.rotation.max_overlap.is_some() {
        "if no pod uses it then; restart the pods that use it, or set `spec.rotation.revokeWhen` to `OverlapEnds`"
    } else {
        "to end its overlap now, set `spec.rotation.overlap` to `0s`"
    };
    let problem = Problem {
        reason: Reason::WaitingForOverlap,
        message: format!(
            "only the three newest keys may exist; the next one is created after key {previous} is revoked, at {until}; \
             {advice}"
        ),
    };
    wait_with_key(observed, key, blocked(observed, key, problem), until)
}

/// The operator is about to create the next key.
pub(super) fn rotating(observed: &Observed, recorded: Recorded, next: Sequence) -> Report {
    let pending = rotation_pending(observed, next);
    let report = unsettled(observed, &pending);
    Report { recorded, rotating: Some(pending), ..report }
}

/// The operator is about to create a key, and has recorded the ids of its plan.
pub(super) fn creating(observed: &Observed, recorded: Recorded, sequence: Sequence) -> Report {
    if matches!(observed.secret, SecretView::Intact { .. }) {
        return rotating(observed, recorded, sequence);
    }
    let problem = Problem { reason: Reason::Binding, message: format!("creating key {sequence}") };
    Report { recorded, ..unsettled(observed, &problem) }
}

/// The next key is being created. Outside of all windows, the message says why.
fn rotation_pending(observed: &Observed, next: Sequence) -> Problem {
    let is_urgent = |key: &&KeyRecord| {
        !is_outdated(observed, key) && rotation::is_urgent(observed, key) && key.sequence < next
    };
    let why = observed.current_key().filter(is_urgent).map(|key| {
        format!(
            " outside the windows of `spec.rotation.windows`, because key {} is about to expire",
            key.sequence
        )
    });
    let message = format!("creating key {next}{}", why.unwrap_or_default());
    Problem { reason: Reason::Rotating, message }
}

/// Whether the user requested another key than this one, with a changed field or with the annotation.
fn is_outdated(observed: &Observed, key: &KeyRecord) -> bool {
    observed.desired.inputs.has_other_fields_than(&key.inputs)
}

/// Like [`settled`], with a problem that blocks a rotation or a revocation.
fn blocked(observed: &Observed, key: &KeyRecord, problem: Problem) -> Report {
    let settled = settled(observed, &observed.recorded, key);
    let hopeless = settled.pending && problem.needs_the_user();
    let stalled = settled.stalled.clone().or(hopeless.then(|| problem.clone()));
    Report { rotating: Some(problem), stalled, ..settled }
}

/// The current key works, and a rotation or a revocation waits for the provider.
pub(super) fn rotation_waiting(observed: &Observed, key: &KeyRecord, problem: &Problem) -> Wait {
    let report = blocked(observed, key, problem.clone());
    let revocations = observed.recorded.previous.iter().filter_map(|previous| previous.revoke_at);
    let next = revocations.filter(|revoke_at| *revoke_at > observed.now);
    Wait::new(earliest(next.chain(next_expiry(observed, key))), report)
}

/// The current key works, or is gone, and a rotation or a revocation failed.
pub(super) fn rotation_failed(observed: &Observed, key: &KeyRecord, failure: &Failure) -> Wait {
    retry(observed, failure, blocked(observed, key, problem_of(failure)))
}

/// A list did not contain the current key, and the operator can't find out whether the key still exists.
pub(super) fn unconfirmed(observed: &Observed, key: &KeyRecord, failure: &Failure) -> Wait {
    let mut report = settled(observed, &observed.recorded, key);
    // Other classes are transient.
    if matches!(failure.class, ErrorClass::Gone | ErrorClass::Forbidden) {
        report.ready.reason = Reason::Unconfirmed;
        report.ready.message = format!(
            "the credentials of key {} are in the Secret, but the operator can't find out whether they still work: {}",
            key.sequence, failure.message
        );
    }
    retry(observed, failure, report)
}

/// The Secret is missing or wrong, and the attempt to repair it failed.
pub(super) fn failed(observed: &Observed, failure: &Failure) -> Wait {
    retry(observed, failure, unsettled(observed, &problem_of(failure)))
}

/// The record after a followed operation ended without a key, so that the next attempt does not follow it again.
fn without_failed_work(observed: &Observed) -> Recorded {
    let Recorded { key, previous, operation, loss, restart, verification, former } =
        observed.recorded.clone();
    let came_to_nothing = |operation: &Operation| {
        let given_up = observed.run.given_up.is_some_and(|(sequence, _)| sequence == operation.sequence);
        operation.creates() && given_up && observed.run.pending.is_none()
    };
    let operation = operation.map(|operation| {
        if came_to_nothing(&operation) {
            Operation::bind(operation.sequence).with_plan(operation.plan_ids)
        } else {
            operation
        }
    });
    Recorded { key, previous, operation, loss, restart, verification, former }
}

/// The remote side asked all callers to pause. The published status stays if it is more specific.
pub(super) fn paused(observed: &Observed, until: Timestamp) -> Wait {
    let problem = Problem {
        reason: Reason::RateLimited,
        message: format!(
            "the remote side asked for a pause (429 or 503); retrying at {}",
            full_second(until)
        ),
    };
    let standing = unsettled(observed, &problem);
    let report = match &observed.secret {
        SecretView::Intact { key, .. }
            if standing.ready.ready || standing.ready.reason == Reason::KeyExpired =>
        {
            blocked(observed, key, problem)
        }
        _ => standing,
    };
    Wait {
        quiet: published_is_more_specific(observed, &report),
        ..Wait::new(Requeue::PauseEnds(until), report)
    }
}

/// The next attempt after a failure. A rate limit must not hide what failed before.
fn retry(observed: &Observed, failure: &Failure, report: Report) -> Wait {
    let report = Report { recorded: without_failed_work(observed), ..report };
    let quiet = failure.class == ErrorClass::Throttled && published_is_more_specific(observed, &report);
    let wake =
        observed.run.retry_not_before.map_or(Requeue::Retry { not_before: failure.retry_after }, Requeue::At);
    Wait { quiet, ..Wait::new(wake, report) }
}

/// Whether the published status still describes the remote side, and is more specific than a rate limit.
fn published_is_more_specific(observed: &Observed, report: &Report) -> bool {
    observed.published.is_some_and(|told| {
        told.ready == report.ready.ready
            && matches!(
                told.reason,
                Reason::Available
                    | Reason::Binding
                    | Reason::Rotating
                    | Reason::Verifying
                    | Reason::VerificationFailed
                    | Reason::Deleting
                    | Reason::InstanceNotFound
                    | Reason::BindRejected
                    | Reason::BindFailed
                    | Reason::KeyConflict
                    | Reason::KeyExpired
                    | Reason::RevokeFailed
                    | Reason::ReleaseFailed
                    | Reason::Unauthorized
                    | Reason::CredentialsRedacted
                    | Reason::RemoteUnreachable
                    | Reason::RateLimited
                    | Reason::TlsFailed
                    | Reason::UnexpectedAnswer
            )
    })
}

/// A key was created, and its credentials fit no Secret.
pub(super) fn unusable(unusable: &Unusable) -> Problem {
    let Unusable { sequence, failure, revoked } = unusable;
    let Problem { reason, message } = problem_of(failure);
    let done = revoked.map(|_| format!("key {sequence} was revoked, and ")).unwrap_or_default();
    let again =
        unusable.retry_at().map(|again| format!(", or at {}", full_second(again))).unwrap_or_default();
    let message = format!(
        "{message}; {done}the operator tries again when `spec`, the annotation `servicekeys.dev/rotate` or the \
         provider changes{again}"
    );
    Problem { reason, message }
}

/// Like [`waiting`], until another key is due, or until a request for this one, whose outcome is unknown, can no longer
/// take effect.
pub(super) fn waiting_for_another_key(observed: &Observed, unusable: &Unusable) -> Wait {
    let late = operation::late_until(observed, unusable.sequence).filter(|late| *late > observed.now);
    Wait::new(
        earliest(late.into_iter().chain(unusable.retry_at())),
        unsettled(observed, &self::unusable(unusable)),
    )
}

/// A requeue at the earliest of these times.
fn earliest(times: impl Iterator<Item = Timestamp>) -> Requeue {
    times.min().map_or(Requeue::OnChange, Requeue::At)
}

/// A problem blocks the ServiceKey. The change that solves it, to the spec or the provider, requeues the ServiceKey.
pub(super) fn waiting(observed: &Observed, problem: &Problem) -> Wait {
    Wait::new(Requeue::OnChange, unsettled(observed, problem))
}

/// The operator is about to check whether the service accepts the credentials of this key.
pub(super) fn verifying(observed: &Observed, recorded: Recorded, key: &KeyRecord) -> Report {
    let problem = Problem {
        reason: Reason::Verifying,
        message: format!("checking whether the service accepts key {}", key.sequence),
    };
    let report = unsettled(observed, &problem);
    let rotating = report.ready.ready.then_some(problem);
    Report { recorded, rotating, ..report }
}

/// The service has not accepted the credentials of a new key yet. The next attempt is at `until`.
pub(super) fn not_accepted_yet(
    observed: &Observed,
    key: &KeyRecord,
    outcome: Option<&ProbeOutcome>,
    deadline: Timestamp,
    until: Timestamp,
) -> Wait {
    let said = match outcome {
        Some(ProbeOutcome::Refused(said)) => format!(": {said}"),
        Some(ProbeOutcome::NotAsked(_) | ProbeOutcome::Accepted) | None => String::new(),
    };
    let yet = || Problem {
        reason: Reason::Verifying,
        message: format!(
            "the service does not accept key {} yet{said}; the operator tries until {deadline}",
            key.sequence
        ),
    };
    let problem = match outcome {
        Some(ProbeOutcome::NotAsked(problem)) => problem.clone(),
        Some(ProbeOutcome::Refused(_) | ProbeOutcome::Accepted) | None => yet(),
    };
    match observed.current_key() {
        Some(current) => wait_with_key(observed, current, blocked(observed, current, problem), until),
        None => Wait::new(Requeue::At(until), unsettled(observed, &problem)),
    }
}

/// The service did not accept the credentials of a new key in time. `recorded` says so.
pub(super) fn verification_failed(observed: &Observed, recorded: Recorded) -> Report {
    let problem = failed_verification(observed, &recorded).unwrap_or_else(|| Problem {
        reason: Reason::VerificationFailed,
        message: "the service did not accept the next key".to_owned(),
    });
    let report = unsettled(observed, &problem);
    let rotating = report.ready.ready.then_some(problem);
    Report { recorded, rotating, ..report }
}

/// No key is published, and the service did not accept the last one in time.
pub(super) fn waiting_after_verification(observed: &Observed, until: Timestamp) -> Wait {
    Wait::new(Requeue::At(until), verification_failed(observed, observed.recorded.clone()))
}

/// The name of the staging Secret is taken.
pub(super) fn staging_conflict(observed: &Observed, holder: &str) -> Wait {
    let problem = Problem {
        reason: Reason::SecretConflict,
        message: format!(
            "the operator stores credentials in a Secret of its own while it verifies them, and {holder}; delete that \
             Secret"
        ),
    };
    let report = match observed.current_key() {
        Some(key) => blocked(observed, key, problem),
        None => unsettled(observed, &problem),
    };
    Wait::new(Requeue::Retry { not_before: None }, report)
}

/// The Secret's name is taken. No watch reports when it is free again.
pub(super) fn secret_conflict(observed: &Observed, holder: &str) -> Wait {
    let problem = Problem {
        reason: Reason::SecretConflict,
        message: format!(
            "the Secret's name is taken by {holder}; delete that Secret, or create the ServiceKey again with another \
             `spec.secret.name`"
        ),
    };
    Wait::new(Requeue::Retry { not_before: None }, unsettled(observed, &problem))
}

/// The Secret is from a backup, and its key does not belong to the ServiceKey.
pub(super) fn not_inherited(observed: &Observed, problem: &Problem) -> Wait {
    Wait::new(Requeue::Retry { not_before: None }, unsettled(observed, problem))
}

/// The Secret and the ServiceKey are from a backup, and the ServiceKey continues with the keys of this former one.
/// `noted` is the former UID to record, if any.
pub(super) fn inheriting(observed: &Observed, former: Uuid, noted: Option<Uuid>) -> Report {
    let problem = Problem {
        reason: Reason::Restoring,
        message: format!(
            "the Secret is from a backup; the operator continues with the key of the former ServiceKey {former}"
        ),
    };
    Report { recorded: Recorded { former: noted, ..Recorded::default() }, ..unsettled(observed, &problem) }
}

/// The operator repaired the Secret a moment ago, and the Secret is wrong again.
pub(super) fn contested(observed: &Observed, until: Timestamp) -> Wait {
    Wait::new(Requeue::At(until), unsettled(observed, &contest(observed, until)))
}

/// Like [`contested`], while the Secret contains credentials that work.
pub(super) fn repair_waits(observed: &Observed, key: &KeyRecord, until: Timestamp) -> Wait {
    wait_with_key(observed, key, blocked(observed, key, contest(observed, until)), until)
}

/// A wait until this time, unless something else is due for the current key before.
fn wait_with_key(observed: &Observed, key: &KeyRecord, report: Report, until: Timestamp) -> Wait {
    let next = next_revocation(observed).into_iter().chain(report.next_rotation).chain([until]);
    let next = next.chain(next_expiry(observed, key)).filter(|next| *next > observed.now).min();
    Wait::new(Requeue::At(next.unwrap_or(until)), report)
}

fn contest(observed: &Observed, until: Timestamp) -> Problem {
    let writer = observed.other_writers.as_ref().map_or_else(
        || {
            "`metadata.managedFields` names no other writer; look in the API server's audit log for a writer that \
             removes fields or writes as `servicekey-operator`, and stop it"
                .to_owned()
        },
        |writers| format!("`metadata.managedFields` names {writers}; stop that writer"),
    );
    Problem {
        reason: Reason::SecretContested,
        message: format!(
            "another writer keeps changing the Secret, and the operator repairs it again at {}: {writer}",
            full_second(until)
        ),
    }
}

/// The Secret contained this key, and was deleted or changed before the operator recorded the key in the status.
pub(super) fn overwritten(observed: &Observed, recorded: Recorded, sequence: Sequence) -> Report {
    let problem = Problem {
        reason: Reason::SecretContested,
        message: format!(
            "the Secret was deleted or changed right after the operator wrote the credentials of key {sequence}"
        ),
    };
    Report { recorded, ..unsettled(observed, &problem) }
}

/// The operator replaces a key whose credentials are no longer available.
pub(super) fn replacing_lost(observed: &Observed, recorded: Recorded) -> Report {
    let problem = Problem {
        reason: Reason::Rotating,
        message: "the credentials in the Secret are missing; creating the next key".to_owned(),
    };
    Report { recorded, ..unsettled(observed, &problem) }
}

/// The user suspended the ServiceKey.
pub(super) fn suspended(observed: &Observed) -> Wait {
    let problem = Problem {
        reason: Reason::Suspended,
        message: "suspended; set `spec.suspend` to false to resume".to_owned(),
    };
    Wait::new(Requeue::OnChange, Report { pending: false, ..unsettled(observed, &problem) })
}

/// No key is left to revoke, and the finalizer is removed.
pub(super) fn deletion_done(observed: &Observed) -> Wait {
    let problem = Problem { reason: Reason::Deleting, message: "no key is left to revoke".to_owned() };
    Wait::new(Requeue::OnChange, unsettled(observed, &problem))
}

/// Revoking a key failed. The operator retries until the remote side confirms the revocation.
pub(super) fn deletion_failed(observed: &Observed, failure: &Failure) -> Wait {
    let problem = Problem {
        reason: Reason::RevokeFailed,
        message: format!(
            "{}; the operator retries until the key is revoked; {}",
            failure.message,
            abandon_advice(observed)
        ),
    };
    retry(observed, failure, unsettled(observed, &problem))
}

/// How the user can abandon the key, or the limit that forbids it.
fn abandon_advice(observed: &Observed) -> String {
    observed.desired.abandon_denied.as_ref().map_or_else(
        || {
            "to leave the key at the remote side, annotate the ServiceKey with `servicekeys.dev/abandon: \"true\"`"
                .to_owned()
        },
        |limit| {
            format!(
                "the annotation `servicekeys.dev/abandon` has no effect, because {limit} is `Deny`; only the \
                 provider's administrator can permit it"
            )
        },
    )
}

/// A key has to be revoked, and the provider can't be called.
pub(super) fn deletion_waiting(observed: &Observed, problem: &Problem) -> Wait {
    let problem = Problem {
        reason: problem.reason,
        message: format!(
            "{}; the operator revokes the key as soon as this is corrected; {}",
            problem.message,
            abandon_advice(observed)
        ),
    };
    Wait::new(Requeue::OnChange, unsettled(observed, &problem))
}

/// The outcome of a bind is unknown. The operator revokes the key that it may have created.
pub(super) fn cleaning_up(observed: &Observed, sequence: Sequence, since: Timestamp) -> Report {
    let refusal = observed.run.pending.as_ref().filter(|work| work.is_refused && work.sequence == sequence);
    let given_up = || Failure {
        attempted: Attempted::Provision,
        class: ErrorClass::OrphanPossible,
        message: match refusal.and_then(|work| work.said.as_ref()) {
            Some(said) => {
                format!("bind failed: the remote side refuses to report the state of the operation: {said}")
            }
            None => format!("bind failed: the remote side did not create key {sequence} in time"),
        },
        retry_after: None,
    };
    let problem = problem_of(&observed.run.failure.clone().unwrap_or_else(given_up));
    Report {
        recorded: recorded_to_clean_up(observed, sequence, Some(since)),
        ..unsettled(observed, &problem)
    }
}

/// A key that is not the current one is about to be revoked.
pub(super) fn revoking(observed: &Observed, sequence: Sequence) -> Report {
    let reason = match observed.current_key() {
        _ if observed.desired.deleting => Reason::Deleting,
        Some(_) => Reason::Rotating,
        None => Reason::Binding,
    };
    let problem = Problem { reason, message: format!("revoking key {sequence}") };
    Report { recorded: recorded_to_clean_up(observed, sequence, None), ..unsettled(observed, &problem) }
}

fn recorded_to_clean_up(observed: &Observed, sequence: Sequence, since: Option<Timestamp>) -> Recorded {
    let operation = Operation::clean_up(sequence, since).with_plan(observed.noted(sequence));
    Recorded { operation: Some(operation), ..observed.recorded.clone() }
}

/// The remote side is still creating or revoking a key.
pub(super) fn under_way(observed: &Observed, work: &PendingOperation) -> Wait {
    let PendingOperation {
        operation: kind,
        sequence,
        token,
        since,
        ends: _,
        next_poll,
        retry_after: _,
        first_poll: _,
        said,
        is_refused: _,
        inputs,
    } = work;
    let wake = next_poll.map_or(Requeue::Poll, Requeue::At);
    let (reason, doing) = match kind {
        RemoteOperation::Bind => (Reason::Binding, "creating"),
        RemoteOperation::Unbind if observed.recorded.revokes_first() => (Reason::Rotating, "revoking"),
        RemoteOperation::Unbind => (Reason::Deleting, "revoking"),
    };
    let said = said.as_ref().map(|said| format!(": {said}")).unwrap_or_default();
    let problem = Problem {
        reason,
        message: format!(
            "the remote side has been {doing} key {sequence} since {}{said}",
            full_second(*since)
        ),
    };
    let mut report = unsettled(observed, &problem);
    match kind {
        RemoteOperation::Bind => {
            report.recorded.operation = Some(Operation {
                sequence: *sequence,
                plan_ids: observed.noted(*sequence),
                stage: OperationStage::Accepted {
                    token: token.clone(),
                    since: full_second(*since),
                    inputs: Some(inputs.clone()),
                },
            });
        }
        RemoteOperation::Unbind => report.revoking = Some(work.clone()),
    }
    if report.ready.ready {
        report.rotating = Some(problem);
        report.next_rotation =
            observed.recorded.key.as_ref().and_then(|key| rotation::next_rotation(observed, key));
    }
    Wait { quiet: !work.is_unpublished(observed.now), ..Wait::new(wake, report) }
}

/// The remote side reports that it created the key, but does not return it.
pub(super) fn not_shown(observed: &Observed, sequence: Sequence) -> Wait {
    let problem = Problem {
        reason: Reason::UnexpectedAnswer,
        message: format!(
            "the remote side reports that it created key {sequence}, but does not return it; retrying"
        ),
    };
    Wait::new(Requeue::Retry { not_before: None }, unsettled(observed, &problem))
}

/// An earlier request to revoke a key of this number may still take effect. The operator waits before it creates or
/// reads such a key.
pub(super) fn creation_outwaits(observed: &Observed, sequence: Sequence, until: Timestamp) -> Wait {
    let problem = |reason| Problem {
        reason,
        message: format!(
            "an earlier request to revoke key {sequence} may still take effect; until {until}, the operator creates no \
             key of this number"
        ),
    };
    let Some(key) = observed.current_key() else {
        return Wait::new(Requeue::At(until), unsettled(observed, &problem(Reason::Binding)));
    };
    wait_with_key(observed, key, blocked(observed, key, problem(Reason::Rotating)), until)
}

/// Removing the mark from a key that stays failed. The operator retries.
pub(super) fn release_failed(observed: &Observed, failure: &Failure) -> Wait {
    let problem =
        Problem { reason: Reason::ReleaseFailed, message: released_as_soon_as(observed, &failure.message) };
    retry(observed, failure, unsettled(observed, &problem))
}

/// A key stays, and the provider can't be called to remove its mark.
pub(super) fn release_waiting(observed: &Observed, problem: &Problem) -> Wait {
    let problem =
        Problem { reason: problem.reason, message: released_as_soon_as(observed, &problem.message) };
    Wait::new(Requeue::OnChange, unsettled(observed, &problem))
}

fn released_as_soon_as(observed: &Observed, what: &str) -> String {
    let otherwise = observed.desired.abandon_denied.as_ref().map_or_else(
        || "annotate the ServiceKey with `servicekeys.dev/abandon: \"true\"`".to_owned(),
        |limit| format!("ask the provider's administrator, because {limit} is `Deny`"),
    );
    format!(
        "{what}; the key stays at the remote side, and the operator retries until its mark is removed; to leave the \
         key with the mark, {otherwise}"
    )
}

/// All keys are confirmed gone, but a request whose outcome is unknown may still create one.
pub(super) fn deletion_outwaits(observed: &Observed, until: Timestamp) -> Wait {
    let problem = Problem {
        reason: Reason::Deleting,
        message: format!(
            "an earlier request for the key may still take effect; the operator waits until {until}, and then revokes \
             the key that it may have created"
        ),
    };
    Wait::new(Requeue::At(until), unsettled(observed, &problem))
}

/// The status while a problem blocks progress. `Ready` is true only if the Secret is right nevertheless.
fn unsettled(observed: &Observed, problem: &Problem) -> Report {
    let held = match &observed.secret {
        SecretView::Intact { key, .. } if !observed.desired.deleting => Some(key),
        _ => None,
    };
    let current = held.filter(|key| {
        observed.recorded.key.as_ref().is_none_or(|known| known.sequence <= key.sequence)
            && observed.recorded.loss_of(key.sequence).is_none()
    });
    let (current, expired) = match current.and_then(|key| expired(observed, key)) {
        Some(expired) => (None, Some(expired)),
        None => (current, None),
    };
    let verdict = match expired {
        Some(Problem { reason, message }) => {
            Verdict { ready: false, reason, message: format!("{message}: {}", problem.message) }
        }
        None => {
            Verdict { ready: current.is_some(), reason: problem.reason, message: problem.message.clone() }
        }
    };
    let pending = current.is_none_or(|key| is_outdated(observed, key));
    let hopeless = pending && problem.needs_the_user();
    Report {
        recorded: observed.recorded.clone(),
        pending,
        ready: verdict,
        rotating: None,
        stalled: hopeless.then(|| problem.clone()),
        next_rotation: None,
        revoking: None,
    }
}

fn problem_of(failure: &Failure) -> Problem {
    let reason = match (failure.attempted, failure.class) {
        (Attempted::Parameters, _) => Reason::ParametersUnusable,
        (Attempted::Permission, _) => Reason::NotPermitted,
        (Attempted::Render, _) => Reason::CredentialsUnusable,
        (Attempted::Revoke, _) => Reason::RevokeFailed,
        (Attempted::Confirm, _) => Reason::Unconfirmed,
        (Attempted::Release, _) => Reason::ReleaseFailed,
        (Attempted::Store, ErrorClass::Transient) => Reason::SecretContested,
        (Attempted::Store, _) => Reason::SecretRejected,
        (Attempted::Provision, ErrorClass::Transient) => Reason::RemoteUnreachable,
        (Attempted::Provision, ErrorClass::Throttled) => Reason::RateLimited,
        (Attempted::Provision, ErrorClass::Rejected) => Reason::BindRejected,
        (Attempted::Provision, ErrorClass::Conflict | ErrorClass::Taken) => Reason::KeyConflict,
        (Attempted::Provision, ErrorClass::Gone) => Reason::InstanceNotFound,
        (Attempted::Provision, ErrorClass::Forbidden) => Reason::Unauthorized,
        (Attempted::Provision, ErrorClass::Redacted) => Reason::CredentialsRedacted,
        (Attempted::Provision, ErrorClass::Unusable) => Reason::CredentialsUnusable,
        (Attempted::Provision, ErrorClass::Untrusted) => Reason::TlsFailed,
        (Attempted::Provision, ErrorClass::Unexpected | ErrorClass::Withheld) => Reason::UnexpectedAnswer,
        (Attempted::Provision, ErrorClass::OrphanPossible | ErrorClass::Unsure) => Reason::BindFailed,
    };
    let message = match failure.class {
        ErrorClass::OrphanPossible if reason == Reason::BindFailed => {
            format!(
                "{}; a key that it may have created anyway is revoked before the next attempt",
                failure.message
            )
        }
        _ => failure.message.clone(),
    };
    Problem { reason, message }
}
