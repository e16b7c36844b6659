//! The answers of IAM and the Resource Controller, each with its own messages.

use axum::http::StatusCode;
use serde_json::json;

use super::{
    record::Rule,
    route::{Door, Route},
};
pub(super) use crate::remote::Answer;

/// A call that has no effect.
pub(super) type Refusal = crate::remote::Refusal<Rule>;

/// A refusal in the form of the host of a call.
pub(super) fn refused(door: Door, status: StatusCode, code: &str, message: &str) -> Answer {
    match door {
        Door::Iam => iam(status, code, message),
        Door::ResourceController => controller(status, &format!("RC-{code}"), message),
    }
}

/// An error of IAM's API for service IDs, policies and roles.
pub(super) fn iam(status: StatusCode, code: &str, message: &str) -> Answer {
    let errors = json!([{ "code": code, "message": message }]);
    Answer::new(status, json!({ "trace": TRANSACTION, "errors": errors, "status_code": status.as_u16() }))
}

/// An error of IAM's token endpoint.
pub(super) fn no_token(status: StatusCode, code: &str, message: &str) -> Answer {
    let context = json!({
        "requestId": TRANSACTION,
        "requestType": "incoming.Identity_Token",
        "url": "https://iam.cloud.ibm.com",
        "startTime": "01.01.2026 00:00:00:000 UTC",
        "endTime": "01.01.2026 00:00:00:001 UTC",
        "elapsedTime": "1",
        "locale": "en_US",
    });
    Answer::new(status, json!({ "errorCode": code, "errorMessage": message, "context": context }))
}

/// An error of the Resource Controller.
pub(super) fn controller(status: StatusCode, code: &str, message: &str) -> Answer {
    let body = json!({
        "error_code": code,
        "message": message,
        "status_code": status.as_u16(),
        "transaction_id": TRANSACTION,
    });
    Answer::new(status, body)
}

/// 401: the caller's token is invalid, or not valid any more.
pub(super) fn unauthorized(route: Route, message: &str) -> Answer {
    match route.door() {
        Door::Iam => iam(StatusCode::UNAUTHORIZED, "invalid_token", message),
        Door::ResourceController => controller(StatusCode::UNAUTHORIZED, "RC-IamErrorResponse", message),
    }
}

/// The id of a call in IBM's logs, until [`number`] sets it. Injected errors keep it.
const TRANSACTION: &str = "fake-transaction";

/// Writes the id of a call into the answer that refuses it. The header `transaction-id` has the same id.
pub(super) fn number(mut answer: Answer, call: usize) -> Answer {
    for path in ["/transaction_id", "/trace", "/context/requestId"] {
        if let Some(id) = answer.body.as_mut().and_then(|body| body.pointer_mut(path)) {
            *id = format!("call-{call}").into();
        }
    }
    answer
}

impl Refusal {
    /// The caller sent something that it must not send.
    pub(crate) fn bad_request(route: Route, rule: Rule, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::breach(rule, refused(route.door(), StatusCode::BAD_REQUEST, "ValidationError", &detail), detail)
    }

    /// The caller may not do this.
    pub(crate) fn forbidden(route: Route) -> Self {
        Self::blameless(match route.door() {
            Door::Iam => {
                let message = "You are not authorized to use this API";
                iam(StatusCode::FORBIDDEN, "insufficient_permissions", message)
            }
            Door::ResourceController => {
                controller(StatusCode::FORBIDDEN, "RC-ForbiddenError", "You are not authorized to do this")
            }
        })
    }

    /// No object has this id. This does not break a rule.
    pub(crate) fn not_found(route: Route, what: &str, id: &str) -> Self {
        Self::blameless(match route.door() {
            Door::Iam => {
                iam(StatusCode::NOT_FOUND, "not_found", &format!("The {what} cannot be found: {id}"))
            }
            Door::ResourceController => {
                let message = format!("The {what} cannot be found: {id}");
                let mut answer = controller(StatusCode::NOT_FOUND, "RC-DatabaseErrorResponse", &message);
                if let Some(body) = &mut answer.body {
                    body["details"] = json!("status_code=404 error=not_found reason=missing");
                }
                answer
            }
        })
    }
}
