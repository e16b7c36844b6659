//! The owner of a Secret, and whether the operator's labels and owner reference are still in place.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use uuid::Uuid;

use super::{
    Layout, ParametersKey,
    object::{LAYOUT_KEYS, layout_keys},
};
use crate::api::marks::{FORMER_UID_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL, OWNER_UID_LABEL};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// It belongs to this ServiceKey, which may write and delete it.
    Ours,
    /// It belonged to a ServiceKey, which may be gone: a Secret from a backup names the former UIDs.
    Former(Former),
    /// It belongs to another owner, and the operator must not change it.
    Foreign {
        /// The owner, in words for a message: ``ServiceKey `x` ``.
        holder: String,
    },
}

/// The ServiceKeys that a Secret from a backup names, by their UIDs. A user who may edit the Secret may have
/// written them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Former {
    /// The ServiceKey that the Secret belonged to.
    pub owner: Uuid,
    /// The ServiceKey that the key was created for.
    pub created_for: Uuid,
}

/// Determines the owner of a Secret: its controller or, without a controller, the label with the owner's UID.
#[must_use]
pub(crate) fn ownership(meta: &ObjectMeta, owner: &OwnerReference) -> Ownership {
    let (uid, holder) = match controller(meta) {
        Some(controller) if is_same(&controller.uid, &owner.uid) => return Ownership::Ours,
        Some(controller) => {
            let is_namesake = (&controller.kind, &controller.name) == (&owner.kind, &owner.name)
                && controller.api_version == owner.api_version;
            let uid = Some(&controller.uid).filter(|_| is_namesake);
            (uid.map(String::as_str), format!("{} `{}`", controller.kind, controller.name))
        }
        None => match label(meta, OWNER_UID_LABEL) {
            Some(uid) if is_same(uid, &owner.uid) => return Ownership::Ours,
            Some(uid) => (Some(uid), "another ServiceKey".to_owned()),
            None => (None, "a Secret that does not belong to a ServiceKey".to_owned()),
        },
    };
    let is_managed = label(meta, MANAGED_BY_LABEL) == Some(MANAGED_BY);
    match uid.filter(|_| is_managed).and_then(|uid| Uuid::try_parse(uid).ok()) {
        Some(owner) => Ownership::Former(Former { owner, created_for: created_for(meta).unwrap_or(owner) }),
        None => Ownership::Foreign { holder },
    }
}

/// The ServiceKey that the key of a Secret was created for, if an annotation names it.
pub(super) fn created_for(meta: &ObjectMeta) -> Option<Uuid> {
    Uuid::try_parse(meta.annotations.as_ref()?.get(FORMER_UID_ANNOTATION)?).ok()
}

/// Whether the operator's labels and owner reference, and the layout's labels and annotations, are all in
/// place. If the Secret outlives its owner, it must not have the reference. [`super::read`] checks the marks.
#[must_use]
pub(crate) fn intact(meta: &ObjectMeta, owner: &OwnerReference, layout: &Layout) -> bool {
    let keys = layout_keys(layout);
    controller(meta) == (!layout.outlives_owner).then_some(owner)
        && label(meta, MANAGED_BY_LABEL) == Some(MANAGED_BY)
        && label(meta, OWNER_UID_LABEL) == Some(owner.uid.as_str())
        && contains_all(meta.labels.as_ref(), &layout.labels)
        && contains_all(meta.annotations.as_ref(), &layout.annotations)
        && ParametersKey::read(meta) == layout.parameters_key
        && meta.annotations.as_ref().and_then(|annotations| annotations.get(LAYOUT_KEYS)) == keys.as_ref()
}

fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|reference| reference.controller == Some(true))
}

fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

fn is_same(uid: &str, other: &str) -> bool {
    Uuid::try_parse(uid).is_ok_and(|uid| Uuid::try_parse(other) == Ok(uid))
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
    const THIRD: Uuid = Uuid::from_u128(3);

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
        let labels = label.map(|uid| (OWNER_UID_LABEL.to_owned(), uid.to_string()));
        let managed = (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
        ObjectMeta {
            owner_references: Some(references),
            labels: Some(labels.into_iter().chain([managed]).collect()),
            ..ObjectMeta::default()
        }
    }

    fn former(owner: Uuid, created_for: Uuid) -> Ownership {
        Ownership::Former(Former { owner, created_for })
    }

    fn foreign(holder: &str) -> Ownership {
        Ownership::Foreign { holder: holder.to_owned() }
    }

    fn named(name: &str) -> OwnerReference {
        OwnerReference { name: name.to_owned(), ..reference(OTHER, Some(true)) }
    }

    fn deployment() -> OwnerReference {
        OwnerReference { kind: "Deployment".to_owned(), ..reference(OTHER, Some(true)) }
    }

    fn without_manager(meta: ObjectMeta) -> ObjectMeta {
        let mut labels = meta.labels.unwrap_or_default();
        labels.remove(MANAGED_BY_LABEL);
        ObjectMeta { labels: Some(labels), ..meta }
    }

    fn created_for_a_third(meta: ObjectMeta) -> ObjectMeta {
        let annotation = (FORMER_UID_ANNOTATION.to_owned(), THIRD.to_string());
        ObjectMeta { annotations: Some([annotation].into()), ..meta }
    }

    #[rstest]
    #[case::controller(meta(vec![reference(OURS, Some(true))], None), Ownership::Ours)]
    #[case::label_alone(meta(vec![], Some(OURS)), Ownership::Ours)]
    #[case::label_and_plain_owner(meta(vec![reference(OTHER, None)], Some(OURS)), Ownership::Ours)]
    #[case::controller_beats_label(meta(vec![reference(OURS, Some(true))], Some(OTHER)), Ownership::Ours)]
    #[case::other_controller(meta(vec![named("y")], None), foreign("ServiceKey `y`"))]
    #[case::other_controller_our_label(meta(vec![named("y")], Some(OURS)), foreign("ServiceKey `y`"))]
    #[case::a_controller_of_another_kind(meta(vec![deployment()], None), foreign("Deployment `x`"))]
    #[case::a_namesake(meta(vec![reference(OTHER, Some(true))], None), former(OTHER, OTHER))]
    #[case::other_label(meta(vec![], Some(OTHER)), former(OTHER, OTHER))]
    #[case::other_label_of_nobody(
        without_manager(meta(vec![], Some(OTHER))),
        foreign("another ServiceKey")
    )]
    #[case::restored_twice(created_for_a_third(meta(vec![], Some(OTHER))), former(OTHER, THIRD))]
    #[case::plain_owner_is_no_claim(
        meta(vec![reference(OURS, Some(false))], None),
        foreign("a Secret that does not belong to a ServiceKey")
    )]
    #[case::nothing(ObjectMeta::default(), foreign("a Secret that does not belong to a ServiceKey"))]
    fn a_secret_has_one_holder(#[case] meta: ObjectMeta, #[case] expected: Ownership) {
        assert_eq!(ownership(&meta, &reference(OURS, Some(true))), expected);
    }
}
