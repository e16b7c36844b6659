//! Waiting for what the API server tells, without asking again and again.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use servicekey_operator::api::{ClusterKeyProvider, ServiceKey};

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The objects that a watch shows, by name.
pub type Objects<K> = BTreeMap<String, K>;

/// A watch that is open, unlike one of kube's `watcher`, which opens it when it is first waited for: what is timed must
/// not wait for that.
pub struct Watch<K> {
    objects: Objects<K>,
    changes: BoxStream<'static, kube::Result<WatchEvent<K>>>,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Watches the object of this name.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn of_one(api: &Api<K>, name: &str) -> anyhow::Result<Self> {
        let selector = format!("metadata.name={name}");
        Self::open(api, ListParams::default().fields(&selector), WatchParams::default().fields(&selector))
            .await
    }

    /// Watches the objects with this label.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn of_all(api: &Api<K>, label: &str) -> anyhow::Result<Self> {
        Self::open(api, ListParams::default().labels(label), WatchParams::default().labels(label)).await
    }

    async fn open(api: &Api<K>, list: ListParams, watch: WatchParams) -> anyhow::Result<Self> {
        let listed = api.list(&list).await?;
        let version = listed.metadata.resource_version.unwrap_or_default();
        let objects = listed.items.into_iter().map(|object| (object.name_any(), object)).collect();
        let changes = api.watch(&watch, &version).await?.boxed();
        // The watch keeps the connection of the list. Another is made ready here, and not in what is timed.
        api.list_metadata(&list.limit(1)).await?;
        Ok(Self { objects, changes })
    }

    /// Waits until something can be found among the objects, and gives it; `what` says what should come about.
    ///
    /// # Errors
    /// When the watch fails, or it takes too long.
    pub async fn until<T>(
        &mut self,
        what: &str,
        find: impl Fn(&Objects<K>) -> Option<T>,
    ) -> anyhow::Result<T> {
        let found = tokio::time::timeout(PATIENCE, self.find(find)).await;
        let found = found.with_context(|| {
            format!(
                "waited {} s in vain until {what}; run the demo again with `RUST_LOG=debug` to see why",
                PATIENCE.as_secs()
            )
        })?;
        found.with_context(|| format!("can't wait until {what}"))
    }

    async fn find<T>(&mut self, find: impl Fn(&Objects<K>) -> Option<T>) -> anyhow::Result<T> {
        loop {
            if let Some(found) = find(&self.objects) {
                return Ok(found);
            }
            match self.changes.try_next().await?.context("the watch ended")? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.objects.insert(object.name_any(), object);
                }
                WatchEvent::Deleted(object) => drop(self.objects.remove(&object.name_any())),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => bail!("the watch failed: {status:?}"),
            }
        }
    }
}

/// An object whose status has conditions.
pub trait Conditioned {
    /// The conditions, as they were last written.
    fn conditions(&self) -> &[Condition];

    /// Whether it says that it is ready.
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
