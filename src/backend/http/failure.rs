//! Calls without a usable answer, classified by their possible effect at the remote side.

use std::{error::Error, fmt, sync::Arc};

use super::one_line;
use crate::{
    backend::{BackendError, ErrorClass, error::Cause},
    lifecycle::first_bytes,
};

/// A call without a usable answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(in crate::backend) struct HttpFailure {
    /// The possible effect of the call at the remote side.
    pub(in crate::backend) kind: HttpFailureKind,
    /// A message for users: without the URL's query, changing ids or secrets.
    pub(in crate::backend) message: String,
    /// The error of the transport. It never appears in a status.
    pub(in crate::backend) source: Option<Cause>,
}

/// The possible effect of a call without a usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) enum HttpFailureKind {
    /// The request was not sent: no address or no connection. It may work later.
    NotSent,
    /// The request was not sent, because the name has no address that the operator may connect to. It may have one
    /// later.
    Unresolved,
    /// The request was not sent: the address is private, and has not yet sent a valid answer of the protocol.
    Unproved,
    /// The request may have been sent. The author of the provider may not learn its outcome.
    Withheld,
    /// The remote side did not process the request: one side does not accept the certificate or the TLS of the other.
    Untrusted,
    /// The request had no effect, and will not have one until the user changes something: the policy refuses the
    /// address.
    Refused,
    /// The request had no effect: the answer is a redirect.
    Redirected,
    /// The request was sent, but the answer can't be used: its effect is unknown.
    Unusable,
    /// The request was sent, but the answer exceeds the limit. The next answer would be as large.
    Excessive,
    /// The request was sent, at least partly, and no complete answer arrived: its effect is unknown.
    MaybeSent,
}

impl HttpFailure {
    pub(in crate::backend) fn new(kind: HttpFailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Attaches the error of the transport as the cause.
    pub(super) fn caused_by(self, error: reqwest::Error) -> Self {
        Self { source: Some(Arc::new(TransportError::new(error))), ..self }
    }

    /// Converts the failure of the call `what` to an error. `maybe_sent` is the class for a call whose effect is
    /// unknown: [`ErrorClass::Transient`] if it may simply be repeated, [`ErrorClass::OrphanPossible`] if it may have
    /// created something.
    pub(in crate::backend) fn into_error(self, what: &str, maybe_sent: ErrorClass) -> BackendError {
        use HttpFailureKind as Kind;
        let class = match self.kind {
            // Only answers to requests that change nothing are withheld.
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

    /// Like `into_error`, for a call that returns credentials. No ServiceKey can use an answer that is too large.
    pub(in crate::backend) fn into_error_of_a_key(self, what: &str, maybe_sent: ErrorClass) -> BackendError {
        let is_excessive = self.kind == HttpFailureKind::Excessive;
        let error = self.into_error(what, maybe_sent);
        if is_excessive { BackendError { class: ErrorClass::Unusable, ..error } } else { error }
    }
}

/// A copy of a transport error and its causes, in their own words.
///
/// The errors themselves contain the URL with its query, and bytes that the remote side chose. An HTTP/2 server may
/// repeat a login when it closes a connection.
#[derive(Debug)]
struct TransportError {
    text: String,
    source: Option<Box<Self>>,
}

impl TransportError {
    /// The most bytes of one error's text.
    const LONGEST: usize = 500;
    /// The most errors in a chain of causes.
    const DEEPEST: usize = 10;
    /// Marks where an HTTP/2 error's text quotes bytes of the remote side.
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

/// Compares without the cause, which has no equality and which users do not see.
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
