//! The changes of the cluster, for the owner of the server.

use serde_json::Value;

use super::{ApiServer, typed_value};

/// A change of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectChange {
    /// The resource, such as `secrets`.
    pub resource: String,
    /// The object before; `None`: it was created.
    pub before: Option<Value>,
    /// The object now; `None`: it is gone.
    pub after: Option<Value>,
}

impl ApiServer {
    /// All changes after this version that the history still covers.
    #[must_use]
    pub fn changes_since(&self, version: u64) -> Vec<ObjectChange> {
        let state = self.0.lock();
        let changes = state.store.changes_after(version).iter();
        changes
            .filter_map(|change| {
                let kind = state.definitions.kinds().get(change.kind)?;
                let object = |stored| typed_value(kind, stored);
                Some(ObjectChange {
                    resource: kind.plural.clone(),
                    before: change.before.as_deref().map(object),
                    after: change.after.as_deref().map(object),
                })
            })
            .collect()
    }
}
