//! Failures of remote sides, each classified once, where it is met.

use std::time::Duration;

pub use crate::lifecycle::ErrorClass;

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
    /// A failure of this class.
    #[must_use]
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after: None }
    }
}
