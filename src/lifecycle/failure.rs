//! What went wrong, as far as a decision depends on it.

use std::time::Duration;

/// What a failure at a remote side means for the key that was asked for: what may be done about it is decided by this
/// alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Nothing happened and it may work later: refused connection, 503 before anything was done.
    Transient,
    /// Nothing happened, because too much was asked for at once: 429.
    Throttled,
    /// The remote side understood the request and will not do it until something changes.
    Rejected,
    /// A key of this identity exists, made with other parameters, or belongs to somebody else.
    Conflict,
    /// A key of this name exists and belongs to somebody else: it is never revoked.
    Taken,
    /// The key exists, and the remote side does not show its credentials again.
    Withheld,
    /// The key exists, and no Secret can hold its credentials.
    Unusable,
    /// The key exists, and this login may not see its credentials, which another one may.
    Redacted,
    /// What the request was about does not exist: instance, offering, plan.
    Gone,
    /// The login is wrong or may not do this.
    Forbidden,
    /// One of the two sides does not trust the other: no TLS session came about, so nothing happened.
    Untrusted,
    /// The answer is none that the protocol knows, to a request that leaves nothing behind: a web page, a redirect.
    Unexpected,
    /// The request may have taken effect: time-out or lost connection after sending, a 5xx, a malformed success. What it
    /// may have left is revoked before the next attempt.
    OrphanPossible,
    /// The request may have taken effect, and the next attempt finds what it left.
    Unsure,
}

impl ErrorClass {
    /// Whether asking again brings the same answer until something changes.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Rejected | Self::Gone | Self::Forbidden)
    }
}

/// An effect that did not work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// What was tried.
    pub attempted: Attempted,
    /// What the failure means.
    pub class: ErrorClass,
    /// What failed, what the remote side said, and what to do next.
    pub message: String,
    /// How long the remote side asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// What was tried when something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempted {
    /// Collecting the parameters to make a key with.
    Parameters,
    /// Finding out whether the provider permits what the parameters ask for.
    Permission,
    /// Making or reading a key.
    Provision,
    /// Finding out whether a key is still there.
    Confirm,
    /// Turning credentials into the entries of the Secret.
    Render,
    /// Writing the Secret.
    Store,
    /// Revoking a key.
    Revoke,
    /// Taking our mark off a key that stays.
    Release,
}
