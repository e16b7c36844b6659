//! Labels that several families share.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;

use crate::backend::BackendKind;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BackendLabels {
    pub(super) backend: BackendKind,
}

/// One provider, or all providers of a namespace that have no series of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProviderLabels {
    /// Empty for a ClusterKeyProvider.
    pub(super) provider_namespace: String,
    /// Empty for the providers of the namespace without series of their own.
    pub(super) provider: String,
}

impl ProviderLabels {
    /// The labels of a provider with series of its own.
    pub(super) fn new(namespace: Option<&str>, name: &str) -> Self {
        Self { provider_namespace: namespace.unwrap_or_default().to_owned(), provider: name.to_owned() }
    }

    /// The labels that all providers of a namespace without series of their own share.
    fn of_further(namespace: &str) -> Self {
        Self::new(Some(namespace), "")
    }

    /// Whether several providers of a namespace share these labels.
    pub(super) const fn is_shared(&self) -> bool {
        self.provider.is_empty()
    }
}

/// How many KeyProviders of one namespace have series of their own. A tenant can create any number of KeyProviders, and
/// each has about 25 series.
pub(super) const MAX_NAMED_PROVIDERS: usize = 10;

/// The KeyProviders that have series of their own: the first [`MAX_NAMED_PROVIDERS`] of each namespace. Administrators
/// create ClusterKeyProviders, so each of those has its own series. A provider without its own series never gets them
/// later: its counts would then appear twice.
#[derive(Debug, Default)]
pub(super) struct NamedProviders(Mutex<HashMap<String, NamespaceProviders>>);

#[derive(Debug, Default)]
struct NamespaceProviders {
    named: HashSet<String>,
    further: HashSet<String>,
}

impl NamedProviders {
    /// Returns the labels of a provider, and registers it if it is new.
    pub(super) fn labels(&self, namespace: Option<&str>, name: &str) -> ProviderLabels {
        let Some(namespace) = namespace else { return ProviderLabels::new(None, name) };
        let mut providers = self.0.lock();
        let NamespaceProviders { named, further } = providers.entry(namespace.to_owned()).or_default();
        if named.contains(name) || !further.contains(name) && named.len() < MAX_NAMED_PROVIDERS {
            named.insert(name.to_owned());
            ProviderLabels::new(Some(namespace), name)
        } else {
            further.insert(name.to_owned());
            ProviderLabels::of_further(namespace)
        }
    }

    /// Returns the labels of a registered provider.
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

    /// Unregisters a provider and returns its labels. A new provider may take its series.
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

pub(super) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
