//! The metadata of the Secrets: the watch's cache, and the operator's own writes that the cache does not show
//! yet.
//!
//! The cache shows only Secrets with the operator's label. A Secret that it does not show may be absent,
//! foreign, or the operator's without its label. Only a lookup by name shows which.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};
use parking_lot::Mutex;

use crate::{
    api::{ServiceKey, marks},
    controller::watch::{self, Cache, WatchChange},
    runtime::answers,
};

/// The newest known metadata of one Secret.
#[derive(Clone, Debug)]
pub(super) struct KnownSecret {
    /// The newest metadata, from the cache or from an own write.
    pub meta: ObjectMeta,
    /// Whether this version contains the entries that its marks describe.
    pub verified: bool,
}

/// The process's own knowledge of one version of a Secret.
#[derive(Debug)]
struct OwnKnowledge {
    version: u64,
    verified: bool,
    /// The metadata, until the cache shows this version.
    meta: Option<ObjectMeta>,
}

/// The process's own knowledge of Secrets. The watch and the reconciles share it.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnWrites(Arc<Mutex<SecretKnowledge>>);

#[derive(Debug, Default)]
struct SecretKnowledge {
    secrets: HashMap<ObjectRef<Secret>, OwnKnowledge>,
    /// The newest version that the watch has reported. A Secret that is older and not in the cache is gone.
    horizon: u64,
}

impl OwnWrites {
    /// Updates the knowledge with a change that the watch reports, so that it never outlives the Secret.
    pub(super) fn observe(&self, change: &WatchChange<PartialObjectMeta<Secret>>) {
        let known = &mut *self.0.lock();
        match change {
            WatchChange::Applied(secret) => known.shown(secret),
            WatchChange::Deleted(secret) => known.gone(secret),
            WatchChange::Listed(secrets) => {
                secrets.iter().for_each(|secret| known.shown(secret));
                let listed: HashSet<_> = secrets.iter().map(|secret| key_of(&secret.metadata)).collect();
                // A Secret that the list does not confirm may be gone: the next reconcile looks it up.
                known.secrets.retain(|secret, known| known.meta.is_none() && listed.contains(secret));
            }
        }
    }
}

impl SecretKnowledge {
    /// The cache shows this version.
    fn shown(&mut self, secret: &PartialObjectMeta<Secret>) {
        let (key, seen) = self.saw(secret);
        match self.secrets.get_mut(&key) {
            Some(known) if known.version == seen => known.meta = None,
            Some(known) if known.version < seen => drop(self.secrets.remove(&key)),
            _ => {}
        }
    }

    /// This version was the last one.
    fn gone(&mut self, secret: &PartialObjectMeta<Secret>) {
        let (key, seen) = self.saw(secret);
        if self.secrets.get(&key).is_some_and(|known| known.version <= seen) {
            self.secrets.remove(&key);
        }
    }

    fn saw(&mut self, secret: &PartialObjectMeta<Secret>) -> (ObjectRef<Secret>, u64) {
        let seen = watch::resource_version(secret);
        self.horizon = seen.max(self.horizon);
        (key_of(&secret.metadata), seen)
    }
}

/// The cache of the Secrets' metadata, and the knowledge of own writes.
#[derive(Clone, Debug)]
pub(super) struct SecretCache {
    cache: Cache<PartialObjectMeta<Secret>>,
    own: OwnWrites,
}

impl SecretCache {
    /// A view of the cache that the watch fills.
    pub(super) const fn new(cache: Cache<PartialObjectMeta<Secret>>, own: OwnWrites) -> Self {
        Self { cache, own }
    }

    /// Waits for the first fill of the cache.
    pub(super) async fn ready(&self) {
        self.cache.wait_filled().await;
    }

    /// The newest known metadata of one of the operator's Secrets; `None`: it has to be looked up.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<KnownSecret> {
        // Locked before the cache is read. If the watch has dropped own knowledge by then, the cache already
        // contains it.
        let own = self.own.0.lock();
        let cached = self.cache.store.get(&ObjectRef::new(name).within(namespace));
        let cached_version = cached.as_deref().map(watch::resource_version);
        let known = own.secrets.get(&named(namespace, name));
        match (known, cached) {
            (Some(OwnKnowledge { version, verified, meta: Some(meta) }), _)
                if Some(*version) > cached_version =>
            {
                Some(KnownSecret { meta: meta.clone(), verified: *verified })
            }
            // The cache has only a part of it, which is not enough to judge it or to write it back.
            (_, Some(cached)) if !answers::omissions(&cached.metadata).is_empty() => None,
            (known, Some(cached)) => {
                let verified =
                    known.is_some_and(|known| Some(known.version) == cached_version && known.verified);
                Some(KnownSecret { meta: cached.metadata.clone(), verified })
            }
            (_, None) => None,
        }
    }

    /// Whether the operator has a Secret of this name, as far as the process knows.
    pub(super) fn contains(&self, namespace: &str, name: &str) -> bool {
        self.cache.store.get(&ObjectRef::new(name).within(namespace)).is_some()
            || self.get(namespace, name).is_some()
    }

    /// Remembers a Secret that the operator wrote or read. `verified`: it contains the entries that its marks
    /// describe.
    pub(super) fn remember(&self, meta: &ObjectMeta, verified: bool) {
        let key = key_of(meta);
        let version = watch::version_number(meta.resource_version.as_deref());
        let cached = self
            .cache
            .store
            .get(&ObjectRef::new(&key.name).within(key.namespace.as_deref().unwrap_or_default()));
        let shown = cached.is_some_and(|cached| watch::resource_version(cached.as_ref()) >= version);
        let mut own = self.own.0.lock();
        let outpaced = shown || own.horizon >= version;
        let meta = (!outpaced).then(|| ObjectMeta { managed_fields: None, ..meta.clone() });
        own.secrets.insert(key, OwnKnowledge { version, verified, meta });
    }

    /// The number of Secrets of which the process has knowledge of its own.
    pub(super) fn own_len(&self) -> usize {
        self.own.0.lock().secrets.len()
    }

    /// Forgets the own knowledge of a Secret, because it was wrong or the Secret is gone.
    pub(super) fn forget(&self, namespace: &str, name: &str) {
        self.own.0.lock().secrets.remove(&named(namespace, name));
    }
}

fn key_of(meta: &ObjectMeta) -> ObjectRef<Secret> {
    named(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn named(namespace: &str, name: &str) -> ObjectRef<Secret> {
    ObjectRef::new(name).within(namespace)
}

/// The ServiceKeys whose Secrets may have changed.
pub(super) fn owners(
    change: &WatchChange<PartialObjectMeta<Secret>>,
    keys: &Store<ServiceKey>,
) -> Vec<ObjectRef<ServiceKey>> {
    match change {
        WatchChange::Applied(secret) | WatchChange::Deleted(secret) => {
            owner(secret, keys).into_iter().collect()
        }
        // A reconcile that finds its Secret intact sends no request.
        WatchChange::Listed(_) => keys.state().iter().map(|key| ObjectRef::from_obj(key.as_ref())).collect(),
    }
}

/// The ServiceKey that a Secret belongs to: its controller, or the one that its label names if the reference
/// was removed.
fn owner(secret: &PartialObjectMeta<Secret>, keys: &Store<ServiceKey>) -> Option<ObjectRef<ServiceKey>> {
    let namespace = secret.namespace()?;
    match secret.owner_references().iter().find(|owner| owner.controller == Some(true)) {
        Some(owner) => {
            (owner.kind == ServiceKey::kind(&())).then(|| ObjectRef::new(&owner.name).within(&namespace))
        }
        None => {
            let uid = secret.labels().get(marks::OWNER_UID_LABEL)?;
            let owner = keys.find(|key| key.metadata.uid.as_ref() == Some(uid))?;
            Some(ObjectRef::from_obj(owner.as_ref()))
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher::Event};

    use super::*;

    fn stored(version: u64) -> PartialObjectMeta<Secret> {
        let metadata = ObjectMeta {
            name: Some(format!("secret-{version}")),
            namespace: Some("apps".to_owned()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        };
        PartialObjectMeta { metadata, ..PartialObjectMeta::default() }
    }

    /// No event reports the deletion of a Secret while a watch is interrupted. Only the next list shows it.
    #[test]
    fn a_secret_that_a_new_list_lacks_is_forgotten() {
        let (store, _writer) = reflector::store();
        let own = OwnWrites::default();
        let secrets = SecretCache::new(Cache::filled_with(store), own.clone());
        for secret in [stored(1), stored(2)] {
            secrets.remember(&secret.metadata, true);
            own.observe(&WatchChange::Applied(secret));
        }
        assert_eq!(secrets.own_len(), 2);
        own.observe(&WatchChange::Listed(vec![Arc::new(stored(1))]));
        assert_eq!(secrets.own_len(), 1);
    }

    /// The watch replaces the operator's own knowledge while a reconcile reads it. At any time one of the two
    /// knows the Secret.
    #[test]
    fn a_secret_that_was_written_is_known_without_a_gap() {
        let (store, mut writer) = reflector::store();
        let own = OwnWrites::default();
        let secrets = SecretCache::new(Cache::filled_with(store), own.clone());
        let (tell, told) = std::sync::mpsc::channel();
        let watch = std::thread::spawn(move || {
            for secret in told {
                writer.apply_watcher_event(&Event::Apply(PartialObjectMeta::clone(&secret)));
                own.observe(&WatchChange::Applied(secret));
            }
        });
        for version in 1..=2_000 {
            let secret = stored(version);
            secrets.remember(&secret.metadata, true);
            tell.send(secret).unwrap();
            for _ in 0..200 {
                assert!(secrets.get("apps", &format!("secret-{version}")).is_some(), "version {version}");
            }
        }
        drop(tell);
        watch.join().unwrap();
    }
}
