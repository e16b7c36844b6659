//! The record that a test reads afterwards: calls, and violations of the rules.

use std::{fmt, ops::Deref};

use axum::http::Method;
use serde_json::{Map, Value};

/// One violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation<R> {
    /// The rule that was broken.
    pub rule: R,
    /// The number of the call that broke it: its index in `calls` of the fake.
    pub call: usize,
    /// The mistake of the client.
    pub detail: String,
}

impl<R: fmt::Debug> fmt::Display for Violation<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} broke {:?}: {}", self.call, self.rule, self.detail)
    }
}

/// One call, recorded on its arrival. The fields of its details can be read as if they were its own. `Debug` shows
/// only the field names of the body.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Call<R, D> {
    /// The HTTP method.
    pub method: Method,
    /// The raw path and query.
    pub path: String,
    /// The endpoint.
    pub route: R,
    /// The last id in the path, decoded.
    pub id: Option<String>,
    /// The status of the answer. It stays empty if the connection was cut, or if the client did not wait for the
    /// answer.
    pub status: Option<u16>,
    /// The body if it is JSON. A body with a client's secrets is not recorded.
    pub body: Option<Value>,
    /// The details that only this kind of remote side has.
    pub details: D,
}

impl<R, D> Deref for Call<R, D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.details
    }
}

impl<R: fmt::Debug, D: fmt::Debug> fmt::Debug for Call<R, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, route, id: _, status, body, details } = self;
        f.debug_struct("Call")
            .field("method", method)
            .field("path", path)
            .field("route", route)
            .field("status", status)
            .field("details", details)
            .field("body", &body.as_ref().and_then(Value::as_object).map(FieldNames))
            .finish_non_exhaustive()
    }
}

/// The caller of a remote side that issues its own tokens, by grants `G`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller<G> {
    /// The login of the token in the call.
    pub login: Option<String>,
    /// The grant of a request for a token.
    pub grant: Option<G>,
}

impl<G> Default for Caller<G> {
    fn default() -> Self {
        Self { login: None, grant: None }
    }
}

/// Shows only the names of fields, because their values are secret.
pub(crate) struct FieldNames<'a>(pub &'a Map<String, Value>);

impl fmt::Debug for FieldNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
