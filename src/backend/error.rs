//! Failures of remote sides, each classified once, where it is met.

use std::{error::Error, sync::Arc, time::Duration};

pub(crate) use crate::lifecycle::ErrorClass;
use crate::lifecycle::first_bytes;

/// The most bytes of a message. Statuses, Events and logs repeat it, and remote sides choose parts of it.
const LONGEST_MESSAGE: usize = 4 << 10;

/// An error that others keep as their source. It holds no query of a URL and no secret.
pub(super) type Cause = Arc<dyn Error + Send + Sync>;

/// A failure of a call to a remote side, in words for the person who reads it at night.
///
/// The message names the call and what the remote side said, trimmed and without secrets. It is the same for
/// the same failure (no request ids, no times), so that a status that shows it does not change at every retry.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct BackendError {
    /// What the failure means.
    pub class: ErrorClass,
    /// What failed, what the remote side said, and what to do next.
    pub message: String,
    /// How long the remote side asked to be left alone, or has to be.
    pub retry_after: Option<Duration>,
    /// Whether a token server refused the login itself. See [`LOGIN_PAUSE`].
    pub refuses_login: bool,
    /// The error of the transport. No status shows it.
    pub source: Option<Cause>,
}

/// How long the operator waits after a token server refused a login for the first time: a new API key may not be known
/// everywhere yet.
pub(crate) const FIRST_LOGIN_PAUSE: Duration = Duration::from_secs(120);

/// How long it waits after each further refusal. Many servers lock an account after a few wrong passwords: a UAA after five
/// within 20 minutes. So there are at most three attempts in an hour, until the login is another one.
pub(crate) const LOGIN_PAUSE: Duration = Duration::from_secs(1800);

impl BackendError {
    /// A failure of this class. A message that is too long is cut.
    #[must_use]
    pub(crate) fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > LONGEST_MESSAGE {
            message = format!("{}…", first_bytes(&message, LONGEST_MESSAGE));
        }
        Self { class, message, retry_after: None, refuses_login: false, source: None }
    }

    /// The same, where the remote side asked to be left alone for a while.
    #[must_use]
    pub(super) fn retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// The same, where it is the login that was refused.
    #[must_use]
    pub(super) fn of_login(self) -> Self {
        Self { refuses_login: true, ..self }
    }

    /// The same, where nobody asks again for so long.
    #[must_use]
    pub(super) fn pausing(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause.max(self.retry_after.unwrap_or_default())), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let message = format!("a{}", "é".repeat(LONGEST_MESSAGE));
        let error = BackendError::new(ErrorClass::Transient, message);
        assert_eq!(error.message.len(), LONGEST_MESSAGE - 1 + "…".len());
        assert!(error.message.ends_with("é…"));
    }
}
