//! Remembers attempts that may have created a key without the operator's knowledge, as long as the process lives.
//!
//! If no answer arrived, the operator finds the key by its name. But IBM Cloud may not show a key for a while after its
//! creation.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    backend::{BackendError, ErrorClass, KeyRequest},
    lifecycle::Identity,
};

/// How long the operator searches for a key at increasing intervals. Afterwards it waits for the end of `settling`.
const CLOSE_LOOKS: Duration = Duration::from_secs(60);
/// How long an attempt is remembered if no later request ends it.
const LONGEST_MEMORY: Duration = Duration::from_secs(3600);

/// The last attempt to create each key, if its outcome is unknown.
pub(super) struct Attempts {
    known: Mutex<HashMap<Identity, Attempt>>,
    /// How long IBM Cloud may not show a key after its creation.
    settling: Duration,
}

struct Attempt {
    at: Instant,
    /// The digest of the fields that the key was created from.
    inputs: String,
    outcome: AttemptOutcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AttemptOutcome {
    /// The attempt may have created the key.
    Unknown,
    /// The attempt created the key, but its credentials were not shown.
    Redacted,
}

impl Attempts {
    pub(super) fn new(settling: Duration) -> Self {
        Self { known: Mutex::default(), settling }
    }

    /// Executes an attempt. It is recorded first, because the caller may stop waiting for the answer. The record is
    /// removed if the answer shows the outcome.
    ///
    /// # Errors
    /// The errors of the attempt.
    pub(super) async fn make<T>(
        &self,
        request: &KeyRequest,
        attempt: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        self.note(request, AttemptOutcome::Unknown);
        let made = attempt.await;
        match &made {
            Err(error) if error.class == ErrorClass::Unsure => self.note(request, AttemptOutcome::Unknown),
            Err(_) if self.was_redacted(request.identity) => {}
            _ => self.end(request.identity),
        }
        made
    }

    /// Records that the key was created and its credentials were not shown.
    pub(super) fn redacted(&self, request: &KeyRequest) {
        self.note(request, AttemptOutcome::Redacted);
    }

    fn note(&self, request: &KeyRequest, outcome: AttemptOutcome) {
        let attempt = Attempt { at: Instant::now(), inputs: request.inputs.clone(), outcome };
        let mut attempts = self.known.lock();
        attempts.retain(|_, attempt| attempt.at.elapsed() < LONGEST_MEMORY);
        attempts.insert(request.identity, attempt);
    }

    /// The number of attempts that are still remembered.
    pub(super) fn len(&self) -> usize {
        let known = self.known.lock();
        known.values().filter(|attempt| attempt.at.elapsed() < LONGEST_MEMORY).count()
    }

    /// Removes the record of an attempt whose outcome is known.
    pub(super) fn end(&self, identity: Identity) {
        self.known.lock().remove(&identity);
    }

    /// Whether an attempt may have created a key that is not visible yet.
    pub(super) fn may_appear_later(&self, identity: Identity) -> bool {
        self.settling_left(identity).is_some()
    }

    /// How much longer that key may stay invisible.
    fn settling_left(&self, identity: Identity) -> Option<Duration> {
        let left = self.settling.checked_sub(self.known.lock().get(&identity)?.at.elapsed())?;
        Some(left).filter(|left| !left.is_zero())
    }

    /// Whether the key may be too young to be visible.
    pub(super) fn may_key_still_show(&self, request: &KeyRequest) -> bool {
        self.key_settling_left(request).is_some()
    }

    /// How much longer the key may stay invisible, by its age and by the last attempt.
    fn key_settling_left(&self, request: &KeyRequest) -> Option<Duration> {
        let age = request.age.filter(|_| request.recorded_id.is_some());
        let young = age.and_then(|age| self.settling.checked_sub(age));
        young.max(self.settling_left(request.identity)).filter(|left| !left.is_zero())
    }

    /// The error for a key that may exist without being visible yet.
    pub(super) fn not_shown_yet(&self, call: &str, request: &KeyRequest) -> BackendError {
        let message = format!(
            "{call} failed: the key `{}` may have been created, and IBM Cloud may not show it for some minutes; the \
             operator checks again before it does anything else",
            request.name
        );
        let is_followed_closely = |left: &Duration| self.settling.saturating_sub(*left) < CLOSE_LOOKS;
        let retry_after = self.key_settling_left(request).filter(|left| !is_followed_closely(left));
        BackendError::new(ErrorClass::Transient, message).retry_after(retry_after)
    }

    /// Whether the last attempt, if it is remembered, created the key from other fields.
    pub(super) fn was_made_from_others(&self, request: &KeyRequest) -> bool {
        let known = self.known.lock();
        known.get(&request.identity).is_some_and(|attempt| !request.is_fulfilled_by(&attempt.inputs))
    }

    /// Whether the last attempt, if it is remembered, did not show the credentials. Credentials that are shown only
    /// once are then lost, and the operator creates another key later.
    pub(super) fn was_redacted(&self, identity: Identity) -> bool {
        let is_remembered = |attempt: &Attempt| {
            attempt.outcome == AttemptOutcome::Redacted && attempt.at.elapsed() < LONGEST_MEMORY
        };
        self.known.lock().get(&identity).is_some_and(is_remembered)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::backend::{IbmCloudConfig, ibm_cloud::tests::request};

    async fn lost(attempts: &Attempts, request: &KeyRequest) {
        let answer = async { Err::<(), _>(BackendError::new(ErrorClass::Unsure, "cut")) };
        attempts.make(request, answer).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_may_stay_out_of_sight_for_five_minutes() {
        let (attempts, request) = (Attempts::new(IbmCloudConfig::SETTLING), request("a", None));
        lost(&attempts, &request).await;
        advance(Duration::from_secs(299)).await;
        assert!(attempts.may_appear_later(request.identity));
        advance(Duration::from_secs(2)).await;
        assert!(!attempts.may_appear_later(request.identity));
    }

    /// The operator must not wait forever for credentials that are shown only once.
    #[tokio::test(start_paused = true)]
    async fn that_credentials_were_not_shown_is_remembered_for_an_hour() {
        let (attempts, request) = (Attempts::new(IbmCloudConfig::SETTLING), request("a", None));
        attempts.redacted(&request);
        advance(Duration::from_secs(3599)).await;
        assert!(attempts.was_redacted(request.identity));
        advance(Duration::from_secs(2)).await;
        assert!(!attempts.was_redacted(request.identity));
    }
}
