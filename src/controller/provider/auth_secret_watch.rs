//! Watches of the Secrets that providers name: one for each namespace, of metadata only, without a cache.

use std::{
    collections::{HashMap, HashSet},
    future,
    hash::Hash,
    sync::Arc,
};

use futures::StreamExt;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{Lookup, ObjectRef},
        watcher::{Event, watcher},
    },
};
use parking_lot::{Mutex, MutexGuard};
use tokio::task::AbortHandle;

use super::store::{ProviderStore, SecretVersion};
use crate::{
    controller::{error::bounded, ids::ProviderId, requeues::Requeues, watch::config},
    runtime::words,
};

/// The watches for all providers of one kind. They end when it is dropped.
pub(super) struct AuthSecretWatches<K: Lookup> {
    client: Client,
    wanted: Arc<WatchedSecrets<K>>,
    watches: Mutex<HashMap<String, AbortOnDrop>>,
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The named Secrets, and the providers to requeue when they change.
struct WatchedSecrets<K: Lookup> {
    providers: Arc<ProviderStore>,
    wakes: Arc<Requeues<ObjectRef<K>>>,
    logins: Mutex<HashMap<ProviderId, NamedSecrets<K>>>,
}

struct NamedSecrets<K: Lookup> {
    object: ObjectRef<K>,
    namespace: String,
    names: HashSet<String>,
}

impl<K> AuthSecretWatches<K>
where
    K: Lookup + 'static,
    K::DynamicType: Clone + Send + Sync,
    ObjectRef<K>: Clone + Eq + Hash + Send + Sync,
{
    /// Starts without watches. `wakes` requeues a provider that has to be loaded again because of a Secret.
    pub(super) fn new(
        client: Client,
        providers: Arc<ProviderStore>,
        wakes: Arc<Requeues<ObjectRef<K>>>,
    ) -> Self {
        let wanted = Arc::new(WatchedSecrets { providers, wakes, logins: Mutex::default() });
        Self { client, wanted, watches: Mutex::default() }
    }

    /// Watches exactly these Secrets for a provider. The watch requeues the provider for each version that
    /// its loaded backend was not created from. That includes versions that exist already.
    pub(super) fn watch(
        &self,
        id: &ProviderId,
        object: &ObjectRef<K>,
        namespace: &str,
        names: HashSet<&str>,
    ) {
        let names: HashSet<_> = names.into_iter().map(str::to_owned).collect();
        let before = self.wanted.want(
            id,
            NamedSecrets { object: object.clone(), namespace: namespace.to_owned(), names: names.clone() },
        );
        let mut watches = self.lock();
        self.end_unwanted(&mut watches);
        if names.is_empty() {
            return;
        }
        if !watches.contains_key(namespace) {
            watches.insert(namespace.to_owned(), self.start(namespace));
            return;
        }
        // The watch may have seen these Secrets before a provider named them.
        for name in names.difference(&before) {
            tokio::spawn(look_once(
                self.api(namespace),
                Arc::clone(&self.wanted),
                namespace.to_owned(),
                name.clone(),
            ));
        }
    }

    /// The providers that currently have watched Secrets, or had some.
    pub(super) fn providers(&self) -> Vec<ProviderId> {
        self.wanted.lock().keys().cloned().collect()
    }

    /// The number of watches, and of the providers that have some.
    pub(super) fn len(&self) -> usize {
        self.lock().len() + self.wanted.lock().len()
    }

    /// Ends the watches for a provider that is gone.
    pub(super) fn forget(&self, id: &ProviderId) {
        self.wanted.lock().remove(id);
        self.end_unwanted(&mut self.lock());
    }

    fn end_unwanted(&self, watches: &mut HashMap<String, AbortOnDrop>) {
        let logins = self.wanted.lock();
        let wanted: HashSet<_> =
            logins.values().filter(|of| !of.names.is_empty()).map(|of| of.namespace.as_str()).collect();
        watches.retain(|namespace, _| wanted.contains(namespace.as_str()));
    }

    fn api(&self, namespace: &str) -> Api<PartialObjectMeta<Secret>> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn start(&self, namespace: &str) -> AbortOnDrop {
        let (wanted, namespace) = (Arc::clone(&self.wanted), namespace.to_owned());
        // The selector matches the whole namespace. It only distinguishes this watch from the one that fills a cache.
        let config = config().fields(&format!("metadata.namespace={namespace}"));
        let mut listed = HashSet::new();
        let events = watcher(self.api(&namespace), config).default_backoff();
        let told = events.for_each(move |event| {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(secret)) => {
                    listed.extend(wanted.tell(&namespace, &secret.metadata, true));
                }
                Ok(Event::InitDone) => wanted.tell_of_missing(&namespace, &std::mem::take(&mut listed)),
                Ok(Event::Apply(secret)) => drop(wanted.tell(&namespace, &secret.metadata, true)),
                Ok(Event::Delete(secret)) => drop(wanted.tell(&namespace, &secret.metadata, false)),
                Err(error) => {
                    tracing::warn!(error = words(&error), namespace, "the watch of login Secrets failed");
                }
            }
            future::ready(())
        });
        AbortOnDrop(tokio::spawn(told).abort_handle())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, AbortOnDrop>> {
        self.watches.lock()
    }
}

/// Reads one Secret, regardless of what the watch showed before. If the read fails, the provider is requeued
/// and reads it again.
async fn look_once<K>(
    api: Api<PartialObjectMeta<Secret>>,
    wanted: Arc<WatchedSecrets<K>>,
    namespace: String,
    name: String,
) where
    K: Lookup,
    ObjectRef<K>: Clone + Eq + Hash,
{
    let found = bounded("read a login Secret", api.get_metadata_opt(&name)).await;
    let version =
        found.as_ref().ok().and_then(|secret| SecretVersion::from_metadata(&secret.as_ref()?.metadata));
    wanted.tell_version(&namespace, &name, version.as_ref(), found.is_err());
}

impl<K: Lookup> WatchedSecrets<K>
where
    ObjectRef<K>: Clone + Eq + Hash,
{
    /// Sets the Secrets that a provider names. Returns the names that it had before.
    fn want(&self, id: &ProviderId, logins: NamedSecrets<K>) -> HashSet<String> {
        let namespace = logins.namespace.clone();
        let before = self.lock().insert(id.clone(), logins);
        before.filter(|before| before.namespace == namespace).map(|before| before.names).unwrap_or_default()
    }

    /// Reports one version of a Secret, or its deletion. Returns its name if a provider names it.
    fn tell(&self, namespace: &str, meta: &ObjectMeta, exists: bool) -> Option<String> {
        let name = meta.name.clone()?;
        let version = SecretVersion::from_metadata(meta).filter(|_| exists);
        self.tell_version(namespace, &name, version.as_ref(), false).then_some(name)
    }

    /// Reports the named Secrets that a list did not contain.
    fn tell_of_missing(&self, namespace: &str, listed: &HashSet<String>) {
        let missing: HashSet<String> = {
            let logins = self.lock();
            let here = logins.values().filter(|of| of.namespace == namespace);
            here.flat_map(|of| of.names.difference(listed).cloned()).collect()
        };
        for name in missing {
            self.tell_version(namespace, &name, None, false);
        }
    }

    /// Requeues the providers that name this Secret and were loaded from another version, or all of them if
    /// the version is unknown. Returns whether any provider names it.
    fn tell_version(
        &self,
        namespace: &str,
        name: &str,
        version: Option<&SecretVersion>,
        is_unknown: bool,
    ) -> bool {
        let logins = self.lock();
        let mut here =
            logins.iter().filter(|(_, of)| of.namespace == namespace && of.names.contains(name)).peekable();
        let any = here.peek().is_some();
        for (id, of) in here {
            if is_unknown || !self.providers.is_loaded_from(id, name, version) {
                self.wakes.send(&of.object);
            }
        }
        any
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProviderId, NamedSecrets<K>>> {
        self.logins.lock()
    }
}
