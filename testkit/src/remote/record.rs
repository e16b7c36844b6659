//! What a test may look at afterwards: calls, and breaches of the rules.

use std::fmt;

use axum::http::Method;
use serde_json::Value;

use crate::broker::FieldNames;

/// One breach of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation<R> {
    /// The rule that was broken.
    pub rule: R,
    /// The call that broke it, counted from 0 as in `calls` of the fake.
    pub call: usize,
    /// What was wrong.
    pub detail: String,
}

impl<R: fmt::Debug> fmt::Display for Violation<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} broke {:?}: {}", self.call, self.rule, self.detail)
    }
}

/// One call, from its arrival on: of a route `R`, or for a token by a grant `G`. `Debug` shows the body's field names
/// only.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Call<R, G> {
    /// The HTTP method.
    pub method: Method,
    /// Path and query as they were sent.
    pub path: String,
    /// The endpoint.
    pub route: R,
    /// The id in the path, decoded.
    pub id: Option<String>,
    /// Whose token was shown: the name of the login.
    pub login: Option<String>,
    /// What a token was asked for with.
    pub grant: Option<G>,
    /// The status that was answered; nothing while the call is under way, where the connection was cut, and
    /// where the client did not wait for the answer.
    pub status: Option<u16>,
    /// The body, where it is JSON; never what a token was asked for with.
    pub body: Option<Value>,
}

impl<R: fmt::Debug, G: fmt::Debug> fmt::Debug for Call<R, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, route, id: _, login, grant, status, body } = self;
        f.debug_struct("Call")
            .field("method", method)
            .field("path", path)
            .field("route", route)
            .field("login", login)
            .field("grant", grant)
            .field("status", status)
            .field("body", &body.as_ref().and_then(Value::as_object).map(FieldNames))
            .finish_non_exhaustive()
    }
}
