//! Requests to remote sides: their number, statuses and durations, and the waits for the provider's limits.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use reqwest::{Method, StatusCode};

use super::{
    Metrics,
    catalog::{BACKEND, Label, MetricCatalog, MetricEntry, Values},
    labels::BackendLabels,
};
use crate::backend::{BackendKind, CallOutcome, ObservedCall, Observer};

/// In seconds.
const DURATIONS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
/// In seconds.
const WAITS: [f64; 7] = [0.001, 0.01, 0.1, 1.0, 5.0, 30.0, 120.0];

const METHOD: Label =
    Label { name: "method", values: Values::OneOf(&["DELETE", "GET", "PATCH", "POST", "PUT"]) };
const ROUTE: Label = Label {
    name: "route",
    values: Values::Few(
        "the path, with `{binding}` and the like instead of ids; every token endpoint is `/oauth/token`",
    ),
};
const STATUS: Label = Label {
    name: "status",
    values: Values::Few(
        "the HTTP status, `other` for a status that no standard defines, or `unreachable`, `untrusted`, `unusable` or \
         `unanswered` if there is none",
    ),
};

static REQUESTS: MetricEntry = MetricEntry {
    name: "servicekeys_remote_requests_total",
    labels: &[BACKEND, METHOD, ROUTE, STATUS],
    help: "Requests to remote sides, by status",
    advice: "`401` and `403`: check the provider's login. `429`: lower `spec.limits.requestsPerSecond`. `5xx`, \
             `unreachable` and `unanswered`: contact the administrator of the remote side. The conditions of the \
             ServiceKeys quote its answer",
};

static DURATION: MetricEntry = MetricEntry {
    name: "servicekeys_remote_request_duration_seconds",
    labels: &[BACKEND, METHOD, ROUTE],
    help: "Time until the remote side answered, or the request failed without an answer",
    advice: "Requests that take nearly as long as the provider's `spec.limits.timeout` are likely to time out; the \
             operator then retries them",
};

static WAIT: MetricEntry = MetricEntry {
    name: "servicekeys_remote_rate_limit_wait_seconds",
    labels: &[BACKEND],
    help: "Time that requests waited for the provider's limits",
    advice: "Raise `spec.limits` of the provider, if its remote side can handle the load",
};

static PAUSES: MetricEntry = MetricEntry {
    name: "servicekeys_remote_pauses_total",
    labels: &[BACKEND],
    help: "Answers after which the operator paused all requests of a provider: 429, or 503 with `Retry-After`",
    advice: "Lower `spec.limits` of the provider",
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RemoteRequestLabels {
    backend: BackendKind,
    method: &'static str,
    route: &'static str,
    status: RemoteStatusLabel,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    backend: BackendKind,
    method: &'static str,
    route: &'static str,
}

/// The status of an answer. A remote side may answer with any number, so all undefined statuses share one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RemoteStatusLabel(CallOutcome);

impl RemoteStatusLabel {
    fn new(outcome: CallOutcome) -> Self {
        let defined =
            |code| StatusCode::from_u16(code).is_ok_and(|status| status.canonical_reason().is_some());
        match outcome {
            CallOutcome::Answered(code) if !defined(code) => Self(CallOutcome::Answered(0)),
            outcome => Self(outcome),
        }
    }
}

impl EncodeLabelValue for RemoteStatusLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let word = match self.0 {
            CallOutcome::Answered(0) => "other",
            CallOutcome::Answered(code) => return EncodeLabelValue::encode(&code, encoder),
            CallOutcome::Unreachable => "unreachable",
            CallOutcome::Untrusted => "untrusted",
            CallOutcome::Unusable => "unusable",
            CallOutcome::Unanswered => "unanswered",
        };
        EncodeLabelValue::encode(&word, encoder)
    }
}

#[derive(Clone, Debug)]
pub(super) struct RemoteMetrics {
    requests: Family<RemoteRequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    waits: Family<BackendLabels, Histogram>,
    pauses: Family<BackendLabels, Counter>,
}

impl Default for RemoteMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            waits: Family::new_with_constructor(|| Histogram::new(WAITS)),
            pauses: Family::default(),
        }
    }
}

impl RemoteMetrics {
    pub(super) fn expose(&self, catalog: &mut MetricCatalog) {
        catalog.add(&REQUESTS, self.requests.clone());
        catalog.add(&DURATION, self.durations.clone());
        catalog.add(&WAIT, self.waits.clone());
        catalog.add(&PAUSES, self.pauses.clone());
    }
}

/// Counts the requests to one kind of remote side. It keeps the series that every request updates.
#[derive(Debug)]
struct RemoteSide {
    backend: BackendKind,
    metrics: RemoteMetrics,
    waits: Histogram,
}

impl Observer for RemoteSide {
    fn waited(&self, wait: Duration) {
        self.waits.observe(wait.as_secs_f64());
    }

    fn called(&self, call: &ObservedCall<'_>) {
        let (backend, method, route) = (self.backend, name(call.method), call.route);
        let status = RemoteStatusLabel::new(call.outcome);
        self.metrics.requests.get_or_create(&RemoteRequestLabels { backend, method, route, status }).inc();
        let labels = RouteLabels { backend, method, route };
        self.metrics.durations.get_or_create(&labels).observe(call.took.as_secs_f64());
    }

    fn paused(&self) {
        self.metrics.pauses.get_or_create(&BackendLabels { backend: self.backend }).inc();
    }
}

fn name(method: &Method) -> &'static str {
    match method.as_str() {
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "POST" => "POST",
        "PUT" => "PUT",
        _ => "GET",
    }
}

impl Metrics {
    /// The observer that counts the requests to remote sides of this kind.
    #[must_use]
    pub(crate) fn observer(&self, backend: BackendKind) -> Arc<dyn Observer> {
        let metrics = self.0.remote.clone();
        let _ = metrics.pauses.get_or_create(&BackendLabels { backend });
        self.0.keys.begin(backend);
        let waits = metrics.waits.get_or_create_owned(&BackendLabels { backend });
        Arc::new(RemoteSide { backend, metrics, waits })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::an_answer(CallOutcome::Answered(201), "201")]
    #[case::one_that_nobody_defined(CallOutcome::Answered(799), "other")]
    #[case::none(CallOutcome::Unanswered, "unanswered")]
    fn a_call_is_counted_by_its_route_and_outcome(#[case] outcome: CallOutcome, #[case] status: &str) {
        let metrics = Metrics::default();
        let remote = metrics.observer(BackendKind::CloudFoundry);
        let (method, took) = (Method::GET, Duration::from_millis(200));
        remote.called(&ObservedCall { route: "/v3/jobs/{job}", method: &method, outcome, took });
        let text = metrics.text();
        let labels = "backend=\"CloudFoundry\",method=\"GET\",route=\"/v3/jobs/{job}\"";
        let counted = format!("servicekeys_remote_requests_total{{{labels},status=\"{status}\"}} 1\n");
        assert!(text.contains(&counted), "{text}");
        let measured = format!("servicekeys_remote_request_duration_seconds_sum{{{labels}}} 0.2\n");
        assert!(text.contains(&measured), "{text}");
    }
}
