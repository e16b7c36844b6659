//! The Secret itself, as it is sent to the API server.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use serde::{Deserialize, Serialize};

use super::{Entries, Layout, Marks, admission, marks::is_reserved};
use crate::api::marks::{MANAGED_BY, MANAGED_BY_LABEL, OWNER_UID_LABEL};

/// The annotation that lists the user's labels and annotations on the Secret, so that those that leave the
/// layout leave the Secret too. Absent where there are none.
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

/// A Secret to create. The owner reference is the ServiceKey's, as its controller.
///
/// `Debug` of a Secret shows its values: never print what this returns.
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

/// A Secret to write over one of ours. Entries are replaced as a whole; labels, annotations, finalizers and
/// owner references of others stay. It carries the `uid` and `resourceVersion` that were read, so that the
/// API server refuses it with a conflict when somebody wrote in between.
///
/// The type of a Secret can't be changed: the API server refuses that as invalid, and the Secret is to be
/// deleted and created. `Debug` of a Secret shows its values: never print what this returns.
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

/// A Secret to find out by a dry run whether the API server would store one of this layout: with entries of the names that
/// are known before there are credentials, and without the marks of a key.
#[must_use]
pub(crate) fn rehearsal(existing: &ObjectMeta, owner: &OwnerReference, layout: &Layout) -> Secret {
    let known = layout.template.keys().map(String::as_str);
    let names: Vec<_> = known.chain(admission::demanded(&layout.type_).iter().copied()).collect();
    let names = if names.is_empty() { vec!["password"] } else { names };
    // Types that hold JSON are checked for it.
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

/// One of ours that stays when its ServiceKey goes: without what makes it ours.
///
/// `Debug` of a Secret shows its values: never print what this returns.
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
    annotations.retain(|key, _| key != LAYOUT_KEYS && !former.annotations.contains(key));
    annotations.extend(layout.annotations.clone());
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

/// The user's keys that are on the Secret now. Where the list is lost or damaged, they count as somebody
/// else's.
fn former_keys(existing: &ObjectMeta) -> LayoutKeys {
    let list = existing.annotations.as_ref().and_then(|annotations| annotations.get(LAYOUT_KEYS));
    list.and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
