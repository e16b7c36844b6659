//! Notifies an observer, such as the metrics, of the calls to a remote side.

use std::{fmt, time::Duration};

use reqwest::Method;

use super::{HttpFailure, HttpFailureKind, Response};

/// Receives notice of the calls to one remote side.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A call waited this long for the limits.
    fn waited(&self, wait: Duration);

    /// A call ended.
    fn called(&self, call: &ObservedCall<'_>);

    /// The remote side required a pause.
    fn paused(&self);
}

/// A finished call.
#[derive(Debug)]
pub struct ObservedCall<'a> {
    /// The path of the URL with placeholders in place of ids.
    pub route: &'static str,
    /// The HTTP method.
    pub method: &'a Method,
    /// The outcome.
    pub outcome: CallOutcome,
    /// The duration of the call.
    pub took: Duration,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// An answer with this status.
    Answered(u16),
    /// No connection.
    Unreachable,
    /// One side does not accept the certificate or the TLS of the other.
    Untrusted,
    /// A redirect, or an answer that can't be used.
    Unusable,
    /// No complete answer in time.
    Unanswered,
}

impl CallOutcome {
    pub(super) fn new(outcome: &Result<Response, HttpFailure>) -> Self {
        use HttpFailureKind as Kind;
        let failure = match outcome {
            Ok(response) => return Self::Answered(response.status.as_u16()),
            Err(failure) => failure,
        };
        match failure.kind {
            Kind::NotSent | Kind::Unresolved | Kind::Unproved | Kind::Withheld | Kind::Refused => {
                Self::Unreachable
            }
            Kind::Untrusted => Self::Untrusted,
            Kind::Redirected | Kind::Unusable | Kind::Excessive => Self::Unusable,
            Kind::MaybeSent => Self::Unanswered,
        }
    }
}

#[derive(Debug)]
pub(super) struct NoObserver;

impl Observer for NoObserver {
    fn waited(&self, _: Duration) {}
    fn called(&self, _: &ObservedCall<'_>) {}
    fn paused(&self) {}
}
