//! Faults with the messages of Cloud Foundry.

use axum::http::StatusCode;
use serde_json::json;

use super::answer::ApiError;
use crate::remote::Fault;

/// Errors that Cloud Foundry answers with.
impl Fault {
    /// An error in the shape of the API's errors.
    #[must_use]
    pub fn error(status: StatusCode, code: u32, title: &str, detail: &str) -> Self {
        Self::Status(status, json!({ "errors": [{ "code": code, "title": title, "detail": detail }] }))
    }

    /// 404 of the router in front of the API while the API is down.
    #[must_use]
    pub const fn unknown_route() -> Self {
        Self::PlainText(
            StatusCode::NOT_FOUND,
            "404 Not Found: Requested route ('api.cf.example.com') does not exist.\n",
        )
    }

    /// 503: CredHub has the credentials and does not answer. For [`Route::Details`](super::Route::Details).
    #[must_use]
    pub fn credhub_is_down() -> Self {
        let detail = "Fetching credentials from CredHub failed; reason: Connection refused";
        let error = ApiError::service_unavailable(detail);
        Self::Status(error.status, json!({ "errors": [error.shown()] }))
    }

    /// 429: too many requests that involve a broker are under way. For
    /// [`Route::Create`](super::Route::Create) and [`Route::Delete`](super::Route::Delete).
    #[must_use]
    pub fn broker_is_busy() -> Self {
        let detail = "Service broker concurrent request limit exceeded";
        Self::error(StatusCode::TOO_MANY_REQUESTS, 10016, "CF-ServiceBrokerRateLimitExceeded", detail)
    }
}
