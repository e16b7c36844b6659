//! Runs any state in a healthy environment, which must come to rest.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use parking_lot::Mutex;

use super::*;

/// The number of steps after which a healthy environment must have come to rest.
const PATIENCE: usize = 100;

/// Fingerprints of the states from which a healthy environment has come to rest. Most runs end in the same states.
#[derive(Default)]
pub(super) struct Restful {
    fingerprints: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Restful {
    fn fingerprint(&self, state: &ModelState) -> u64 {
        self.hasher.hash_one(state)
    }

    fn holds(&self, fingerprint: u64) -> bool {
        self.fingerprints.lock().contains(&fingerprint)
    }

    fn extend(&self, passed: Vec<u64>) {
        self.fingerprints.lock().extend(passed);
    }
}

impl ModelState {
    /// Whether the existence of the key can be derived from the stored state.
    pub(super) fn accounted_for(&self, sequence: Sequence) -> bool {
        let in_secret = self.truth().believed(&self.evidence()).key().map(|key| key.sequence);
        let recorded = &self.recorded;
        let known = recorded.key.as_ref().map(|key| key.sequence);
        let skipped = in_secret.is_some_and(|current| recorded.skipped(current).contains(&sequence));
        recorded.previous.iter().any(|previous| previous.sequence == sequence)
            || skipped
            || [known, in_secret, recorded.attempt()].contains(&Some(sequence))
            || (known.is_none()
                && in_secret.is_none_or(|claimed| !recorded.explains(claimed))
                && sequence == Sequence::FIRST)
    }

    /// Runs a healthy environment from this state to rest, or to a state that is known to come to rest.
    pub(super) fn settles(&self, restful: &Restful) -> Result<(), String> {
        let mut state = self.clone();
        // A ServiceKey that the provider no longer admits can be deleted anyway, if its status shows that it was
        // admitted.
        let leaves = state.object.as_ref().is_some_and(|object| object.deleting)
            && state.recorded != Recorded::default();
        if state.life != Life::Outsider && (state.provider == ModelProvider::Down || !leaves) {
            state.provider = ModelProvider::Up;
        }
        state.rotates = false;
        if let Some(object) = &mut state.object {
            object.suspended = false;
        }
        // No more trouble follows, so the remaining budget does not matter.
        state.budget = ExplorationBudget::default();
        state.process.view = state.cached();
        state.work_ends();
        let mut passed = Vec::new();
        for _ in 0..PATIENCE {
            let fingerprint = restful.fingerprint(&state);
            passed.push(fingerprint);
            if restful.holds(fingerprint) || state.goes_to_rest()? {
                restful.extend(passed);
                return Ok(());
            }
        }
        Err(format!("no rest after {PATIENCE} steps: {state:?}"))
    }

    /// Carries out one more step without faults, and returns whether it was the last one.
    fn goes_to_rest(&mut self) -> Result<bool, String> {
        let Some(object) = self.object.clone() else { return self.ended().map(|()| true) };
        let rest = match decide(&self.observed(&object)) {
            Step::Wait(rest) => rest,
            step => {
                self.act(&object, step, Fate::Answered);
                return Ok(false);
            }
        };
        self.rest(&object, &rest);
        let time = match rest.requeue {
            Requeue::At(time) | Requeue::PauseEnds(time) => Some(time),
            Requeue::OnChange | Requeue::Poll | Requeue::Retry { .. } => None,
        };
        let sees_changes = self.process.seen.is_some_and(|(seen, _)| seen == object.inputs);
        let not_after = rest.not_after.filter(|_| self.life != Life::Following || !sees_changes);
        if let Some(time) = time.into_iter().chain(not_after).min() {
            let hour = (time.as_second() + 3599) / 3600;
            self.hour_passes((hour - self.hour).max(0));
            return Ok(false);
        }
        match rest.requeue {
            Requeue::At(_) | Requeue::PauseEnds(_) | Requeue::Poll => {}
            Requeue::OnChange if self.process.run.unusable.is_some() && !object.deleting => {
                self.gave_back_what_is_of_no_use()?;
                self.process.run.unusable = None;
            }
            Requeue::OnChange => {
                if self.life == Life::Lost {
                    self.list();
                }
                if self.process.missed.is_none() || object.deleting {
                    return self.ended().map(|()| true);
                }
            }
            Requeue::Retry { .. } if rest.report.ready.reason == Reason::SecretConflict => {
                return self.ended().map(|()| true);
            }
            Requeue::Retry { .. } => self.process.view = self.cached(),
        }
        Ok(false)
    }

    /// A key whose credentials fit no Secret is revoked before the operator waits for the user, unless a workload may
    /// use it.
    fn gave_back_what_is_of_no_use(&self) -> Result<(), String> {
        let Some(unusable) = &self.process.run.unusable else { return Ok(()) };
        let known = self.recorded.key.as_ref().is_some_and(|key| key.sequence == unusable.sequence);
        // Marks that name a key which the remote side does not have say nothing about the content of the Secret.
        let held = matches!(&self.secret, Some(Stored::Ours { key, .. }) if key.as_ref().is_none_or(|key| {
            key.sequence == unusable.sequence || !self.remote.contains_key(&key.sequence)
        }));
        if !known && !held && self.remote.contains_key(&unusable.sequence) {
            return Err(format!("a key without use is not revoked: {self:?}"));
        }
        Ok(())
    }

    pub(super) fn ended(&self) -> Result<(), String> {
        let complaint = |what: &str| Err(format!("{what}: {self:?}"));
        if let Some(rule) = self.broken {
            return complaint(rule);
        }
        if self.life == Life::Outsider {
            return Ok(());
        }
        let Some(object) = &self.object else {
            return match &self.secret {
                Some(Stored::Ours { .. }) => complaint("the Secret outlives its ServiceKey"),
                _ => Ok(()),
            };
        };
        if object.deleting {
            return complaint("a deletion does not end");
        }
        match &self.secret {
            Some(Stored::Foreign) => Ok(()),
            Some(Stored::Ours { key: Some(key), previous: None, damaged: false, flaw: None, .. }) => {
                if self.staged.is_some() {
                    return complaint("credentials stay staged");
                }
                let only = BTreeMap::from([(key.sequence, object.inputs)]);
                if self.remote != only {
                    return complaint("the remote side has other keys than the current one");
                }
                let told = self.recorded.key.clone();
                let is_told = told.as_ref().is_some_and(|told| {
                    told.id.is_some() && told.sequence == key.sequence && told.inputs == key.inputs
                });
                let verification =
                    self.recorded.verification.clone().filter(|verification| verification.failed.is_some());
                if !is_told || self.recorded != (Recorded { key: told, verification, ..Recorded::default() })
                {
                    return complaint("the status records something else");
                }
                Ok(())
            }
            _ => complaint("the Secret is missing or wrong"),
        }
    }
}
