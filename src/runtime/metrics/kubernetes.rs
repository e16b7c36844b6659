//! Requests to the API server, and the time since each watch last delivered something.

use std::{collections::BTreeMap, fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{MetricType, counter::Counter, family::Family, histogram::Histogram},
};

use super::{
    Metrics,
    catalog::{Label, MetricCatalog, MetricEntry, Values},
};
use crate::runtime::Watches;

/// In seconds.
const DURATIONS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

const VERB: Label = Label {
    name: "verb",
    values: Values::OneOf(&["get", "list", "watch", "create", "update", "patch", "delete", "other"]),
};

const RESOURCES: &[&str] = &[
    "clusterkeyproviders",
    "clusterkeyproviders/status",
    "daemonsets",
    "deployments",
    "events",
    "keyproviders",
    "keyproviders/status",
    "leases",
    "namespaces",
    "pods",
    "secrets",
    "servicekeys",
    "servicekeys/status",
    "statefulsets",
    OTHER,
];

/// All other resources.
const OTHER: &str = "other";

const RESOURCE: Label = Label { name: "resource", values: Values::OneOf(RESOURCES) };

const STATUS: Label =
    Label { name: "status", values: Values::Few("the HTTP status, or `none` if no answer arrived") };

static REQUESTS: MetricEntry = MetricEntry {
    name: "servicekeys_kubernetes_requests_total",
    labels: &[VERB, RESOURCE, STATUS],
    help: "Requests to the API server; a request counts once, together with the client's automatic retries of it",
    advice: "`403`: the operator lacks a permission, see its role. An occasional `409` is normal: another client \
             changed the object first. `none` and `5xx`: check the API server",
};

static DURATION: MetricEntry = MetricEntry {
    name: "servicekeys_kubernetes_request_duration_seconds",
    labels: &[VERB, RESOURCE],
    help: "Time until the API server began its answer",
    advice: "If this grows, check the API server and its API Priority and Fairness configuration",
};

static WATCH_AGE: MetricEntry = MetricEntry {
    name: "servicekeys_watch_age_seconds",
    labels: &[RESOURCE],
    help: "Time since the watch of a resource last delivered something; of several watches, the longest time",
    advice: "Above about six minutes the caches may be out of date. After ten minutes `/livez` fails, and the kubelet \
             restarts the operator",
};

/// A request to the API server, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiRequest {
    /// The RBAC verb.
    pub verb: &'static str,
    /// The RBAC resource, with `/status` for the status subresource.
    pub resource: &'static str,
}

impl ApiRequest {
    /// The label value of a resource: its name if the operator uses it, else `other`.
    pub(in crate::runtime) fn resource(resource: &str, part: Option<&str>) -> &'static str {
        let is_meant = |known: &&&str| match (known.split_once('/'), part) {
            (None, None) => **known == resource,
            (Some((of, known)), Some(part)) => of == resource && known == part,
            _ => false,
        };
        RESOURCES.iter().find(is_meant).copied().unwrap_or(OTHER)
    }

    /// The label value of the resource at a path.
    fn resource_at(path: &str) -> &'static str {
        Self::resource(path.rsplit('/').next().unwrap_or_default(), None)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiRequestLabels {
    verb: &'static str,
    resource: &'static str,
    status: ApiStatusLabel,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    verb: &'static str,
    resource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    resource: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ApiStatusLabel(Option<u16>);

impl EncodeLabelValue for ApiStatusLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => EncodeLabelValue::encode(&status, encoder),
            None => EncodeLabelValue::encode(&"none", encoder),
        }
    }
}

#[derive(Debug)]
pub(super) struct Kubernetes {
    requests: Family<ApiRequestLabels, Counter>,
    durations: Family<CallLabels, Histogram>,
    watches: Watches,
}

impl Default for Kubernetes {
    fn default() -> Self {
        let durations = Family::new_with_constructor((|| Histogram::new(DURATIONS)) as fn() -> _);
        Self { requests: Family::default(), durations, watches: Watches::default() }
    }
}

impl Kubernetes {
    pub(super) fn expose(&self, catalog: &mut MetricCatalog) {
        catalog.add(&REQUESTS, self.requests.clone());
        catalog.add(&DURATION, self.durations.clone());
        catalog.add_collected([(&WATCH_AGE, MetricType::Gauge)], WatchAges(self.watches.clone()));
    }
}

/// Computes the ages of the watches at each scrape.
#[derive(Debug)]
struct WatchAges(Watches);

impl Collector for WatchAges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut ages = BTreeMap::<_, Duration>::new();
        for (path, silence) in self.0.elapsed() {
            let age = ages.entry(ApiRequest::resource_at(&path)).or_default();
            *age = silence.max(*age);
        }
        let ages = ages.into_iter().map(|(resource, age)| (ResourceLabels { resource }, age.as_secs_f64()));
        WATCH_AGE.encode_gauges(&mut encoder, ages)
    }
}

impl Metrics {
    /// Counts a request to the API server. `status` is `None` if no answer arrived.
    pub fn count_api_request(&self, request: ApiRequest, status: Option<u16>, took: Duration) {
        let ApiRequest { verb, resource } = request;
        let Kubernetes { requests, durations, .. } = &self.0.kubernetes;
        requests.get_or_create(&ApiRequestLabels { verb, resource, status: ApiStatusLabel(status) }).inc();
        durations.get_or_create(&CallLabels { verb, resource }).observe(took.as_secs_f64());
    }

    /// The watches that fill the operator's caches.
    #[must_use]
    pub fn watches(&self) -> &Watches {
        &self.0.kubernetes.watches
    }
}
