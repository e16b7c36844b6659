//! The providers that exist but are not loaded yet. A key must not report a provider as missing before that
//! is known.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::SetOnce;

use crate::{api::ProviderKind, controller::ids::ProviderId};

/// The providers that exist, as far as the lists have arrived.
#[derive(Debug, Default)]
pub(super) struct PendingProviders {
    lists: Mutex<Vec<(ListScope, Arc<SetOnce<()>>)>>,
    /// The providers that exist and were not loaded yet.
    unloaded: Mutex<HashSet<ProviderId>>,
}

#[derive(Clone, Debug)]
pub(crate) struct ListScope {
    pub kind: ProviderKind,
    /// The namespace of the providers; `None`: all.
    pub namespace: Option<String>,
}

impl ListScope {
    fn includes(&self, id: &ProviderId) -> bool {
        self.kind == id.kind() && (self.namespace.is_none() || self.namespace == id.namespace)
    }
}

/// Reports that the initial list has arrived.
#[derive(Debug)]
pub(crate) struct InitialList(Arc<SetOnce<()>>);

impl InitialList {
    /// Marks the list as arrived. Providers that it did not show do not exist.
    pub(crate) fn mark_listed(&self) {
        // A watch that failed lists again.
        let _ = self.0.set(());
    }
}

impl PendingProviders {
    /// Registers the initial list of these providers, which is about to arrive.
    pub(super) fn expect(&self, listed: ListScope) -> InitialList {
        let came = Arc::<SetOnce<()>>::default();
        self.lists.lock().push((listed, Arc::clone(&came)));
        InitialList(came)
    }

    /// Records that the provider exists and is about to be loaded.
    pub(super) fn insert(&self, id: ProviderId) {
        self.unloaded.lock().insert(id);
    }

    /// Records that the provider was loaded or is gone. Returns whether it was pending.
    pub(super) fn remove(&self, id: &ProviderId) -> bool {
        self.unloaded.lock().remove(id)
    }

    /// The number of providers that were not loaded yet.
    pub(super) fn len(&self) -> usize {
        self.unloaded.lock().len()
    }

    /// Waits for the lists that would show a provider. Returns `false` if it exists but is not loaded yet.
    pub(super) async fn wait_known(&self, id: &ProviderId) -> bool {
        let lists: Vec<_> = {
            let lists = self.lists.lock();
            lists.iter().filter(|(listed, _)| listed.includes(id)).map(|(_, came)| Arc::clone(came)).collect()
        };
        for came in lists {
            came.wait().await;
        }
        !self.unloaded.lock().contains(id)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn id(namespace: &str) -> ProviderId {
        ProviderId { namespace: Some(namespace.to_owned()), name: "broker".to_owned() }
    }

    #[tokio::test]
    async fn a_provider_is_unknown_until_its_list_has_come_and_it_was_loaded() {
        let known = PendingProviders::default();
        let kind = ProviderKind::KeyProvider;
        let list = known.expect(ListScope { kind, namespace: Some("training".to_owned()) });
        assert_eq!(known.wait_known(&id("training")).now_or_never(), None);
        assert!(known.wait_known(&id("elsewhere")).await, "nobody lists it");

        known.insert(id("training"));
        list.mark_listed();
        assert!(!known.wait_known(&id("training")).await);
        assert!(known.remove(&id("training")));
        assert!(known.wait_known(&id("training")).await);
    }

    #[tokio::test]
    async fn a_list_of_one_kind_says_nothing_of_the_other() {
        let known = PendingProviders::default();
        let _list = known.expect(ListScope { kind: ProviderKind::ClusterKeyProvider, namespace: None });
        assert!(known.wait_known(&id("training")).await);
        let cluster_wide = ProviderId { namespace: None, name: "broker".to_owned() };
        assert_eq!(known.wait_known(&cluster_wide).now_or_never(), None);
    }
}
