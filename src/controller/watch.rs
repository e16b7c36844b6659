//! Watches that keep a cache each, outlive every error, and drop what can't be understood.

use std::{fmt::Debug, future};

use futures::{Stream, StreamExt};
use kube::{
    Api, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{self, Lookup, Store},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

/// Objects asked for at a time when a watch begins.
const PAGE_SIZE: u32 = 500;

/// How each watch asks for its objects.
pub fn config() -> watcher::Config {
    watcher::Config::default().page_size(PAGE_SIZE)
}

/// Watches the objects of a kind. `observe` sees every event before the cache does.
///
/// An object that can't be read (a newer operator's, perhaps) is reported and left as the cache last knew it:
/// one bad object must not stop the others. A failing watch is reported, and begun again with a backoff.
pub fn objects<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    observe: impl FnMut(&Event<K>) + Send + 'static,
) -> (Store<K>, impl Stream<Item = Event<K>> + Send)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let events = watcher(api, config).filter_map(|event| future::ready(readable(event).transpose()));
    cached(events, observe)
}

/// Watches the metadata of the objects of a kind. `observe` sees every event before the cache does.
pub fn metadata<K>(
    api: Api<PartialObjectMeta<K>>,
    config: watcher::Config,
    observe: impl FnMut(&Event<PartialObjectMeta<K>>) + Send + 'static,
) -> (Store<PartialObjectMeta<K>>, impl Stream<Item = Event<PartialObjectMeta<K>>> + Send)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    cached(watcher(api, config), observe)
}

fn cached<K>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send,
    mut observe: impl FnMut(&Event<K>) + Send + 'static,
) -> (Store<K>, impl Stream<Item = Event<K>> + Send)
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = events
        .modify(|object| {
            object.managed_fields_mut().clear();
        })
        .default_backoff()
        .reflect(writer)
        .filter_map(|event| {
            future::ready(
                event
                    .inspect_err(|error| {
                        tracing::warn!(kind = %<K as Resource>::kind(&()), %error, "a watch failed, and begins again");
                    })
                    .ok(),
            )
        })
        .inspect(move |event| observe(event));
    (store, events)
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
}

/// The object that an event is about.
pub fn touched<K>(event: Event<K>) -> Option<K> {
    match event {
        Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) => Some(object),
        Event::Init | Event::InitDone => None,
    }
}

/// The object that an event says to exist.
pub fn applied<K>(event: Event<K>) -> Option<K> {
    match event {
        Event::Apply(object) | Event::InitApply(object) => Some(object),
        Event::Delete(_) | Event::Init | Event::InitDone => None,
    }
}
