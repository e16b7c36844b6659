//! Keys that may have been made without anybody knowing, as far as this process remembers.
//!
//! A key whose creation was answered is known, and one whose answer was lost is found by its name; but for a while after
//! it was made, IBM Cloud may not show it.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    backend::{BackendError, ErrorClass, KeyRequest},
    lifecycle::Identity,
};

/// How long the operator looks for a key at ever longer intervals. Afterwards it waits for the end of `settling`.
const CLOSE_LOOKS: Duration = Duration::from_secs(60);
/// How long an attempt is remembered that nobody came back to.
const LONGEST_MEMORY: Duration = Duration::from_secs(3600);

/// The last attempt at each key that is not known to have been made.
pub(super) struct Attempts {
    known: Mutex<HashMap<Identity, Attempt>>,
    /// How long IBM Cloud may not show what it has created.
    settling: Duration,
}

struct Attempt {
    at: Instant,
    /// Digest of the fields that the key was made from.
    inputs: String,
    outcome: AttemptOutcome,
}

/// What is known of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AttemptOutcome {
    /// It may have made the key.
    Unknown,
    /// It made the key, whose credentials were not shown.
    Redacted,
}

impl Attempts {
    pub(super) fn new(settling: Duration) -> Self {
        Self { known: Mutex::default(), settling }
    }

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
        self.note(request, AttemptOutcome::Unknown);
        let made = attempt.await;
        match &made {
            Err(error) if error.class == ErrorClass::Unsure => self.note(request, AttemptOutcome::Unknown),
            Err(_) if self.was_redacted(request.identity) => {}
            _ => self.end(request.identity),
        }
        made
    }

    /// The key was made, and its credentials were not shown.
    pub(super) fn redacted(&self, request: &KeyRequest) {
        self.note(request, AttemptOutcome::Redacted);
    }

    fn note(&self, request: &KeyRequest, outcome: AttemptOutcome) {
        let attempt = Attempt { at: Instant::now(), inputs: request.inputs.clone(), outcome };
        let mut attempts = self.known.lock();
        attempts.retain(|_, attempt| attempt.at.elapsed() < LONGEST_MEMORY);
        attempts.insert(request.identity, attempt);
    }

    /// What became of the last attempt is known.
    pub(super) fn end(&self, identity: Identity) {
        self.known.lock().remove(&identity);
    }

    /// Whether a key may have been made that does not show yet.
    pub(super) fn may_still_show(&self, identity: Identity) -> bool {
        self.settling_left(identity).is_some()
    }

    /// How much longer it may not show.
    fn settling_left(&self, identity: Identity) -> Option<Duration> {
        let left = self.settling.checked_sub(self.known.lock().get(&identity)?.at.elapsed())?;
        Some(left).filter(|left| !left.is_zero())
    }

    /// Whether the key may have been created so shortly before that it does not show yet.
    pub(super) fn may_key_still_show(&self, request: &KeyRequest) -> bool {
        self.key_settling_left(request).is_some()
    }

    /// How much longer the key may not show, by its age and by the last attempt.
    fn key_settling_left(&self, request: &KeyRequest) -> Option<Duration> {
        let age = request.age.filter(|_| request.hint.is_some());
        let young = age.and_then(|age| self.settling.checked_sub(age));
        young.max(self.settling_left(request.identity)).filter(|left| !left.is_zero())
    }

    /// The key may have been created and not show yet.
    pub(super) fn not_shown_yet(&self, call: &str, request: &KeyRequest) -> BackendError {
        let message = format!(
            "{call} failed: the key `{}` may have been created, and IBM Cloud may not show it for some minutes; the operator \
             checks again before it does anything else",
            request.name
        );
        let is_followed_closely = |left: &Duration| self.settling.saturating_sub(*left) < CLOSE_LOOKS;
        let retry_after = self.key_settling_left(request).filter(|left| !is_followed_closely(left));
        BackendError::new(ErrorClass::Transient, message).retry_after(retry_after)
    }

    /// Whether the key was made from other fields than these, as far as anybody here knows.
    pub(super) fn was_made_from_others(&self, request: &KeyRequest) -> bool {
        self.known.lock().get(&request.identity).is_some_and(|attempt| attempt.inputs != request.inputs)
    }

    /// Whether the credentials were not shown when the key was made, as far as that is still remembered: those that are shown
    /// once are lost, so another key is made later.
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
        assert!(attempts.may_still_show(request.identity));
        advance(Duration::from_secs(2)).await;
        assert!(!attempts.may_still_show(request.identity));
    }

    /// What is shown once, and was not shown then, is not waited for without end.
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
