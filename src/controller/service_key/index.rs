//! All ServiceKeys of all scopes, for questions about other ServiceKeys.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, core::PartialObjectMeta, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use uuid::Uuid;

use super::heirs::Heirs;
use crate::{
    api::{ServiceKey, marks},
    controller::{ids::ProviderId, watch::Cache},
    lifecycle::Heir,
};

/// The caches of all scopes that are served.
#[derive(Debug, Default)]
pub(crate) struct ServiceKeyIndex {
    keys: Mutex<Vec<Cache<ServiceKey>>>,
    heirs: Mutex<Vec<Arc<Heirs>>>,
    secrets: Mutex<Vec<Cache<PartialObjectMeta<Secret>>>>,
}

impl ServiceKeyIndex {
    /// Adds the ServiceKeys of a scope.
    pub(crate) fn add_keys(&self, keys: Cache<ServiceKey>, heirs: Arc<Heirs>) {
        self.keys.lock().push(keys);
        self.heirs.lock().push(heirs);
    }

    /// Adds the Secrets of a scope.
    pub(crate) fn add_secrets(&self, secrets: Cache<PartialObjectMeta<Secret>>) {
        self.secrets.lock().push(secrets);
    }

    /// The UIDs that the Secrets of these ServiceKeys name: of their owners, and of the ServiceKeys that
    /// their keys were created for. Only ServiceKeys whose status records no key count.
    pub(crate) fn owners_of_secrets(&self, keys: &[Arc<ServiceKey>]) -> HashSet<Uuid> {
        let caches = self.secrets.lock().clone();
        let keyless = keys.iter().filter(|key| key.status.as_ref().is_none_or(|status| status.key.is_none()));
        let names =
            keyless.filter_map(|key| Some(ObjectRef::new(&key.secret_name()).within(&key.namespace()?)));
        let secrets = names.filter_map(|name| caches.iter().find_map(|cache| cache.store.get(&name)));
        let uids = secrets.flat_map(|secret| {
            let owner = secret.labels().get(marks::OWNER_UID_LABEL);
            let former = secret.annotations().get(marks::FORMER_UID_ANNOTATION);
            [owner, former].map(|uid| Uuid::try_parse(uid?).ok())
        });
        uids.flatten().collect()
    }

    /// All ServiceKeys, once all caches are filled.
    pub(crate) async fn service_keys(&self) -> Vec<Arc<ServiceKey>> {
        let caches = self.keys.lock().clone();
        let mut keys = Vec::new();
        for cache in caches {
            cache.wait_filled().await;
            keys.extend(cache.store.state());
        }
        keys
    }

    /// The ServiceKeys that the caches contain so far.
    pub(crate) fn known_service_keys(&self) -> Vec<Arc<ServiceKey>> {
        self.keys.lock().iter().flat_map(|cache| cache.store.state()).collect()
    }

    /// Whether a ServiceKey of this UID exists; `None` until all caches are filled, if none has it.
    pub(crate) fn has_service_key(&self, uid: Uuid) -> Option<bool> {
        if self.heirs.lock().iter().any(|heirs| heirs.lives(uid)) {
            return Some(true);
        }
        self.keys.lock().iter().all(Cache::is_filled).then_some(false)
    }

    /// The first ServiceKey of a provider, except the one of this UID, that continues with the keys of a
    /// former one.
    pub(crate) fn first_heir_except(&self, former: Uuid, provider: &ProviderId, uid: Uuid) -> Option<Heir> {
        self.heirs.lock().iter().filter_map(|heirs| heirs.first_except(former, provider, uid)).min()
    }

    /// Reserves the keys of a former ServiceKey for the one of this UID, as [`Heirs::claim`] does. All ServiceKeys of a
    /// provider are in one scope. Returns `false` also if no cache contains the ServiceKey of this UID yet.
    pub(crate) fn claim_keys_of(&self, former: Uuid, provider: &ProviderId, uid: Uuid) -> bool {
        let scopes = self.heirs.lock();
        scopes.iter().find(|heirs| heirs.lives(uid)).is_some_and(|heirs| heirs.claim(former, provider, uid))
    }

    /// Ends the reservation of the ServiceKey of this UID.
    pub(crate) fn disclaim_keys(&self, uid: Uuid) {
        self.heirs.lock().iter().for_each(|heirs| heirs.disclaim(uid));
    }

    /// Whether a ServiceKey has the keys that were created for the ServiceKey of this UID: that ServiceKey
    /// itself, or one of this provider that was restored from it. `None` as for [`Self::has_service_key`].
    pub(crate) fn has_keys_of(&self, uid: Uuid, provider: &ProviderId) -> Option<bool> {
        let heir = self.first_heir_except(uid, provider, uid);
        if heir.is_some() { Some(true) } else { self.has_service_key(uid) }
    }

    /// The names of the ServiceKeys that name a provider, once all caches are filled.
    pub(crate) async fn key_names(&self, id: &ProviderId) -> BTreeSet<String> {
        let keys = self.service_keys().await;
        let named = keys.iter().filter(|key| ProviderId::from_key(key) == *id);
        let name = |key: &Arc<ServiceKey>| match (&id.namespace, key.namespace()) {
            (None, Some(namespace)) => format!("{namespace}/{}", key.name_any()),
            _ => key.name_any(),
        };
        named.map(name).collect()
    }

    /// Whether a ServiceKey that names a provider is being deleted. Also `true` until the caches are filled,
    /// because not all ServiceKeys are known before.
    pub(crate) fn has_deleting_keys(&self, id: &ProviderId) -> bool {
        let Some(keys) = self.service_keys().now_or_never() else { return true };
        keys.iter().any(|key| key.metadata.deletion_timestamp.is_some() && ProviderId::from_key(key) == *id)
    }
}
