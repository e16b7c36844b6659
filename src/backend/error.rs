//! Failures of remote sides, classified once: what may be done about one is decided by its class alone.

use std::time::Duration;

/// What a failure means for the key that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Nothing happened and it may work later: refused connection, 429, 503 before anything was done.
    Transient,
    /// The remote side understood the request and will not do it until something changes.
    Rejected,
    /// A key of this identity exists, made with other parameters, or belongs to somebody else.
    Conflict,
    /// What the request was about does not exist: instance, offering, plan.
    Gone,
    /// The login is wrong or may not do this.
    Forbidden,
    /// One of the two sides does not trust the other: no TLS session came about, so nothing happened.
    Untrusted,
    /// The answer is none that the protocol knows, to a request that leaves nothing behind: a web page, a redirect.
    Unexpected,
    /// The request may have taken effect: time-out or lost connection after sending, a 5xx, a malformed success.
    OrphanPossible,
}

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
