//! Events of providers: which of them changed, and which wait for ServiceKeys to go.

use std::collections::HashSet;

use futures::Stream;
use parking_lot::Mutex;

use crate::controller::{ids::ProviderId, wakes::Wakes};

/// Wakes the ServiceKeys of a provider that changed, and a provider whose ServiceKeys have gone.
#[derive(Debug, Default)]
pub(crate) struct ProviderEvents {
    changed: Wakes<ProviderId>,
    released: Wakes<ProviderId>,
    /// The providers that wait for ServiceKeys to go.
    waiting: Mutex<HashSet<ProviderId>>,
}

impl ProviderEvents {
    /// Returns each provider that changes, so that its ServiceKeys can be woken.
    pub(crate) fn subscribe(&self) -> impl Stream<Item = ProviderId> + Send + use<> {
        self.changed.subscribe()
    }

    /// Wakes the ServiceKeys of a provider.
    pub(crate) fn notify(&self, id: &ProviderId) {
        self.changed.send(id);
    }

    /// Returns each [waiting](Self::set_waiting) provider when some of its ServiceKeys have gone.
    pub(crate) fn subscribe_releases(&self) -> impl Stream<Item = ProviderId> + Send + use<> {
        self.released.subscribe()
    }

    /// Sets whether a provider waits for ServiceKeys to go, because it or one of its logins is being deleted.
    pub(crate) fn set_waiting(&self, id: &ProviderId, waits: bool) {
        let mut waiting = self.waiting.lock();
        if waits {
            waiting.insert(id.clone());
        } else {
            waiting.remove(id);
        }
    }

    /// A ServiceKey of this provider is gone.
    pub(crate) fn notify_released(&self, id: &ProviderId) {
        if self.waiting.lock().contains(id) {
            self.released.send(id);
        }
    }

    /// A list of ServiceKeys was read: any of them may have gone before.
    pub(crate) fn notify_all_released(&self) {
        self.waiting.lock().iter().for_each(|id| self.released.send(id));
    }
}
