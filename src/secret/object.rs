//! The Secret, as the operator sends it to the API server.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use serde::{Deserialize, Serialize};

use super::{Entries, Layout, Marks, admission, marks::is_reserved, parameters::PARAMETERS_KEY};
use crate::api::marks::{MANAGED_BY, MANAGED_BY_LABEL, OWNER_UID_LABEL};

/// The annotation that lists the user's labels and annotations on the Secret. With it, the operator removes
/// those that the layout no longer has. Absent if the layout has none.
pub(super) const LAYOUT_KEYS: &str = "servicekeys.dev/layout-keys";

/// The content of [`LAYOUT_KEYS`], as JSON.
#[derive(Default, Serialize, Deserialize)]
struct LayoutKeys {
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    labels: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    annotations: BTreeSet<String>,
}

/// The value of [`LAYOUT_KEYS`] for this layout.
pub(super) fn layout_keys(layout: &Layout) -> Option<String> {
    if layout.labels.is_empty() && layout.annotations.is_empty() {
        return None;
    }
    let keys = LayoutKeys {
        labels: layout.labels.keys().cloned().collect(),
        annotations: layout.annotations.keys().cloned().collect(),
    };
    serde_json::to_string(&keys).ok()
}

/// A Secret to create. Its owner reference names the ServiceKey as the controller.
///
/// `Debug` of a Secret shows its values, so never print the result.
#[must_use]
pub(crate) fn build(
    name: &str,
    namespace: &str,
    owner: &OwnerReference,
    layout: &Layout,
    entries: &Entries,
    marks: &Marks,
) -> Secret {
    let fresh = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    replace(&fresh, owner, layout, entries, marks)
}

/// A Secret that replaces one of the operator's. All entries are replaced. Labels, annotations, finalizers
/// and owner references of others stay. The `uid` and `resourceVersion` are those that were read, so that the
/// API server reports a conflict if another writer changed the Secret in between.
///
/// The type of a Secret is immutable: the API server refuses a change as invalid, and the Secret has to be
/// deleted and created again. `Debug` of a Secret shows its values, so never print the result.
#[must_use]
pub(crate) fn replace(
    existing: &ObjectMeta,
    owner: &OwnerReference,
    layout: &Layout,
    entries: &Entries,
    marks: &Marks,
) -> Secret {
    Secret {
        metadata: ObjectMeta {
            labels: Some(labels(existing, owner, layout)),
            annotations: Some(annotations(existing, layout, marks)),
            owner_references: Some(owner_references(existing, owner, layout)),
            managed_fields: None,
            ..existing.clone()
        },
        type_: Some(layout.type_.clone()),
        data: Some(entries.to_data()),
        ..Secret::default()
    }
}

/// A Secret for a dry run, which shows whether the API server would store a Secret of this layout. It has the
/// entry names that are known without credentials, and no marks of a key.
#[must_use]
pub(crate) fn rehearsal(existing: &ObjectMeta, owner: &OwnerReference, layout: &Layout) -> Secret {
    let known = layout.template.keys().map(String::as_str);
    let names: Vec<_> = known.chain(admission::demanded(&layout.type_).iter().copied()).collect();
    let names = if names.is_empty() { vec!["password"] } else { names };
    // The API server checks that types with JSON entries contain JSON.
    let data = names.into_iter().map(|name| (name.to_owned(), ByteString(b"{}".to_vec()))).collect();
    let mut annotations = existing.annotations.clone().unwrap_or_default();
    annotations.extend(layout.annotations.clone());
    Secret {
        metadata: ObjectMeta {
            labels: Some(labels(existing, owner, layout)),
            annotations: Some(annotations),
            owner_references: Some(owner_references(existing, owner, layout)),
            managed_fields: None,
            ..existing.clone()
        },
        type_: Some(layout.type_.clone()),
        data: Some(data),
        ..Secret::default()
    }
}

/// The Secret without the operator's marks and owner reference. It stays when its ServiceKey is deleted.
///
/// `Debug` of a Secret shows its values, so never print the result.
#[must_use]
pub(crate) fn release(mut secret: Secret, owner: &OwnerReference) -> Secret {
    secret.metadata.owner_references = Some(other_owners(&secret.metadata, owner).cloned().collect());
    secret.metadata.managed_fields = None;
    for keys in [&mut secret.metadata.labels, &mut secret.metadata.annotations] {
        keys.get_or_insert_default().retain(|key, _| !is_reserved(key));
    }
    secret
}

fn labels(existing: &ObjectMeta, owner: &OwnerReference, layout: &Layout) -> BTreeMap<String, String> {
    let mut labels = existing.labels.clone().unwrap_or_default();
    let former = former_keys(existing);
    labels.retain(|key, _| !former.labels.contains(key));
    labels.extend(layout.labels.clone());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels.insert(OWNER_UID_LABEL.to_owned(), owner.uid.clone());
    labels
}

fn annotations(existing: &ObjectMeta, layout: &Layout, marks: &Marks) -> BTreeMap<String, String> {
    let mut annotations = existing.annotations.clone().unwrap_or_default();
    let former = former_keys(existing);
    annotations.retain(|key, _| {
        ![LAYOUT_KEYS, PARAMETERS_KEY].contains(&key.as_str()) && !former.annotations.contains(key)
    });
    annotations.extend(layout.annotations.clone());
    annotations.extend(layout.parameters_key.as_ref().map(|key| (PARAMETERS_KEY.to_owned(), key.text())));
    annotations.extend(layout_keys(layout).map(|keys| (LAYOUT_KEYS.to_owned(), keys)));
    marks.write(&mut annotations);
    annotations
}

fn owner_references(existing: &ObjectMeta, owner: &OwnerReference, layout: &Layout) -> Vec<OwnerReference> {
    let ours = (!layout.outlives_owner).then_some(owner);
    other_owners(existing, owner).chain(ours).cloned().collect()
}

fn other_owners<'a>(
    existing: &'a ObjectMeta,
    owner: &'a OwnerReference,
) -> impl Iterator<Item = &'a OwnerReference> {
    existing.owner_references.iter().flatten().filter(|reference| reference.uid != owner.uid)
}

/// The user's labels and annotations that are on the Secret now. If the list is missing or damaged, they
/// count as another writer's.
fn former_keys(existing: &ObjectMeta) -> LayoutKeys {
    let list = existing.annotations.as_ref().and_then(|annotations| annotations.get(LAYOUT_KEYS));
    list.and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
