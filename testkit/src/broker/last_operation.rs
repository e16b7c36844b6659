//! The last asynchronous operation on each binding, and the answers to polls.

use std::collections::BTreeMap;

use axum::http::{StatusCode, header::RETRY_AFTER};
use serde_json::json;
use uuid::Uuid;

use super::{
    answer::{Answer, Refusal},
    operation::{Key, Wish},
    pace::{Pace, Work},
    record::Rule,
};

/// One operation that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnderWay {
    /// The kind of the operation.
    pub work: Work,
    /// The instance of the binding.
    pub instance: String,
    /// The binding.
    pub binding: Uuid,
    /// The token in the broker's answer: `operation`.
    pub token: Option<String>,
    /// The number of polls so far.
    pub polls: usize,
}

/// The task of an operation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Task {
    Bind(Wish),
    Unbind,
}

impl Task {
    pub(super) const fn work(&self) -> Work {
        match self {
            Self::Bind(_) => Work::Bind,
            Self::Unbind => Work::Unbind,
        }
    }
}

/// The end of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed(String),
}

struct LastOperation {
    number: u64,
    key: Key,
    task: Task,
    token: Option<String>,
    /// The pace of the broker when the operation began.
    pace: Pace,
    polls: usize,
    end: Option<End>,
    /// Whether a poll has reported the end.
    reported: bool,
}

/// At most one operation for each binding, because the specification has no queue.
#[derive(Default)]
pub(super) struct LastOperations {
    by_binding: BTreeMap<Uuid, LastOperation>,
    begun: u64,
}

impl LastOperations {
    /// Begins an operation, which replaces one that has ended, and returns the 202 for it.
    pub(super) fn begin(&mut self, key: &Key, task: Task, pace: Pace) -> Answer {
        self.begun += 1;
        let begun = LastOperation {
            number: self.begun,
            key: key.clone(),
            task,
            token: pace.token(self.begun),
            pace,
            polls: 0,
            end: None,
            reported: false,
        };
        let answer = begun.accepted();
        self.by_binding.insert(key.id, begun);
        answer
    }

    /// The task that is under way for a binding of this id, with its instance.
    pub(super) fn task(&self, id: Uuid) -> Option<(&Task, &Key)> {
        self.by_binding.get(&id).filter(|last| last.end.is_none()).map(|last| (&last.task, &last.key))
    }

    /// The 202 that an operation began with.
    pub(super) fn accepted_again(&self, id: Uuid) -> Option<Answer> {
        self.by_binding.get(&id).map(LastOperation::accepted)
    }

    /// All operations that are under way, oldest first.
    pub(super) fn under_way(&self) -> Vec<UnderWay> {
        let mut open: Vec<_> = self.by_binding.values().filter(|last| last.end.is_none()).collect();
        open.sort_by_key(|last| last.number);
        open.into_iter().map(LastOperation::under_way).collect()
    }

    /// Ends the operation that is under way.
    pub(super) fn end(&mut self, id: Uuid, end: End) {
        if let Some(last) = self.by_binding.get_mut(&id) {
            last.end = Some(end);
        }
    }

    /// Forgets the last operation on a binding that a later call has changed at once.
    pub(super) fn forget(&mut self, id: Uuid) {
        self.by_binding.remove(&id);
    }

    /// Checks a poll against the last operation.
    pub(super) fn check_poll(&self, key: &Key, token: Option<&str>) -> Result<(), Refusal> {
        let Some(last) = self.of(key) else {
            let detail = format!("no operation on binding `{}` is under way", key.id);
            return Err(Refusal::described(Rule::UnderWay, StatusCode::NOT_FOUND, detail));
        };
        if last.token.as_deref() == token {
            return Ok(());
        }
        let detail = match &last.token {
            Some(_) => "`operation` must be what the last 202 for this binding said",
            None => "`operation` must be left out, as the last 202 for this binding left it out",
        };
        Err(Refusal::bad_request(Rule::OperationToken, detail))
    }

    /// Counts a poll; returns whether it ends the operation.
    pub(super) fn count_poll(&mut self, key: &Key) -> bool {
        let Some(last) = self.by_binding.get_mut(&key.id) else { return false };
        last.polls += 1;
        last.end.is_none() && last.pace.polls.is_some_and(|in_progress| last.polls > in_progress)
    }

    /// The answer to a poll.
    pub(super) fn report(&mut self, key: &Key) -> Answer {
        match self.by_binding.get_mut(&key.id) {
            Some(last) => last.report(),
            None => Answer::error(StatusCode::NOT_FOUND, "there is no operation"),
        }
    }

    fn of(&self, key: &Key) -> Option<&LastOperation> {
        self.by_binding.get(&key.id).filter(|last| last.key == *key)
    }
}

impl LastOperation {
    fn accepted(&self) -> Answer {
        let body = self.token.as_ref().map_or_else(|| json!({}), |token| json!({ "operation": token }));
        self.patient(Answer::new(StatusCode::ACCEPTED, body))
    }

    fn report(&mut self) -> Answer {
        let state = |state: &str| Answer::new(StatusCode::OK, json!({ "state": state }));
        match &self.end {
            None => {
                let description = format!("poll {} came too early", self.polls);
                let body = json!({ "state": "in progress", "description": description });
                self.patient(Answer::new(StatusCode::OK, body))
            }
            Some(End::Failed(description)) => {
                Answer::new(StatusCode::OK, json!({ "state": "failed", "description": description }))
            }
            Some(End::Succeeded) if self.task == Task::Unbind => {
                let told = std::mem::replace(&mut self.reported, true) || self.pace.forgets_unbinds;
                if told { Answer::gone() } else { state("succeeded") }
            }
            Some(End::Succeeded) => state("succeeded"),
        }
    }

    /// Adds the `Retry-After` of the pace, if it has one.
    fn patient(&self, answer: Answer) -> Answer {
        match &self.pace.retry_after {
            Some(value) => answer.with_header(RETRY_AFTER, value.clone()),
            None => answer,
        }
    }

    fn under_way(&self) -> UnderWay {
        UnderWay {
            work: self.task.work(),
            instance: self.key.instance.clone(),
            binding: self.key.id,
            token: self.token.clone(),
            polls: self.polls,
        }
    }
}
