//! Calls that brought no answer, told apart by what may have happened at the remote side.

use crate::backend::{BackendError, ErrorClass};

/// A call without an answer, in words for a person: no URL's query, no id that changes, no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::backend) enum HttpFailure {
    /// The request never left: no address, no connection. It may work later.
    #[error("{0}")]
    NotSent(String),
    /// The request never left, because the name has no address that may be connected to. It may have one later.
    #[error("{0}")]
    Unresolved(String),
    /// The request never left: its address is private, and has not answered in its own protocol yet.
    #[error("{0}")]
    Unproved(String),
    /// The request may have left. What became of it is not for the author of the provider to know.
    #[error("{0}")]
    Withheld(String),
    /// The request was not looked at: one side does not accept the certificate or the TLS of the other.
    #[error("{0}")]
    Untrusted(String),
    /// Nothing was done, and nothing will be until something is changed: an address that the policy refuses.
    #[error("{0}")]
    Refused(String),
    /// Nothing was done: the answer points elsewhere.
    #[error("{0}")]
    Redirected(String),
    /// The request left and an answer came, but none that can be used: what it did is unknown.
    #[error("{0}")]
    Unusable(String),
    /// The request left and an answer came that is larger than any that is read: asked again, it would be as large.
    #[error("{0}")]
    Excessive(String),
    /// The request left, wholly or in part, and no usable answer came: what it did is unknown.
    #[error("{0}")]
    MaybeSent(String),
}

impl HttpFailure {
    /// The failure of a call, named by `what`, that changes something only as far as `maybe_sent` says: that is
    /// [`ErrorClass::Transient`] for calls that may simply be made again, and [`ErrorClass::OrphanPossible`] for
    /// those that may have made something.
    pub(in crate::backend) fn into_error(self, what: &str, maybe_sent: ErrorClass) -> BackendError {
        let class = match &self {
            // Only requests that change nothing are withheld.
            Self::NotSent(_) | Self::Unresolved(_) | Self::Unproved(_) | Self::Withheld(_) => {
                ErrorClass::Transient
            }
            Self::Untrusted(_) => ErrorClass::Untrusted,
            Self::Refused(_) => ErrorClass::Rejected,
            Self::Redirected(_) | Self::Excessive(_) => ErrorClass::Unexpected,
            Self::Unusable(_) if maybe_sent == ErrorClass::Transient => ErrorClass::Unexpected,
            Self::Unusable(_) | Self::MaybeSent(_) => maybe_sent,
        };
        BackendError::new(class, format!("{what} failed: {self}"))
    }

    /// The same for a call that shows credentials: those that are too large for anybody are of no use.
    pub(in crate::backend) fn into_error_of_a_key(self, what: &str, maybe_sent: ErrorClass) -> BackendError {
        let excessive = matches!(self, Self::Excessive(_));
        let error = self.into_error(what, maybe_sent);
        if excessive { BackendError { class: ErrorClass::Unusable, ..error } } else { error }
    }
}
