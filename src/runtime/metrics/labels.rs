//! The labels that several families have.

use prometheus_client::encoding::EncodeLabelSet;

/// The kind of remote side.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BackendLabels {
    pub(super) backend: &'static str,
}

/// One provider: there are few of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProviderLabels {
    /// Empty for a ClusterKeyProvider.
    pub(super) provider_namespace: String,
    pub(super) provider: String,
}

impl ProviderLabels {
    pub(super) fn of(namespace: Option<&str>, name: &str) -> Self {
        Self { provider_namespace: namespace.unwrap_or_default().to_owned(), provider: name.to_owned() }
    }
}

/// A count as a gauge shows it.
pub(super) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
