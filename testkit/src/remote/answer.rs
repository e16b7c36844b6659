//! What a remote side says: a true answer, or a refusal that may be the caller's fault.

use axum::{
    body::Body,
    http::{
        HeaderName, Response, StatusCode,
        header::{CONTENT_TYPE, HeaderValue},
    },
};
use serde_json::Value;

/// A header whose name and value were checked when a test wrote it down.
pub(crate) type Header = (HeaderName, HeaderValue);

/// A status with a JSON body, or with none.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: Vec<Header>,
    pub body: Option<Value>,
}

impl Answer {
    pub(crate) const fn new(status: StatusCode, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Some(body) }
    }

    pub(crate) const fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, body)
    }

    /// A status without a body.
    pub(crate) const fn bare(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: None }
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let body = self.body.map(|body| body.to_string()).unwrap_or_default();
        let mut response = response(self.status, "application/json; charset=utf-8", body.into());
        set_headers(&mut response, self.headers);
        response
    }
}

pub(super) fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Sets headers, in place of those that are there.
pub(super) fn set_headers(response: &mut Response<Body>, headers: impl IntoIterator<Item = Header>) {
    for (name, value) in headers {
        response.headers_mut().insert(name, value);
    }
}

/// A call that has no effect.
#[derive(Clone, Debug)]
pub(crate) struct Refusal<R> {
    pub answer: Answer,
    /// The rule that the caller broke, with what was wrong; nothing where a correct client can meet this too.
    pub breach: Option<(R, String)>,
}

impl<R> Refusal<R> {
    /// The caller broke a rule.
    pub(crate) fn breach(rule: R, answer: impl Into<Answer>, detail: impl Into<String>) -> Self {
        Self { answer: answer.into(), breach: Some((rule, detail.into())) }
    }

    /// A refusal that is nobody's fault.
    pub(crate) fn blameless(answer: impl Into<Answer>) -> Self {
        Self { answer: answer.into(), breach: None }
    }
}
