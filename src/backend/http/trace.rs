//! The fields of a call in logs and traces: enough to find the call in the logs of the remote side.

use std::fmt::Display;

use reqwest::header::HeaderMap;
use tracing::{Span, field};

use super::{HttpFailure, Response};

/// Headers with the remote side's id of a request: of Cloud Foundry's router, and of IBM Cloud.
const REQUEST_IDS: [&str; 2] = ["x-vcap-request-id", "transaction-id"];

/// The most bytes of an id. A longer value is ignored.
const LONGEST_ID: usize = 128;

/// The span of one request. Backends that send an id of their own record it as `request_id`.
pub(in crate::backend) fn call_span(backend: &'static str, call: &impl Display) -> Span {
    tracing::info_span!(
        "call",
        backend,
        %call,
        request_id = field::Empty,
        remote_request_id = field::Empty,
        status = field::Empty
    )
}

/// The remote side's id of the request.
pub(super) fn remote_request_id(headers: &HeaderMap) -> Option<String> {
    let mut values = REQUEST_IDS.iter().filter_map(|name| headers.get(*name)?.to_str().ok());
    values.find(|id| !id.is_empty() && id.len() <= LONGEST_ID).map(str::to_owned)
}

/// Records the outcome in the span of the call.
pub(super) fn note(outcome: &Result<Response, HttpFailure>) {
    if let Ok(response) = outcome {
        let span = Span::current();
        span.record("status", response.status.as_u16());
        if let Some(id) = &response.remote_request_id {
            span.record("remote_request_id", id);
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn id_in(name: &'static str, value: &str) -> Option<String> {
        remote_request_id(&HeaderMap::from_iter([(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        )]))
    }

    #[test]
    fn remote_sides_say_what_they_call_a_request() {
        assert_eq!(id_in("x-vcap-request-id", "a::b").as_deref(), Some("a::b"));
        assert_eq!(id_in("transaction-id", "c").as_deref(), Some("c"));
        assert_eq!(id_in("x-other", "d"), None);
    }

    #[test]
    fn what_is_no_id_is_not_believed() {
        assert_eq!(id_in("transaction-id", ""), None);
        assert_eq!(id_in("transaction-id", &"x".repeat(LONGEST_ID + 1)), None);
        assert_eq!(id_in("transaction-id", "ü"), None);
    }
}
