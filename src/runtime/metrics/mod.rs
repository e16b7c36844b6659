//! The operator's metrics, in both text formats of Prometheus. `docs/metrics.md` is generated from their descriptions.
//!
//! Each file covers one concern: it declares the families, their descriptions, and the methods that count.
//!
//! The number of series is bounded. No label contains the name of a ServiceKey, an id, or another value that can have
//! many forms. The first KeyProviders of a namespace have series of their own; all others of that namespace share one
//! set.

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

/// All metrics of the process. Clones share their counts.
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

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` never fails.
        let _ = text::encode(&mut text, self.0.catalog.registry());
        text
    }

    /// All metrics in the older Prometheus text format.
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
