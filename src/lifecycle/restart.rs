//! The restart of workloads that follows a rotation. Workloads that read credentials only when their pods start keep the
//! previous ones until then.
//!
//! A restart belongs to the number of a key. The record of the previous key's replacement begins it, and nothing else
//! does: no start of the operator, no repair with the same key, no change of the list. So each workload restarts at most
//! once for each key.
//!
//! ServiceKeys that name the same workload and rotate at about the same time restart it once for all of them: each waits
//! for the others, up to [`LONGEST_BATCH`], and sets the annotations of all whose Secrets have their next keys.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Observed, Recorded, Sequence, rotation::after};

/// How long after the Secret has the next key the workloads are restarted. Kubelets learn of the change with a delay,
/// and would start new pods with the previous key until then
/// (<https://github.com/kubernetes/kubernetes/issues/129645>).
const SETTLING: Duration = Duration::from_secs(30);

/// How long after the first failed attempt the next one follows. Each further one follows after twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(60);

/// The longest time between two attempts. No watch reports that the user has corrected a workload.
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// The longest time for which a restart waits for those of other ServiceKeys.
const LONGEST_BATCH: Duration = Duration::from_secs(300);

/// How often a restart that waits looks at the other ServiceKeys.
const LOOK: Duration = Duration::from_secs(10);

/// The most other ServiceKeys whose restarts one patch includes. Each is an annotation in the pod template, of which the
/// policy for the operator permits 100.
const MOST_COMPANIONS: usize = 99;

/// The restart of another ServiceKey that names the same workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Companion {
    /// Its next key is being created.
    Rotating,
    /// Its Secret has the next key, and the kubelets know that at this time.
    Due(Timestamp),
    /// Its last attempt failed.
    Failed,
}

/// A restart that is due, or about to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadRestart {
    /// The number of the key that the workloads have to read.
    pub sequence: Sequence,
    /// When the operator restarts the workloads, or tries again.
    pub due: Timestamp,
    /// The number of attempts that failed.
    pub attempts: u32,
    /// Why the last attempt failed: names the workloads, and what to do.
    pub problem: Option<String>,
}

impl WorkloadRestart {
    /// The restart after the Secret has this key in place of another one.
    pub(super) fn begin(sequence: Sequence, now: Timestamp) -> Self {
        Self { sequence, due: after(now, SETTLING), attempts: 0, problem: None }
    }

    /// The restart, as other ServiceKeys see it.
    #[must_use]
    pub(crate) const fn companion(&self) -> Companion {
        if self.attempts > 0 { Companion::Failed } else { Companion::Due(self.due) }
    }

    /// The same restart after an attempt failed.
    fn failed(&self, problem: &str, now: Timestamp) -> Self {
        let wait = FIRST_RETRY.saturating_mul(1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX));
        Self {
            sequence: self.sequence,
            due: after(now, wait.min(LONGEST_RETRY)),
            attempts: self.attempts.saturating_add(1),
            problem: Some(problem.to_owned()),
        }
    }
}

/// The restart that is due now, with the other ServiceKeys whose restarts it includes.
pub(super) fn due(observed: &Observed) -> Option<(&WorkloadRestart, Vec<Uuid>)> {
    let restart = observed.recorded.restart.as_ref().filter(|restart| restart.due <= observed.now)?;
    let joins = |companion: &Companion| match companion {
        Companion::Rotating => false,
        Companion::Due(time) => *time <= observed.now,
        Companion::Failed => true,
    };
    // The policy for the operator may have refused the annotations of the others.
    let is_first = restart.attempts == 0;
    let companions = observed.companions.iter().filter(|(_, companion)| is_first && joins(companion));
    let companions = companions.map(|(uid, _)| *uid).take(MOST_COMPANIONS).collect();
    waits_for_others(observed, restart).is_none().then_some((restart, companions))
}

/// Until when a restart that is due waits for those of other ServiceKeys; `None` if it does not wait. It does not wait
/// beyond the overlap of the previous key, and an attempt that failed has waited before.
fn waits_for_others(observed: &Observed, restart: &WorkloadRestart) -> Option<Timestamp> {
    if restart.attempts > 0 {
        return None;
    }
    let replaced =
        observed.recorded.previous.iter().find(|previous| previous.sequence.next() == restart.sequence);
    let overlap_ends = replaced.and_then(|previous| previous.revoke_at).unwrap_or(Timestamp::MAX);
    let latest = after(restart.due, LONGEST_BATCH).min(overlap_ends);
    let look = after(observed.now, LOOK);
    let waits = observed.companions.values().filter_map(|companion| match companion {
        Companion::Rotating => Some(look.min(latest)),
        Companion::Due(time) => Some(*time).filter(|time| *time <= latest),
        Companion::Failed => None,
    });
    waits.filter(|time| *time > observed.now).min()
}

/// The restart that the ServiceKey has before it, as the others see it.
pub(crate) fn as_companion(observed: &Observed) -> Option<Companion> {
    let Observed { desired, recorded, run, .. } = observed;
    if !desired.restarts || desired.suspended || desired.deleting {
        return None;
    }
    let is_rotating = recorded.key.is_some()
        && recorded.operation.as_ref().is_some_and(|operation| operation.creates())
        && run.failure.is_none();
    let rotating = is_rotating.then_some(Companion::Rotating);
    recorded.restart.as_ref().map(WorkloadRestart::companion).or(rotating)
}

/// The record after the attempt of this reconcile at the restart that is due; `None` if there was no attempt.
///
/// The restart may be late, because no operator ran, or the ServiceKey was suspended. The pods need the previous key until
/// the rollout is over, so its overlap counts from the restart.
pub(super) fn attempted(observed: &Observed) -> Option<Recorded> {
    let restart = observed.recorded.restart.as_ref()?;
    let (_, problem) = observed.run.restarted.as_ref().filter(|(of, _)| of == restart)?;
    let mut recorded = observed.recorded.clone();
    recorded.restart = problem.as_ref().map(|problem| restart.failed(problem, observed.now));
    let overlap = observed.desired.rotation.overlap;
    let replaced =
        recorded.previous.iter_mut().filter(|previous| previous.sequence.next() == restart.sequence);
    if problem.is_none() && !overlap.is_zero() {
        replaced.for_each(|previous| {
            previous.revoke_at = previous.revoke_at.map(|time| time.max(after(observed.now, overlap)));
        });
    }
    Some(recorded)
}

/// When a ServiceKey that waits has to restart workloads, or to look at the other ServiceKeys.
pub(super) fn next(observed: &Observed) -> Option<Timestamp> {
    let restart = observed.recorded.restart.as_ref()?;
    if restart.due > observed.now { Some(restart.due) } else { waits_for_others(observed, restart) }
}
