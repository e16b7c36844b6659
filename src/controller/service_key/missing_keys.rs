//! Keys that a list of all keys at their remote side did not show, until somebody has looked at each of them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::runtime::reflector::ObjectRef;

use crate::{api::ServiceKey, controller::ids::ProviderId, lifecycle::Identity};

/// All keys in doubt, and who is to be told of them.
#[derive(Debug, Default)]
pub struct MissingKeys {
    keys: Mutex<HashMap<Identity, ProviderId>>,
    listeners: Mutex<Vec<UnboundedSender<ObjectRef<ServiceKey>>>>,
}

impl MissingKeys {
    /// Tells from now on of ServiceKeys whose key is in doubt.
    pub fn subscribe(&self) -> UnboundedReceiver<ObjectRef<ServiceKey>> {
        let (sender, receiver) = unbounded();
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// A list of a provider's keys has come, and did not show these. What an older list did not show is in doubt no
    /// more.
    pub fn replace(&self, provider: &ProviderId, missed: HashMap<Identity, ObjectRef<ServiceKey>>) {
        let mut keys = self.lock();
        keys.retain(|_, of| of != provider);
        keys.extend(missed.keys().map(|key| (*key, provider.clone())));
        drop(keys);
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        for key in missed.into_values() {
            listeners.retain(|listener| listener.unbounded_send(key.clone()).is_ok());
        }
    }

    /// Whether a key is in doubt.
    pub fn contains(&self, key: Identity) -> bool {
        self.lock().contains_key(&key)
    }

    /// Somebody has looked at the key itself.
    pub fn remove(&self, key: Identity) {
        self.lock().remove(&key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, ProviderId>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
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
    fn a_newer_list_of_the_same_provider_takes_doubts_away() {
        let doubts = MissingKeys::default();
        let mut raised = doubts.subscribe();
        doubts.replace(&provider("a"), missed(1));
        doubts.replace(&provider("b"), missed(2));
        assert_eq!(raised.try_recv(), Ok(ObjectRef::new("1")));
        assert_eq!(raised.try_recv(), Ok(ObjectRef::new("2")));

        doubts.replace(&provider("a"), missed(3));
        assert_eq!([1, 2, 3].map(|owner| doubts.contains(key(owner))), [false, true, true]);
        doubts.remove(key(2));
        assert!(!doubts.contains(key(2)));
    }
}
