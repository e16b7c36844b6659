//! The namespaces of the cluster: their labels, and what tells this cluster from others.

use std::collections::BTreeMap;

use futures::{
    Stream, StreamExt,
    channel::mpsc::{UnboundedReceiver, unbounded},
    future, stream,
    stream::BoxStream,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        PredicateConfig, WatchStreamExt, predicates,
        reflector::{ObjectRef, Store},
    },
};

use super::watch::{self, Cache};
use crate::runtime::{Watches, answers};

/// Every cluster has it, from its first minute to its last.
const OLDEST: &str = "kube-system";

/// What is known of the cluster's namespaces: nothing where the operator serves single ones, and may not read them.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespaces(Option<Cache<PartialObjectMeta<Namespace>>>);

/// What a watch of all namespaces tells.
pub(super) struct NamespaceChanges {
    /// All that exist.
    pub store: Store<PartialObjectMeta<Namespace>>,
    /// The names of those whose labels change. The watch goes on as long as this is polled.
    pub relabelled: BoxStream<'static, String>,
    /// Each change of one that is being deleted.
    pub terminating: UnboundedReceiver<PartialObjectMeta<Namespace>>,
}

impl Namespaces {
    /// Watches all namespaces.
    pub(super) fn watch(client: Client, watches: &Watches) -> (Self, NamespaceChanges) {
        let (cache, changes) = watch::metadata(Api::all(client), watch::config(), watches);
        let (sender, terminating) = unbounded();
        let changes = changes.inspect(move |change| {
            let deleted = change.clone().applied().into_iter().filter(is_deleted);
            // The receiver is gone only when the operator ends.
            deleted.for_each(|namespace| drop(sender.unbounded_send(namespace)));
        });
        let changes = NamespaceChanges {
            store: cache.store.clone(),
            relabelled: relabelled(changes).boxed(),
            terminating,
        };
        (Self(Some(cache)), changes)
    }

    /// Waits until they are known for the first time.
    pub(super) async fn wait_filled(&self) {
        if let Some(cache) = &self.0 {
            cache.wait_filled().await;
        }
    }

    /// The labels of a namespace; `None` where they are not known, or not all of them.
    pub(super) fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        let whole = |namespace: &PartialObjectMeta<Namespace>| {
            answers::omissions(&namespace.metadata).is_empty().then(|| namespace.labels().clone())
        };
        self.get(namespace, whole).flatten()
    }

    /// Whether a namespace is known to be deleted. Call it after [`wait_filled`](Self::wait_filled).
    pub(super) fn is_deleted(&self, namespace: &str) -> bool {
        self.get(namespace, is_deleted).unwrap_or_default()
    }

    /// What tells this cluster from others.
    pub(super) fn cluster_id(&self) -> Option<String> {
        self.get(OLDEST, ResourceExt::uid).flatten()
    }

    fn get<T>(&self, name: &str, part: impl FnOnce(&PartialObjectMeta<Namespace>) -> T) -> Option<T> {
        Some(part(self.0.as_ref()?.store.get(&ObjectRef::new(name))?.as_ref()))
    }
}

fn is_deleted(namespace: &PartialObjectMeta<Namespace>) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

fn relabelled(
    changes: impl Stream<Item = watch::WatchChange<PartialObjectMeta<Namespace>>> + Send + 'static,
) -> impl Stream<Item = String> + Send + 'static {
    changes
        .flat_map(|change| stream::iter(change.applied()).map(Ok))
        .predicate_filter(predicates::labels, PredicateConfig::default())
        .filter_map(|namespace| future::ready(namespace.ok().map(|namespace| namespace.name_any())))
}
