//! The answers of the Cloud Controller, with its own messages.

use axum::http::{
    StatusCode,
    header::{HeaderValue, LOCATION},
};
use serde_json::{Value, json};

use super::record::Rule;
pub(super) use crate::remote::Answer;

/// A call that has no effect.
pub(super) type Refusal = crate::remote::Refusal<Rule>;

/// 202 with an empty body and the URL of the job.
pub(super) fn accepted(job: &str) -> Answer {
    let accepted = Answer::bare(StatusCode::ACCEPTED);
    match HeaderValue::from_str(job) {
        Ok(location) => accepted.with_header(LOCATION, location),
        // A URL of the fake is always a valid header value, so this branch is never taken.
        Err(_) => accepted,
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        Self::new(error.status, json!({ "errors": [error.shown()] }))
    }
}

/// One of the errors that the API's documentation lists by code and title.
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

    pub(super) fn invalid_auth_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 1000, "CF-InvalidAuthToken", "Invalid Auth Token")
    }

    pub(super) fn parse_error() -> Self {
        let detail = "Request invalid due to parse error: invalid request body";
        Self::new(StatusCode::BAD_REQUEST, 1001, "CF-MessageParseError", detail)
    }

    pub(super) fn unknown_request() -> Self {
        Self::new(StatusCode::NOT_FOUND, 10000, "CF-NotFound", "Unknown request")
    }

    pub(super) fn not_authenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 10002, "CF-NotAuthenticated", "Authentication error")
    }

    pub(super) fn not_authorized() -> Self {
        let detail = "You are not authorized to perform the requested action";
        Self::new(StatusCode::FORBIDDEN, 10003, "CF-NotAuthorized", detail)
    }

    pub(super) fn bad_query_parameter(detail: &str) -> Self {
        let detail = format!("The query parameter is invalid: {detail}");
        Self::new(StatusCode::BAD_REQUEST, 10005, "CF-BadQueryParameter", detail)
    }

    pub(super) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, 10008, "CF-UnprocessableEntity", detail)
    }

    /// The error of a job whose broker failed; `operation` is `bind` or `unbind`.
    pub(super) fn unable_to_perform(operation: &str, detail: &str) -> Self {
        let detail = format!("{operation} could not be completed: {detail}");
        Self::new(StatusCode::BAD_REQUEST, 10009, "CF-UnableToPerform", detail)
    }

    pub(super) fn resource_not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, 10010, "CF-ResourceNotFound", detail)
    }

    /// The error of a Korifi for a name that is already in use.
    pub(super) fn not_unique(instance: &str, name: &str) -> Self {
        let detail = format!(
            "Service binding already exists: App:  Service Instance: {instance} Service Binding: {name}"
        );
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, 10016, "CF-UniquenessError", detail)
    }

    pub(super) fn rate_limit_exceeded() -> Self {
        let detail = "Rate Limit Exceeded";
        Self::new(StatusCode::TOO_MANY_REQUESTS, 10013, "CF-RateLimitExceeded", detail)
    }

    pub(super) fn service_unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, 10015, "CF-ServiceUnavailable", detail)
    }

    pub(super) fn shown(&self) -> Value {
        json!({ "code": self.code, "title": self.title, "detail": self.detail })
    }
}

impl Refusal {
    pub(crate) fn bad_query(rule: Rule, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::breach(rule, ApiError::bad_query_parameter(&detail), detail)
    }

    pub(crate) fn unprocessable(rule: Rule, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::breach(rule, ApiError::unprocessable(detail.clone()), detail)
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::blameless(error)
    }
}
