//! The check of new credentials before they are published, if the user wants one.
//!
//! Until the service has accepted them once, new credentials are only in a staging Secret, which no workload uses. So a
//! crash loses nothing, although the remote side may show credentials only once. A key that the service does not accept in
//! time is revoked, and the next attempt waits.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Inputs, KeyRecord, KubernetesEffect, Observed, Problem, Recorded, Sequence, StagingView, Step,
    full_second, order::decisions, report, rotation::after,
};

decisions! {
    /// The credentials of a new key are in hand, and the user wants the service to accept them before they are published.
    "Verify a key", Unverified<'_> => Step:

    /// Another owner has a Secret of that name.
    refuse_foreign_staging_secret,
    /// The remote side may show credentials only once, so the operator stores them before it does anything else.
    stage_credentials,
    /// The time limit counts from the first attempt, also after a crash.
    record_begin,
    /// The service did not accept the credentials in time.
    give_up,
    /// The time of the next attempt has come.
    verify,
    else
    /// The service may need a while until it accepts a new key.
    wait_for_next_attempt
}

/// How long and how often the operator tries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerificationPolicy {
    /// The time limit, from the first attempt on.
    pub within: Duration,
    /// The time between two attempts.
    pub every: Duration,
    /// A digest of the probe.
    pub probe: String,
}

/// The state of a verification that has begun or failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Verification {
    /// The number of the new key.
    pub sequence: Sequence,
    /// When the first attempt with this probe began.
    pub since: Timestamp,
    /// A digest of the probe.
    pub probe: String,
    /// How many keys of this number were given up.
    pub failures: u32,
    /// The last failure, until the next key of this number is in hand.
    pub failed: Option<FailedVerification>,
}

/// A key that the service did not accept in time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FailedVerification {
    /// When the operator creates another key, unless the user changes something before.
    pub retry_at: Timestamp,
    /// The answer to the last attempt.
    pub problem: String,
    /// The inputs of the key.
    pub inputs: Inputs,
    /// Whether the remote side has confirmed that the key is gone.
    pub revoked: bool,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Verified {
    /// The number of the new key.
    pub sequence: Sequence,
    pub at: Timestamp,
    pub outcome: ProbeOutcome,
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProbeOutcome {
    /// The service accepted the credentials.
    Accepted,
    /// The service did not accept them, or did not answer; the reason, as a clause for messages.
    Refused(String),
    /// The operator could not ask the service. Another key would not change that.
    NotAsked(Problem),
}

/// A key whose credentials are in hand and not verified.
pub(super) struct Unverified<'a> {
    pub observed: &'a Observed,
    pub key: &'a KeyRecord,
    pub policy: &'a VerificationPolicy,
}

/// A key that the service did not accept in time.
pub(super) struct Refused {
    /// When the operator creates the next key of this number, if the remote side has confirmed by then that this one is
    /// gone.
    pub until: Timestamp,
    /// Whether it has.
    pub revoked: bool,
}

/// The wait after the first failure. It doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(3600);
/// The longest wait.
const LONGEST_RETRY: Duration = Duration::from_secs(24 * 3600);
/// The wait while no Secret contains a key that works.
const URGENT_RETRY: Duration = Duration::from_secs(600);
/// The precision of times in a status, and the shortest time between two attempts.
const SECOND: Duration = Duration::from_secs(1);
/// The shortest time between two attempts that do not reach the service.
const NOT_ASKED_RETRY: Duration = Duration::from_secs(60);

/// The key, if the service has to accept its credentials before they are published. A first key that may be adopted has
/// users already, so the operator neither withholds nor revokes it.
pub(super) fn unverified<'a>(observed: &'a Observed, key: &'a KeyRecord) -> Option<Unverified<'a>> {
    let Observed { desired, recorded, secret, run, .. } = observed;
    let policy = desired.verification.as_ref()?;
    let mut published = [recorded.key.as_ref(), secret.key()].into_iter().flatten().peekable();
    let may_be_adopted = desired.adopts && published.peek().is_none();
    let is_published = published.any(|known| known.sequence >= key.sequence);
    let is_of_key = |last: &&Verified| last.sequence == key.sequence;
    let is_verified =
        run.verified.as_ref().filter(is_of_key).is_some_and(|last| last.outcome == ProbeOutcome::Accepted);
    (!is_published && !is_verified && !may_be_adopted).then_some(Unverified { observed, key, policy })
}

/// The failure because of which the operator neither publishes nor creates the key of this number. After the key is gone,
/// the failure counts only until the user changes the probe or what keys are created from.
pub(super) fn refused(observed: &Observed, sequence: Sequence) -> Option<Refused> {
    let verification = observed.recorded.verification.as_ref();
    after_failure(observed, verification.filter(|verification| verification.sequence == sequence)?)
}

/// The same of this record.
pub(super) fn after_failure(observed: &Observed, verification: &Verification) -> Option<Refused> {
    let Observed { desired, now, .. } = observed;
    let failed = verification.failed.as_ref()?;
    let until = rest_ends(observed, verification, failed);
    let wants_the_same =
        desired.verification.as_ref().is_some_and(|policy| policy.probe == verification.probe)
            && desired.inputs.is_fulfilled_by(&failed.inputs);
    // A later end was not written by the operator, or by another clock.
    let rests = wants_the_same && until > *now && until <= after(*now, LONGEST_RETRY);
    (rests || !failed.revoked).then_some(Refused { until, revoked: failed.revoked })
}

/// When the wait ends. It is short while workloads have no key that works.
fn rest_ends(observed: &Observed, verification: &Verification, failed: &FailedVerification) -> Timestamp {
    let Observed { desired, recorded, secret, run, now, .. } = observed;
    let works = secret.key().is_some_and(|key| {
        let is_lost = run.absent.contains(&key.sequence) || recorded.loss_of(key.sequence).is_some();
        key.sequence < verification.sequence && !is_lost && key.expired(*now).is_none()
    });
    let within = desired.verification.as_ref().map_or(Duration::ZERO, |policy| policy.within);
    let urgent = after(after(verification.since, within), URGENT_RETRY);
    if works { failed.retry_at } else { failed.retry_at.min(urgent) }
}

/// Whether the key of this number is being verified, or was refused.
pub(super) fn is_under_way(observed: &Observed, sequence: Sequence) -> bool {
    let in_hand = observed.run.in_hand.as_ref().filter(|key| key.sequence == sequence);
    let is_staged =
        || observed.desired.verification.is_some() && observed.staging == StagingView::Holds(sequence);
    in_hand.is_some_and(|key| unverified(observed, key).is_some())
        || refused(observed, sequence).is_some()
        || is_staged()
}

impl Recorded {
    /// The same record after the remote side has confirmed that the next key, which has this number, is gone.
    #[must_use]
    pub(super) fn after_revocation(mut self, sequence: Sequence) -> Self {
        self.operation = self.operation.filter(|operation| operation.sequence != sequence);
        let verification =
            self.verification.as_mut().filter(|verification| verification.sequence == sequence);
        match verification.map(|verification| &mut verification.failed) {
            Some(Some(failed)) => failed.revoked = true,
            Some(None) => self.verification = None,
            None => {}
        }
        self
    }
}

impl Unverified<'_> {
    /// When the verification with this probe began, if it did.
    fn since(&self) -> Option<Timestamp> {
        let Observed { recorded, now, .. } = self.observed;
        let verification = recorded.verification.as_ref()?;
        let is_this = verification.sequence == self.key.sequence
            && verification.failed.is_none()
            && verification.probe == self.policy.probe
            && verification.since <= full_second(*now);
        is_this.then_some(verification.since)
    }

    fn deadline(&self) -> Timestamp {
        after(self.since().unwrap_or(self.observed.now), self.policy.within)
    }

    /// The last attempt of this process. An attempt in the future shows that the clock was set back.
    fn last(&self) -> Option<&Verified> {
        let Observed { run, now, .. } = self.observed;
        run.verified.as_ref().filter(|last| last.sequence == self.key.sequence && last.at <= *now)
    }

    fn next_attempt(&self) -> Timestamp {
        let Self { observed, policy, .. } = self;
        let Some(last) = self.last() else { return observed.now };
        match last.outcome {
            ProbeOutcome::NotAsked(_) => after(last.at, policy.every.max(NOT_ASKED_RETRY)),
            ProbeOutcome::Accepted | ProbeOutcome::Refused(_) => {
                let (next, deadline) = (after(last.at, policy.every), self.deadline());
                // The last attempt is at the end of the time limit.
                let is_almost_over = last.at < deadline && after(next, SECOND) >= deadline;
                if is_almost_over { deadline } else { next }
            }
        }
    }
}

/// The wait, if another owner has the staging Secret.
pub(super) fn staging_conflict(observed: &Observed) -> Option<Step> {
    match &observed.staging {
        StagingView::Foreign { holder } => Some(Step::Wait(report::staging_conflict(observed, holder))),
        StagingView::Absent | StagingView::Damaged | StagingView::Holds(_) => None,
    }
}

fn refuse_foreign_staging_secret(unverified: &Unverified<'_>) -> Option<Step> {
    staging_conflict(unverified.observed)
}

fn stage_credentials(Unverified { observed, key, .. }: &Unverified<'_>) -> Option<Step> {
    let is_staged = observed.staging == StagingView::Holds(key.sequence);
    (!is_staged).then(|| Step::Apply(KubernetesEffect::StageCredentials(Box::new((*key).clone()))))
}

fn record_begin(unverified: &Unverified<'_>) -> Option<Step> {
    let Unverified { observed, key, policy } = unverified;
    if unverified.since().is_some() {
        return None;
    }
    let before = observed.recorded.verification.as_ref();
    let same = before.filter(|before| before.sequence == key.sequence && before.probe == policy.probe);
    let begun = Verification {
        sequence: key.sequence,
        since: full_second(observed.now),
        probe: policy.probe.clone(),
        failures: same.map_or(0, |before| before.failures),
        failed: None,
    };
    let recorded = Recorded { verification: Some(begun), ..observed.recorded.clone() };
    Some(Step::record(report::verifying(observed, recorded, key)))
}

fn give_up(unverified: &Unverified<'_>) -> Option<Step> {
    let Unverified { observed, key, .. } = unverified;
    let last = unverified.last().filter(|last| last.at >= unverified.deadline())?;
    let ProbeOutcome::Refused(problem) = &last.outcome else { return None };
    let verification = observed.recorded.verification.as_ref()?;
    let wait = FIRST_RETRY.saturating_mul(1_u32.checked_shl(verification.failures).unwrap_or(u32::MAX));
    let failed = FailedVerification {
        retry_at: full_second(after(observed.now, wait.min(LONGEST_RETRY - SECOND))),
        problem: problem.clone(),
        inputs: key.inputs.clone(),
        revoked: false,
    };
    let failures = verification.failures.saturating_add(1);
    let given_up = Verification { failures, failed: Some(failed), ..verification.clone() };
    let recorded = Recorded { verification: Some(given_up), ..observed.recorded.clone() };
    Some(Step::record(report::verification_failed(observed, recorded)))
}

fn verify(unverified: &Unverified<'_>) -> Option<Step> {
    let is_due = unverified.next_attempt() <= unverified.observed.now;
    is_due.then_some(Step::Verify(unverified.key.sequence))
}

fn wait_for_next_attempt(unverified: &Unverified<'_>) -> Step {
    let Unverified { observed, key, .. } = unverified;
    let outcome = unverified.last().map(|last| &last.outcome);
    let (deadline, next) = (unverified.deadline(), unverified.next_attempt());
    Step::Wait(report::not_accepted_yet(observed, key, outcome, deadline, next))
}
