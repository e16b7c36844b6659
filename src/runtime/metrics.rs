//! What the operator counts, in the text format of OpenMetrics.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// All that is counted. Clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    registry: Registry,
    orphan_mitigations: Family<Labels, Counter>,
    keys_left_behind: Family<Labels, Counter>,
    orphans: Family<ProviderLabels, Gauge>,
    orphans_revoked: Family<Labels, Counter>,
}

/// The kind of remote side: the only label, so that there are few series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    backend: &'static str,
}

/// One provider: there are few of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    /// Empty for a ClusterKeyProvider.
    provider_namespace: String,
    provider: String,
}

impl ProviderLabels {
    fn of(namespace: Option<&str>, name: &str) -> Self {
        Self { provider_namespace: namespace.unwrap_or_default().to_owned(), provider: name.to_owned() }
    }
}

impl Metrics {
    /// Counts a call that may have made a key which nobody wants, and which is revoked now.
    pub fn orphan_mitigated(&self, backend: &'static str) {
        self.0.orphan_mitigations.get_or_create(&Labels { backend }).inc();
    }

    /// Counts keys that stay at the remote side because the user let go of them.
    pub fn left_behind(&self, backend: &'static str, keys: usize) {
        let keys = u64::try_from(keys).unwrap_or(u64::MAX);
        self.0.keys_left_behind.get_or_create(&Labels { backend }).inc_by(keys);
    }

    /// Notes how many keys of a provider have no ServiceKey, by the last list of all its keys.
    pub fn orphans(&self, namespace: Option<&str>, name: &str, keys: usize) {
        let keys = i64::try_from(keys).unwrap_or(i64::MAX);
        self.0.orphans.get_or_create(&ProviderLabels::of(namespace, name)).set(keys);
    }

    /// Forgets a provider that is gone.
    pub fn forget_provider(&self, namespace: Option<&str>, name: &str) {
        self.0.orphans.remove(&ProviderLabels::of(namespace, name));
    }

    /// Counts a key that had no ServiceKey, and was revoked because the provider says so.
    pub fn orphan_revoked(&self, backend: &'static str) {
        self.0.orphans_revoked.get_or_create(&Labels { backend }).inc();
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` never fails.
        let _ = encode(&mut text, &self.0.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let (orphan_mitigations, keys_left_behind) = (Family::default(), Family::default());
        let (orphans, orphans_revoked) = (Family::default(), Family::default());
        let mut registry = Registry::with_prefix("servicekeys");
        registry.register(
            "orphan_mitigations",
            "Binds whose outcome was lost, so that the key they may have made was revoked",
            Family::clone(&orphan_mitigations),
        );
        registry.register(
            "keys_left_behind",
            "Keys that stay at the remote side because their ServiceKey was abandoned or retains them",
            Family::clone(&keys_left_behind),
        );
        registry.register(
            "orphans",
            "Keys at the remote side that bear this operator's mark and have no ServiceKey",
            Family::clone(&orphans),
        );
        registry.register(
            "orphans_revoked",
            "Keys without a ServiceKey that were revoked because their provider says so",
            Family::clone(&orphans_revoked),
        );
        Self(Arc::new(Families { registry, orphan_mitigations, keys_left_behind, orphans, orphans_revoked }))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_count_together() {
        let metrics = Metrics::default();
        metrics.clone().orphan_mitigated("OpenServiceBroker");
        metrics.orphan_mitigated("OpenServiceBroker");
        metrics.left_behind("OpenServiceBroker", 3);
        let text = metrics.text();
        assert!(
            text.contains("servicekeys_orphan_mitigations_total{backend=\"OpenServiceBroker\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("servicekeys_keys_left_behind_total{backend=\"OpenServiceBroker\"} 3\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
