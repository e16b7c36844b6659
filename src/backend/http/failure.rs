//! Calls that brought no answer, told apart by what may have happened at the remote side.

use std::{error::Error, fmt, sync::Arc};

use super::one_line;
use crate::{
    backend::{BackendError, ErrorClass, error::Cause},
    lifecycle::first_bytes,
};

/// A call without an answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(in crate::backend) struct HttpFailure {
    /// The possible effect of the call at the remote side.
    pub(in crate::backend) kind: HttpFailureKind,
    /// Words for people: no URL's query, no id that changes, no secret.
    pub(in crate::backend) message: String,
    /// The error of the transport. No status shows it.
    pub(in crate::backend) source: Option<Cause>,
}

/// The possible effect of a call without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) enum HttpFailureKind {
    /// The request never left: no address, no connection. It may work later.
    NotSent,
    /// The request never left, because the name has no address that may be connected to. It may have one later.
    Unresolved,
    /// The request never left: its address is private, and has not answered in its own protocol yet.
    Unproved,
    /// The request may have left. The author of the provider may not know what became of it.
    Withheld,
    /// The request was not looked at: one side does not accept the certificate or the TLS of the other.
    Untrusted,
    /// Nothing was done, and nothing will be until something is changed: an address that the policy refuses.
    Refused,
    /// Nothing was done: the answer points elsewhere.
    Redirected,
    /// The request left and an answer came, but none that can be used: its effect is unknown.
    Unusable,
    /// The request left and an answer came that is larger than any that is read. The next one would be as large.
    Excessive,
    /// The request left, wholly or in part, and no usable answer came: its effect is unknown.
    MaybeSent,
}

impl HttpFailure {
    pub(in crate::backend) fn new(kind: HttpFailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same failure, with the error of the transport.
    pub(super) fn caused_by(self, error: reqwest::Error) -> Self {
        Self { source: Some(Arc::new(TransportError::new(error))), ..self }
    }

    /// The failure of a call, named by `what`, that changes something only as far as `maybe_sent` says: that is
    /// [`ErrorClass::Transient`] for calls that may simply be repeated, and [`ErrorClass::OrphanPossible`] for
    /// those that may have created something.
    pub(in crate::backend) fn into_error(self, what: &str, maybe_sent: ErrorClass) -> BackendError {
        use HttpFailureKind as Kind;
        let class = match self.kind {
            // Only requests that change nothing are withheld.
            Kind::NotSent | Kind::Unresolved | Kind::Unproved | Kind::Withheld => ErrorClass::Transient,
            Kind::Untrusted => ErrorClass::Untrusted,
            Kind::Refused => ErrorClass::Rejected,
            Kind::Redirected | Kind::Excessive => ErrorClass::Unexpected,
            Kind::Unusable if maybe_sent == ErrorClass::Transient => ErrorClass::Unexpected,
            Kind::Unusable | Kind::MaybeSent => maybe_sent,
        };
        BackendError {
            source: self.source,
            ..BackendError::new(class, format!("{what} failed: {}", self.message))
        }
    }

    /// The same for a call that shows credentials. An answer that is too large for anybody is of no use.
    pub(in crate::backend) fn into_error_of_a_key(self, what: &str, maybe_sent: ErrorClass) -> BackendError {
        let is_excessive = self.kind == HttpFailureKind::Excessive;
        let error = self.into_error(what, maybe_sent);
        if is_excessive { BackendError { class: ErrorClass::Unusable, ..error } } else { error }
    }
}

/// An error of the transport and its causes, in their own words.
///
/// It is a copy, because the errors themselves hold the URL with its query, and bytes that the remote side chose: a server
/// of HTTP/2 may repeat a login when it closes a connection.
#[derive(Debug)]
struct TransportError {
    text: String,
    source: Option<Box<Self>>,
}

impl TransportError {
    /// The longest text of one error, in bytes.
    const LONGEST: usize = 500;
    /// The most errors that are each the cause of another.
    const DEEPEST: usize = 10;
    /// Begins the bytes of a remote side in the text of an error of HTTP/2.
    const BYTES: &str = "(b\"";

    fn new(error: reqwest::Error) -> Self {
        Self::copy(&error.without_url(), Self::DEEPEST)
    }

    fn copy(error: &(dyn Error + 'static), depth: usize) -> Self {
        let text = error.to_string();
        let text = text.split_once(Self::BYTES).map_or(text.as_str(), |(before, _)| before);
        let cause = error.source().filter(|_| depth > 1);
        Self {
            text: first_bytes(&one_line(text), Self::LONGEST).to_owned(),
            source: cause.map(|cause| Box::new(Self::copy(cause, depth - 1))),
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for TransportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

/// A cause has no equality, and people are not shown it.
#[cfg(test)]
impl PartialEq for HttpFailure {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.message) == (other.kind, &other.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    #[test]
    fn a_copy_holds_all_causes_and_nothing_that_the_remote_side_chose() {
        let closed =
            Link { text: "connection error received: not a result of an error (b\"hunter2\")", source: None };
        let error = Link { text: "http2\nerror", source: Some(Box::new(closed)) };
        let copy = TransportError::copy(&error, TransportError::DEEPEST);
        assert_eq!(copy.to_string(), "http2 error");
        let cause = copy.source().unwrap();
        assert_eq!(cause.to_string(), "connection error received: not a result of an error");
        assert!(cause.source().is_none());
        assert!(!format!("{copy:?}").contains("hunter2"));
    }

    #[test]
    fn a_copy_has_a_bound() {
        let texts = (0..100).fold(None, |source, _| Some(Box::new(Link { text: "again", source })));
        let copy = TransportError::copy(&*texts.unwrap(), TransportError::DEEPEST);
        let links = std::iter::successors(Some(&copy), |link| link.source.as_deref()).count();
        assert_eq!(links, TransportError::DEEPEST);
    }
}
