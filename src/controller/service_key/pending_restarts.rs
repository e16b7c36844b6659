//! The restarts of workloads that ServiceKeys have before them. ServiceKeys that name the same workload restart it
//! together, so each sees those of the others.
//!
//! Once this process leads, the reconciles note them, and not the watch: a late watch would show restarts that are over,
//! and a patch would set an earlier number again.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use parking_lot::Mutex;
use uuid::Uuid;

use super::workloads;
use crate::{
    api::{RestartTarget, ServiceKey},
    lifecycle::Companion,
};

/// The most companions that a ServiceKey sees. One patch includes fewer of them.
const MOST_SEEN: usize = 1_000;

/// The restarts of one scope.
#[derive(Debug, Default)]
pub(super) struct PendingRestarts(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// Whether the first list of ServiceKeys has arrived.
    is_filled: bool,
    of_namespaces: HashMap<String, BTreeMap<Uuid, PendingRestart>>,
}

/// The restart of one ServiceKey.
#[derive(Clone, Debug)]
pub(super) struct PendingRestart {
    pub companion: Companion,
    pub targets: Targets,
    /// The annotation of the pod templates, and its value. A ServiceKey whose next key is being created has none yet.
    pub annotation: Option<(String, String)>,
}

/// Digests of the targets of a ServiceKey. A namespace may have many ServiceKeys, and each compares its targets with those
/// of all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Targets(Vec<u64>);

impl Targets {
    pub(super) fn of(targets: &[RestartTarget]) -> Self {
        Self(targets.iter().map(digest).collect())
    }

    fn has_any_of(&self, others: &Self) -> bool {
        self.0.iter().any(|target| others.0.contains(target))
    }

    fn contains(&self, target: &RestartTarget) -> bool {
        self.0.contains(&digest(target))
    }
}

fn digest(target: &RestartTarget) -> u64 {
    let mut digest = DefaultHasher::new();
    serde_json::to_string(target).unwrap_or_default().hash(&mut digest);
    digest.finish()
}

impl PendingRestarts {
    /// Notes the restart that a ServiceKey has before it; `None` if it has none.
    pub(super) fn note(&self, namespace: &str, uid: Uuid, restart: Option<PendingRestart>) {
        let namespaces = &mut self.0.lock().of_namespaces;
        match restart {
            Some(restart) => {
                namespaces.entry(namespace.to_owned()).or_default().insert(uid, restart);
            }
            None => remove(namespaces, namespace, uid),
        }
    }

    /// Notes what the status of a ServiceKey records, as long as another process restarts workloads.
    pub(super) fn note_recorded(&self, key: &ServiceKey) {
        if let Some(uid) = key.parsed_uid() {
            let namespace = key.metadata.namespace.clone().unwrap_or_default();
            self.note(&namespace, uid, workloads::recorded(key));
        }
    }

    /// Notes what the statuses of a list record. Once this process leads, only the first list counts: later ones may be
    /// older than what the reconciles noted.
    pub(super) fn fill<'a>(&self, keys: impl Iterator<Item = &'a ServiceKey>, leads: bool) {
        let is_first = !std::mem::replace(&mut self.0.lock().is_filled, true);
        if is_first || !leads {
            keys.for_each(|key| self.note_recorded(key));
        }
    }

    /// Forgets the ServiceKeys except these.
    pub(super) fn retain(&self, exist: &HashSet<Uuid>) {
        let namespaces = &mut self.0.lock().of_namespaces;
        namespaces.values_mut().for_each(|restarts| restarts.retain(|uid, _| exist.contains(uid)));
        namespaces.retain(|_, restarts| !restarts.is_empty());
    }

    /// The other ServiceKeys of a namespace that name one of these targets.
    pub(super) fn companions(
        &self,
        namespace: &str,
        except: Uuid,
        targets: &Targets,
    ) -> BTreeMap<Uuid, Companion> {
        let table = self.0.lock();
        let others = table.of_namespaces.get(namespace).into_iter().flatten();
        others
            .filter(|(uid, restart)| **uid != except && restart.targets.has_any_of(targets))
            .map(|(uid, restart)| (*uid, restart.companion))
            .take(MOST_SEEN)
            .collect()
    }

    /// The annotations that restart the workloads of a target for these ServiceKeys, as far as they name it.
    pub(super) fn annotations(
        &self,
        namespace: &str,
        uids: &[Uuid],
        target: &RestartTarget,
    ) -> BTreeMap<String, String> {
        let table = self.0.lock();
        let Some(restarts) = table.of_namespaces.get(namespace) else { return BTreeMap::new() };
        let named = uids
            .iter()
            .filter_map(|uid| restarts.get(uid))
            .filter(|restart| restart.targets.contains(target));
        named.filter_map(|restart| restart.annotation.clone()).collect()
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.0.lock().of_namespaces.values().map(BTreeMap::len).sum()
    }
}

fn remove(namespaces: &mut HashMap<String, BTreeMap<Uuid, PendingRestart>>, namespace: &str, uid: Uuid) {
    let Some(restarts) = namespaces.get_mut(namespace) else { return };
    restarts.remove(&uid);
    if restarts.is_empty() {
        namespaces.remove(namespace);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIRST: Uuid = Uuid::from_u128(1);
    const SECOND: Uuid = Uuid::from_u128(2);

    fn target(name: &str) -> RestartTarget {
        serde_json::from_value(json!({"kind": "Deployment", "name": name})).unwrap()
    }

    fn restart(of: &str, workloads: &[&str]) -> PendingRestart {
        PendingRestart {
            companion: Companion::Failed,
            targets: Targets::of(&workloads.iter().map(|name| target(name)).collect::<Vec<_>>()),
            annotation: Some((of.to_owned(), "2".to_owned())),
        }
    }

    #[test]
    fn only_other_service_keys_of_the_namespace_that_name_the_workload_are_companions() {
        let pending = PendingRestarts::default();
        pending.note("apps", FIRST, Some(restart("a", &["orders"])));
        pending.note("apps", SECOND, Some(restart("b", &["orders", "ledger"])));
        pending.note("other", Uuid::from_u128(3), Some(restart("c", &["orders"])));
        let of = |targets: &[RestartTarget]| pending.companions("apps", FIRST, &Targets::of(targets));
        assert_eq!(of(&[target("orders")]), BTreeMap::from([(SECOND, Companion::Failed)]));
        assert_eq!(of(&[target("search")]), BTreeMap::new());

        let annotations = |workload| pending.annotations("apps", &[FIRST, SECOND], &target(workload));
        let annotation = |name: &str| (name.to_owned(), "2".to_owned());
        assert_eq!(annotations("orders"), BTreeMap::from([annotation("a"), annotation("b")]));
        assert_eq!(annotations("ledger"), BTreeMap::from([annotation("b")]));
    }

    /// A ServiceKey that has to restart `orders` with the key of this number.
    fn recorded(sequence: u32) -> ServiceKey {
        let status = json!({
            "conditions": [], "restart": {"sequence": sequence, "dueAt": "2026-11-24T12:00:00Z"},
        });
        serde_json::from_value(json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {"name": "db", "namespace": "apps", "uid": FIRST},
            "spec": {
                "providerRef": {"name": "p"},
                "instance": {"id": "i"},
                "rotation": {"restart": [{"kind": "Deployment", "name": "orders"}]},
            },
            "status": status,
        }))
        .unwrap()
    }

    /// As long as another process leads, each list and each change counts. Afterwards only the reconciles know what is
    /// over.
    #[test]
    fn a_list_fills_the_table_until_this_process_leads() {
        let pending = PendingRestarts::default();
        let number = || pending.annotations("apps", &[FIRST], &target("orders")).into_values().next();
        pending.fill([&recorded(2)].into_iter(), false);
        assert_eq!(number().as_deref(), Some("2-00000000"));
        pending.note_recorded(&recorded(3));
        assert_eq!(number().as_deref(), Some("3-00000000"));
        pending.fill([&recorded(4)].into_iter(), false);
        assert_eq!(number().as_deref(), Some("4-00000000"));
        pending.fill([&recorded(5)].into_iter(), true);
        assert_eq!(number().as_deref(), Some("4-00000000"));
    }

    #[test]
    fn the_first_list_counts_even_if_this_process_leads() {
        let pending = PendingRestarts::default();
        pending.fill([&recorded(2)].into_iter(), true);
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn nothing_is_left_of_those_that_are_over() {
        let pending = PendingRestarts::default();
        for uid in [FIRST, SECOND] {
            pending.note("apps", uid, Some(restart("a", &["orders"])));
        }
        pending.note("apps", FIRST, None);
        pending.note("other", FIRST, None);
        assert_eq!(pending.len(), 1);
        pending.retain(&HashSet::new());
        assert_eq!(pending.len(), 0);
        assert!(pending.0.lock().of_namespaces.is_empty());
    }
}
