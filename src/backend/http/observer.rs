//! Who is told of the calls to a remote side. What it does with that is nobody's business here.

use std::{fmt, time::Duration};

use reqwest::Method;

use super::{HttpFailure, HttpFailureKind, Response};

/// Is told of the calls to one remote side.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A call had to wait so long until the limits admitted it.
    fn waited(&self, wait: Duration);

    /// A call was made.
    fn called(&self, call: &ObservedCall<'_>);

    /// The remote side wants to be left alone.
    fn paused(&self);
}

/// A call that is over.
#[derive(Debug)]
pub struct ObservedCall<'a> {
    /// What the URL ends in, with the names of what stands in it instead of ids.
    pub route: &'static str,
    /// The method.
    pub method: &'a Method,
    /// What came back.
    pub outcome: CallOutcome,
    /// How long that took.
    pub took: Duration,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// An answer of this status.
    Answered(u16),
    /// No connection.
    Unreachable,
    /// One side does not accept the certificate or the TLS of the other.
    Untrusted,
    /// An answer that leads elsewhere, or is of no use.
    Unusable,
    /// No answer in time, or half of one.
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
pub(super) struct Nobody;

impl Observer for Nobody {
    fn waited(&self, _: Duration) {}
    fn called(&self, _: &ObservedCall<'_>) {}
    fn paused(&self) {}
}
