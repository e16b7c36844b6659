//! Which providers there are, before each of them is loaded: what is not known yet must not be said to be missing.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::registry::ProviderId;
use crate::api::ProviderKind;

/// Which providers there are, as far as lists have told.
#[derive(Debug, Default)]
pub struct Known {
    lists: Mutex<Vec<(Listed, watch::Receiver<bool>)>>,
    /// Those that exist, and were not loaded yet.
    unloaded: Mutex<HashSet<ProviderId>>,
}

/// What one list shows.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The kind of the providers.
    pub kind: ProviderKind,
    /// Their namespace; `None`: all.
    pub namespace: Option<String>,
}

impl Listed {
    fn shows(&self, id: &ProviderId) -> bool {
        self.kind == id.kind() && (self.namespace.is_none() || self.namespace == id.namespace)
    }
}

/// Tells that a list has come.
#[derive(Debug)]
pub struct List(watch::Sender<bool>);

impl List {
    /// The list has come: what it did not show does not exist.
    pub fn came(&self) {
        self.0.send_replace(true);
    }
}

impl Known {
    /// A list of these providers is about to come.
    pub fn expect(&self, listed: Listed) -> List {
        let (sender, receiver) = watch::channel(false);
        locked(&self.lists).push((listed, receiver));
        List(sender)
    }

    /// The provider exists, and is about to be loaded.
    pub fn exists(&self, id: ProviderId) {
        locked(&self.unloaded).insert(id);
    }

    /// The provider was loaded, or is gone. Whether that is news.
    pub fn settled(&self, id: &ProviderId) -> bool {
        locked(&self.unloaded).remove(id)
    }

    /// Whether all that there is to know of a provider is known, once the lists that would show it have come.
    pub async fn knows(&self, id: &ProviderId) -> bool {
        let mut lists: Vec<_> = {
            let lists = locked(&self.lists);
            lists.iter().filter(|(listed, _)| listed.shows(id)).map(|(_, came)| came.clone()).collect()
        };
        for came in &mut lists {
            // An error would mean that the watch has ended, and with it the operator.
            drop(came.wait_for(|came| *came).await);
        }
        !locked(&self.unloaded).contains(id)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let known = Known::default();
        let kind = ProviderKind::KeyProvider;
        let list = known.expect(Listed { kind, namespace: Some("training".to_owned()) });
        assert_eq!(known.knows(&id("training")).now_or_never(), None);
        assert!(known.knows(&id("elsewhere")).await, "nobody lists it");

        known.exists(id("training"));
        list.came();
        assert!(!known.knows(&id("training")).await);
        assert!(known.settled(&id("training")));
        assert!(known.knows(&id("training")).await);
    }

    #[tokio::test]
    async fn a_list_of_one_kind_says_nothing_of_the_other() {
        let known = Known::default();
        let _list = known.expect(Listed { kind: ProviderKind::ClusterKeyProvider, namespace: None });
        assert!(known.knows(&id("training")).await);
        let cluster_wide = ProviderId { namespace: None, name: "broker".to_owned() };
        assert_eq!(known.knows(&cluster_wide).now_or_never(), None);
    }
}
