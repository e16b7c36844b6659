//! How often objects are looked at, what came of it, and how long it took.

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

/// In seconds: from what the caches answer alone to a remote side that takes its time.
const DURATIONS: [f64; 11] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0];

const KIND: Label =
    Label { name: "kind", values: Values::OneOf(&["ServiceKey", "KeyProvider", "ClusterKeyProvider"]) };

static RECONCILES: MetricEntry = MetricEntry {
    name: "servicekeys_reconciles_total",
    labels: &[KIND, Label { name: "outcome", values: Values::OneOf(ReconcileOutcome::VARIANTS) }],
    help: "Looks at an object, by what came of them",
    advice: "`failed` and `stalled` are told in the conditions of the objects, `error` in the operator's log: the \
             Kubernetes API refused something or was not there. Many `settled` ones of which nothing comes are waste",
};

static DURATION: MetricEntry = MetricEntry {
    name: "servicekeys_reconcile_duration_seconds",
    labels: &[KIND],
    help: "How long a look at an object took, with all that it waited for",
    advice: "Compare with the waits in the queues and with how long the remote side takes to answer",
};

/// What came of a look at an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum ReconcileOutcome {
    /// All is as it should be, until something changes or a time comes.
    Settled,
    /// The remote side is at work.
    UnderWay,
    /// Something else has to change first: the provider, for example.
    Waiting,
    /// The remote side wants to be left alone.
    Paused,
    /// It did not work, and is tried again.
    Failed,
    /// A person has to change something first.
    Stalled,
    /// The object was changed by somebody else meanwhile.
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
    /// Counts a look at an object of this kind.
    pub fn count_reconcile(&self, kind: &'static str, outcome: ReconcileOutcome, took: Duration) {
        let Reconciles { outcomes, durations } = &self.0.reconciles;
        outcomes.get_or_create(&OutcomeLabels { kind, outcome: outcome.into() }).inc();
        durations.get_or_create(&KindLabels { kind }).observe(took.as_secs_f64());
    }
}
