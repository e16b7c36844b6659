//! Keys that a list of all keys at their remote side did not contain, until a lookup of each key shows
//! whether it exists.

use std::collections::HashMap;

use futures::Stream;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

use crate::{
    api::ServiceKey,
    controller::{ids::ProviderId, requeues::Requeues},
    lifecycle::Identity,
};

/// The missing keys of all providers.
#[derive(Debug, Default)]
pub(crate) struct MissingKeys {
    keys: Mutex<HashMap<Identity, ProviderId>>,
    wakes: Requeues<ObjectRef<ServiceKey>>,
}

impl MissingKeys {
    /// Returns each ServiceKey whose key is missing in a later list.
    pub(crate) fn subscribe(&self) -> impl Stream<Item = ObjectRef<ServiceKey>> + Send + Unpin + use<> {
        self.wakes.subscribe()
    }

    /// Replaces the missing keys of a provider by those that its newest list did not contain.
    pub(crate) fn replace(&self, provider: &ProviderId, missed: HashMap<Identity, ObjectRef<ServiceKey>>) {
        let mut keys = self.keys.lock();
        keys.retain(|_, of| of != provider);
        keys.extend(missed.keys().map(|key| (*key, provider.clone())));
        drop(keys);
        missed.into_values().for_each(|key| self.wakes.send(&key));
    }

    /// The number of missing keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.lock().len()
    }

    /// Whether a key is missing.
    pub(crate) fn contains(&self, key: Identity) -> bool {
        self.keys.lock().contains_key(&key)
    }

    /// Forgets a key after a lookup.
    pub(crate) fn remove(&self, key: Identity) {
        self.keys.lock().remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use uuid::Uuid;

    use super::*;
    use crate::lifecycle::Sequence;

    fn provider(name: &str) -> ProviderId {
        ProviderId { namespace: None, name: name.to_owned() }
    }

    fn key(owner: u128) -> Identity {
        Identity { owner: Uuid::from_u128(owner), sequence: Sequence::FIRST }
    }

    fn missed(owner: u128) -> HashMap<Identity, ObjectRef<ServiceKey>> {
        [(key(owner), ObjectRef::new(&owner.to_string()))].into()
    }

    #[test]
    fn a_newer_list_of_the_same_provider_replaces_the_missing_keys() {
        let missing = MissingKeys::default();
        let mut raised = missing.subscribe();
        missing.replace(&provider("a"), missed(1));
        missing.replace(&provider("b"), missed(2));
        assert_eq!(raised.next().now_or_never().flatten(), Some(ObjectRef::new("1")));
        assert_eq!(raised.next().now_or_never().flatten(), Some(ObjectRef::new("2")));

        missing.replace(&provider("a"), missed(3));
        assert_eq!([1, 2, 3].map(|owner| missing.contains(key(owner))), [false, true, true]);
        missing.remove(key(2));
        assert!(!missing.contains(key(2)));
    }
}
