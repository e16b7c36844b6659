//! Failures of remote sides, each classified once, where it is met.

use std::time::Duration;

pub use crate::lifecycle::ErrorClass;
use crate::lifecycle::first_bytes;

/// The most bytes of a message. Statuses, Events and logs repeat it, and remote sides choose parts of it.
const LONGEST_MESSAGE: usize = 4 << 10;

/// A failure of a call to a remote side, in words for the person who reads it at night.
///
/// The message names the call and what the remote side said, trimmed and without secrets. It is the same for
/// the same failure (no request ids, no times), so that a status that shows it does not change at every retry.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct BackendError {
    /// What the failure means.
    pub class: ErrorClass,
    /// What failed, what the remote side said, and what to do next.
    pub message: String,
    /// How long the remote side asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl BackendError {
    /// A failure of this class. A message that is too long is cut.
    #[must_use]
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > LONGEST_MESSAGE {
            message = format!("{}…", first_bytes(&message, LONGEST_MESSAGE));
        }
        Self { class, message, retry_after: None }
    }

    /// The same, where the remote side asked to be left alone for a while.
    #[must_use]
    pub(super) fn retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
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
