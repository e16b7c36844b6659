//! Namespaces: which writes they admit, and how they disappear with their content.

use serde_json::Value;

use super::{State, kinds::Strategy, status::Refusal};
use crate::simulation::api_server::kinds::Kind;

/// The namespaces of every cluster.
pub(super) const INITIAL: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
/// The namespaces that can't be deleted.
pub(super) const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

impl State {
    /// Refuses a create in a namespace that is absent or is being deleted.
    pub(super) fn check_namespace(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(), Refusal> {
        let Some(namespaces) = self.definitions.by_strategy(Strategy::Namespace).next() else {
            return Ok(());
        };
        let Some(stored) = self.store.get(namespaces, namespace) else {
            return Err(Refusal::not_found(namespaces, namespace));
        };
        if stored.is_deleting() {
            let words = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let cause = format!("namespace {namespace} is being terminated");
            let refusal = Refusal::forbidden(kind, name, &words);
            return Err(refusal.with_cause("NamespaceTerminating", &cause, "metadata.namespace"));
        }
        Ok(())
    }

    /// Deletes the content of terminating namespaces, and those that are empty.
    pub(super) fn finalize_namespaces(&mut self) -> usize {
        let Some(namespaces) = self.definitions.by_strategy(Strategy::Namespace).next().cloned() else {
            return 0;
        };
        let terminating: Vec<_> = self
            .store
            .all(&namespaces)
            .filter(|(_, stored)| stored.is_deleting())
            .map(|(key, _)| key.clone())
            .collect();
        let mut finalized = 0;
        for namespace in terminating {
            for kind in self.definitions.kinds().to_vec().iter().filter(|kind| kind.namespaced) {
                let keys: Vec<_> =
                    self.store.within(kind, Some(&namespace)).map(|(key, _)| key.clone()).collect();
                keys.iter().for_each(|key| self.delete_in_background(kind, key));
            }
            let kinds = self.definitions.kinds();
            let is_empty = kinds
                .iter()
                .filter(|kind| kind.namespaced)
                .all(|kind| self.store.within(kind, Some(&namespace)).next().is_none());
            let has_finalizers = self
                .store
                .get(&namespaces, &namespace)
                .is_some_and(|stored| stored.metadata().get("finalizers").is_some());
            if is_empty && !has_finalizers {
                self.remove(&namespaces, &namespace);
                finalized += 1;
            }
        }
        finalized
    }
}

/// Prepares a new namespace.
pub(super) fn prepare_create(namespace: &mut Value) {
    let mut finalizers = namespace["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
        finalizers.push("kubernetes".into());
    }
    namespace["spec"]["finalizers"] = finalizers.into();
    namespace["status"] = serde_json::json!({"phase": "Active"});
}
