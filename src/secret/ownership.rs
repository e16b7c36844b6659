//! Whose a Secret is, and whether what makes it ours is still in place.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use uuid::Uuid;

use super::{
    Layout,
    object::{LAYOUT_KEYS, layout_keys},
};
use crate::api::marks::{MANAGED_BY, MANAGED_BY_LABEL, OWNER_UID_LABEL};

/// Whose a Secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// It belongs to the ServiceKey that asks, which may write and delete it.
    Ours,
    /// It belongs to somebody else, and is not to be touched.
    Foreign {
        /// Who that is, in words for a message: ``ServiceKey `x` ``.
        holder: String,
    },
}

/// Whose a Secret is. Its controller decides; where it has none, the label with the owner's UID does.
#[must_use]
pub fn ownership(meta: &ObjectMeta, owner: &Uuid) -> Ownership {
    if let Some(controller) = controller(meta) {
        return if is_uid(&controller.uid, owner) {
            Ownership::Ours
        } else {
            Ownership::Foreign { holder: format!("{} `{}`", controller.kind, controller.name) }
        };
    }
    match label(meta, OWNER_UID_LABEL) {
        Some(uid) if is_uid(uid, owner) => Ownership::Ours,
        Some(_) => Ownership::Foreign { holder: "another ServiceKey".to_owned() },
        None => Ownership::Foreign { holder: "somebody else".to_owned() },
    }
}

/// Whether the operator's labels and owner reference (or none, as the layout wants it), and the layout's labels and annotations, are all in
/// place. The marks themselves are not looked at: [`super::read`] does that.
#[must_use]
pub fn intact(meta: &ObjectMeta, owner: &OwnerReference, layout: &Layout) -> bool {
    let keys = layout_keys(layout);
    controller(meta) == (!layout.outlives_owner).then_some(owner)
        && label(meta, MANAGED_BY_LABEL) == Some(MANAGED_BY)
        && label(meta, OWNER_UID_LABEL) == Some(owner.uid.as_str())
        && contains_all(meta.labels.as_ref(), &layout.labels)
        && contains_all(meta.annotations.as_ref(), &layout.annotations)
        && meta.annotations.as_ref().and_then(|annotations| annotations.get(LAYOUT_KEYS)) == keys.as_ref()
}

fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|reference| reference.controller == Some(true))
}

fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

fn is_uid(text: &str, uid: &Uuid) -> bool {
    Uuid::try_parse(text).is_ok_and(|parsed| parsed == *uid)
}

fn contains_all(there: Option<&BTreeMap<String, String>>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| there.and_then(|there| there.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const OURS: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn reference(uid: Uuid, controller: Option<bool>) -> OwnerReference {
        OwnerReference {
            api_version: "servicekeys.dev/v1alpha1".into(),
            kind: "ServiceKey".into(),
            name: "x".into(),
            uid: uid.to_string(),
            controller,
            block_owner_deletion: Some(true),
        }
    }

    fn meta(references: Vec<OwnerReference>, label: Option<Uuid>) -> ObjectMeta {
        ObjectMeta {
            owner_references: Some(references),
            labels: label.map(|uid| BTreeMap::from([(OWNER_UID_LABEL.to_owned(), uid.to_string())])),
            ..ObjectMeta::default()
        }
    }

    #[rstest]
    #[case::controller(meta(vec![reference(OURS, Some(true))], None), None)]
    #[case::label_alone(meta(vec![], Some(OURS)), None)]
    #[case::label_and_plain_owner(meta(vec![reference(OTHER, None)], Some(OURS)), None)]
    #[case::controller_beats_label(meta(vec![reference(OURS, Some(true))], Some(OTHER)), None)]
    #[case::other_controller(meta(vec![reference(OTHER, Some(true))], None), Some("ServiceKey `x`"))]
    #[case::other_controller_our_label(
        meta(vec![reference(OTHER, Some(true))], Some(OURS)),
        Some("ServiceKey `x`")
    )]
    #[case::other_label(meta(vec![], Some(OTHER)), Some("another ServiceKey"))]
    #[case::plain_owner_is_no_claim(meta(vec![reference(OURS, Some(false))], None), Some("somebody else"))]
    #[case::nothing(ObjectMeta::default(), Some("somebody else"))]
    fn a_secret_has_one_holder(#[case] meta: ObjectMeta, #[case] holder: Option<&str>) {
        let expected = holder.map_or(Ownership::Ours, |holder| Ownership::Foreign { holder: holder.into() });
        assert_eq!(ownership(&meta, &OURS), expected);
    }
}
