//! Lists and maps among the credentials, with a comparison of constant cost.
//!
//! The engine's fuel pays for the items of a compared list, but not for their content. Two equal lists that
//! contain a list of 100,000 numbers would be compared 20,000 times for the price of 20,000 numbers. So each
//! list and map has a digest, and a comparison compares the digests.

use std::{cmp::Ordering, collections::BTreeMap, fmt, sync::Arc};

use minijinja::value::{DynObject, Enumerator, Object, ObjectExt, ObjectRepr, Value};
use serde_json::Map;

use super::engine::convert;
use crate::secret::Digest;

pub(super) struct CredentialList {
    items: Vec<Value>,
    digest: String,
}

pub(super) struct CredentialMap {
    members: BTreeMap<String, Value>,
    digest: String,
}

impl CredentialList {
    pub(super) fn new(items: &[serde_json::Value]) -> Self {
        let items: Vec<_> = items.iter().map(convert).collect();
        let digest = Digest::new("servicekeys.dev/items/1");
        let digest = items.iter().fold(digest, |digest, item| digest.field(identity(item))).finish();
        Self { items, digest }
    }
}

impl CredentialMap {
    pub(super) fn from_json(members: &Map<String, serde_json::Value>) -> Self {
        Self::new(members.iter().map(|(name, value)| (name.clone(), convert(value))).collect())
    }

    pub(super) fn new(members: BTreeMap<String, Value>) -> Self {
        let digest = Digest::new("servicekeys.dev/members/1");
        let digest =
            members.iter().fold(digest, |digest, (name, value)| digest.field(name).field(identity(value)));
        Self { digest: digest.finish(), members }
    }
}

/// A text that equal values share and different values do not: the digest of a list or map, and the kind and
/// text of any other value.
fn identity(value: &Value) -> String {
    if let Some(items) = value.downcast_object_ref::<CredentialList>() {
        return format!("items {}", items.digest);
    }
    if let Some(members) = value.downcast_object_ref::<CredentialMap>() {
        return format!("members {}", members.digest);
    }
    format!("{} {value}", value.kind())
}

impl Object for CredentialList {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        Some(self.digest.cmp(&other.downcast_ref::<Self>()?.digest))
    }
}

impl Object for CredentialMap {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.members.get(key.as_str()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|this| Box::new(this.members.keys().map(|name| Value::from(name.as_str()))))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.members.len())
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        Some(self.digest.cmp(&other.downcast_ref::<Self>()?.digest))
    }
}

impl From<CredentialList> for Value {
    fn from(items: CredentialList) -> Self {
        Self::from_object(items)
    }
}

impl From<CredentialMap> for Value {
    fn from(members: CredentialMap) -> Self {
        Self::from_object(members)
    }
}

impl fmt::Debug for CredentialList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Items({})", self.items.len())
    }
}

impl fmt::Debug for CredentialMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Members({})", self.members.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// If the content were compared, the two would not be equal.
    #[test]
    fn what_a_list_or_map_holds_is_not_looked_at_to_compare_it() {
        let list = convert(&json!([[1, 2, 3]]));
        let digest = list.downcast_object_ref::<CredentialList>().unwrap().digest.clone();
        let forged = Value::from(CredentialList { items: vec![Value::from(7)], digest });
        assert_eq!(list, forged);
        let map = convert(&json!({"a": {"b": [1, 2, 3]}}));
        let digest = map.downcast_object_ref::<CredentialMap>().unwrap().digest.clone();
        let forged = Value::from(CredentialMap { members: BTreeMap::new(), digest });
        assert_eq!(map.cmp(&forged), Ordering::Equal);
    }
}
