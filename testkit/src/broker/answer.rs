//! The answers of a broker.

use axum::http::StatusCode;
use serde_json::json;

use super::record::Rule;
pub(super) use crate::remote::Answer;

/// The answer to a call that has no effect.
pub(super) type Refusal = crate::remote::Refusal<Rule>;

/// Answers of the Open Service Broker API.
impl Answer {
    /// An error in the shape of the specification (section Service Broker Errors).
    pub(super) fn error(status: StatusCode, description: impl Into<String>) -> Self {
        Self::new(status, json!({ "description": description.into() }))
    }

    /// 410 with an empty object: the binding does not exist, or does not exist any more.
    pub(super) fn gone() -> Self {
        Self::new(StatusCode::GONE, json!({}))
    }
}

impl Refusal {
    /// The caller broke a rule, which the description of the error explains.
    pub(super) fn described(rule: Rule, status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::breach(rule, Answer::error(status, detail.clone()), detail)
    }

    /// [`Self::described`] with 400, the specification's answer to malformed requests.
    pub(super) fn bad_request(rule: Rule, detail: impl Into<String>) -> Self {
        Self::described(rule, StatusCode::BAD_REQUEST, detail)
    }
}

impl From<Answer> for Refusal {
    fn from(answer: Answer) -> Self {
        Self::blameless(answer)
    }
}
