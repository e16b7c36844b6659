//! Reconciles: their number, outcomes and durations.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use strum::{IntoStaticStr, VariantNames};

use super::{
    Metrics,
    catalog::{Label, MetricCatalog, MetricEntry, Values},
};

/// In seconds: from a reconcile that reads caches only, up to one that waits for a slow remote side.
const DURATIONS: [f64; 11] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0];

const KIND: Label =
    Label { name: "kind", values: Values::OneOf(&["ServiceKey", "KeyProvider", "ClusterKeyProvider"]) };

static RECONCILES: MetricEntry = MetricEntry {
    name: "servicekeys_reconciles_total",
    labels: &[KIND, Label { name: "outcome", values: Values::OneOf(ReconcileOutcome::VARIANTS) }],
    help: "Reconciles, by kind of object and outcome",
    advice: "The conditions of the objects explain `failed` and `stalled`. The operator's log explains `error`: the \
             Kubernetes API refused a request or did not answer. Many `settled` reconciles without a change are waste",
};

static DURATION: MetricEntry = MetricEntry {
    name: "servicekeys_reconcile_duration_seconds",
    labels: &[KIND],
    help: "Duration of a reconcile, including the waits for queues, limits and answers",
    advice: "Compare it with the waits in the queues and with the latency of the remote side",
};

/// The outcome of one reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum ReconcileOutcome {
    /// The object has its desired state. The next reconcile follows a change or a deadline.
    Settled,
    /// The remote side is still working on a request.
    UnderWay,
    /// Another object, for example the provider, has to change first.
    Waiting,
    /// Rate limited by the remote side.
    Paused,
    /// An operation failed; the operator retries it.
    Failed,
    /// A user has to change something first.
    Stalled,
    /// Another client changed the object during the reconcile.
    Outdated,
    Gone,
    /// The Kubernetes API failed, or did not answer.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug)]
pub(super) struct Reconciles {
    outcomes: Family<OutcomeLabels, Counter>,
    durations: Family<KindLabels, Histogram>,
}

impl Default for Reconciles {
    fn default() -> Self {
        let durations = Family::new_with_constructor((|| Histogram::new(DURATIONS)) as fn() -> _);
        Self { outcomes: Family::default(), durations }
    }
}

impl Reconciles {
    pub(super) fn expose(&self, catalog: &mut MetricCatalog) {
        catalog.add(&RECONCILES, self.outcomes.clone());
        catalog.add(&DURATION, self.durations.clone());
    }
}

impl Metrics {
    /// Counts a reconcile of an object of this kind.
    pub fn count_reconcile(&self, kind: &'static str, outcome: ReconcileOutcome, took: Duration) {
        let Reconciles { outcomes, durations } = &self.0.reconciles;
        outcomes.get_or_create(&OutcomeLabels { kind, outcome: outcome.into() }).inc();
        durations.get_or_create(&KindLabels { kind }).observe(took.as_secs_f64());
    }
}
