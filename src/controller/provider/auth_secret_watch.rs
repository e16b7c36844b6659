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
        watcher::{self, Event, watcher},
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
        let mut events = SecretEvents { wanted, namespace, unlisted: HashSet::new() };
        let told = watcher(self.api(&events.namespace), config).default_backoff().for_each(move |event| {
            events.note(event);
            future::ready(())
        });
        AbortOnDrop(tokio::spawn(told).abort_handle())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, AbortOnDrop>> {
        self.watches.lock()
    }
}

/// Reports the events of the watch of one namespace.
struct SecretEvents<K: Lookup> {
    wanted: Arc<WatchedSecrets<K>>,
    namespace: String,
    /// The names that providers had when the current list began, without those that the list contained so far. A
    /// Secret that a provider names later is read once for it: the list may already have passed that Secret.
    unlisted: HashSet<String>,
}

impl<K: Lookup> SecretEvents<K>
where
    ObjectRef<K>: Clone + Eq + Hash,
{
    fn note(&mut self, event: watcher::Result<Event<PartialObjectMeta<Secret>>>) {
        match event {
            Ok(Event::Init) => self.unlisted = self.wanted.names(&self.namespace),
            Ok(Event::InitApply(secret)) => {
                if let Some(name) = &secret.metadata.name {
                    self.unlisted.remove(name);
                }
                self.wanted.tell(&self.namespace, &secret.metadata, true);
            }
            Ok(Event::InitDone) => {
                for name in std::mem::take(&mut self.unlisted) {
                    self.wanted.tell_version(&self.namespace, &name, None, false);
                }
            }
            Ok(Event::Apply(secret)) => self.wanted.tell(&self.namespace, &secret.metadata, true),
            Ok(Event::Delete(secret)) => self.wanted.tell(&self.namespace, &secret.metadata, false),
            Err(error) => {
                let namespace = &self.namespace;
                tracing::warn!(error = words(&error), namespace, "the watch of login Secrets failed");
            }
        }
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

    /// The Secrets of this namespace that providers name.
    fn names(&self, namespace: &str) -> HashSet<String> {
        let logins = self.lock();
        let here = logins.values().filter(|of| of.namespace == namespace);
        here.flat_map(|of| of.names.iter().cloned()).collect()
    }

    /// Reports one version of a Secret, or its deletion.
    fn tell(&self, namespace: &str, meta: &ObjectMeta, exists: bool) {
        if let Some(name) = &meta.name {
            let version = SecretVersion::from_metadata(meta).filter(|_| exists);
            self.tell_version(namespace, name, version.as_ref(), false);
        }
    }

    /// Requeues the providers that name this Secret and were loaded from another version, or all of them if
    /// the version is unknown.
    fn tell_version(&self, namespace: &str, name: &str, version: Option<&SecretVersion>, is_unknown: bool) {
        let logins = self.lock();
        for (id, of) in logins.iter().filter(|(_, of)| of.namespace == namespace && of.names.contains(name)) {
            if is_unknown || !self.providers.is_loaded_from(id, name, version) {
                self.wakes.send(&of.object);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProviderId, NamedSecrets<K>>> {
        self.logins.lock()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{
        api::{KeyProvider, Reason},
        backend::BackendKind,
        controller::provider::store::{Loaded, Origin, ProviderAccess},
        lifecycle::Problem,
    };

    struct Watched {
        events: SecretEvents<KeyProvider>,
        wakes: Arc<Requeues<ObjectRef<KeyProvider>>>,
    }

    impl Watched {
        fn new() -> Self {
            let (providers, wakes) = (Arc::<ProviderStore>::default(), Arc::<Requeues<_>>::default());
            let wanted = WatchedSecrets { providers, wakes: Arc::clone(&wakes), logins: Mutex::default() };
            let events = SecretEvents {
                wanted: Arc::new(wanted),
                namespace: "tenant".to_owned(),
                unlisted: HashSet::new(),
            };
            Self { events, wakes }
        }

        /// A provider that was loaded from this version of the Secret of its name, if it exists.
        fn load(&self, name: &str, version: Option<&str>) {
            let id = ProviderId { namespace: Some("tenant".to_owned()), name: name.to_owned() };
            let secrets = [(name.to_owned(), SecretVersion::from_metadata(&meta(name, version)))].into();
            let origin = Origin { secrets, ..Origin::default() };
            let problem = Problem { reason: Reason::ProviderNotReady, message: String::new() };
            let loaded = Loaded {
                origin,
                backend: Err(problem),
                queue: None,
                access: ProviderAccess::OwnNamespace,
                marks_keys: false,
                kind: BackendKind::Unknown,
                recoveries: 0,
            };
            self.events.wanted.providers.set(&id, Arc::new(loaded));
            let logins = NamedSecrets {
                object: ObjectRef::new(name).within("tenant"),
                namespace: "tenant".to_owned(),
                names: [name.to_owned()].into(),
            };
            self.events.wanted.want(&id, logins);
        }

        /// The providers that this event requeues.
        fn woken_by(&mut self, event: Event<PartialObjectMeta<Secret>>) -> Vec<String> {
            let mut woken = self.wakes.subscribe();
            self.events.note(Ok(event));
            std::iter::from_fn(|| woken.next().now_or_never().flatten()).map(|object| object.name).collect()
        }
    }

    fn meta(name: &str, version: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            uid: version.map(|_| format!("uid of {name}")),
            resource_version: version.map(str::to_owned),
            ..ObjectMeta::default()
        }
    }

    fn secret(name: &str, version: &str) -> PartialObjectMeta<Secret> {
        PartialObjectMeta { metadata: meta(name, Some(version)), ..PartialObjectMeta::default() }
    }

    #[test]
    fn a_list_requeues_the_providers_that_were_loaded_from_something_else() {
        let mut watched = Watched::new();
        watched.load("same", Some("1"));
        watched.load("changed", Some("1"));
        watched.load("deleted", Some("1"));
        watched.load("missing", None);
        assert!(watched.woken_by(Event::Init).is_empty());
        assert!(watched.woken_by(Event::InitApply(secret("same", "1"))).is_empty());
        assert!(watched.woken_by(Event::InitApply(secret("of nobody", "1"))).is_empty());
        assert_eq!(watched.woken_by(Event::InitApply(secret("changed", "2"))), ["changed"]);
        assert_eq!(watched.woken_by(Event::InitDone), ["deleted"]);
    }

    #[test]
    fn a_secret_that_is_named_while_the_list_arrives_does_not_count_as_missing() {
        let mut watched = Watched::new();
        watched.load("first", Some("1"));
        assert!(watched.woken_by(Event::Init).is_empty());
        assert!(watched.woken_by(Event::InitApply(secret("second", "1"))).is_empty());
        watched.load("second", Some("1"));
        assert!(watched.woken_by(Event::InitApply(secret("first", "1"))).is_empty());
        assert!(watched.woken_by(Event::InitDone).is_empty());
    }
}
