use rstest::rstest;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::secret::{
    Ownership, intact,
    marks::tests::{claimed, marks},
    ownership, read,
};

const OWNER: Uuid = Uuid::from_u128(7);

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn reference(uid: Uuid, controller: bool) -> OwnerReference {
    OwnerReference {
        api_version: "servicekeys.dev/v1alpha1".into(),
        kind: "ServiceKey".into(),
        name: "creds".into(),
        uid: uid.to_string(),
        controller: Some(controller),
        block_owner_deletion: Some(true),
    }
}

fn layout(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Layout {
    Layout { type_: "Opaque".into(), labels: map(labels), annotations: map(annotations), ..Layout::default() }
}

fn entries() -> Entries {
    layout(&[], &[]).render(json!({"password": "p"}).as_object().unwrap()).unwrap()
}

fn created(layout: &Layout) -> Secret {
    build("creds", "training", &reference(OWNER, true), layout, &entries(), &marks())
}

fn replaced(existing: &ObjectMeta, layout: &Layout) -> ObjectMeta {
    replace(existing, &reference(OWNER, true), layout, &entries(), &marks()).metadata
}

#[test]
fn a_created_secret_is_known_again() {
    let layout = layout(&[("team", "data")], &[("note", "n")]);
    let secret = created(&layout);
    assert_eq!(ownership(&secret.metadata, &reference(OWNER, true)), Ownership::Ours);
    assert!(intact(&secret.metadata, &reference(OWNER, true), &layout));
    assert_eq!(read(&secret.metadata), Some(claimed(marks())));
    assert_eq!(Entries::from_secret(&secret), entries());
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    assert_eq!(secret.metadata.resource_version, None);
}

#[test]
fn a_replaced_secret_keeps_what_others_wrote() {
    let layout = layout(&[], &[]);
    let mut existing = created(&layout).metadata;
    existing.uid = Some("u".into());
    existing.resource_version = Some("41".into());
    existing.finalizers = Some(vec!["example.com/hold".into()]);
    existing.labels.as_mut().unwrap().insert("theirs".into(), "l".into());
    existing.annotations.as_mut().unwrap().insert("theirs".into(), "a".into());
    existing.owner_references.as_mut().unwrap().push(reference(Uuid::max(), false));

    let meta = replaced(&existing, &layout);

    assert_eq!(meta.uid.as_deref(), Some("u"));
    assert_eq!(meta.resource_version.as_deref(), Some("41"));
    assert_eq!(meta.finalizers, existing.finalizers);
    assert_eq!(meta.labels.as_ref().unwrap().get("theirs").unwrap(), "l");
    assert_eq!(meta.annotations.as_ref().unwrap().get("theirs").unwrap(), "a");
    let references = meta.owner_references.as_ref().unwrap();
    assert_eq!(references, &[reference(Uuid::max(), false), reference(OWNER, true)]);
    assert!(intact(&meta, &reference(OWNER, true), &layout));
}

#[test]
fn what_left_the_layout_leaves_the_secret() {
    let before = layout(&[("gone", "1"), ("kept", "1")], &[("gone", "1")]);
    let mut existing = created(&before).metadata;
    existing.labels.as_mut().unwrap().insert("theirs".into(), "l".into());

    let after = layout(&[("kept", "2")], &[]);
    let meta = replaced(&existing, &after);

    let labels = meta.labels.as_ref().unwrap();
    assert_eq!((labels.get("gone"), labels.get("kept").map(String::as_str)), (None, Some("2")));
    assert!(labels.contains_key("theirs"));
    assert!(!meta.annotations.as_ref().unwrap().contains_key("gone"));
    assert!(
        intact(&meta, &reference(OWNER, true), &after) && !intact(&existing, &reference(OWNER, true), &after)
    );

    let none = replaced(&meta, &layout(&[], &[]));
    assert!(!none.annotations.unwrap().contains_key(LAYOUT_KEYS));
}

#[test]
fn a_damaged_list_takes_nothing_away() {
    let mut existing = created(&layout(&[("team", "data")], &[])).metadata;
    existing.annotations.as_mut().unwrap().insert(LAYOUT_KEYS.into(), "{".into());
    assert!(replaced(&existing, &layout(&[], &[])).labels.unwrap().contains_key("team"));
}

#[test]
fn a_list_that_names_our_own_marks_takes_none_away() {
    let mut existing = created(&layout(&[], &[])).metadata;
    let list = json!({"labels": [OWNER_UID_LABEL], "annotations": ["servicekeys.dev/sequence"]}).to_string();
    existing.annotations.as_mut().unwrap().insert(LAYOUT_KEYS.into(), list);
    let meta = replaced(&existing, &layout(&[], &[]));
    assert!(intact(&meta, &reference(OWNER, true), &layout(&[], &[])));
    assert_eq!(read(&meta), Some(claimed(marks())));
}

#[test]
fn writing_again_changes_nothing() {
    let layout = layout(&[("team", "data")], &[("note", "n")]);
    let once = created(&layout).metadata;
    assert_eq!(replaced(&once, &layout), once);
}

#[rstest]
#[case::managed_by(|meta: &mut ObjectMeta| { meta.labels.as_mut().unwrap().remove(MANAGED_BY_LABEL); })]
#[case::owner_label(|meta: &mut ObjectMeta| { meta.labels.as_mut().unwrap().remove(OWNER_UID_LABEL); })]
#[case::all_labels(|meta: &mut ObjectMeta| meta.labels = None)]
#[case::user_label(|meta: &mut ObjectMeta| { meta.labels.as_mut().unwrap().remove("team"); })]
#[case::user_label_changed(
    |meta: &mut ObjectMeta| { meta.labels.as_mut().unwrap().insert("team".into(), "x".into()); }
)]
#[case::user_annotation(|meta: &mut ObjectMeta| { meta.annotations.as_mut().unwrap().remove("note"); })]
#[case::list_of_keys(|meta: &mut ObjectMeta| { meta.annotations.as_mut().unwrap().remove(LAYOUT_KEYS); })]
#[case::owner_reference(|meta: &mut ObjectMeta| meta.owner_references = None)]
#[case::not_blocking(
    |meta: &mut ObjectMeta| meta.owner_references.as_mut().unwrap()[0].block_owner_deletion = None
)]
fn damage_is_noticed(#[case] damage: fn(&mut ObjectMeta)) {
    let layout = layout(&[("team", "data")], &[("note", "n")]);
    let mut meta = created(&layout).metadata;
    damage(&mut meta);
    assert!(!intact(&meta, &reference(OWNER, true), &layout));
    let repaired = replaced(&meta, &layout);
    assert!(intact(&repaired, &reference(OWNER, true), &layout));
}
