//! Watches of the Secrets that providers name: one for each, by name, so that no other Secret is ever cached.

use std::{
    collections::{HashMap, HashSet},
    future,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt, channel::mpsc::UnboundedSender};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{Lookup, ObjectRef},
        watcher::watch_object,
    },
};
use tokio::task::AbortHandle;

use super::registry::{ProviderId, Registry, SecretVersion};

/// The watches of all providers of one kind. They end with it.
pub struct LoginWatches<K: Lookup> {
    client: Client,
    registry: Arc<Registry>,
    wake: UnboundedSender<ObjectRef<K>>,
    watches: Mutex<HashMap<ProviderId, Watches>>,
}

/// The watches of one provider, by namespace and name of the Secret.
type Watches = HashMap<(String, String), Watch>;

#[derive(Debug)]
struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<K> LoginWatches<K>
where
    K: Lookup + 'static,
    K::DynamicType: Clone + Send,
    ObjectRef<K>: Clone + Send,
{
    /// No watches yet; a provider that is to be loaded again because of a Secret is sent to `wake`.
    pub fn new(client: Client, registry: Arc<Registry>, wake: UnboundedSender<ObjectRef<K>>) -> Self {
        Self { client, registry, wake, watches: Mutex::default() }
    }

    /// Watches exactly these Secrets for a provider from now on. It is told of versions that the registry's backend
    /// was not made from, also of those that are there already.
    pub fn watch(&self, id: &ProviderId, object: &ObjectRef<K>, namespace: &str, names: HashSet<&str>) {
        let wanted: HashSet<_> =
            names.iter().map(|name| (namespace.to_owned(), (*name).to_owned())).collect();
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = watches.entry(id.clone()).or_default();
        watched.retain(|secret, _| wanted.contains(secret));
        for secret in wanted {
            watched
                .entry(secret)
                .or_insert_with_key(|(namespace, name)| self.start(id.clone(), object, namespace, name));
        }
    }

    /// The providers that something is watched for, or was.
    pub fn providers(&self) -> Vec<ProviderId> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Ends the watches of a provider that is gone.
    pub fn forget(&self, id: &ProviderId) {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn start(&self, id: ProviderId, object: &ObjectRef<K>, namespace: &str, name: &str) -> Watch {
        let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(self.client.clone(), namespace);
        let (wake, object, name) = (self.wake.clone(), object.clone(), name.to_owned());
        let registry = Arc::clone(&self.registry);
        let changes = watch_object(api, &name).default_backoff().for_each(move |secret| {
            match secret {
                Ok(secret) => {
                    let version = secret.as_ref().and_then(|secret| SecretVersion::of(&secret.metadata));
                    if !registry.is_loaded_from(&id, &name, version.as_ref()) {
                        // The receiver is gone only when the operator ends.
                        let _ = wake.unbounded_send(object.clone());
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, provider = %id, secret = name, "a watch of a login Secret failed")
                }
            }
            future::ready(())
        });
        Watch(tokio::spawn(changes).abort_handle())
    }
}
