//! Periodic scan of all keys of a provider. The operator checks keys that are missing from the list one by
//! one. It reports orphans, or revokes them if the user chose that.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use kube::runtime::reflector::ObjectRef;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{Provider, ProviderContext};
use crate::{
    api::{BackendSpec, OrphanPolicy, Orphans, ProviderSpec, ServiceKey},
    backend::{Backend, BackendError, CompleteList, Kept},
    controller::{ids::ProviderId, service_key::status},
    lifecycle::{Findings, Identity, Inventory, MarkedKey, Orphan, Sequence},
};

/// Time limit for one scan: listing the keys and revoking orphans.
const DEADLINE: Duration = Duration::from_secs(300);
/// Limit of orphan names in a status.
const NAMES_SHOWN: usize = 20;
/// Limit of orphans that are revoked after one list. If there are more, a person should check them first.
const MOST_REVOKED: usize = 100;

/// Result of the last list of all keys.
#[derive(Clone, Debug, Default)]
pub(super) struct OrphanScan {
    pub orphans: Option<Orphans>,
    /// The ids of keys that the next list may prove to be orphans. The memory budget may drop them.
    suspects: Option<Kept<Arc<HashSet<String>>>>,
}

/// Size of a suspect in memory, in addition to its id.
const SUSPECT: usize = 64;

/// Orphans that the operator did not revoke.
#[derive(Debug, Default)]
struct Left {
    count: usize,
    first: Option<MarkedKey>,
    names: Vec<String>,
}

impl Left {
    fn push(&mut self, key: MarkedKey) {
        self.count += 1;
        let place = self.names.partition_point(|name| *name <= key.name);
        if place < NAMES_SHOWN {
            self.names.insert(place, key.name.clone());
            self.names.truncate(NAMES_SHOWN);
        }
        self.first.get_or_insert(key);
    }
}

/// Splits the orphans into those to revoke and a summary of the others, which keeps only what messages need.
fn sort_out(orphans: Vec<Orphan>, policy: OrphanPolicy) -> (Vec<MarkedKey>, Left) {
    let (go, stay): (Vec<_>, Vec<_>) =
        orphans.into_iter().partition(|orphan| policy == OrphanPolicy::Delete && orphan.may_be_revoked);
    let mut go: Vec<_> = go.into_iter().map(|orphan| orphan.key).collect();
    let rest = go.split_off(go.len().min(MOST_REVOKED));
    go.shrink_to_fit();
    let mut left = Left::default();
    stay.into_iter().map(|orphan| orphan.key).chain(rest).for_each(|key| left.push(key));
    (go, left)
}

impl<K: Provider> ProviderContext<K> {
    /// Lists all keys of a provider, if its remote side can, and acts on the result. A list that fails or
    /// times out changes nothing; the next scan repeats it.
    pub(super) async fn scan(
        &self,
        id: &ProviderId,
        provider: &K,
        backend: &Backend,
        before: OrphanScan,
    ) -> OrphanScan {
        match timeout(DEADLINE, self.try_scan(id, provider, backend, &before)).await {
            Ok(Ok(survey)) => return survey,
            Ok(Err(error)) => {
                tracing::warn!(provider = %id, %error, "the keys of a provider could not be listed");
            }
            Err(_) => {
                tracing::warn!(provider = %id, deadline = ?DEADLINE, "the list of a provider's keys took too long");
            }
        }
        before
    }

    async fn try_scan(
        &self,
        id: &ProviderId,
        provider: &K,
        backend: &Backend,
        before: &OrphanScan,
    ) -> Result<OrphanScan, BackendError> {
        let shared = &self.shared;
        shared.namespaces.wait_filled().await;
        let cluster_id = shared.namespaces.cluster_id();
        // Collected before the list is requested: the list need not contain a key that is created in the
        // meantime.
        let expected = expected(id, &shared.index.service_keys().await);
        let asked = Instant::now();
        let Some(listed) = backend.marked_keys(cluster_id.as_deref()).await? else {
            return Ok(OrphanScan::default());
        };
        let CompleteList { items: listed, held } = listed;
        let service_keys = shared.index.service_keys().await;
        let accounted = accounted(&service_keys, shared.index.owners_of_secrets(&service_keys));
        // The list alone does not prove keys of a former ServiceKey.
        let own: HashSet<_> = service_keys.iter().filter_map(|key| key.parsed_uid()).collect();
        let has = |key: &&MarkedKey| {
            let numbers = accounted.get(&key.owner).filter(|_| own.contains(&key.owner));
            key.sequence.is_some_and(|number| numbers.is_some_and(|numbers| numbers.contains(&number)))
        };
        backend.confirm(asked, listed.iter().filter(has));
        let inventory = Inventory {
            listed,
            expected: expected.iter().map(|(identity, (id, _))| (*identity, id.clone())).collect(),
            accounted,
            namespace: id.namespace.clone(),
            cluster_is_known: cluster_id.is_some(),
            suspects: before.suspects.as_ref().and_then(Kept::get).unwrap_or_default(),
        };
        let Findings { missed, orphans, suspects } = inventory.findings();
        let missed: HashSet<_> = missed.into_iter().collect();
        let doubtful = expected.into_iter().filter(|(identity, _)| missed.contains(identity));
        let doubtful = doubtful.map(|(identity, (_, key))| (identity, key));
        shared.missing_keys.replace(id, doubtful.collect());
        let (go, mut left) = sort_out(orphans, policy(provider.provider()));
        let weight = suspects.iter().map(|id| id.capacity() + SUSPECT).sum();
        let kept = shared.answer_memory.kept(id.namespace.as_deref()).keep(weight, Arc::new(suspects));
        let suspects = kept
            .inspect_err(|why| {
                tracing::warn!(provider = %id, %why, "possible orphans could not be kept until the next list");
            })
            .ok();
        // Freed first, because revoking the keys may take long.
        drop(held);
        self.revoke(provider, backend, go, &mut left).await;
        Ok(OrphanScan { orphans: self.report_orphans(id, provider, before, left), suspects })
    }

    /// Revokes these orphans. Keys that could not be revoked are added to `left`.
    async fn revoke(&self, provider: &K, backend: &Backend, go: Vec<MarkedKey>, left: &mut Left) {
        let events = &self.shared.events;
        for key in go {
            let about = provider.object_ref(&());
            match backend.discard(&key).await {
                Ok(()) => {
                    self.shared.metrics.count_revoked_orphan(backend.kind());
                    events.normal(
                        about,
                        "OrphanRevoked",
                        "Revoke",
                        format!("{} was revoked: no ServiceKey has it", described(&key)),
                    );
                }
                Err(error) => {
                    let note = format!("{} could not be revoked: {}", described(&key), error.message);
                    events.warning(about, "OrphanNotRevoked", "Revoke", note);
                    left.push(key);
                }
            }
        }
    }

    /// Reports the orphans that are left. If they changed, it publishes an event.
    fn report_orphans(
        &self,
        id: &ProviderId,
        provider: &K,
        before: &OrphanScan,
        left: Left,
    ) -> Option<Orphans> {
        let Left { count, first, names } = left;
        self.shared.metrics.set_orphans(id.namespace.as_deref(), &id.name, count);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let orphans = (count > 0).then_some(Orphans { count, names });
        if let Some(first) = first
            && orphans != before.orphans
        {
            let others = if count > 1 { format!(", and {} more", count - 1) } else { String::new() };
            let note = format!(
                "{}{others}: no ServiceKey has it; delete it at the remote side if it is not needed",
                described(&first)
            );
            self.shared.events.warning(provider.object_ref(&()), "OrphansFound", "Survey", note);
        }
        orphans
    }
}

fn described(key: &MarkedKey) -> String {
    format!("the key `{}` with the id `{}`", key.name, key.id)
}

fn policy(spec: &ProviderSpec) -> OrphanPolicy {
    match spec.backend() {
        Some(BackendSpec::CloudFoundry(spec)) => spec.orphans,
        Some(BackendSpec::IbmCloud(spec)) => spec.orphans,
        Some(BackendSpec::OpenServiceBroker(_)) | None => OrphanPolicy::Report,
    }
}

/// The current keys of a provider according to the statuses, with the ids of the remote side.
fn expected(id: &ProviderId, keys: &[Arc<ServiceKey>]) -> HashMap<Identity, (String, ObjectRef<ServiceKey>)> {
    let of_provider = keys.iter().filter(|key| ProviderId::from_key(key) == *id);
    let living = of_provider.filter(|key| key.metadata.deletion_timestamp.is_none());
    // The status of a restored ServiceKey must not hide the status of the ServiceKey with that UID.
    let (inherited, own): (Vec<_>, Vec<_>) =
        living.partition(|key| key.status.as_ref().is_some_and(|status| status.former_uid.is_some()));
    let mut expected = HashMap::new();
    for key in own.into_iter().chain(inherited) {
        let known = key.status.as_ref().and_then(|status| status.key.as_ref());
        if let Some(known) = known.filter(|known| !known.id.is_empty())
            && let Some(owner) = status::owner_of_keys(key)
            && let Some(sequence) = Sequence::new(known.sequence)
        {
            let about = (known.id.clone(), ObjectRef::from_obj(key.as_ref()));
            expected.entry(Identity { owner, sequence }).or_insert(about);
        }
    }
    expected
}

/// The keys that ServiceKeys may have, of all providers: another provider may lead to the same remote side.
/// `secrets` are the owners that Secrets name. A Secret from a backup names an owner with whose keys a restored
/// ServiceKey may continue.
fn accounted(keys: &[Arc<ServiceKey>], secrets: HashSet<Uuid>) -> HashMap<Uuid, BTreeSet<Sequence>> {
    let mut accounted: HashMap<_, BTreeSet<_>> =
        secrets.into_iter().map(|owner| (owner, BTreeSet::new())).collect();
    for key in keys {
        let Some(owner) = status::owner_of_keys(key) else { continue };
        accounted.entry(owner).or_default().extend(status::read(key.status.as_ref()).sequences());
    }
    accounted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orphan(number: usize, may_go: bool) -> Orphan {
        let key = MarkedKey {
            id: number.to_string(),
            name: format!("key-{number:05}"),
            owner: Uuid::from_u128(1),
            sequence: None,
            namespace: None,
        };
        Orphan { key, may_be_revoked: may_go }
    }

    /// The keys of a restored ServiceKey carry its former UID. If the operator has not reconciled it yet,
    /// only the Secret names that UID.
    #[test]
    fn keys_of_restored_service_keys_are_accounted_for() {
        let restored = |uid: u128, sequence: u32| {
            Arc::new(
                serde_json::from_value(serde_json::json!({
                    "metadata": {"uid": Uuid::from_u128(uid)},
                    "spec": {"providerRef": {"name": "cf"}, "instance": {"name": "db"}},
                    "status": {"formerUid": Uuid::from_u128(1), "operation": {"kind": "Bind", "sequence": sequence}},
                }))
                .unwrap(),
            )
        };
        let known = accounted(&[restored(2, 4), restored(3, 5)], [Uuid::from_u128(9)].into());
        let numbers = |uid: u128| {
            let numbers = known.get(&Uuid::from_u128(uid))?.iter().map(|number| number.number());
            Some(numbers.collect::<Vec<_>>())
        };
        assert_eq!([1, 2, 9].map(numbers), [Some(vec![4, 5]), None, Some(vec![])]);
    }

    #[test]
    fn no_more_is_kept_of_orphans_than_messages_need() {
        let orphans: Vec<_> = (0..5000).rev().map(|number| orphan(number, number % 2 == 0)).collect();
        let (go, left) = sort_out(orphans.clone(), OrphanPolicy::Delete);
        assert_eq!((go.len(), left.count, left.names.len()), (MOST_REVOKED, 4900, NAMES_SHOWN));
        assert_eq!((go[0].name.as_str(), left.names[1].as_str()), ("key-04998", "key-00001"));
        assert_eq!(left.first.unwrap().name, "key-04999");
        let (go, left) = sort_out(orphans, OrphanPolicy::Report);
        assert_eq!((go.len(), left.count), (0, 5000));
        assert!(left.names.is_sorted());
    }
}
