//! Watches that keep a cache each, outlive every error, and drop what can't be understood.

use std::{fmt::Debug, future, sync::Arc};

use futures::{Stream, StreamExt};
use kube::{
    Api, Resource,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{self, Lookup, Store},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch::Receiver;

use crate::runtime::{Watch, Watches, answers, words};

/// Objects that are listed at a time when a watch begins. With the bounds of [`answers`] this bounds the memory that a list
/// takes, whatever tenants write into their objects.
const PAGE_SIZE: u32 = 50;

/// The part of an object's metadata that the operator reads, and never writes.
const ANNOTATIONS: &str = "metadata.annotations";

/// The objects that a watch has shown.
#[derive(Clone, Debug)]
pub struct Cache<K: Lookup<DynamicType = ()> + Clone + 'static> {
    pub store: Store<K>,
    /// [`Store::wait_until_ready`] is for one caller, the controller: of several only the last to be polled is woken.
    filled: Receiver<bool>,
}

impl<K: Lookup<DynamicType = ()> + Clone + 'static> Cache<K> {
    /// Waits until the cache has been filled for the first time; for any number of callers.
    pub async fn filled(&self) {
        // It fails only when the watch has ended, and with it the operator.
        let _ = self.filled.clone().wait_for(|filled| *filled).await;
    }

    /// Whether it has been.
    pub fn is_filled(&self) -> bool {
        *self.filled.borrow()
    }
}

/// How each watch asks for its objects.
pub fn config() -> watcher::Config {
    watcher::Config::default().page_size(PAGE_SIZE)
}

/// What a watch tells once its cache shows it.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// The object was made or changed.
    Applied(K),
    /// The object is gone; this is how it last was.
    Deleted(K),
    /// These are all that exist: told when a watch begins, also again after a failure. Nobody tells of objects that
    /// went away in between.
    Listed(Vec<Arc<K>>),
}

impl<K: Clone> Change<K> {
    /// The objects that exist by this change and may be new.
    pub fn applied(self) -> Vec<K> {
        match self {
            Self::Applied(object) => vec![object],
            Self::Deleted(_) => Vec::new(),
            Self::Listed(objects) => objects.iter().map(|object| object.as_ref().clone()).collect(),
        }
    }
}

/// Watches the objects of a kind.
///
/// An object that can't be read (a newer operator's, perhaps) is reported and left as the cache last knew it:
/// one bad object must not stop the others. A failing watch is reported, and begun again with a backoff.
pub fn objects<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    watches: &Watches,
) -> (Cache<K>, impl Stream<Item = Change<K>> + Send + use<K>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let watch = watches.begin(api.resource_url());
    cached(watcher(api, config).filter_map(|event| future::ready(readable(event).transpose())), watch)
}

/// Watches the metadata of the objects of a kind.
pub fn metadata<K>(
    api: Api<PartialObjectMeta<K>>,
    config: watcher::Config,
    watches: &Watches,
) -> (Cache<PartialObjectMeta<K>>, impl Stream<Item = Change<PartialObjectMeta<K>>> + Send + use<K>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let watch = watches.begin(api.resource_url());
    cached(watcher(api, config), watch)
}

fn cached<K>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send,
    watch: Watch,
) -> (Cache<K>, impl Stream<Item = Change<K>> + Send)
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let (filling, filled) = tokio::sync::watch::channel(false);
    let cache = Cache { store: store.clone(), filled };
    let changes = events
        .modify(|object| {
            log_omissions(object);
        })
        .default_backoff()
        .reflect(writer)
        .filter_map(move |event| {
            let event = event.inspect_err(|error| {
                let error = words(error);
                tracing::warn!(kind = %<K as Resource>::kind(&()), error, "a watch failed, and begins again");
            });
            let change = event.ok().and_then(|event| change(event, &store));
            if matches!(change, Some(Change::Listed(_))) {
                filling.send_replace(true);
                watch.filled();
            }
            future::ready(change)
        });
    (cache, changes)
}

/// What an event tells. Of a list nothing is told before its end: until then the cache does not show its objects,
/// and a reconcile would not find what it was woken for.
fn change<K>(event: Event<K>, store: &Store<K>) -> Option<Change<K>>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    match event {
        Event::Apply(object) => Some(Change::Applied(object)),
        Event::Delete(object) => Some(Change::Deleted(object)),
        Event::InitDone => Some(Change::Listed(store.state())),
        Event::Init | Event::InitApply(_) => None,
    }
}

/// The event without the guard; `None` for an object that can't be read.
fn readable<K: Resource<DynamicType = ()>>(
    event: Result<Event<DeserializeGuard<K>>, watcher::Error>,
) -> Result<Option<Event<K>>, watcher::Error> {
    Ok(match event? {
        Event::Apply(object) => unguarded(object).map(Event::Apply),
        Event::Delete(object) => unguarded(object).map(Event::Delete),
        Event::InitApply(object) => unguarded(object).map(Event::InitApply),
        Event::Init => Some(Event::Init),
        Event::InitDone => Some(Event::InitDone),
    })
}

fn unguarded<K: Resource<DynamicType = ()>>(object: DeserializeGuard<K>) -> Option<K> {
    object
        .0
        .inspect_err(|invalid| {
            tracing::error!(
                kind = %K::kind(&()),
                namespace = invalid.metadata.namespace.as_deref().unwrap_or_default(),
                name = invalid.metadata.name.as_deref().unwrap_or_default(),
                error = %invalid.error,
                "an object can't be read and is left alone; is the operator older than the CRDs?"
            );
        })
        .ok()
        .filter(|object| !lacks_what_is_written_back(object))
}

/// Whether the object lacks a part that the operator writes as a whole: acting on it would lose what is missing.
fn lacks_what_is_written_back<K: Resource<DynamicType = ()>>(object: &K) -> bool {
    let omitted = answers::omissions(object.meta());
    let lacking =
        omitted.iter().any(|omission| !omission.path.starts_with("spec.") && omission.path != ANNOTATIONS);
    if lacking {
        tracing::error!(
            kind = %K::kind(&()),
            namespace = object.meta().namespace.as_deref().unwrap_or_default(),
            name = object.meta().name.as_deref().unwrap_or_default(),
            "an object is left alone: its status or its finalizers are larger than the operator reads; shorten them"
        );
    }
    lacking
}

fn log_omissions<K: Resource<DynamicType = ()>>(object: &K) {
    for omission in answers::omissions(object.meta()) {
        tracing::warn!(
            kind = %K::kind(&()),
            namespace = object.meta().namespace.as_deref().unwrap_or_default(),
            name = object.meta().name.as_deref().unwrap_or_default(),
            %omission,
            "a part of an object was not read"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{future::join_all, stream};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{ResourceExt, api::ObjectMeta, runtime::reflector::ObjectRef};

    use super::*;

    fn named(name: &str) -> ConfigMap {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    fn names(change: Change<ConfigMap>) -> Vec<String> {
        change.applied().iter().map(ResourceExt::name_any).collect()
    }

    #[tokio::test]
    async fn what_a_change_tells_of_is_in_the_cache_by_then() {
        let events = [
            Event::Init,
            Event::InitApply(named("a")),
            Event::InitDone,
            Event::Apply(named("b")),
            // The watch failed, and begins again; `c` was made meanwhile, and `a` went away.
            Event::Init,
            Event::InitApply(named("b")),
            Event::InitApply(named("c")),
            Event::InitDone,
            Event::Delete(named("b")),
        ];
        let (cache, changes) = cached(stream::iter(events.map(Ok)), Watches::default().begin("/configmaps"));
        let mut changes = std::pin::pin!(changes);
        let mut told = Vec::new();
        while let Some(change) = changes.next().await {
            let mut names = names(change);
            names.sort();
            assert!(names.iter().all(|name| cache.store.get(&ObjectRef::new(name)).is_some()), "{names:?}");
            told.push(names);
        }
        assert_eq!(told, [vec!["a"], vec!["b"], vec!["b", "c"], vec![]]);
    }

    #[tokio::test]
    async fn all_who_wait_for_a_cache_are_woken() {
        let (events, receiver) = futures::channel::mpsc::unbounded();
        let (cache, changes) = cached(receiver.map(Ok), Watches::default().begin("/configmaps"));
        tokio::spawn(changes.for_each(|_: Change<ConfigMap>| future::ready(())));
        let wait = |cache: Cache<_>| tokio::spawn(async move { cache.filled().await });
        let waiting: Vec<_> = (0..3).map(|_| wait(cache.clone())).collect();
        tokio::task::yield_now().await;
        assert!(waiting.iter().all(|task| !task.is_finished()));
        for event in [Event::Init, Event::InitDone] {
            events.unbounded_send(event).unwrap();
        }
        tokio::time::timeout(Duration::from_secs(10), join_all(waiting)).await.unwrap();
    }
}
