//! The restarts of workloads that ServiceKeys have before them. ServiceKeys that name the same workload restart it
//! together, so each sees those of the others.
//!
//! The reconciles note them, and not the watch: a late watch would show restarts that are over, and a patch would set an
//! earlier number again.

use std::collections::{BTreeMap, HashMap, HashSet};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::{
    api::{RestartTarget, ServiceKey},
    lifecycle::Companion,
};

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
    pub targets: Vec<RestartTarget>,
    /// The annotation of the pod templates, and its value. A ServiceKey whose next key is being created has none yet.
    pub annotation: Option<(String, String)>,
}

impl PendingRestart {
    fn shares(&self, targets: &[RestartTarget]) -> bool {
        self.targets.iter().any(|target| targets.contains(target))
    }
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

    /// Notes those that the statuses of the first list record. Later lists may be older than what the reconciles noted.
    pub(super) fn fill<'a>(&self, keys: impl Iterator<Item = &'a ServiceKey>) {
        let mut table = self.0.lock();
        if std::mem::replace(&mut table.is_filled, true) {
            return;
        }
        for key in keys {
            let (Some(uid), Some(restart)) = (key.parsed_uid(), super::workloads::recorded(key)) else {
                continue;
            };
            let namespace = key.metadata.namespace.clone().unwrap_or_default();
            table.of_namespaces.entry(namespace).or_default().entry(uid).or_insert(restart);
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
        targets: &[RestartTarget],
    ) -> BTreeMap<Uuid, Companion> {
        let table = self.0.lock();
        let others = table.of_namespaces.get(namespace).into_iter().flatten();
        others
            .filter(|(uid, restart)| **uid != except && restart.shares(targets))
            .map(|(uid, restart)| (*uid, restart.companion))
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
            targets: workloads.iter().map(|name| target(name)).collect(),
            annotation: Some((of.to_owned(), "2".to_owned())),
        }
    }

    #[test]
    fn only_other_service_keys_of_the_namespace_that_name_the_workload_are_companions() {
        let pending = PendingRestarts::default();
        pending.note("apps", FIRST, Some(restart("a", &["orders"])));
        pending.note("apps", SECOND, Some(restart("b", &["orders", "ledger"])));
        pending.note("other", Uuid::from_u128(3), Some(restart("c", &["orders"])));
        let of = |targets: &[RestartTarget]| pending.companions("apps", FIRST, targets);
        assert_eq!(of(&[target("orders")]), BTreeMap::from([(SECOND, Companion::Failed)]));
        assert_eq!(of(&[target("search")]), BTreeMap::new());

        let annotations = |workload| pending.annotations("apps", &[FIRST, SECOND], &target(workload));
        let annotation = |name: &str| (name.to_owned(), "2".to_owned());
        assert_eq!(annotations("orders"), BTreeMap::from([annotation("a"), annotation("b")]));
        assert_eq!(annotations("ledger"), BTreeMap::from([annotation("b")]));
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
