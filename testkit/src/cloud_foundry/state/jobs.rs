//! Jobs: `GET /v3/jobs/:guid` reports the work on a key.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    super::{answer::accepted, pace::Work},
    Answer, Answered, ApiError, State,
    show::shown_time,
};

/// A job. It exists longer than its key.
pub(super) struct Job {
    guid: String,
    work: Work,
    key: String,
    stage: Stage,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// The progress of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Processing,
    Polling,
    Complete,
    Failed(ApiError),
}

impl Stage {
    const fn name(&self) -> &'static str {
        match self {
            Self::Processing => "PROCESSING",
            Self::Polling => "POLLING",
            Self::Complete => "COMPLETE",
            Self::Failed(_) => "FAILED",
        }
    }

    const fn is_open(&self) -> bool {
        matches!(self, Self::Processing | Self::Polling)
    }
}

impl State {
    /// Creates a job for work on a key; returns its GUID.
    pub(super) fn new_job(&mut self, work: Work, key: &str) -> String {
        let guid = if self.korifi { work.job_of_korifi(key) } else { self.environment.guid() };
        let now = self.environment.now();
        let job = Job {
            guid: guid.clone(),
            work,
            key: key.to_owned(),
            stage: Stage::Processing,
            created_at: now,
            updated_at: now,
        };
        self.jobs.insert(guid.clone(), job);
        guid
    }

    /// The answer that refers a client to a job.
    pub(super) fn accepted(&self, job: &str) -> Answer {
        accepted(&self.url(&format!("/v3/jobs/{job}")))
    }

    /// Moves the open jobs among these to a stage.
    pub(super) fn advance(&mut self, jobs: &[String], stage: &Stage) {
        let now = self.environment.now();
        for guid in jobs {
            if let Some(job) = self.jobs.get_mut(guid)
                && job.stage.is_open()
            {
                job.stage = stage.clone();
                job.updated_at = now;
            }
        }
    }

    /// Forgets jobs, as the Cloud Controller does with old ones.
    pub(crate) fn forget_jobs(&mut self, jobs: &[String]) {
        self.jobs.retain(|guid, _| !jobs.contains(guid));
    }

    pub(super) fn fetch_job(&mut self, guid: &str) -> Answered {
        let key = self.jobs.get(guid).map(|job| job.key.clone());
        let key = key.ok_or_else(|| ApiError::resource_not_found("Job not found"))?;
        self.look(&key);
        let job = self.jobs.get(guid).map(|job| self.show_job(job));
        job.map(Answer::ok).ok_or_else(|| ApiError::resource_not_found("Job not found"))
    }

    fn show_job(&self, job: &Job) -> Value {
        let Job { guid, work, key, stage, created_at, updated_at } = job;
        let errors: Vec<_> = match stage {
            Stage::Failed(error) => vec![error.shown()],
            Stage::Processing | Stage::Polling | Stage::Complete => Vec::new(),
        };
        let mut shown = json!({
            "guid": guid,
            "created_at": shown_time(*created_at),
            "updated_at": shown_time(*updated_at),
            "operation": work.job(),
            "state": stage.name(),
            "errors": errors,
            "warnings": [],
            "links": { "self": self.href(&format!("/v3/jobs/{guid}")) },
        });
        // The link exists as long as the key. Its name is the type of its resource, in the singular.
        if self.stored(key).is_some() {
            shown["links"]["service_credential_binding"] =
                self.href(&format!("/v3/service_credential_bindings/{key}"));
        }
        shown
    }
}
