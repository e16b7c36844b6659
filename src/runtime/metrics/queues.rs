//! The queues for a worker and for a slot at a remote side: their depths, and the times spent waiting.

use tokio::time::Instant;

use prometheus_client::metrics::{family::Family, gauge::Gauge, histogram::Histogram};

use super::{
    Metrics,
    catalog::{MetricCatalog, MetricEntry, PROVIDER, PROVIDER_NAMESPACE},
    labels::ProviderLabels,
};

/// In seconds.
const WAITS: [f64; 9] = [0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0];

static WORKER_DEPTH: MetricEntry = MetricEntry {
    name: "servicekeys_worker_queue_depth",
    labels: &[],
    help: "ServiceKeys that wait for a worker",
    advice: "If it stays above 0, raise `--concurrency`, or give the operator more CPU",
};

static WORKER_WAIT: MetricEntry = MetricEntry {
    name: "servicekeys_worker_queue_wait_seconds",
    labels: &[],
    help: "Time that ServiceKeys waited for a worker",
    advice: "As for `servicekeys_worker_queue_depth`",
};

static PROVIDER_DEPTH: MetricEntry = MetricEntry {
    name: "servicekeys_provider_queue_depth",
    labels: &[PROVIDER_NAMESPACE, PROVIDER],
    help: "ServiceKeys that wait for a free slot at the remote side of their provider",
    advice: "If it stays above 0, the remote side is slow, or the provider's `spec.limits.concurrency` is low",
};

static PROVIDER_WAIT: MetricEntry = MetricEntry {
    name: "servicekeys_provider_queue_wait_seconds",
    labels: &[PROVIDER_NAMESPACE, PROVIDER],
    help: "Time that ServiceKeys waited for a free slot at the remote side of their provider",
    advice: "As for `servicekeys_provider_queue_depth`",
};

/// The depth of one queue, and the times spent waiting in it.
#[derive(Clone, Debug)]
pub struct QueueMetrics {
    depth: Gauge,
    waits: Histogram,
}

impl Default for QueueMetrics {
    fn default() -> Self {
        Self { depth: Gauge::default(), waits: Histogram::new(WAITS) }
    }
}

/// Decrements the gauge when the wait ends or is cancelled.
struct WaitGauge<'a>(&'a Gauge);

impl Drop for WaitGauge<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl QueueMetrics {
    /// Waits for `wait`, and counts as waiting until it is done. The time of a cancelled wait is not recorded.
    pub async fn during<T>(&self, wait: impl Future<Output = T>) -> T {
        let began = Instant::now();
        self.depth.inc();
        let _place = WaitGauge(&self.depth);
        let came = wait.await;
        self.waits.observe(began.elapsed().as_secs_f64());
        came
    }
}

#[derive(Debug)]
pub(super) struct Queues {
    workers: QueueMetrics,
    provider_depths: Family<ProviderLabels, Gauge>,
    provider_waits: Family<ProviderLabels, Histogram>,
}

impl Default for Queues {
    fn default() -> Self {
        let provider_waits = Family::new_with_constructor((|| Histogram::new(WAITS)) as fn() -> _);
        Self { workers: QueueMetrics::default(), provider_depths: Family::default(), provider_waits }
    }
}

impl Queues {
    pub(super) fn expose(&self, catalog: &mut MetricCatalog) {
        catalog.add(&WORKER_DEPTH, self.workers.depth.clone());
        catalog.add(&WORKER_WAIT, self.workers.waits.clone());
        catalog.add(&PROVIDER_DEPTH, self.provider_depths.clone());
        catalog.add(&PROVIDER_WAIT, self.provider_waits.clone());
    }

    pub(super) fn forget(&self, provider: &ProviderLabels) {
        self.provider_depths.remove(provider);
        self.provider_waits.remove(provider);
    }
}

impl Metrics {
    /// The queue in front of the workers.
    #[must_use]
    pub fn worker_queue(&self) -> &QueueMetrics {
        &self.0.queues.workers
    }

    /// The queue in front of the remote side of a provider.
    #[must_use]
    pub fn provider_queue(&self, namespace: Option<&str>, name: &str) -> QueueMetrics {
        let labels = self.0.providers.labels(namespace, name);
        let Queues { provider_depths, provider_waits, .. } = &self.0.queues;
        QueueMetrics {
            depth: provider_depths.get_or_create_owned(&labels),
            waits: provider_waits.get_or_create_owned(&labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn who_waits_is_counted_until_the_wait_is_over_or_given_up() {
        let metrics = Metrics::default();
        let queue = metrics.worker_queue();
        let mut waits = Box::pin(queue.during(std::future::pending::<()>()));
        assert_eq!((&mut waits).now_or_never(), None);
        assert_eq!(queue.depth.get(), 1);
        drop(waits);
        assert_eq!(queue.depth.get(), 0);
        assert!(metrics.text().contains("servicekeys_worker_queue_wait_seconds_count 0\n"));

        assert_eq!(queue.during(async { "came" }).now_or_never(), Some("came"));
        assert_eq!(queue.depth.get(), 0);
        assert!(metrics.text().contains("servicekeys_worker_queue_wait_seconds_count 1\n"));
    }
}
