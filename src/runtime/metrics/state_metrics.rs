//! Gauges of the current state. They are computed from the caches at each scrape, not at each change.

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
    metrics::MetricType,
};
use strum::{IntoStaticStr, VariantNames};

use super::{
    Metrics,
    catalog::{BACKEND, Label, MetricCatalog, MetricEntry, PROVIDER, PROVIDER_NAMESPACE, Values},
    labels::ProviderLabels,
};
use crate::backend::BackendKind;

static KEYS: MetricEntry = MetricEntry {
    name: "servicekeys_keys",
    labels: &[
        BACKEND,
        PROVIDER_NAMESPACE,
        PROVIDER,
        Label { name: "state", values: Values::OneOf(KeyState::VARIANTS) },
    ],
    help: "ServiceKeys by state: the first that applies of `deleting`, `suspended`, `ready`, `stalled`, `pending`",
    advice: "`kubectl get skey -A` lists them. A `stalled` ServiceKey waits until a user changes something. The \
             operator continues with a `pending` one automatically. One that stays `deleting` waits for its provider",
};

static DUE: MetricEntry = MetricEntry {
    name: "servicekeys_rotations_due",
    labels: &[PROVIDER_NAMESPACE, PROVIDER],
    help: "ServiceKeys whose rotation is due and not yet completed",
    advice: "Nothing, as long as different ServiceKeys are due each time",
};

static LATE: MetricEntry = MetricEntry {
    name: "servicekeys_rotations_late",
    labels: &[PROVIDER_NAMESPACE, PROVIDER],
    help: "ServiceKeys whose rotation has been due for ten minutes or longer",
    advice: "The condition `Rotating` of the ServiceKeys gives the reason; `kubectl get skey -A` shows when each was \
             due",
};

static FAILING: MetricEntry = MetricEntry {
    name: "servicekeys_rotations_failing",
    labels: &[PROVIDER_NAMESPACE, PROVIDER],
    help: "ServiceKeys whose current key works, but the next key can't be created, or the previous one can't be \
           revoked",
    advice: "As for `servicekeys_rotations_late`",
};

static NEXT_EXPIRY: MetricEntry = MetricEntry {
    name: "servicekeys_next_expiry_seconds",
    labels: &[PROVIDER_NAMESPACE, PROVIDER],
    help: "Time until the first current key of a provider expires; negative after it has expired",
    advice: "The operator rotates keys before they expire. If this comes near 0, find out why rotations fail or are \
             late",
};

static PAUSE: MetricEntry = MetricEntry {
    name: "servicekeys_provider_pause_seconds",
    labels: &[PROVIDER_NAMESPACE, PROVIDER],
    help: "Time until the operator ends its pause and sends requests to the remote side again",
    advice: "If this is often above 0, lower `spec.limits` of the provider",
};

const ENTRIES: [&MetricEntry; 6] = [&KEYS, &DUE, &LATE, &FAILING, &NEXT_EXPIRY, &PAUSE];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum KeyState {
    Deleting,
    Suspended,
    /// The Secret contains credentials that work.
    Ready,
    /// A user has to change something first.
    Stalled,
    /// The operator continues automatically.
    Pending,
}

impl KeyState {
    pub(crate) const ALL: [Self; 5] =
        [Self::Deleting, Self::Suspended, Self::Ready, Self::Stalled, Self::Pending];
}

/// The current state of one provider and its ServiceKeys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ProviderState {
    /// The namespace of a KeyProvider; `None` for a ClusterKeyProvider, and for one that does not exist.
    pub namespace: Option<String>,
    /// Empty for all providers that do not exist.
    pub name: String,
    pub backend: BackendKind,
    /// The number of ServiceKeys in each state, in the order of [`KeyState::ALL`].
    pub keys: [u32; KeyState::ALL.len()],
    /// Rotations that are due.
    pub due: u32,
    /// Rotations that are late.
    pub late: u32,
    /// Rotations that fail.
    pub failing: u32,
    /// Seconds until the first key expires.
    pub next_expiry: Option<f64>,
    /// Time until the rate limit of the remote side ends.
    pub pause: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    backend: BackendKind,
    #[prometheus(flatten)]
    provider: ProviderLabels,
    state: &'static str,
}

type Source = Box<dyn Fn() -> Vec<ProviderState> + Send + Sync>;

/// The source of the current state. It is `None` until the operator runs.
#[derive(Clone, Default)]
pub(super) struct StateMetrics(Arc<Mutex<Option<Source>>>);

impl fmt::Debug for StateMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stock").finish_non_exhaustive()
    }
}

impl StateMetrics {
    pub(super) fn expose(&self, catalog: &mut MetricCatalog) {
        catalog.add_collected(ENTRIES.map(|entry| (entry, MetricType::Gauge)), self.clone());
    }

    fn take(&self) -> Vec<ProviderState> {
        let source = self.0.lock();
        source.as_ref().map(|source| source()).unwrap_or_default()
    }
}

impl Collector for StateMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stock = self.take();
        let mut keys = BTreeMap::<_, [u32; KeyState::ALL.len()]>::new();
        let mut providers = BTreeMap::<_, ProviderState>::new();
        for of in stock {
            let labels = (of.namespace.clone().unwrap_or_default(), of.name.clone());
            let counts = keys.entry((of.backend, labels.clone())).or_default();
            counts.iter_mut().zip(of.keys).for_each(|(sum, count)| *sum += count);
            match providers.entry(labels) {
                btree_map::Entry::Vacant(first) => drop(first.insert(of)),
                btree_map::Entry::Occupied(mut known) => known.get_mut().take_in(&of),
            }
        }
        let keys = keys.iter().flat_map(|((backend, provider), counts)| {
            KeyState::ALL.map(|state| {
                let labels = KeyLabels { backend: *backend, provider: labels(provider), state: state.into() };
                (labels, f64::from(counts[state as usize]))
            })
        });
        KEYS.encode_gauges(&mut encoder, keys)?;
        let mut each = |entry: &MetricEntry, value: fn(&ProviderState) -> Option<f64>| {
            let gauges = providers.iter().filter_map(|(provider, of)| Some((labels(provider), value(of)?)));
            entry.encode_gauges(&mut encoder, gauges)
        };
        each(&DUE, |of| Some(f64::from(of.due)))?;
        each(&LATE, |of| Some(f64::from(of.late)))?;
        each(&FAILING, |of| Some(f64::from(of.failing)))?;
        each(&NEXT_EXPIRY, |of| of.next_expiry)?;
        each(&PAUSE, |of| Some(of.pause.as_secs_f64()))
    }
}

impl ProviderState {
    /// Adds the state of another provider that shares the same series.
    fn take_in(&mut self, other: &Self) {
        let Self { namespace: _, name: _, backend: _, keys: _, due, late, failing, next_expiry, pause } =
            other;
        self.due += due;
        self.late += late;
        self.failing += failing;
        self.next_expiry = match (self.next_expiry, *next_expiry) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.pause = self.pause.max(*pause);
    }
}

fn labels((namespace, name): &(String, String)) -> ProviderLabels {
    ProviderLabels::new(Some(namespace), name)
}

impl Metrics {
    /// Sets the function that returns the current state at each scrape.
    pub(crate) fn set_state_source(&self, source: impl Fn() -> Vec<ProviderState> + Send + Sync + 'static) {
        let families = Arc::downgrade(&self.0);
        let named = move || {
            let mut stock = source();
            if let Some(families) = families.upgrade() {
                // A provider may be deleted after the source listed it. It must not be registered again.
                stock.retain_mut(|of| {
                    let labels = families.providers.known_labels(of.namespace.as_deref(), &of.name);
                    labels.map(|labels| of.name = labels.provider).is_some()
                });
            }
            stock
        };
        *self.0.stock.0.lock() = Some(Box::new(named));
    }
}
