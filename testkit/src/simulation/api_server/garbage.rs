//! The garbage collector: deletes objects whose owners are gone.

use std::sync::Arc;

use serde_json::Value;

use super::{
    State,
    kinds::Kind,
    store::{self, Stored},
};

/// The state of an owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Owner {
    Exists,
    Gone,
}

impl State {
    /// Deletes the dependents of absent owners, and theirs in turn. Returns how many it deleted.
    pub(super) fn collect_garbage(&mut self) -> usize {
        let mut collected = 0;
        loop {
            let found = self.garbage();
            if found.is_empty() {
                return collected;
            }
            for (kind, key, references) in found {
                match references {
                    None => {
                        collected += 1;
                        self.delete_in_background(&kind, &key);
                    }
                    Some(references) => self.replace_owners(&kind, &key, references),
                }
            }
        }
    }

    /// The objects to delete, and those that only lose some owners, with the others.
    fn garbage(&mut self) -> Vec<(Arc<Kind>, String, Option<Vec<Value>>)> {
        let mut found = Vec::new();
        let mut unknown = Vec::new();
        for kind in self.definitions.kinds() {
            for (key, stored) in self.store.all(kind).filter(|(_, stored)| !stored.is_deleting()) {
                let Some(references) = stored.metadata()["ownerReferences"].as_array() else { continue };
                let (kept, gone): (Vec<_>, Vec<_>) = references
                    .iter()
                    .partition(|reference| self.owner(stored, reference, &mut unknown) == Owner::Exists);
                if !gone.is_empty() {
                    let kept = (!kept.is_empty()).then(|| kept.into_iter().cloned().collect());
                    found.push((Arc::clone(kind), key.clone(), kept));
                }
            }
        }
        unknown.into_iter().for_each(|what| self.note_unmodelled(what));
        found
    }

    fn owner(&self, dependent: &Stored, reference: &Value, unknown: &mut Vec<String>) -> Owner {
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let Some(kind) = self.definitions.by_kind(text("apiVersion"), text("kind")) else {
            unknown.push(format!("an owner of the kind `{} {}`", text("apiVersion"), text("kind")));
            return Owner::Exists;
        };
        let namespace = dependent.metadata()["namespace"].as_str().filter(|_| kind.namespaced);
        let owner = self.store.get(kind, &store::key(namespace, text("name")));
        if owner.is_some_and(|owner| owner.uid() == text("uid")) { Owner::Exists } else { Owner::Gone }
    }

    fn replace_owners(&mut self, kind: &Arc<Kind>, key: &str, references: Vec<Value>) {
        if let Some(stored) = self.store.get(kind, key) {
            let mut value = stored.value.clone();
            value["metadata"]["ownerReferences"] = references.into();
            self.write(kind, key, value);
        }
    }
}
