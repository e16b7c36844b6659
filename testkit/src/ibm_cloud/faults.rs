//! Faults with the messages of IBM Cloud.

use axum::http::StatusCode;
use serde_json::json;

use super::answer::{controller, iam};
use crate::remote::Fault;

/// Errors that IBM Cloud answers with.
impl Fault {
    /// An error of the Resource Controller, or one that looks like it.
    #[must_use]
    pub fn of_resource_controller(status: StatusCode, code: &str, message: &str) -> Self {
        Self::Status(status, controller(status, code, message).body.unwrap_or_default())
    }

    /// An error of IAM's API for service IDs and policies.
    #[must_use]
    pub fn of_iam(status: StatusCode, code: &str, message: &str) -> Self {
        Self::Status(status, iam(status, code, message).body.unwrap_or_default())
    }

    /// 422: the message of the service's broker, as an error of the Resource Controller.
    #[must_use]
    pub fn wrapped_broker_error(message: &str) -> Self {
        Self::Status(
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({
                "errors": [{ "code": "RC-ServiceBrokerErrorResponse", "message": message }],
                "status_code": 422,
                "transaction_id": "fake-wrapped",
            }),
        )
    }

    /// 422: the message of the service's broker, without a code.
    #[must_use]
    pub fn flat_broker_error(message: &str) -> Self {
        Self::Status(
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({ "message": message, "status_code": 422, "transaction_id": "fake-flat" }),
        )
    }

    /// 429 of the Resource Controller; real ones have a `Retry-After`, see
    /// [`retry_after`](crate::remote::Injection::retry_after).
    #[must_use]
    pub fn too_many_requests() -> Self {
        let message = "You have reached the rate limit. Try again later.";
        Self::of_resource_controller(StatusCode::TOO_MANY_REQUESTS, "RC-TooManyRequests", message)
    }
}
