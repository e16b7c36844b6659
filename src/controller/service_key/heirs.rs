//! An index by UID of the existing ServiceKeys, and of those that continue with the keys of former ones.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use uuid::Uuid;

use super::status;
use crate::{api::ServiceKey, controller::ids::ProviderId, lifecycle::Heir};

/// The ServiceKeys of one scope.
#[derive(Debug, Default)]
pub(crate) struct Heirs(Mutex<Index>);

#[derive(Debug, Default)]
struct Index {
    /// Every ServiceKey, with the former one whose keys it continues with.
    living: HashMap<Uuid, Option<(Uuid, ProviderId)>>,
    of_former: HashMap<(Uuid, ProviderId), BTreeSet<Heir>>,
    /// The former ServiceKeys that a ServiceKey is about to continue with, by its UID, until the cache shows that it
    /// does.
    claims: HashMap<Uuid, (Uuid, ProviderId)>,
}

impl Heirs {
    /// Adds or updates a ServiceKey as the cache shows it.
    pub(crate) fn note(&self, key: &ServiceKey) {
        self.0.lock().insert(key);
    }

    pub(crate) fn remove(&self, key: &ServiceKey) {
        if let Some(uid) = key.parsed_uid() {
            let mut index = self.0.lock();
            index.remove(uid);
            index.claims.remove(&uid);
        }
    }

    /// Replaces the index.
    pub(crate) fn replace<'a>(&self, keys: impl Iterator<Item = &'a ServiceKey>) {
        let mut index = Index::default();
        keys.for_each(|key| index.insert(key));
        let mut replaced = self.0.lock();
        index.claims = std::mem::take(&mut replaced.claims);
        index.claims.retain(|uid, _| index.living.get(uid).is_some_and(Option::is_none));
        *replaced = index;
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        let index = self.0.lock();
        let heirs = index.of_former.values().map(BTreeSet::len).sum::<usize>();
        index.living.len() + heirs + index.claims.len()
    }

    /// Reserves the keys of a former ServiceKey for the one of this UID, before its status records that it continues
    /// with them. Two ServiceKeys that record it at once would each revoke keys of the other. Returns whether no other
    /// ServiceKey of the provider has these keys, or has reserved them.
    pub(crate) fn claim(&self, former: Uuid, provider: &ProviderId, uid: Uuid) -> bool {
        let (mut index, claim) = (self.0.lock(), (former, provider.clone()));
        let mut heirs = index.of_former.get(&claim).into_iter().flatten().map(|heir| heir.uid);
        let mut claimants = index.claims.iter().filter(|(_, other)| **other == claim).map(|(uid, _)| *uid);
        let is_free = heirs.all(|heir| heir == uid) && claimants.all(|claimant| claimant == uid);
        if is_free && index.living.get(&uid).is_some_and(Option::is_none) {
            index.claims.insert(uid, claim);
        }
        is_free
    }

    /// Ends the reservation of a ServiceKey whose status was not written.
    pub(crate) fn disclaim(&self, uid: Uuid) {
        self.0.lock().claims.remove(&uid);
    }

    /// Whether a ServiceKey of this UID exists.
    pub(crate) fn lives(&self, uid: Uuid) -> bool {
        self.0.lock().living.contains_key(&uid)
    }

    /// The first ServiceKey of a provider, except the given one, that continues with the keys of this former
    /// one. The claim of a ServiceKey of another provider proves nothing.
    pub(crate) fn first_except(&self, former: Uuid, provider: &ProviderId, uid: Uuid) -> Option<Heir> {
        self.0.lock().of_former.get(&(former, provider.clone()))?.iter().find(|heir| heir.uid != uid).copied()
    }
}

impl Index {
    fn insert(&mut self, key: &ServiceKey) {
        let Some(heir) = heir(key) else { return };
        self.remove(heir.uid);
        let former = key.status.as_ref().and_then(status::former_uid);
        let former = former.map(|former| (former, ProviderId::from_key(key)));
        self.living.insert(heir.uid, former.clone());
        if let Some(former) = former {
            self.of_former.entry(former).or_default().insert(heir);
            self.claims.remove(&heir.uid);
        }
    }

    fn remove(&mut self, uid: Uuid) {
        let Some(former) = self.living.remove(&uid).flatten() else { return };
        let Some(heirs) = self.of_former.get_mut(&former) else { return };
        heirs.retain(|heir| heir.uid != uid);
        if heirs.is_empty() {
            self.of_former.remove(&former);
        }
    }
}

/// The rank of a ServiceKey among those that continue with the same keys.
pub(super) fn heir(key: &ServiceKey) -> Option<Heir> {
    Some(Heir { created: key.metadata.creation_timestamp.as_ref()?.0, uid: key.parsed_uid()? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(uid: u128, former: Option<u128>) -> ServiceKey {
        serde_json::from_value(json!({
            "metadata": {"namespace": "apps", "uid": Uuid::from_u128(uid), "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"providerRef": {"name": "broker"}, "instance": {"id": "db"}},
            "status": {"formerUid": former.map(Uuid::from_u128)},
        }))
        .unwrap()
    }

    fn first(heirs: &Heirs, former: u128, except: u128) -> Option<Uuid> {
        let provider = ProviderId { namespace: Some("apps".to_owned()), name: "broker".to_owned() };
        heirs.first_except(Uuid::from_u128(former), &provider, Uuid::from_u128(except)).map(|heir| heir.uid)
    }

    /// The cache does not show at once that a ServiceKey continues with the keys of a former one.
    #[test]
    fn only_one_service_key_claims_the_keys_of_a_former_one() {
        let heirs = Heirs::default();
        heirs.replace([key(2, None), key(3, None)].iter());
        let provider = ProviderId { namespace: Some("apps".to_owned()), name: "broker".to_owned() };
        let claim = |uid| heirs.claim(Uuid::from_u128(1), &provider, Uuid::from_u128(uid));
        assert!(claim(2) && claim(2) && !claim(3));
        let another = ProviderId { name: "another".to_owned(), ..provider.clone() };
        assert!(
            heirs.claim(Uuid::from_u128(1), &another, Uuid::from_u128(3)),
            "it may be another remote side"
        );
        heirs.note(&key(2, None));
        heirs.replace([key(2, None), key(3, None)].iter());
        assert!(!claim(3), "neither an old version nor an old list ends a claim");

        heirs.note(&key(2, Some(1)));
        assert!(!claim(3), "the cache shows it");
        heirs.note(&key(2, None));
        assert!(claim(3) && !claim(2), "the claim has ended");
        heirs.disclaim(Uuid::from_u128(3));
        assert!(claim(2));
        heirs.remove(&key(2, None));
        assert!(claim(3));
        heirs.remove(&key(3, None));
        assert_eq!(heirs.len(), 0);
    }

    #[test]
    fn the_index_follows_the_cache() {
        let heirs = Heirs::default();
        heirs.replace([key(9, None), key(3, Some(1))].iter());
        heirs.note(&key(2, None));
        assert!([2, 3, 9].iter().all(|uid| heirs.lives(Uuid::from_u128(*uid))));
        assert!(!heirs.lives(Uuid::from_u128(1)), "it is a former one");
        heirs.note(&key(2, Some(1)));
        assert_eq!(first(&heirs, 1, 3), Some(Uuid::from_u128(2)));
        assert_eq!(first(&heirs, 1, 2), Some(Uuid::from_u128(3)));

        let mut of_another_provider = key(8, Some(1));
        of_another_provider.spec.provider_ref.name = "another".to_owned();
        heirs.note(&of_another_provider);
        heirs.remove(&key(3, Some(1)));
        assert_eq!(first(&heirs, 1, 2), None);
        heirs.replace([key(4, Some(1))].iter());
        assert_eq!(first(&heirs, 1, 2), Some(Uuid::from_u128(4)));
        assert!(!heirs.lives(Uuid::from_u128(2)));
    }
}
