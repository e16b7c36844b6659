//! The restart of workloads that follows a rotation. Workloads that read credentials only when their pods start keep the
//! previous ones until then.
//!
//! A restart belongs to the number of a key. The record of the previous key's replacement begins it, and nothing else
//! does: no start of the operator, no repair with the same key, no change of the list. So each workload restarts at most
//! once for each key.

use std::time::Duration;

use jiff::Timestamp;

use super::{Observed, Recorded, Sequence, rotation::after};

/// How long after the Secret has the next key the workloads are restarted. Kubelets learn of the change with a delay,
/// and would start new pods with the previous key until then
/// (<https://github.com/kubernetes/kubernetes/issues/129645>).
const SETTLING: Duration = Duration::from_secs(30);

/// How long after the first failed attempt the next one follows. Each further one follows after twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(60);

/// The longest time between two attempts. No watch reports that the user has corrected a workload.
const LONGEST_RETRY: Duration = Duration::from_secs(600);

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

/// The restart that is due now.
pub(super) fn due(observed: &Observed) -> Option<&WorkloadRestart> {
    observed.recorded.restart.as_ref().filter(|restart| restart.due <= observed.now)
}

/// The record after the attempt of this reconcile at the restart that is due; `None` if there was no attempt.
///
/// The restart may be late, because no operator ran, or the ServiceKey was suspended. The pods need the previous key until
/// the rollout is over, so its overlap counts from the restart.
pub(super) fn attempted(observed: &Observed) -> Option<Recorded> {
    let restart = due(observed)?;
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

/// When a ServiceKey that waits has to restart workloads.
pub(super) fn next(observed: &Observed) -> Option<Timestamp> {
    observed.recorded.restart.as_ref().map(|restart| restart.due).filter(|due| *due > observed.now)
}
