//! The part of a fake that depends on the remote side it stands for.

use std::fmt::Debug;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{
    answer::{Answer, Header, Refusal},
    call::{Request, Target},
};

/// One kind of remote side: its endpoints, its rules, and what exists there.
pub trait Side: Send + Sized + 'static {
    /// The hosts that it consists of.
    type Door: Copy + PartialEq + Send + Sync + 'static;
    type Route: Copy + Eq + Debug + Send + Sync + 'static;
    type Rule: Copy + Eq + Debug + Send + 'static;
    /// The part of a recorded call that other remote sides don't have.
    type Details: Clone + Debug + Default + Send + 'static;
    /// A call that has passed every check that needs no state.
    type Admitted: Clone + Send + Sync + 'static;

    /// The name of the fake in complaints.
    const NAME: &'static str;
    /// The hosts, each with the name of its thread. Tests call the first one, by `Fake::url`.
    const DOORS: &'static [(Self::Door, &'static str)];
    /// The path of the URL that clients are given.
    const PATH: &'static str = "";
    /// The fake does not read longer requests.
    const MAX_REQUEST_BYTES: usize = 1024 * 1024;

    /// Reads the raw path of a call.
    fn target(door: Self::Door, method: &Method, path: &str) -> Target<Self::Route>;

    /// Whether the body of a call must not be recorded.
    fn is_secret(_route: Self::Route) -> bool {
        false
    }

    /// The details of a call that are known on its arrival.
    fn details(_request: &Request<Self::Route>) -> Self::Details {
        Self::Details::default()
    }

    /// The client's own id of a request, which stays the same if the client sends the request again.
    fn identity(_headers: &HeaderMap) -> Option<HeaderValue> {
        None
    }

    /// The status of a successful call.
    fn success(_route: Self::Route) -> StatusCode {
        StatusCode::OK
    }

    /// The headers of every answer to this request, also of a spoiled one. Headers of the answer come first.
    fn headers(request: &Request<Self::Route>, number: usize, status: StatusCode) -> Vec<Header>;

    /// Completes the answer to a refused call, such as with an id from its number.
    fn refused(answer: Answer, _number: usize) -> Answer {
        answer
    }

    /// Checks a call as far as that needs no state.
    fn admit(&mut self, request: &Request<Self::Route>) -> Result<Admission<Self>, Refusal<Self::Rule>>;

    /// The refusal of a call that exceeds the rate limit.
    fn over_limit() -> Refusal<Self::Rule>;

    /// The name of the object that a call creates.
    fn name_of(_admitted: &Self::Admitted) -> Option<&str> {
        None
    }

    /// Checks a call against the state. A fault that prevents the effect does not excuse a breach of these rules.
    fn check(&self, _admitted: &Self::Admitted) -> Result<(), Refusal<Self::Rule>> {
        Ok(())
    }

    /// Carries out a call that has passed [`Self::check`].
    fn carry_out(&mut self, admitted: &Self::Admitted) -> Result<Answer, Refusal<Self::Rule>>;
}

/// A call that may go on.
pub struct Admission<S: Side> {
    pub admitted: S::Admitted,
    /// Replaces the details that were known on arrival.
    pub details: Option<S::Details>,
    /// Headers of the true answer.
    pub headers: Vec<Header>,
    /// A rule that the call breaks although it is carried out, and how.
    pub reproach: Option<(S::Rule, String)>,
}

/// The number of a call as the value of this header: operators find a call in the logs of a remote side by it.
pub(crate) fn numbered(name: &'static str, number: usize) -> Vec<Header> {
    let value = HeaderValue::from_str(&format!("call-{number}")).ok();
    value.map(|value| (HeaderName::from_static(name), value)).into_iter().collect()
}
