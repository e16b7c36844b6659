//! What the operator counts: for Prometheus, in either of its text formats, and written down in `docs/metrics.md`.
//!
//! Each file is about one concern, and declares its families, what is written about them, and the methods that count.
//! No label holds the name of a ServiceKey, an id, or anything else that there may be many of. Of the KeyProviders of a
//! namespace, of which there may be many, the first have series of their own, and all further ones have some together.

mod catalog;
mod keys;
mod kubernetes;
mod labels;
mod process;
mod queues;
mod reconciles;
mod remote;
mod state_metrics;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use prometheus_client::encoding::{prometheus_text, text};

pub use catalog::{Exposed, Label, MetricEntry, Values};
pub(crate) use keys::{KeyOperation, KeyOutcome};
pub(crate) use kubernetes::ApiRequest;
pub(crate) use queues::QueueMetrics;
pub(crate) use reconciles::ReconcileOutcome;
pub(crate) use state_metrics::{KeyState, ProviderState};

use self::{
    catalog::MetricCatalog, keys::Keys, kubernetes::Kubernetes, labels::NamedProviders,
    process::ProcessMetrics, queues::Queues, reconciles::Reconciles, remote::RemoteMetrics,
    state_metrics::StateMetrics,
};

use super::Heartbeat;

/// All that is counted. Clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

#[derive(Default)]
struct Families {
    catalog: MetricCatalog,
    reconciles: Reconciles,
    queues: Queues,
    keys: Keys,
    stock: StateMetrics,
    remote: RemoteMetrics,
    kubernetes: Kubernetes,
    process: ProcessMetrics,
    heartbeat: Heartbeat,
    providers: NamedProviders,
}

impl Metrics {
    /// All families, in the order of their documentation.
    #[must_use]
    pub fn families(&self) -> &[Exposed] {
        self.0.catalog.exposed()
    }

    /// The heartbeat of the operator that counts here.
    #[must_use]
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.0.heartbeat
    }

    /// Everything in the text format of OpenMetrics.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` never fails.
        let _ = text::encode(&mut text, self.0.catalog.registry());
        text
    }

    /// Everything in the older text format of Prometheus.
    #[must_use]
    pub fn plain_text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` never fails.
        let _ = prometheus_text::encode(&mut text, self.0.catalog.registry());
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut families = Families::default();
        let Families { catalog, reconciles, queues, keys, stock, remote, kubernetes, process, .. } =
            &mut families;
        keys.expose(catalog);
        stock.expose(catalog);
        reconciles.expose(catalog);
        queues.expose(catalog);
        remote.expose(catalog);
        kubernetes.expose(catalog);
        process.expose(catalog);
        Self(Arc::new(families))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
