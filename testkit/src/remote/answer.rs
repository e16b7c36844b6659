//! Answers of a remote side: a true answer, or a refusal that may be the caller's fault.

use axum::{
    body::Body,
    http::{
        HeaderName, Response, StatusCode,
        header::{CONTENT_TYPE, HeaderValue},
    },
};
use serde_json::Value;

pub(super) const JSON: &str = "application/json; charset=utf-8";

/// A header whose name and value are valid.
pub(crate) type Header = (HeaderName, HeaderValue);

/// A status with a JSON body, or without a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
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

    /// The body as it is sent.
    pub(super) fn text(&self) -> String {
        self.body.as_ref().map(Value::to_string).unwrap_or_default()
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let body = self.text().into();
        self.into_response_of(body)
    }

    /// A response with the status and headers of this answer, and another body.
    pub(super) fn into_response_of(self, body: Body) -> Response<Body> {
        let mut response = response(self.status, JSON, body);
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

/// Sets headers, and replaces present ones.
pub(super) fn set_headers(response: &mut Response<Body>, headers: impl IntoIterator<Item = Header>) {
    for (name, value) in headers {
        response.headers_mut().insert(name, value);
    }
}

/// Sets headers that are not present yet.
pub(super) fn add_headers(response: &mut Response<Body>, headers: impl IntoIterator<Item = Header>) {
    for (name, value) in headers {
        response.headers_mut().entry(name).or_insert(value);
    }
}

/// The answer to a call that has no effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal<R> {
    pub answer: Answer,
    /// The rule that the caller broke, and how; nothing if a correct client can receive this answer too.
    pub breach: Option<(R, String)>,
}

impl<R> Refusal<R> {
    /// The caller broke a rule.
    pub(crate) fn breach(rule: R, answer: impl Into<Answer>, detail: impl Into<String>) -> Self {
        Self { answer: answer.into(), breach: Some((rule, detail.into())) }
    }

    /// The caller broke no rule.
    pub(crate) fn blameless(answer: impl Into<Answer>) -> Self {
        Self { answer: answer.into(), breach: None }
    }
}
