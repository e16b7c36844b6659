//! Waits for changes by watches, without polling.

use std::{collections::BTreeMap, fmt::Debug, future, time::Duration};

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Resource, ResourceExt,
    api::ListParams,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use servicekey_operator::api::{ClusterKeyProvider, ServiceKey};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::task::AbortOnDropHandle;

/// The time limit of each wait.
const PATIENCE: Duration = Duration::from_secs(120);

/// The objects of a watch, by name.
pub type Objects<K> = BTreeMap<String, K>;

/// A watch. Its own task reads it, because the API server ends a watch whose client reads too slowly.
pub struct Watch<K> {
    objects: Objects<K>,
    /// Whether the list is complete.
    complete: bool,
    events: UnboundedReceiver<Event<K>>,
    _reader: AbortOnDropHandle<()>,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Watches the object of this name, and returns after the first list.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub async fn of_one(api: &Api<K>, name: &str) -> anyhow::Result<Self> {
        Self::open(api, watcher::Config::default().fields(&format!("metadata.name={name}"))).await
    }

    /// Watches the objects with this label, and returns after the first list.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub async fn of_all(api: &Api<K>, label: &str) -> anyhow::Result<Self> {
        Self::open(api, watcher::Config::default().labels(label)).await
    }

    async fn open(api: &Api<K>, config: watcher::Config) -> anyhow::Result<Self> {
        let (sender, events) = unbounded_channel();
        let watch = watcher(api.clone(), config).default_backoff().for_each(move |event| {
            // After an error the watch begins again. A wait that never ends times out with a message.
            let _ = event.map(|event| sender.send(event));
            future::ready(())
        });
        let reader = AbortOnDropHandle::new(tokio::spawn(watch));
        let mut opened = Self { objects: Objects::new(), complete: false, events, _reader: reader };
        opened.until("a watch has begun", |_| Some(())).await?;
        // The watch occupies its connection. This request opens another one, so that no measurement includes that.
        api.list_metadata(&ListParams::default().limit(1)).await?;
        Ok(opened)
    }

    /// Waits until `find` returns something, and returns that. `what` describes it for the error.
    ///
    /// # Errors
    /// If the watch fails, or the time limit passes.
    pub async fn until<T>(
        &mut self,
        what: &str,
        find: impl Fn(&Objects<K>) -> Option<T>,
    ) -> anyhow::Result<T> {
        let found = tokio::time::timeout(PATIENCE, self.find(find)).await;
        let found = found.with_context(|| {
            format!(
                "timed out after {} s while waiting until {what}; run the demo again with `RUST_LOG=debug` to see why",
                PATIENCE.as_secs()
            )
        })?;
        found.with_context(|| format!("can't wait until {what}"))
    }

    async fn find<T>(&mut self, find: impl Fn(&Objects<K>) -> Option<T>) -> anyhow::Result<T> {
        loop {
            if self.complete
                && let Some(found) = find(&self.objects)
            {
                return Ok(found);
            }
            let event = self.events.recv().await.context("the watch ended")?;
            self.take_in(event);
        }
    }

    fn take_in(&mut self, event: Event<K>) {
        match event {
            Event::Init => {
                self.objects.clear();
                self.complete = false;
            }
            Event::InitDone => self.complete = true,
            Event::InitApply(object) | Event::Apply(object) => {
                self.objects.insert(object.name_any(), object);
            }
            Event::Delete(object) => drop(self.objects.remove(&object.name_any())),
        }
    }
}

/// An object whose status has conditions.
pub trait Conditioned {
    fn conditions(&self) -> &[Condition];

    /// Whether the condition `Ready` is true.
    fn is_ready(&self) -> bool {
        self.conditions().iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    }
}

impl Conditioned for ServiceKey {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

impl Conditioned for ClusterKeyProvider {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}
