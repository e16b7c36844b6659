//! Watches of the Secrets that providers name: one for each, by name, so that no other Secret is ever cached.

use std::{
    collections::{HashMap, HashSet},
    future,
    sync::{Mutex, PoisonError},
};

use futures::{StreamExt, channel::mpsc::UnboundedSender};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{Lookup, ObjectRef},
        watcher::{self, Event, watcher},
    },
};
use tokio::task::AbortHandle;

use super::registry::ProviderId;

/// The watches of all providers of one kind. They end with it.
pub struct LoginWatches<K: Lookup> {
    client: Client,
    wake: UnboundedSender<ObjectRef<K>>,
    watches: Mutex<HashMap<ProviderId, HashMap<(String, String), Watch>>>,
}

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
    /// No watches yet; a provider whose Secret changes is sent to `wake`.
    pub fn new(client: Client, wake: UnboundedSender<ObjectRef<K>>) -> Self {
        Self { client, wake, watches: Mutex::default() }
    }

    /// Watches exactly these Secrets for a provider from now on.
    pub fn watch(&self, id: &ProviderId, object: &ObjectRef<K>, namespace: &str, names: HashSet<&str>) {
        let wanted: HashSet<_> =
            names.iter().map(|name| (namespace.to_owned(), (*name).to_owned())).collect();
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = watches.entry(id.clone()).or_default();
        watched.retain(|secret, _| wanted.contains(secret));
        for secret in wanted {
            watched.entry(secret).or_insert_with_key(|(namespace, name)| self.start(object, namespace, name));
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

    fn start(&self, object: &ObjectRef<K>, namespace: &str, name: &str) -> Watch {
        let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(self.client.clone(), namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let (wake, object) = (self.wake.clone(), object.clone());
        let changes = watcher(api, config).default_backoff().for_each(move |event| {
            match event {
                Ok(Event::Apply(_) | Event::InitApply(_) | Event::Delete(_)) => {
                    // The receiver is gone only when the operator ends.
                    let _ = wake.unbounded_send(object.clone());
                }
                Ok(Event::Init | Event::InitDone) => {}
                Err(error) => {
                    tracing::warn!(%error, provider = %object.name, "a watch of a login Secret failed")
                }
            }
            future::ready(())
        });
        Watch(tokio::spawn(changes).abort_handle())
    }
}
