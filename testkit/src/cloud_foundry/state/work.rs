//! The work on a key. A request begins it, looks advance it, and either looks or the test end it.

use jiff::Timestamp;

use super::{
    super::{
        estate::OperationState,
        pace::{Pace, Work},
        record::{LastOperation, UnderWay},
    },
    ApiError, State, Stored,
    jobs::Stage,
};

/// The current work on a key.
pub(super) struct Effort {
    pub work: Work,
    /// The pace at the time of the request.
    pub pace: Pace,
    pub looks: usize,
    /// Whether the broker works on it.
    pub started: bool,
    pub jobs: Vec<String>,
    /// The jobs of the creation that this deletion overtook.
    pub overtaken: Vec<String>,
    /// 1 for the first work of the Cloud Controller, 2 for the next one.
    number: u64,
}

impl Effort {
    pub(super) fn new(work: Work, pace: Pace, job: String, overtaken: Vec<String>) -> Self {
        Self { work, pace, looks: 0, started: false, jobs: vec![job], overtaken, number: 0 }
    }
}

impl Stored {
    pub(super) fn under_way(&self) -> Option<(u64, UnderWay)> {
        let effort = self.effort.as_ref()?;
        let open = UnderWay {
            work: effort.work,
            key: self.key.guid.clone(),
            name: self.key.name.clone(),
            job: effort.jobs.first().cloned().unwrap_or_default(),
            looks: effort.looks,
        };
        Some((effort.number, open))
    }

    fn set(&mut self, work: Work, state: OperationState, description: &str, now: Timestamp) {
        self.key.last_operation =
            LastOperation { description: description.into(), ..LastOperation::new(work, state) };
        self.updated_at = now;
    }
}

impl State {
    /// Begins work on a key, and ends it at once if it takes no time.
    pub(super) fn begin(&mut self, guid: &str, effort: Effort) {
        self.begun += 1;
        let effort = Effort { number: self.begun, ..effort };
        let takes_time = effort.pace.takes_time(effort.work);
        if let Some(stored) = self.stored_mut(guid) {
            stored.effort = Some(effort);
        }
        if takes_time {
            return;
        }
        if self.is_busy_elsewhere(guid) {
            self.reject(guid);
        } else {
            self.finish(guid);
        }
    }

    /// Counts a look at the work on a key. The first look begins the work, and this look may end it.
    pub(super) fn look(&mut self, guid: &str) {
        let Some(effort) = self.stored_mut(guid).and_then(|stored| stored.effort.as_mut()) else { return };
        let seen = effort.looks;
        if effort.pace.is_over(seen) {
            self.finish(guid);
            return;
        }
        effort.looks += 1;
        if seen > 0 {
            self.start(guid);
        }
    }

    fn start(&mut self, guid: &str) {
        let is_new = |stored: &Stored| stored.effort.as_ref().is_some_and(|effort| !effort.started);
        if !self.stored(guid).is_some_and(is_new) {
            return;
        }
        if self.is_busy_elsewhere(guid) {
            self.reject(guid);
            return;
        }
        let now = self.environment.now();
        let Some(stored) = self.stored_mut(guid) else { return };
        let Some(effort) = stored.effort.as_mut() else { return };
        effort.started = true;
        let (work, jobs) = (effort.work, effort.jobs.clone());
        stored.set(work, OperationState::InProgress, "", now);
        self.advance(&jobs, &Stage::Polling);
    }

    /// Whether the broker accepts one operation at a time and works on another key of the same instance.
    fn is_busy_elsewhere(&self, guid: &str) -> bool {
        if self.is_occupied {
            return true;
        }
        let Some(key) = self.key(guid).filter(|_| self.one_at_a_time) else { return false };
        self.keys.values().any(|other| {
            other.key.instance == key.instance
                && other.key.guid != key.guid
                && other.effort.as_ref().is_some_and(|effort| effort.started)
        })
    }

    /// The broker answers 422 `ConcurrencyError`. A creation then fails. For a deletion, only the job fails.
    fn reject(&mut self, guid: &str) {
        let work = self.stored(guid).and_then(|stored| stored.effort.as_ref()).map(|effort| effort.work);
        match work {
            Some(Work::Create) => drop(self.fail(guid, PARALLEL)),
            Some(Work::Delete) => drop(self.fail_job(guid, IN_PROGRESS)),
            None => {}
        }
    }

    /// Lets only the job of the work on a key fail, and keeps the key unchanged; returns whether there was work.
    pub(crate) fn fail_job(&mut self, guid: &str, detail: &str) -> bool {
        let Some((work, jobs)) = self.abandon(guid) else { return false };
        self.advance(&jobs, &Stage::Failed(ApiError::unable_to_perform(work.of_the_broker(), detail)));
        true
    }

    /// Removes the work on a key from its worker: the key and the jobs do not change any more. Returns the jobs.
    pub(crate) fn abandon(&mut self, guid: &str) -> Option<(Work, Vec<String>)> {
        let effort = self.stored_mut(guid)?.effort.take()?;
        if !effort.overtaken.is_empty() {
            let overtaken = Effort::new(Work::Create, effort.pace, String::new(), Vec::new());
            let overtaken =
                Effort { jobs: effort.overtaken.clone(), started: true, number: effort.number, ..overtaken };
            self.stored_mut(guid)?.effort = Some(overtaken);
        }
        Some((effort.work, effort.jobs))
    }

    /// Lets the work on a key succeed; returns whether there was any.
    pub(crate) fn finish(&mut self, guid: &str) -> bool {
        let Some(effort) = self.stored_mut(guid).and_then(|stored| stored.effort.take()) else {
            return false;
        };
        match effort.work {
            Work::Create => self.finish_creation(guid, &effort),
            Work::Delete => {
                self.remove(guid);
                self.advance(&effort.jobs, &Stage::Complete);
                self.advance(&effort.overtaken, &Stage::Failed(gone(guid)));
            }
        }
        true
    }

    fn finish_creation(&mut self, guid: &str, effort: &Effort) {
        let name = self
            .key(guid)
            .and_then(|key| self.place(&key.instance))
            .map(|place| (place.instance.guid.clone(), place.instance.name.clone()));
        let Some((instance, name)) = name else { return };
        let credentials = self.make_credentials(&instance, &name);
        let now = self.environment.now();
        if let Some(stored) = self.stored_mut(guid) {
            stored.key.credentials = Some(credentials);
            stored.set(Work::Create, OperationState::Succeeded, "", now);
        }
        self.advance(&effort.jobs, &Stage::Complete);
    }

    /// Lets the work on a key fail; returns whether there was any.
    pub(crate) fn fail(&mut self, guid: &str, detail: &str) -> bool {
        let now = self.environment.now();
        let Some(stored) = self.stored_mut(guid) else { return false };
        let Some(effort) = stored.effort.take() else { return false };
        stored.set(effort.work, OperationState::Failed, detail, now);
        let error = ApiError::unable_to_perform(effort.work.of_the_broker(), detail);
        self.advance(&effort.jobs, &Stage::Failed(error.clone()));
        self.advance(&effort.overtaken, &Stage::Failed(error));
        true
    }

    /// Removes a key without a call; returns whether it existed.
    pub(crate) fn forget(&mut self, guid: &str) -> bool {
        let Some(stored) = self.remove(guid) else { return false };
        if let Some(effort) = stored.effort {
            let end = match effort.work {
                Work::Create => Stage::Failed(gone(guid)),
                // The key no longer exists, so the deletion has succeeded.
                Work::Delete => Stage::Complete,
            };
            self.advance(&effort.jobs, &end);
            self.advance(&effort.overtaken, &Stage::Failed(gone(guid)));
        }
        true
    }
}

/// The error of a creation that the broker refused because of another one.
const PARALLEL: &str =
    "The service broker could not perform this operation in parallel with other running operations";

/// The error of a job whose deletion the broker refused because of another one.
const IN_PROGRESS: &str =
    "The service broker rejected the request due to an operation being in progress for the service binding.";

/// The error of a job whose key was removed meanwhile.
fn gone(guid: &str) -> ApiError {
    ApiError::resource_not_found(format!("The binding could not be found: {guid}"))
}
