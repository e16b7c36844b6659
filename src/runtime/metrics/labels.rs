//! The labels that several families have.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;

use crate::backend::BackendKind;

/// The kind of remote side.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BackendLabels {
    pub(super) backend: BackendKind,
}

/// One provider, or all further ones of a namespace together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProviderLabels {
    /// Empty for a ClusterKeyProvider.
    pub(super) provider_namespace: String,
    /// Empty for all further providers of the namespace.
    pub(super) provider: String,
}

impl ProviderLabels {
    /// The labels of a provider with series of its own.
    pub(super) fn new(namespace: Option<&str>, name: &str) -> Self {
        Self { provider_namespace: namespace.unwrap_or_default().to_owned(), provider: name.to_owned() }
    }

    /// The labels of all further providers of a namespace.
    fn of_further(namespace: &str) -> Self {
        Self::new(Some(namespace), "")
    }

    /// Whether they are those of all further providers of a namespace.
    pub(super) const fn is_of_further(&self) -> bool {
        self.provider.is_empty()
    }
}

/// KeyProviders of one namespace that have series of their own. A namespace can have any number of them, and each has
/// some 25 series.
pub(super) const MOST_PROVIDERS: usize = 10;

/// Which KeyProviders have series of their own: the first of each namespace. An administrator names each
/// ClusterKeyProvider, so all of them have. A provider that has none gets none later: what is counted of it would be
/// counted twice.
#[derive(Debug, Default)]
pub(super) struct NamedProviders(Mutex<HashMap<String, NamespaceProviders>>);

/// The KeyProviders of one namespace.
#[derive(Debug, Default)]
struct NamespaceProviders {
    named: HashSet<String>,
    further: HashSet<String>,
}

impl NamedProviders {
    /// The labels of a provider, which is known from now on.
    pub(super) fn labels(&self, namespace: Option<&str>, name: &str) -> ProviderLabels {
        let Some(namespace) = namespace else { return ProviderLabels::new(None, name) };
        let mut providers = self.0.lock();
        let NamespaceProviders { named, further } = providers.entry(namespace.to_owned()).or_default();
        if named.contains(name) || !further.contains(name) && named.len() < MOST_PROVIDERS {
            named.insert(name.to_owned());
            ProviderLabels::new(Some(namespace), name)
        } else {
            further.insert(name.to_owned());
            ProviderLabels::of_further(namespace)
        }
    }

    /// The labels of a provider that is known.
    pub(super) fn known_labels(&self, namespace: Option<&str>, name: &str) -> Option<ProviderLabels> {
        let Some(namespace) = namespace else { return Some(ProviderLabels::new(None, name)) };
        let providers = self.0.lock();
        let NamespaceProviders { named, further } = providers.get(namespace)?;
        if named.contains(name) {
            Some(ProviderLabels::new(Some(namespace), name))
        } else {
            further.contains(name).then(|| ProviderLabels::of_further(namespace))
        }
    }

    /// A provider is gone: another one may have series of its own. The labels that it had.
    pub(super) fn forget(&self, namespace: Option<&str>, name: &str) -> Option<ProviderLabels> {
        let labels = self.known_labels(namespace, name)?;
        if let Entry::Occupied(mut names) = self.0.lock().entry(labels.provider_namespace.clone()) {
            let NamespaceProviders { named, further } = names.get_mut();
            named.remove(name);
            further.remove(name);
            if named.is_empty() && further.is_empty() {
                names.remove();
            }
        }
        Some(labels)
    }
}

/// A count as a gauge shows it.
pub(super) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
