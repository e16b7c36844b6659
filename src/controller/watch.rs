//! Watches, each with a cache. They survive every error and every object that can't be read.

use std::{fmt::Debug, future, sync::Arc};

use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{self, Lookup, ObjectRef, Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::SetOnce;

use super::unread::{Received, Unreadable, Watched};
use crate::runtime::{Watch, Watches, answers, words};

/// Objects in one page of a watch's initial list. With the limits of [`answers`], this bounds the memory of a
/// list, whatever tenants write into their objects.
const PAGE_SIZE: u32 = 50;

#[derive(Clone, Debug)]
pub(super) struct Cache<K: Lookup<DynamicType = ()> + Clone + 'static> {
    pub store: Store<K>,
    /// [`Store::wait_until_ready`] supports one caller, the controller: of several callers, only the last to
    /// be polled is woken.
    filled: Arc<SetOnce<()>>,
}

impl<K: Lookup<DynamicType = ()> + Clone + 'static> Cache<K> {
    /// Waits until the cache has been filled for the first time. Any number of callers may wait.
    pub(super) async fn wait_filled(&self) {
        self.filled.wait().await;
    }

    /// Whether the cache has been filled.
    pub(super) fn is_filled(&self) -> bool {
        self.filled.initialized()
    }

    /// A filled cache with the content of this store.
    #[cfg(test)]
    pub(super) fn filled_with(store: Store<K>) -> Self {
        Self { store, filled: Arc::new(SetOnce::new_with(Some(()))) }
    }
}

/// The configuration of each watch.
pub(super) fn config() -> watcher::Config {
    watcher::Config::default().page_size(PAGE_SIZE)
}

/// A change that a watch reports after its cache shows it.
#[derive(Clone, Debug)]
pub(super) enum WatchChange<K> {
    /// The object was created or changed.
    Applied(K),
    /// The object is gone. This is its last version.
    Deleted(K),
    /// All objects that exist, reported when a watch starts and again after a failure. Objects that
    /// disappeared in between are not reported.
    Listed(Vec<Arc<K>>),
}

impl<K: Clone> WatchChange<K> {
    /// The objects of this change that exist and may be new.
    pub(super) fn applied(self) -> Vec<K> {
        match self {
            Self::Applied(object) => vec![object],
            Self::Deleted(_) => Vec::new(),
            Self::Listed(objects) => objects.iter().map(|object| object.as_ref().clone()).collect(),
        }
    }
}

/// Watches the objects of a kind.
///
/// The operator logs an object that can't be read, for example one of a newer operator. The cache keeps the
/// part of it that could be read, or the last known version: one bad object must not stop the others, and
/// must not seem deleted. A failing watch is logged, and restarts after a backoff.
pub(super) fn objects<K>(
    api: Api<Received<K>>,
    config: watcher::Config,
    watches: &Watches,
) -> (Cache<K>, impl Stream<Item = WatchChange<K>> + Send + use<K>)
where
    K: Watched + Clone + Debug + Send + Sync + 'static,
{
    let watch = watches.begin(api.resource_url());
    let (store, writer) = reflector::store();
    let known = store.clone();
    let events = watcher(api, config)
        .filter_map(move |event| future::ready(event.map(|event| readable(event, &known)).transpose()));
    cached(events, store, writer, watch)
}

/// Watches the metadata of the objects of a kind.
pub(super) fn metadata<K>(
    api: Api<PartialObjectMeta<K>>,
    config: watcher::Config,
    watches: &Watches,
) -> (Cache<PartialObjectMeta<K>>, impl Stream<Item = WatchChange<PartialObjectMeta<K>>> + Send + use<K>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let watch = watches.begin(api.resource_url());
    let (store, writer) = reflector::store();
    cached(watcher(api, config), store, writer, watch)
}

fn cached<K>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send,
    store: Store<K>,
    writer: Writer<K>,
    watch: Watch,
) -> (Cache<K>, impl Stream<Item = WatchChange<K>> + Send)
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let filled = Arc::new(SetOnce::new());
    let cache = Cache { store: store.clone(), filled: Arc::clone(&filled) };
    let changes = events
        .modify(|object| {
            log_omissions(object);
        })
        .default_backoff()
        .reflect(writer)
        .filter_map(move |event| {
            let event = event.inspect_err(|error| {
                let error = words(error);
                tracing::warn!(kind = %<K as Resource>::kind(&()), error, "a watch failed and restarts");
            });
            let change = event.ok().and_then(|event| change(event, &store));
            if matches!(change, Some(WatchChange::Listed(_))) {
                // Later lists find it set.
                let _ = filled.set(());
                watch.filled();
            }
            future::ready(change)
        });
    (cache, changes)
}

/// Converts an event to a change. The objects of a list are reported at its end. Until then the cache does
/// not show them, and their reconciles would not find them.
fn change<K>(event: Event<K>, store: &Store<K>) -> Option<WatchChange<K>>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    match event {
        Event::Apply(object) => Some(WatchChange::Applied(object)),
        Event::Delete(object) => Some(WatchChange::Deleted(object)),
        Event::InitDone => Some(WatchChange::Listed(store.state())),
        Event::Init | Event::InitApply(_) => None,
    }
}

/// The event for the cache; `None` if the cache keeps its content.
fn readable<K>(event: Event<Received<K>>, known: &Store<K>) -> Option<Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    Some(match event {
        Event::Apply(object) => Event::Apply(readable_object(object, known)?),
        Event::InitApply(object) => Event::InitApply(readable_object(object, known)?),
        // The object is gone, even if only a part of it could be read.
        Event::Delete(object) => Event::Delete(readable_object(object, known)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// The object. If it can't be read: the part that can, otherwise the version in the cache.
fn readable_object<K>(object: Received<K>, known: &Store<K>) -> Option<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let Unreadable { meta, part, error } = match object {
        Received::Readable(object) => return Some(object),
        Received::UnreadObject(object) => *object,
    };
    log_object::<K>(&meta, &error, "an object can't be read; is the operator older than the CRDs?");
    part.or_else(|| {
        let name = ObjectRef::new(meta.name.as_deref()?);
        let name = meta.namespace.iter().fold(name, |name, namespace| name.within(namespace));
        known.get(&name).map(Arc::unwrap_or_clone)
    })
}

fn log_omissions<K: Resource<DynamicType = ()>>(object: &K) {
    for omission in answers::omissions(object.meta()) {
        log_object::<K>(object.meta(), &omission.to_string(), "a part of an object was not read");
    }
}

/// Logs a problem with an object that a user wrote.
fn log_object<K: Resource<DynamicType = ()>>(meta: &ObjectMeta, error: &str, what: &str) {
    tracing::warn!(
        kind = %K::kind(&()),
        namespace = meta.namespace.as_deref().unwrap_or_default(),
        name = meta.name.as_deref().unwrap_or_default(),
        error,
        "{what}"
    );
}

/// The resourceVersion as a number, which KEP-5504 guarantees; 0 if it is missing.
pub(super) fn resource_version<K: Resource>(object: &K) -> u64 {
    version_number(object.meta().resource_version.as_deref())
}

/// The same for a version as text.
pub(super) fn version_number(resource_version: Option<&str>) -> u64 {
    resource_version.and_then(|version| version.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{future::join_all, stream};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;

    use super::*;

    fn named(name: &str) -> ConfigMap {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    fn names(change: WatchChange<ConfigMap>) -> Vec<String> {
        change.applied().iter().map(ResourceExt::name_any).collect()
    }

    fn cached_configmaps(
        events: impl Stream<Item = Result<Event<ConfigMap>, watcher::Error>> + Send,
    ) -> (Cache<ConfigMap>, impl Stream<Item = WatchChange<ConfigMap>> + Send) {
        let (store, writer) = reflector::store();
        cached(events, store, writer, Watches::default().begin("/configmaps"))
    }

    #[tokio::test]
    async fn what_a_change_tells_of_is_in_the_cache_by_then() {
        let events = [
            Event::Init,
            Event::InitApply(named("a")),
            Event::InitDone,
            Event::Apply(named("b")),
            // The watch failed and restarts. In the meantime `c` was created and `a` disappeared.
            Event::Init,
            Event::InitApply(named("b")),
            Event::InitApply(named("c")),
            Event::InitDone,
            Event::Delete(named("b")),
        ];
        let (cache, changes) = cached_configmaps(stream::iter(events.map(Ok)));
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
        let (cache, changes) = cached_configmaps(receiver.map(Ok));
        tokio::spawn(changes.for_each(|_: WatchChange<ConfigMap>| future::ready(())));
        let wait = |cache: Cache<_>| tokio::spawn(async move { cache.wait_filled().await });
        let waiting: Vec<_> = (0..3).map(|_| wait(cache.clone())).collect();
        tokio::task::yield_now().await;
        assert!(waiting.iter().all(|task| !task.is_finished()));
        for event in [Event::Init, Event::InitDone] {
            events.unbounded_send(event).unwrap();
        }
        tokio::time::timeout(Duration::from_secs(10), join_all(waiting)).await.unwrap();
    }

    fn unreadable(name: &str, part: Option<ConfigMap>) -> Received<ConfigMap> {
        let error = "it has no form".to_owned();
        Received::UnreadObject(Box::new(Unreadable { meta: named(name).metadata, part, error }))
    }

    #[test]
    fn an_object_that_can_not_be_read_is_not_taken_for_one_that_is_gone() {
        let (store, mut writer) = reflector::store();
        let mut known = named("a");
        known.immutable = Some(true);
        writer.apply_watcher_event(&Event::Apply(known.clone()));
        for event in [Event::Apply as fn(_) -> _, Event::InitApply, Event::Delete] {
            let kept = |object| match readable(event(object), &store)? {
                Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) => Some(object),
                Event::Init | Event::InitDone => None,
            };
            assert_eq!(kept(unreadable("a", None)), Some(known.clone()), "the cache knows it");
            assert_eq!(kept(unreadable("a", Some(named("a")))), Some(named("a")), "a part can be read");
            assert_eq!(kept(unreadable("b", None)), None);
        }
    }
}
