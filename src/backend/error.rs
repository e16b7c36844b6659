//! Failures of remote sides. Each gets its class once, where it occurs.

use std::{error::Error, sync::Arc, time::Duration};

pub(crate) use crate::lifecycle::ErrorClass;
use crate::lifecycle::first_bytes;

/// The most bytes of a message. Statuses, Events and logs repeat it, and remote sides choose parts of it.
const LONGEST_MESSAGE: usize = 4 << 10;

/// An error that others keep as their source. It contains neither a URL's query nor a secret.
pub(super) type Cause = Arc<dyn Error + Send + Sync>;

/// A failure of a call to a remote side, described for the person who reads it at night.
///
/// The message names the call and the remote side's answer, shortened and without secrets. It contains no request ids
/// or times, so that a status with the same failure does not change at every retry.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct BackendError {
    /// The meaning of the failure.
    pub class: ErrorClass,
    /// The failed call, the remote side's answer, and the next step.
    pub message: String,
    /// The pause that the remote side or the operator requires.
    pub retry_after: Option<Duration>,
    /// Whether a token server refused the login itself. See [`LOGIN_PAUSE`].
    pub refuses_login: bool,
    /// The error of the transport. It never appears in a status.
    pub source: Option<Cause>,
}

/// The pause after a token server refused a login for the first time. A new API key may not be known everywhere yet.
pub(crate) const FIRST_LOGIN_PAUSE: Duration = Duration::from_secs(120);

/// The pause after each further refusal. Many servers lock an account after a few wrong passwords: a UAA after five
/// within 20 minutes. So the operator tries at most three times in an hour, until the login changes.
pub(crate) const LOGIN_PAUSE: Duration = Duration::from_secs(1800);

impl BackendError {
    /// Creates a failure of this class. It truncates a long message.
    #[must_use]
    pub(crate) fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > LONGEST_MESSAGE {
            message = format!("{}…", first_bytes(&message, LONGEST_MESSAGE));
        }
        Self { class, message, retry_after: None, refuses_login: false, source: None }
    }

    /// Adds the pause that the remote side required, if any.
    #[must_use]
    pub(super) fn retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// Marks the failure as a refusal of the login.
    #[must_use]
    pub(super) fn of_login(self) -> Self {
        Self { refuses_login: true, ..self }
    }

    /// Adds a pause before the next request.
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
