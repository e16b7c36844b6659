//! Where a healthy environment leads, from any state.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use parking_lot::Mutex;

use super::*;

/// Steps after which a healthy environment must have led to rest.
const PATIENCE: usize = 100;

/// The states that a healthy environment has led to rest, by their fingerprints: most ways to rest end alike.
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
    /// The keys whose existence can be told from what is stored.
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

    /// Where a healthy environment leads from here; not beyond what is known to come to rest.
    pub(super) fn settles(&self, restful: &Restful) -> Result<(), String> {
        let mut state = self.clone();
        // Whoever is no longer served can leave all the same, if it is known to have been served.
        let leaves = state.object.as_ref().is_some_and(|object| object.deleting)
            && state.recorded != Recorded::default();
        if state.life != Life::Outsider && (state.provider == ModelProvider::Down || !leaves) {
            state.provider = ModelProvider::Up;
        }
        state.rotates = false;
        if let Some(object) = &mut state.object {
            object.suspended = false;
        }
        // There is no more trouble, and how much there could have been is all the same.
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

    /// Goes one step further where nothing goes wrong; says whether that was the last one.
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
        match rest.requeue {
            Requeue::At(time) | Requeue::PauseEnds(time) => {
                let hour = (time.as_second() + 3599) / 3600;
                self.hour_passes((hour - self.hour).max(0));
            }
            Requeue::Poll => {}
            Requeue::OnChange if self.process.run.unusable.is_some() && !object.deleting => {
                self.gave_back_what_is_of_no_use()?;
                // The user corrects what is wrong.
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

    /// A key that no Secret can hold is gone before the user is waited for, unless somebody may use it.
    fn gave_back_what_is_of_no_use(&self) -> Result<(), String> {
        let Some(unusable) = &self.process.run.unusable else { return Ok(()) };
        let known = self.recorded.key.as_ref().is_some_and(|key| key.sequence == unusable.sequence);
        // Marks that name a key which the remote side does not have say nothing of what the Secret holds.
        let held = matches!(&self.secret, Some(Stored::Ours { key, .. }) if key.as_ref().is_none_or(|key| {
            key.sequence == unusable.sequence || !self.remote.contains_key(&key.sequence)
        }));
        if !known && !held && self.remote.contains_key(&unusable.sequence) {
            return Err(format!("a key of no use stays: {self:?}"));
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
            Some(Stored::Ours { key: Some(key), previous: None, damaged: false, flaw: None }) => {
                let only = BTreeMap::from([(key.sequence, object.inputs)]);
                if self.remote != only {
                    return complaint("not exactly the current key lives");
                }
                let told = self.recorded.key.clone();
                let is_told = told.as_ref().is_some_and(|told| {
                    told.id.is_some() && told.sequence == key.sequence && told.inputs == key.inputs
                });
                if !is_told || self.recorded != (Recorded { key: told, ..Recorded::default() }) {
                    return complaint("the status tells something else");
                }
                Ok(())
            }
            _ => complaint("no good Secret"),
        }
    }
}
