//! Seats for ServiceKeys of a ClusterKeyProvider that limits their number in each namespace.
//!
//! # Guarantees
//! - The last seat is assigned once: seats are assigned under one lock, and a ServiceKey keeps its seat until it is
//!   gone or the limit becomes lower.
//! - A free seat requeues the next ServiceKey.
//!
//! # Assumptions
//! The watch calls [`Seats::note`] before the first decision about a ServiceKey, and [`Seats::remove`] after its
//! deletion.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::Stream;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::{
    api::{ProviderKind, ServiceKey},
    controller::{ids::ProviderId, requeues::Requeues},
    lifecycle::{SeatRank, is_within_limit},
};

/// The ServiceKeys of all ClusterKeyProviders, by namespace.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    groups: Mutex<HashMap<Group, Row>>,
    wakes: Requeues<ObjectRef<ServiceKey>>,
}

/// A provider, and a namespace whose ServiceKeys name it.
type Group = (ProviderId, String);

/// The ServiceKeys of a group.
#[derive(Debug, Default)]
struct Row {
    order: BTreeSet<SeatRank>,
    known: HashMap<Uuid, SeatedKey>,
}

#[derive(Debug)]
struct SeatedKey {
    name: String,
    standing: SeatRank,
    /// Whether it was refused, so that it is requeued when a seat becomes free.
    is_waiting: bool,
}

impl Row {
    fn insert(&mut self, uid: Uuid, known: SeatedKey) {
        self.order.insert(known.standing.clone());
        if let Some(before) = self.known.insert(uid, known)
            && self.known.get(&uid).is_none_or(|now| now.standing != before.standing)
        {
            self.order.remove(&before.standing);
        }
    }

    fn remove(&mut self, uid: Uuid) -> bool {
        let removed = self.known.remove(&uid);
        removed.iter().for_each(|known| {
            self.order.remove(&known.standing);
        });
        removed.is_some()
    }

    /// The names of the first waiting ServiceKeys.
    fn first_waiting(&self, count: usize) -> Vec<String> {
        let waiting = self.order.iter().filter_map(|standing| self.known.get(&standing.uid));
        waiting.filter(|known| known.is_waiting).take(count).map(|known| known.name.clone()).collect()
    }
}

/// Whether a ServiceKey has a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    Taken,
    /// Other ServiceKeys have all seats. It is requeued when one of them is gone.
    Refused,
    /// It was not noted yet. The event of the watch requeues it.
    Unknown,
}

impl Seats {
    /// Returns each waiting ServiceKey that may get a seat that became free.
    pub(crate) fn subscribe(&self) -> impl Stream<Item = ObjectRef<ServiceKey>> + Send + Unpin + use<> {
        self.wakes.subscribe()
    }

    /// Notes a ServiceKey as the cache shows it.
    pub(crate) fn note(&self, key: &ServiceKey) {
        let Some((group, uid)) = group_of(key) else { return };
        let Some(created) = &key.metadata.creation_timestamp else { return };
        let mut groups = self.groups();
        let row = groups.entry(group).or_default();
        let (waits, is_waiting) =
            row.known.get(&uid).map_or((true, false), |known| (known.standing.waits, known.is_waiting));
        let lacks_key = key.status.as_ref().is_none_or(|status| status.key.is_none());
        let standing = SeatRank { waits, lacks_key, created: created.0, uid };
        row.insert(uid, SeatedKey { name: key.name_any(), standing, is_waiting });
    }

    pub(crate) fn remove(&self, key: &ServiceKey) {
        let Some((group, uid)) = group_of(key) else { return };
        let mut groups = self.groups();
        let Some(row) = groups.get_mut(&group) else { return };
        let next = if row.remove(uid) { row.first_waiting(1) } else { Vec::new() };
        if row.known.is_empty() {
            groups.remove(&group);
        }
        drop(groups);
        self.wake(&group.1, next);
    }

    /// Removes all other ServiceKeys.
    pub(crate) fn retain(&self, exist: &HashSet<Uuid>) {
        let mut woken = Vec::new();
        self.groups().retain(|(_, namespace), row| {
            let gone: Vec<_> = row.known.keys().filter(|uid| !exist.contains(uid)).copied().collect();
            gone.iter().for_each(|uid| {
                row.remove(*uid);
            });
            woken.push((namespace.clone(), row.first_waiting(gone.len())));
            !row.known.is_empty()
        });
        woken.into_iter().for_each(|(namespace, names)| self.wake(&namespace, names));
    }

    /// The number of ServiceKeys in all groups.
    pub(crate) fn len(&self) -> usize {
        self.groups().values().map(|row| row.known.len()).sum()
    }

    /// Assigns a seat to a ServiceKey, if one of `max` seats is free for it.
    pub(crate) fn take(&self, provider: &ProviderId, namespace: &str, uid: Uuid, max: usize) -> Seat {
        let mut groups = self.groups();
        let Some(row) = groups.get_mut(&(provider.clone(), namespace.to_owned())) else {
            return Seat::Unknown;
        };
        let has_place = row.known.len() <= max || is_within_limit(row.order.iter(), max, uid);
        let Some(SeatedKey { name, standing, .. }) = row.known.remove(&uid) else { return Seat::Unknown };
        row.order.remove(&standing);
        let standing = SeatRank { waits: standing.waits && !has_place, ..standing };
        row.insert(uid, SeatedKey { name, standing, is_waiting: !has_place });
        if has_place { Seat::Taken } else { Seat::Refused }
    }

    fn wake(&self, namespace: &str, names: Vec<String>) {
        for name in names {
            self.wakes.send(&ObjectRef::new(&name).within(namespace));
        }
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<Group, Row>> {
        self.groups.lock()
    }
}

/// The group of a ServiceKey; `None` for a ServiceKey of a KeyProvider, which has no limits.
fn group_of(key: &ServiceKey) -> Option<(Group, Uuid)> {
    match key.spec.provider_ref.kind {
        ProviderKind::KeyProvider => None,
        ProviderKind::ClusterKeyProvider => {
            Some(((ProviderId::from_key(key), key.namespace()?), key.parsed_uid()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use serde_json::json;

    use super::*;

    /// A ServiceKey of the provider `shared`.
    fn key(name: &str, uid: u128, second: u32) -> ServiceKey {
        serde_json::from_value(json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {
                "name": name,
                "namespace": "team",
                "uid": Uuid::from_u128(uid),
                "creationTimestamp": format!("2026-11-28T12:00:{second:02}Z"),
            },
            "spec": {"providerRef": {"kind": "ClusterKeyProvider", "name": "shared"}, "instance": {"id": "db"}},
        }))
        .unwrap()
    }

    fn take(seats: &Seats, key: &ServiceKey, max: usize) -> Seat {
        seats.take(&ProviderId::from_key(key), "team", key.parsed_uid().unwrap(), max)
    }

    fn woken(freed: &mut (impl Stream<Item = ObjectRef<ServiceKey>> + Unpin)) -> Option<String> {
        freed.next().now_or_never().flatten().map(|key| key.name)
    }

    /// Both were created in the same second. The second one sorts first by its UID, but the first one already
    /// has the seat.
    #[test]
    fn the_last_place_is_given_once() {
        let (seats, first, second) = (Seats::default(), key("first", 2, 0), key("second", 1, 0));
        assert_eq!(take(&seats, &first, 1), Seat::Unknown);
        seats.note(&first);
        assert_eq!(take(&seats, &first, 1), Seat::Taken);
        seats.note(&second);
        assert_eq!(take(&seats, &second, 1), Seat::Refused);
        // Every change of its status notes it again.
        seats.note(&first);
        assert_eq!(take(&seats, &first, 1), Seat::Taken);
        assert_eq!(take(&seats, &second, 2), Seat::Taken);
        // The limit became lower. Among seated ServiceKeys the order is the same as after a restart.
        assert_eq!([&first, &second].map(|key| take(&seats, key, 1)), [Seat::Refused, Seat::Taken]);
    }

    #[test]
    fn a_free_place_wakes_the_next() {
        let (seats, keys) = (Seats::default(), [key("a", 1, 0), key("b", 2, 1), key("c", 3, 2)]);
        let mut freed = seats.subscribe();
        keys.iter().for_each(|key| seats.note(key));
        let [a, b, c] = keys;
        assert_eq!([&a, &b, &c].map(|key| take(&seats, key, 1)), [Seat::Taken, Seat::Refused, Seat::Refused]);
        seats.remove(&a);
        assert_eq!((woken(&mut freed).as_deref(), woken(&mut freed)), (Some("b"), None));
        assert_eq!(take(&seats, &b, 1), Seat::Taken);
        // A list shows that it is gone.
        seats.retain(&HashSet::from([Uuid::from_u128(3)]));
        assert_eq!(woken(&mut freed).as_deref(), Some("c"));
        assert_eq!(take(&seats, &c, 1), Seat::Taken);
        seats.remove(&c);
        assert_eq!(woken(&mut freed), None);
        assert!(seats.groups().is_empty());
    }
}
