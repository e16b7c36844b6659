//! Converts between the status of a ServiceKey and the types of the decisions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use uuid::Uuid;

use crate::{
    api::{
        self, Binding, ConditionType, ExpiryOrigin, ExpiryOriginKind, IgnoredExpiry, KeyGone, KeyStatus,
        OperationStatus, OperationStatusKind, Reason, RestartStatus, SecretStatus, ServiceKey,
        ServiceKeyStatus, VerificationStatus,
    },
    lifecycle::{
        CredentialEnd, Expiry, ExpirySource, FailedVerification, Inputs, KeyRecord, Lifetime, Loss,
        LossCause, Operation, OperationStage, PendingOperation, PlanIds, PreviousKey, Problem,
        PublishedReady, Recorded, Report, Sequence, Verification, WorkloadRestart, first_bytes,
    },
};

/// Everything that the status records of keys.
pub(crate) fn read(status: Option<&ServiceKeyStatus>) -> Recorded {
    let Some(status) = status else { return Recorded::default() };
    Recorded {
        key: status.key.as_ref().and_then(key_record),
        previous: status.previous_keys.iter().filter_map(previous_key).collect(),
        operation: status.operation.as_ref().and_then(operation),
        loss: status.key.as_ref().and_then(loss),
        restart: status.restart.as_ref().and_then(restart),
        verification: status.verification.as_ref().and_then(verification),
        former: former_uid(status),
    }
}

/// The UID of the ServiceKey that this one was restored from, if the status names one.
pub(crate) fn former_uid(status: &ServiceKeyStatus) -> Option<Uuid> {
    Uuid::try_parse(status.former_uid.as_deref()?).ok()
}

/// The UID from which the ids of a ServiceKey's keys are derived.
pub(crate) fn owner_of_keys(key: &ServiceKey) -> Option<Uuid> {
    key.status.as_ref().and_then(former_uid).or_else(|| key.parsed_uid())
}

/// The condition `Ready`, if it is about this generation of the spec.
pub(crate) fn published_ready(
    status: Option<&ServiceKeyStatus>,
    generation: Option<i64>,
) -> Option<PublishedReady> {
    let conditions = &status.filter(|status| status.observed_generation == generation)?.conditions;
    let ready = conditions.iter().find(|condition| condition.type_ == ConditionType::Ready.as_str())?;
    let reason = Reason::ALL.iter().find(|reason| reason.as_str() == ready.reason)?;
    Some(PublishedReady { ready: ready.status == "True", reason: *reason })
}

/// `None` for an `Unbind`: the status also records its key, as the current one or among the previous.
fn operation(operation: &OperationStatus) -> Option<Operation> {
    let OperationStatus { kind, sequence, token, started_at, inputs, plan_ids } = operation;
    let since = started_at.as_ref().map(|time| time.0);
    let stage = match (kind, since) {
        (OperationStatusKind::Bind, Some(since)) => OperationStage::Accepted {
            token: token.clone(),
            since,
            inputs: inputs.as_deref().map(Inputs::from),
        },
        (OperationStatusKind::Bind, None) => OperationStage::Planned,
        (OperationStatusKind::CleanUp, since) => OperationStage::CleanUp { since },
        (OperationStatusKind::RevokeFirst, _) => OperationStage::RevokeFirst,
        (OperationStatusKind::Unbind, _) => return None,
    };
    let plan_ids = plan_ids.as_ref().and_then(self::plan_ids);
    Some(Operation { sequence: Sequence::new(*sequence)?, plan_ids, stage })
}

/// The longest id, in bytes. No id of a catalog is longer.
const LONGEST_ID: usize = 1024;

/// Plan ids that may be sent to a broker. They are hints: other writers may have written them.
pub(crate) fn plan_ids(ids: &api::PlanIdsStatus) -> Option<PlanIds> {
    let api::PlanIdsStatus { service_id, plan_id } = ids;
    let usable = |id: &String| (1..=LONGEST_ID).contains(&id.len());
    (usable(service_id) && usable(plan_id))
        .then(|| PlanIds { service_id: service_id.clone(), plan_id: plan_id.clone() })
}

/// The same ids as the status shows them.
pub(crate) fn shown_plan_ids(ids: &PlanIds) -> api::PlanIdsStatus {
    let PlanIds { service_id, plan_id } = ids;
    api::PlanIdsStatus { service_id: service_id.clone(), plan_id: plan_id.clone() }
}

fn loss(key: &KeyStatus) -> Option<Loss> {
    let KeyGone { since, why } = key.gone.as_ref()?;
    let cause = match why {
        api::GoneCause::Lost => LossCause::Lost,
        api::GoneCause::Revoked => LossCause::Revoked,
    };
    Some(Loss { since: since.0, cause })
}

fn restart(restart: &RestartStatus) -> Option<WorkloadRestart> {
    let RestartStatus { sequence, due_at, failed_attempts, problem } = restart;
    Some(WorkloadRestart {
        sequence: Sequence::new(*sequence)?,
        due: due_at.0,
        attempts: failed_attempts.unwrap_or_default(),
        problem: problem.clone(),
    })
}

fn restart_status(restart: &WorkloadRestart) -> RestartStatus {
    let WorkloadRestart { sequence, due, attempts, problem } = restart;
    RestartStatus {
        sequence: sequence.number(),
        due_at: Time(*due),
        failed_attempts: Some(*attempts).filter(|attempts| *attempts > 0),
        problem: problem.clone(),
    }
}

/// The longest text about a failed verification, in bytes.
const LONGEST_PROBLEM: usize = 2048;

fn verification(verification: &VerificationStatus) -> Option<Verification> {
    let VerificationStatus { sequence, since, probe, failures, retry_at, problem, inputs, revoked } =
        verification;
    let failed = retry_at.as_ref().map(|retry_at| FailedVerification {
        retry_at: retry_at.0,
        problem: problem.clone().unwrap_or_default(),
        inputs: inputs.as_deref().unwrap_or_default().into(),
        revoked: revoked.unwrap_or_default(),
    });
    let (sequence, failures) = (Sequence::new(*sequence)?, failures.unwrap_or_default());
    Some(Verification { sequence, since: since.0, probe: probe.clone(), failures, failed })
}

fn verification_status(verification: &Verification) -> VerificationStatus {
    let Verification { sequence, since, probe, failures, failed } = verification;
    let problem = failed.as_ref().map(|failed| first_bytes(&failed.problem, LONGEST_PROBLEM).to_owned());
    VerificationStatus {
        sequence: sequence.number(),
        since: Time(*since),
        probe: probe.clone(),
        failures: Some(*failures).filter(|failures| *failures > 0),
        retry_at: failed.as_ref().map(|failed| Time(failed.retry_at)),
        problem,
        inputs: failed.as_ref().map(|failed| failed.inputs.to_string()),
        revoked: failed.as_ref().filter(|failed| failed.revoked).map(|_| true),
    }
}

fn key_record(key: &KeyStatus) -> Option<KeyRecord> {
    let KeyStatus {
        sequence,
        id,
        name,
        role,
        created_at,
        created_by,
        expires_at,
        expires_from,
        ignored_expiry,
        renew_before,
        late_until,
        inputs,
        plan_ids,
        same_credentials,
        gone: _,
    } = key;
    Some(KeyRecord {
        sequence: Sequence::new(*sequence)?,
        id: Some(id.clone()).filter(|id| !id.is_empty()),
        name: name.clone(),
        role: role.clone(),
        created_at: created_at.0,
        created_by: created_by.clone(),
        lifetime: Lifetime {
            expires: expires_at.as_ref().map(|at| Expiry { at: at.0, source: source(expires_from.as_ref()) }),
            ignored: ignored_expiry.as_ref().map(|IgnoredExpiry { at, from }| CredentialEnd {
                at: at.as_ref().map(|time| time.0),
                source: source(Some(from)),
            }),
            renew_before: renew_before.as_ref().map(|time| time.0),
        },
        late_until: late_until.as_ref().map(|time| time.0),
        inputs: inputs.as_str().into(),
        plan_ids: plan_ids.as_ref().and_then(self::plan_ids),
        same_credentials: same_credentials.unwrap_or_default(),
    })
}

fn previous_key(key: &api::PreviousKeyStatus) -> Option<PreviousKey> {
    let api::PreviousKeyStatus {
        sequence,
        id,
        name,
        revoke_at,
        replaced_at,
        consumers,
        kept_until,
        late_until,
        plan_ids,
    } = key;
    Some(PreviousKey {
        sequence: Sequence::new(*sequence)?,
        id: id.clone(),
        name: name.clone(),
        revoke_at: revoke_at.as_ref().map(|time| time.0),
        replaced_at: replaced_at.as_ref().map(|time| time.0),
        consumers: consumers.clone(),
        kept_until: kept_until.as_ref().map(|time| time.0),
        late_until: late_until.as_ref().map(|time| time.0),
        plan_ids: plan_ids.as_ref().and_then(self::plan_ids),
    })
}

/// The parts of a status that are not in the report.
pub(crate) struct StatusContext<'a> {
    /// The generation that the reconcile acted on.
    pub generation: Option<i64>,
    /// The name of the Secret.
    pub secret: &'a str,
    /// The resourceVersion of the Secret to record, if it is known.
    pub secret_version: Option<String>,
    /// The location of the instance, if it is known.
    pub place: Option<String>,
    /// The time, for conditions that change.
    pub now: Timestamp,
}

/// Creates the status for the report. If nothing changed, it equals `before`.
pub(crate) fn from_report(
    report: &Report,
    before: Option<&ServiceKeyStatus>,
    context: &StatusContext<'_>,
) -> ServiceKeyStatus {
    let Report { recorded, pending: _, ready, rotating, stalled, next_rotation, revoking } = report;
    let secret = |resource_version| SecretStatus { name: context.secret.to_owned(), resource_version };
    let verdict = Problem { reason: ready.reason, message: ready.message.clone() };
    let reconciling = report.reconciling();
    let conditions = Conditions { before: before.map_or(&[][..], |status| &status.conditions), context };
    ServiceKeyStatus {
        observed_generation: context.generation,
        conditions: [
            Some(conditions.entry(ConditionType::Ready, ready.ready, &verdict)),
            reconciling.as_ref().map(|why| conditions.entry(ConditionType::Reconciling, true, why)),
            stalled.as_ref().map(|why| conditions.entry(ConditionType::Stalled, true, why)),
            rotating.as_ref().map(|why| conditions.entry(ConditionType::Rotating, true, why)),
        ]
        .into_iter()
        .flatten()
        .collect(),
        binding: recorded.key.as_ref().map(|_| Binding { name: context.secret.to_owned() }),
        secret: recorded.key.as_ref().and(context.secret_version.clone()).map(secret),
        key: recorded.key.as_ref().map(|key| key_status(key, recorded.loss)),
        previous_keys: recorded.previous.iter().map(previous_status).collect(),
        instance_place: context
            .place
            .clone()
            .or_else(|| before.and_then(|status| status.instance_place.clone())),
        next_rotation: next_rotation.map(Time),
        restart: recorded.restart.as_ref().map(restart_status),
        verification: recorded.verification.as_ref().map(verification_status),
        operation: recorded
            .operation
            .as_ref()
            .map(operation_status)
            .or_else(|| revoking.as_ref().map(revocation_status)),
        former_uid: recorded.former.map(|uid| uid.to_string()),
    }
}

/// The status of a ServiceKey that could be read only in part. It keeps the recorded keys, and `Ready` if it
/// was true, because the operator can't check whether the key still works.
pub(crate) fn from_unread(
    before: Option<&ServiceKeyStatus>,
    problem: &Problem,
    generation: Option<i64>,
    now: Timestamp,
) -> ServiceKeyStatus {
    let status = before.cloned().unwrap_or_default();
    let entry = |type_, holds| condition(&status.conditions, type_, holds, problem, generation, now);
    let is_ready =
        |shown: &&Condition| shown.type_ == ConditionType::Ready.as_str() && shown.status == "True";
    let ready = status.conditions.iter().find(is_ready).cloned();
    let conditions = vec![
        ready.unwrap_or_else(|| entry(ConditionType::Ready, false)),
        entry(ConditionType::Stalled, true),
    ];
    ServiceKeyStatus { observed_generation: generation, conditions, ..status }
}

fn operation_status(operation: &Operation) -> OperationStatus {
    let Operation { sequence, plan_ids, stage } = operation;
    let (kind, token, since, inputs) = match stage {
        OperationStage::Planned => (OperationStatusKind::Bind, None, None, None),
        OperationStage::Accepted { token, since, inputs } => {
            (OperationStatusKind::Bind, token.clone(), Some(*since), inputs.as_ref())
        }
        OperationStage::CleanUp { since } => (OperationStatusKind::CleanUp, None, *since, None),
        OperationStage::RevokeFirst => (OperationStatusKind::RevokeFirst, None, None, None),
    };
    OperationStatus {
        kind,
        sequence: sequence.number(),
        token,
        started_at: since.map(Time),
        inputs: inputs.map(ToString::to_string),
        plan_ids: plan_ids.as_ref().map(shown_plan_ids),
    }
}

fn revocation_status(revoking: &PendingOperation) -> OperationStatus {
    OperationStatus {
        kind: OperationStatusKind::Unbind,
        sequence: revoking.sequence.number(),
        token: revoking.token.clone(),
        started_at: Some(Time(crate::lifecycle::full_second(revoking.since))),
        inputs: None,
        plan_ids: None,
    }
}

fn key_status(key: &KeyRecord, loss: Option<Loss>) -> KeyStatus {
    let KeyRecord {
        sequence,
        id,
        name,
        role,
        created_at,
        created_by,
        lifetime: Lifetime { expires, ignored, renew_before },
        late_until,
        inputs,
        plan_ids,
        same_credentials,
    } = key;
    KeyStatus {
        sequence: sequence.number(),
        id: id.clone().unwrap_or_default(),
        name: name.clone(),
        role: role.clone(),
        created_at: Time(*created_at),
        created_by: created_by.clone(),
        expires_at: expires.as_ref().map(|expiry| Time(expiry.at)),
        expires_from: expires.as_ref().map(|expiry| origin(&expiry.source)).filter(is_in_credentials),
        ignored_expiry: ignored
            .as_ref()
            .map(|end| IgnoredExpiry { at: end.at.map(Time), from: origin(&end.source) }),
        renew_before: renew_before.map(Time),
        late_until: late_until.map(Time),
        inputs: inputs.to_string(),
        plan_ids: plan_ids.as_ref().map(shown_plan_ids),
        same_credentials: same_credentials.then_some(true),
        gone: loss.map(gone_status),
    }
}

/// The source of an expiry; the remote side if the status names none.
fn source(origin: Option<&ExpiryOrigin>) -> ExpirySource {
    let Some(ExpiryOrigin { source, entry }) = origin else { return ExpirySource::RemoteSide };
    let entry = || entry.clone().unwrap_or_default();
    match source {
        ExpiryOriginKind::RemoteSide => ExpirySource::RemoteSide,
        ExpiryOriginKind::Certificate => ExpirySource::Certificate(entry()),
        ExpiryOriginKind::Token => ExpirySource::Token(entry()),
    }
}

fn origin(source: &ExpirySource) -> ExpiryOrigin {
    let (source, entry) = match source {
        ExpirySource::RemoteSide => (ExpiryOriginKind::RemoteSide, None),
        ExpirySource::Certificate(entry) => (ExpiryOriginKind::Certificate, Some(entry)),
        ExpirySource::Token(entry) => (ExpiryOriginKind::Token, Some(entry)),
    };
    ExpiryOrigin { source, entry: entry.cloned() }
}

/// The remote side is the source that the status does not name.
fn is_in_credentials(origin: &ExpiryOrigin) -> bool {
    origin.source != ExpiryOriginKind::RemoteSide
}

fn gone_status(loss: Loss) -> KeyGone {
    let Loss { since, cause } = loss;
    let why = match cause {
        LossCause::Lost => api::GoneCause::Lost,
        LossCause::Revoked => api::GoneCause::Revoked,
    };
    KeyGone { since: Time(since), why }
}

fn previous_status(key: &PreviousKey) -> api::PreviousKeyStatus {
    let PreviousKey {
        sequence,
        id,
        name,
        revoke_at,
        replaced_at,
        consumers,
        kept_until,
        late_until,
        plan_ids,
    } = key;
    api::PreviousKeyStatus {
        sequence: sequence.number(),
        id: id.clone(),
        name: name.clone(),
        revoke_at: revoke_at.map(Time),
        replaced_at: replaced_at.map(Time),
        consumers: consumers.clone(),
        kept_until: kept_until.map(Time),
        late_until: late_until.map(Time),
        plan_ids: plan_ids.as_ref().map(shown_plan_ids),
    }
}

/// Conditions that keep the time of their last transition.
struct Conditions<'a> {
    before: &'a [Condition],
    context: &'a StatusContext<'a>,
}

impl Conditions<'_> {
    fn entry(&self, type_: ConditionType, holds: bool, why: &Problem) -> Condition {
        condition(self.before, type_, holds, why, self.context.generation, self.context.now)
    }
}

/// A condition; its transition time is that of `before` unless its status changed.
pub(crate) fn condition(
    before: &[Condition],
    type_: ConditionType,
    holds: bool,
    why: &Problem,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = if holds { "True" } else { "False" };
    let unchanged = before.iter().find(|known| known.type_ == type_.as_str() && known.status == status);
    Condition {
        type_: type_.as_str().to_owned(),
        status: status.to_owned(),
        reason: why.reason.as_str().to_owned(),
        message: why.message.clone(),
        observed_generation: generation,
        last_transition_time: unchanged.map_or_else(
            || Time(crate::lifecycle::full_second(now)),
            |known| known.last_transition_time.clone(),
        ),
    }
}
