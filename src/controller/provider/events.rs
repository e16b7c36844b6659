//! Notifications between providers and their ServiceKeys.

use std::collections::HashSet;

use futures::Stream;
use parking_lot::Mutex;

use crate::controller::{ids::ProviderId, requeues::Requeues};

/// Requeues the ServiceKeys of a provider that changed, and a provider whose ServiceKeys are gone.
#[derive(Debug, Default)]
pub(crate) struct ProviderEvents {
    changed: Requeues<ProviderId>,
    released: Requeues<ProviderId>,
    /// The providers that wait until ServiceKeys are gone.
    waiting: Mutex<HashSet<ProviderId>>,
}

impl ProviderEvents {
    /// Returns each provider that changes, so that its ServiceKeys can be requeued.
    pub(crate) fn subscribe(&self) -> impl Stream<Item = ProviderId> + Send + use<> {
        self.changed.subscribe()
    }

    /// Requeues the ServiceKeys of a provider.
    pub(crate) fn notify(&self, id: &ProviderId) {
        self.changed.send(id);
    }

    /// Returns each [waiting](Self::set_waiting) provider when one of its ServiceKeys is gone.
    pub(crate) fn subscribe_releases(&self) -> impl Stream<Item = ProviderId> + Send + use<> {
        self.released.subscribe()
    }

    /// Sets whether a provider waits until ServiceKeys are gone, because it or one of its logins is being
    /// deleted.
    pub(crate) fn set_waiting(&self, id: &ProviderId, waits: bool) {
        let mut waiting = self.waiting.lock();
        if waits {
            waiting.insert(id.clone());
        } else {
            waiting.remove(id);
        }
    }

    /// The number of waiting providers.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Reports that a ServiceKey of this provider is gone.
    pub(crate) fn notify_released(&self, id: &ProviderId) {
        if self.waiting.lock().contains(id) {
            self.released.send(id);
        }
    }

    /// Reports a list of ServiceKeys. Any ServiceKey may have disappeared before it.
    pub(crate) fn notify_all_released(&self) {
        self.waiting.lock().iter().for_each(|id| self.released.send(id));
    }
}
