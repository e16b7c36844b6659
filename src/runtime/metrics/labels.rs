//! The labels that several families have.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use prometheus_client::encoding::EncodeLabelSet;

/// The kind of remote side.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BackendLabels {
    pub(super) backend: &'static str,
}

/// One provider, or all further ones of a namespace together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProviderLabels {
    /// Empty for a ClusterKeyProvider.
    pub(super) provider_namespace: String,
    /// Empty for all further providers of the namespace.
    pub(super) provider: String,
}

/// KeyProviders of one namespace that have series of their own. A namespace can have any number of them, and each has
/// some 25 series.
pub(super) const MOST_PROVIDERS: usize = 10;

/// The KeyProviders that have series of their own: the first of each namespace. An administrator names each
/// ClusterKeyProvider, so all of them have.
#[derive(Debug, Default)]
pub(super) struct NamedProviders(Mutex<HashMap<String, HashSet<String>>>);

impl NamedProviders {
    /// The labels of a provider.
    pub(super) fn labels(&self, namespace: Option<&str>, name: &str) -> ProviderLabels {
        let is_named = namespace.is_none_or(|namespace| {
            let mut named = self.lock();
            let of_namespace = named.entry(namespace.to_owned()).or_default();
            of_namespace.contains(name)
                || of_namespace.len() < MOST_PROVIDERS && of_namespace.insert(name.to_owned())
        });
        ProviderLabels {
            provider_namespace: namespace.unwrap_or_default().to_owned(),
            provider: if is_named { name.to_owned() } else { String::new() },
        }
    }

    /// A provider is gone: another one may have series of its own. `None`: it had none.
    pub(super) fn forget(&self, namespace: Option<&str>, name: &str) -> Option<ProviderLabels> {
        let labels = ProviderLabels {
            provider_namespace: namespace.unwrap_or_default().to_owned(),
            provider: name.to_owned(),
        };
        let Some(namespace) = namespace else { return Some(labels) };
        let mut named = self.lock();
        let of_namespace = named.get_mut(namespace)?;
        let had = of_namespace.remove(name);
        if of_namespace.is_empty() {
            named.remove(namespace);
        }
        had.then_some(labels)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A count as a gauge shows it.
pub(super) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
