//! Namespaces that are being deleted. Each provider releases the Secrets that it names. The operator's
//! finalizers may also be on Secrets that no provider can name any more. They would block the deletion of the
//! namespace forever.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, ResourceExt,
    core::PartialObjectMeta,
    runtime::{Controller, controller::Action, reflector::Store},
};

use super::orphans::{self, ObjectPages};
use crate::{
    api::{ClusterKeyProvider, KeyProvider},
    controller::{
        backoff::Backoff,
        error::{Error, bounded},
        finalizer,
        shared::Shared,
    },
    fair::Lane,
};

/// Interval between searches of a namespace that still exists. A change of the namespace's status triggers an
/// earlier search: the namespace controller records there which objects are left.
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);

/// Releases the login Secrets of every namespace that is being deleted. Never ends.
///
/// `namespaces` contains all of them, and `terminating` yields each change of one that is being deleted.
pub(crate) fn release_logins(
    shared: Shared,
    namespaces: Store<PartialObjectMeta<Namespace>>,
    terminating: impl Stream<Item = PartialObjectMeta<Namespace>> + Send + 'static,
) -> impl Stream<Item = ()> + Send {
    Controller::for_stream(terminating.map(Ok), namespaces)
        .run(release_in, |_, never, _| match *never {}, Arc::new(shared))
        .map(drop)
}

/// Searches a namespace until a search succeeds or the namespace is gone.
async fn release_in(
    namespace: Arc<PartialObjectMeta<Namespace>>,
    shared: Arc<Shared>,
) -> Result<Action, Infallible> {
    shared.leadership.wait(&shared.clock).await;
    let name = namespace.name_any();
    let mut backoff = Backoff::default();
    while shared.namespaces.is_deleted(&name) {
        match search(&shared, &name).await {
            Ok(()) => return Ok(Action::requeue(SEARCH_INTERVAL)),
            Err(error) => {
                tracing::warn!(namespace = name, %error, "the finalizers of login Secrets could not be removed");
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }
    Ok(Action::await_change())
}

async fn search(shared: &Shared, namespace: &str) -> Result<(), Error> {
    let _place = shared.shares.loading.acquire(&Lane::of_namespace(namespace)).await;
    if has_providers(shared, namespace).await? { Ok(()) } else { release_all(shared, namespace).await }
}

/// Whether providers exist that may name Secrets of a namespace. While it is being deleted, only
/// ClusterKeyProviders can be created.
async fn has_providers(shared: &Shared, namespace: &str) -> Result<bool, Error> {
    let tenants: Api<KeyProvider> = Api::namespaced(shared.client.clone(), namespace);
    if !is_empty(ObjectPages::new(tenants)).await? {
        return Ok(true);
    }
    let clusters: Api<ClusterKeyProvider> = Api::all(shared.client.clone());
    Ok(namespace == shared.options.cluster_resource_namespace
        && !is_empty(ObjectPages::new(clusters)).await?)
}

async fn is_empty<K>(mut pages: ObjectPages<K>) -> Result<bool, Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let first = pages.next("list the providers").await?;
    Ok(first.is_none_or(|page| page.is_empty()))
}

async fn release_all(shared: &Shared, namespace: &str) -> Result<(), Error> {
    let secrets: Api<Secret> = Api::namespaced(shared.client.clone(), namespace);
    let mut pages = ObjectPages::new(secrets.clone());
    while let Some(page) = pages.next("list the Secrets of a namespace").await? {
        let finalizers = page.iter().flat_map(|secret| orphans::login_finalizers(&secret.metadata));
        let orphans = orphans::among(shared, namespace, finalizers.map(str::to_owned).collect()).await?;
        for secret in page {
            let is_orphan = |finalizer: &str| orphans.contains(finalizer);
            if !orphans::login_finalizers(&secret.metadata).any(is_orphan) {
                continue;
            }
            let name = secret.name_any();
            tracing::info!(
                namespace,
                secret = name,
                "removing the finalizers of providers that no longer exist"
            );
            let (parameters, patch) = finalizer::remove_all(&secret.metadata, is_orphan);
            let write = secrets.patch_metadata(&name, &parameters, &patch);
            match bounded("remove the finalizer from a login Secret", write).await.map_err(Error::outdated) {
                // The Secret's next change, or the next search, finds it again.
                Ok(_) | Err(Error::Outdated) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
