//! Keys that may have been made without anybody knowing, as far as this process remembers.
//!
//! A key whose creation was answered is known, and one whose answer was lost is found by its name; but for a while after
//! it was made, IBM Cloud may not show it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    backend::{BackendError, ErrorClass, KeyRequest},
    lifecycle::Identity,
};

/// How long IBM Cloud may not show a key that it has made.
pub(super) const SETTLING: Duration = Duration::from_secs(20);
/// How long an attempt is remembered that nobody came back to.
const LONGEST_MEMORY: Duration = Duration::from_secs(3600);

/// The last attempt at each key that is not known to have been made.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<Identity, Attempt>>);

struct Attempt {
    at: Instant,
    /// Digest of the fields that the key was made from.
    inputs: String,
    outcome: Outcome,
}

/// What is known of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It may have made the key.
    Unknown,
    /// It made the key, whose credentials were not shown.
    Redacted,
}

impl Attempts {
    /// Makes an attempt. It is remembered first, because nobody may be there any more to take its answer, and forgotten
    /// when that tells what became of it.
    ///
    /// # Errors
    /// Those of the attempt.
    pub(super) async fn make<T>(
        &self,
        request: &KeyRequest,
        attempt: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        self.note(request, Outcome::Unknown);
        let made = attempt.await;
        match &made {
            Err(error) if error.class == ErrorClass::Unsure => self.note(request, Outcome::Unknown),
            Err(_) if self.was_redacted(request.identity) => {}
            _ => self.end(request.identity),
        }
        made
    }

    /// The key was made, and its credentials were not shown.
    pub(super) fn redacted(&self, request: &KeyRequest) {
        self.note(request, Outcome::Redacted);
    }

    fn note(&self, request: &KeyRequest, outcome: Outcome) {
        let attempt = Attempt { at: Instant::now(), inputs: request.inputs.clone(), outcome };
        let mut attempts = self.lock();
        attempts.retain(|_, attempt| attempt.at.elapsed() < LONGEST_MEMORY);
        attempts.insert(request.identity, attempt);
    }

    /// What became of the last attempt is known.
    pub(super) fn end(&self, identity: Identity) {
        self.lock().remove(&identity);
    }

    /// Whether a key may have been made that does not show yet.
    pub(super) fn may_still_show(&self, identity: Identity) -> bool {
        self.lock().get(&identity).is_some_and(|attempt| attempt.at.elapsed() < SETTLING)
    }

    /// Whether the key was made from other fields than these, as far as anybody here knows.
    pub(super) fn was_made_from_others(&self, request: &KeyRequest) -> bool {
        self.lock().get(&request.identity).is_some_and(|attempt| attempt.inputs != request.inputs)
    }

    /// Whether the credentials were not shown when the key was made.
    pub(super) fn was_redacted(&self, identity: Identity) -> bool {
        self.lock().get(&identity).is_some_and(|attempt| attempt.outcome == Outcome::Redacted)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Identity, Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
