//! Failures, as far as decisions depend on them.

use std::time::Duration;

/// The meaning of a remote side's failure for the requested key. The next step depends on this class alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The request had no effect, and may succeed later: a refused connection, a 503 before any work.
    Transient,
    /// The request had no effect, because of a rate limit: 429.
    Throttled,
    /// The remote side understood the request, and refuses it until its cause changes.
    Rejected,
    /// A key of this identity exists. It was created with other parameters, or belongs to another owner.
    Conflict,
    /// A key of this name exists and belongs to another owner. The operator never revokes it.
    Taken,
    /// The key exists, and the remote side does not return its credentials again.
    Withheld,
    /// The key exists, and its credentials fit no Secret.
    Unusable,
    /// The key exists, and this login may not read its credentials. Another login may be able to.
    Redacted,
    /// The object of the request does not exist: instance, offering, plan.
    Gone,
    /// The login is wrong or lacks a permission.
    Forbidden,
    /// One of the two sides does not trust the other. No TLS session was established, so the request had no effect.
    Untrusted,
    /// The answer does not follow the protocol, and the request leaves no key behind: a web page, a redirect.
    Unexpected,
    /// The request may have taken effect: a timeout or lost connection after sending, a 5xx, a malformed success. The
    /// operator revokes a key that it may have created before the next attempt.
    OrphanPossible,
    /// The request may have taken effect, and the next attempt finds the key that it created.
    Unsure,
}

impl ErrorClass {
    /// Whether a repeated request gets the same answer until the cause changes.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Rejected | Self::Gone | Self::Forbidden)
    }
}

/// An effect that failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    pub attempted: Attempted,
    pub class: ErrorClass,
    /// The failed step, the message of the remote side, and the next step for the user.
    pub message: String,
    /// The pause that the remote side asked for.
    pub retry_after: Option<Duration>,
}

/// The attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempted {
    /// Collecting the parameters of a key.
    Parameters,
    /// Checking whether the provider permits the parameters.
    Permission,
    /// Creating or reading a key.
    Provision,
    /// Checking whether a key still exists.
    Confirm,
    /// Converting credentials into the entries of the Secret.
    Render,
    Store,
    Revoke,
    /// Removing the operator's mark from a key that stays.
    Release,
}
