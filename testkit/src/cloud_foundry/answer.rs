//! What the Cloud Controller says: a true answer, or a refusal that may be the caller's fault.

use axum::{
    body::Body,
    http::{
        HeaderName, Response, StatusCode,
        header::{CONTENT_TYPE, HeaderValue, LOCATION},
    },
};
use serde_json::{Value, json};

use super::record::Rule;

/// A header whose name and value were checked when a test wrote it down.
pub(super) type Header = (HeaderName, HeaderValue);

/// A status with a JSON body, or with none.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: Vec<Header>,
    pub body: Option<Value>,
}

impl Answer {
    pub const fn new(status: StatusCode, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Some(body) }
    }

    pub const fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, body)
    }

    /// A status without a body.
    pub const fn bare(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: None }
    }

    /// 202 with an empty body and the place of the job.
    pub fn accepted(job: &str) -> Self {
        // A URL of the fake's own is always a header's value.
        let location = HeaderValue::from_str(job).map(|value| (LOCATION, value));
        Self { headers: location.into_iter().collect(), ..Self::bare(StatusCode::ACCEPTED) }
    }

    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn into_response(self) -> Response<Body> {
        let body = self.body.map(|body| body.to_string()).unwrap_or_default();
        let mut response = response(self.status, "application/json; charset=utf-8", body.into());
        set_headers(&mut response, self.headers);
        response
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        Self::new(error.status, json!({ "errors": [error.shown()] }))
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

/// One of the errors that the API's documentation lists, by their code and title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub status: StatusCode,
    pub code: u32,
    pub title: &'static str,
    pub detail: String,
}

impl ApiError {
    fn new(status: StatusCode, code: u32, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, title, detail: detail.into() }
    }

    pub fn invalid_auth_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 1000, "CF-InvalidAuthToken", "Invalid Auth Token")
    }

    pub fn parse_error() -> Self {
        let detail = "Request invalid due to parse error: invalid request body";
        Self::new(StatusCode::BAD_REQUEST, 1001, "CF-MessageParseError", detail)
    }

    pub fn unknown_request() -> Self {
        Self::new(StatusCode::NOT_FOUND, 10000, "CF-NotFound", "Unknown request")
    }

    pub fn not_authenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 10002, "CF-NotAuthenticated", "Authentication error")
    }

    pub fn not_authorized() -> Self {
        let detail = "You are not authorized to perform the requested action";
        Self::new(StatusCode::FORBIDDEN, 10003, "CF-NotAuthorized", detail)
    }

    pub fn bad_query_parameter(detail: &str) -> Self {
        let detail = format!("The query parameter is invalid: {detail}");
        Self::new(StatusCode::BAD_REQUEST, 10005, "CF-BadQueryParameter", detail)
    }

    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, 10008, "CF-UnprocessableEntity", detail)
    }

    /// What a job says that its broker let down; `operation` is `bind` or `unbind`.
    pub fn unable_to_perform(operation: &str, detail: &str) -> Self {
        let detail = format!("{operation} could not be completed: {detail}");
        Self::new(StatusCode::BAD_REQUEST, 10009, "CF-UnableToPerform", detail)
    }

    pub fn resource_not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, 10010, "CF-ResourceNotFound", detail)
    }

    pub fn rate_limit_exceeded() -> Self {
        let detail = "Rate Limit Exceeded";
        Self::new(StatusCode::TOO_MANY_REQUESTS, 10013, "CF-RateLimitExceeded", detail)
    }

    pub fn service_unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, 10015, "CF-ServiceUnavailable", detail)
    }

    pub fn shown(&self) -> Value {
        json!({ "code": self.code, "title": self.title, "detail": self.detail })
    }
}

/// A call that has no effect.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub answer: Answer,
    /// The rule that the caller broke, with what was wrong; nothing where a correct client can meet this too.
    pub breach: Option<(Rule, String)>,
}

impl Refusal {
    /// The caller broke a rule.
    pub fn breach(rule: Rule, answer: impl Into<Answer>, detail: impl Into<String>) -> Self {
        Self { answer: answer.into(), breach: Some((rule, detail.into())) }
    }

    pub fn bad_query(rule: Rule, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::breach(rule, ApiError::bad_query_parameter(&detail), detail)
    }

    pub fn unprocessable(rule: Rule, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::breach(rule, ApiError::unprocessable(detail.clone()), detail)
    }
}

impl From<ApiError> for Refusal {
    /// A refusal that is nobody's fault.
    fn from(error: ApiError) -> Self {
        Self { answer: error.into(), breach: None }
    }
}
