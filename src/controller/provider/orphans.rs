//! The operator's finalizers on login Secrets whose provider is gone. A backup tool restores such finalizers, and a
//! provider that was deleted by force leaves them behind.
//!
//! # Guarantees
//! - A finalizer counts as orphaned only if the API server has listed the existing providers and none has its UID. A
//!   cache may not be filled yet, and lacks a provider that this operator can't parse.
//!
//! # Caveats
//! - An operator that serves single namespaces can't list ClusterKeyProviders, so it considers no finalizer orphaned.

use std::{collections::BTreeSet, fmt::Debug};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource, ResourceExt,
    api::ListParams,
    core::{ObjectList, PartialObjectMeta},
};
use serde::de::DeserializeOwned;

use crate::{
    api::{ClusterKeyProvider, KeyProvider, marks},
    controller::{
        error::{Error, bounded},
        shared::Shared,
        unread,
    },
};

/// Objects in one page of a list.
const PAGE_SIZE: u32 = 50;

/// The operator's finalizers on a login Secret. Empty if the finalizers could not be parsed, because a write
/// would then remove those of others.
pub(super) fn login_finalizers(meta: &ObjectMeta) -> impl Iterator<Item = &str> {
    let readable = meta.finalizers.as_ref().filter(|_| unread::obstacle(meta).is_none());
    let finalizers = readable.into_iter().flatten().map(String::as_str);
    finalizers.filter(|finalizer| finalizer.starts_with(marks::LOGIN_FINALIZER_PREFIX))
}

/// Returns the given finalizers whose provider is gone. The Secrets must have been read before.
///
/// # Errors
/// When the Kubernetes API fails.
pub(super) async fn among(
    shared: &Shared,
    namespace: &str,
    finalizers: BTreeSet<String>,
) -> Result<BTreeSet<String>, Error> {
    let mut suspects = without(finalizers, shared.providers.uids().into_iter());
    if suspects.is_empty() || shared.options.namespaces.is_some() {
        return Ok(BTreeSet::new());
    }
    let tenants: Api<KeyProvider> = Api::namespaced(shared.client.clone(), namespace);
    let clusters: Api<ClusterKeyProvider> = Api::all(shared.client.clone());
    suspects = remaining(tenants, suspects).await?;
    remaining(clusters, suspects).await
}

/// Removes the finalizers whose UID one of the objects has.
async fn remaining<K>(api: Api<K>, mut suspects: BTreeSet<String>) -> Result<BTreeSet<String>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut pages = ObjectPages::new(api);
    while let Some(page) = pages.next("list the providers").await? {
        suspects = without(suspects, page.iter().filter_map(ResourceExt::uid));
    }
    Ok(suspects)
}

fn without(mut finalizers: BTreeSet<String>, uids: impl Iterator<Item = String>) -> BTreeSet<String> {
    for uid in uids {
        finalizers.remove(&format!("{}{uid}", marks::LOGIN_FINALIZER_PREFIX));
    }
    finalizers
}

/// The metadata of all objects of a kind, read in pages from the API server.
pub(super) struct ObjectPages<K> {
    api: Api<K>,
    next: Option<ListParams>,
}

impl<K> ObjectPages<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    pub(super) fn new(api: Api<K>) -> Self {
        Self { api, next: Some(ListParams::default().limit(PAGE_SIZE)) }
    }

    /// Only the object of this name, if it exists.
    pub(super) fn of_name(api: Api<K>, name: &str) -> Self {
        let fields = format!("metadata.name={name}");
        Self { api, next: Some(ListParams::default().limit(PAGE_SIZE).fields(&fields)) }
    }

    /// The next page; `None` after the last one.
    ///
    /// # Errors
    /// When the Kubernetes API fails.
    pub(super) async fn next(
        &mut self,
        attempt: &'static str,
    ) -> Result<Option<Vec<PartialObjectMeta<K>>>, Error> {
        let Some(parameters) = self.next.take() else { return Ok(None) };
        let page: ObjectList<PartialObjectMeta<K>> =
            bounded(attempt, self.api.list_metadata(&parameters)).await?;
        let token = page.metadata.continue_.filter(|token| !token.is_empty());
        self.next = token.map(|token| parameters.continue_token(&token));
        Ok(Some(page.items))
    }
}
