//! Which providers there are, before each of them is loaded: what is not known yet must not be said to be missing.

use std::collections::HashSet;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{api::ProviderKind, controller::ids::ProviderId};

/// Which providers there are, as far as lists have told.
#[derive(Debug, Default)]
pub(super) struct PendingProviders {
    lists: Mutex<Vec<(ListScope, watch::Receiver<bool>)>>,
    /// Those that exist, and were not loaded yet.
    unloaded: Mutex<HashSet<ProviderId>>,
}

#[derive(Clone, Debug)]
pub(crate) struct ListScope {
    /// The kind of the providers.
    pub kind: ProviderKind,
    /// Their namespace; `None`: all.
    pub namespace: Option<String>,
}

impl ListScope {
    fn includes(&self, id: &ProviderId) -> bool {
        self.kind == id.kind() && (self.namespace.is_none() || self.namespace == id.namespace)
    }
}

/// Tells that a list has come.
#[derive(Debug)]
pub(crate) struct InitialList(watch::Sender<bool>);

impl InitialList {
    /// The list has come: what it did not show does not exist.
    pub(crate) fn mark_listed(&self) {
        self.0.send_replace(true);
    }
}

impl PendingProviders {
    /// A list of these providers is about to come.
    pub(super) fn expect(&self, listed: ListScope) -> InitialList {
        let (sender, receiver) = watch::channel(false);
        self.lists.lock().push((listed, receiver));
        InitialList(sender)
    }

    /// The provider exists, and is about to be loaded.
    pub(super) fn insert(&self, id: ProviderId) {
        self.unloaded.lock().insert(id);
    }

    /// The provider was loaded, or is gone. Whether that is news.
    pub(super) fn remove(&self, id: &ProviderId) -> bool {
        self.unloaded.lock().remove(id)
    }

    /// Whether all that there is to know of a provider is known, once the lists that would show it have come.
    pub(super) async fn wait_known(&self, id: &ProviderId) -> bool {
        let mut lists: Vec<_> = {
            let lists = self.lists.lock();
            lists.iter().filter(|(listed, _)| listed.includes(id)).map(|(_, came)| came.clone()).collect()
        };
        for came in &mut lists {
            // An error would mean that the watch has ended, and with it the operator.
            drop(came.wait_for(|came| *came).await);
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
