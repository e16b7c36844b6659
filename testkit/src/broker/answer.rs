//! What the broker says: a true answer, or a refusal that may be the caller's fault.

use axum::{
    body::Body,
    http::{
        HeaderName, Response, StatusCode,
        header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
    },
};
use serde_json::{Value, json};

use super::record::Rule;

/// A status with a JSON body.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: Vec<Header>,
    pub body: Value,
}

impl Answer {
    pub(super) const fn new(status: StatusCode, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// An error as the specification shapes it (section Service Broker Errors).
    pub(super) fn error(status: StatusCode, description: impl Into<String>) -> Self {
        Self::new(status, json!({ "description": description.into() }))
    }

    /// 410 with an empty object: what is asked for is not there, or not there any more.
    pub(super) fn gone() -> Self {
        Self::new(StatusCode::GONE, json!({}))
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let body = Body::from(self.body.to_string());
        self.into_response_of(body)
    }

    /// A response with this answer's status and headers, and its JSON on its own way.
    pub(super) fn into_response_of(self, body: Body) -> Response<Body> {
        let challenge = (self.status == StatusCode::UNAUTHORIZED)
            .then_some((WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"fake broker\"")));
        let mut response = response(self.status, "application/json", body);
        response.headers_mut().extend(self.headers.into_iter().chain(challenge));
        response
    }
}

/// A call that has no effect.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub answer: Answer,
    /// The rule that the caller broke, with what was wrong; nothing where a correct client can meet this too.
    pub breach: Option<(Rule, String)>,
}

impl Refusal {
    /// The caller broke a rule.
    pub(super) fn breach(rule: Rule, status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { answer: Answer::error(status, detail.clone()), breach: Some((rule, detail)) }
    }

    /// [`Self::breach`] with 400, the specification's answer to whatever is malformed.
    pub(super) fn bad_request(rule: Rule, detail: impl Into<String>) -> Self {
        Self::breach(rule, StatusCode::BAD_REQUEST, detail)
    }
}

impl From<Answer> for Refusal {
    /// A refusal that is nobody's fault.
    fn from(answer: Answer) -> Self {
        Self { answer, breach: None }
    }
}

pub(super) fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A header whose name and value were checked when a test wrote it down.
pub(super) type Header = (HeaderName, HeaderValue);
