//! The operator immediately repairs any change of the Secret, and creates no new key for it.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use rstest::rstest;
use serde_json::{Value, json};
use testkit::broker::Route;

use crate::support::stage::Stage;

#[rstest]
#[case::a_value_is_edited(json!({"stringData": {"password": "guessed"}}))]
#[case::an_entry_is_added(json!({"stringData": {"extra": "x"}}))]
#[case::an_entry_is_removed(json!({"data": {"password": null}}))]
#[case::all_entries_are_removed(json!({"data": null}))]
#[case::all_labels_are_removed(json!({"metadata": {"labels": null}}))]
#[case::the_label_of_the_manager_is_changed(json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "x"}}}))]
#[case::the_label_that_is_watched_is_removed(json!({"metadata": {"labels": {"servicekeys.dev/owner-uid": null}}}))]
#[case::the_owner_label_is_changed(json!({"metadata": {"labels": {"servicekeys.dev/owner-uid": "x"}}}))]
#[case::all_annotations_are_removed(json!({"metadata": {"annotations": null}}))]
#[case::the_sequence_is_changed(json!({"metadata": {"annotations": {"servicekeys.dev/sequence": "x"}}}))]
#[case::the_content_mark_is_changed(json!({"metadata": {"annotations": {"servicekeys.dev/content": "x"}}}))]
#[case::the_users_label_is_changed(json!({"metadata": {"labels": {"team": "x"}}}))]
#[case::the_users_annotation_is_removed(json!({"metadata": {"annotations": {"example.com/note": null}}}))]
#[case::the_owner_reference_is_removed(json!({"metadata": {"ownerReferences": null}}))]
#[tokio::test]
async fn a_damaged_secret_is_repaired_without_a_new_key(#[case] damage: Value) {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let right = labelled_key(&stage).await;

    let damaged = stage
        .secrets()
        .patch("monitoring-creds", &PatchParams::default(), &Patch::Merge(&damage))
        .await
        .unwrap();
    assert_ne!(content(&damaged), content(&right), "the test must damage the Secret");

    let what = "as it was written";
    stage.wait(stage.secrets(), "monitoring-creds", what, |secret| is_like(secret, &right)).await;
    stage.wait_ready("monitoring-creds").await;
    assert_eq!(stage.broker.count(Route::Bind), 1);
    assert_eq!(stage.broker.bindings().len(), 1);
}

#[tokio::test]
async fn a_deleted_secret_is_written_again_with_the_same_key() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let right = labelled_key(&stage).await;

    stage.secrets().delete("monitoring-creds", &DeleteParams::default()).await.unwrap();

    let what = "written again";
    let again =
        |secret: Option<&Secret>| is_like(secret, &right) && secret.and_then(ResourceExt::uid) != right.uid();
    stage.wait(stage.secrets(), "monitoring-creds", what, again).await;
    stage.wait_ready("monitoring-creds").await;
    assert_eq!(stage.broker.count(Route::Bind), 1);
    assert_eq!(stage.broker.count(Route::Fetch), 1);
}

#[tokio::test]
async fn damage_done_while_the_operator_is_away_is_repaired_when_it_is_back() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    let right = labelled_key(&stage).await;
    drop(operator);

    let damage = json!({"stringData": {"password": "guessed"}});
    stage.secrets().patch("monitoring-creds", &PatchParams::default(), &Patch::Merge(&damage)).await.unwrap();
    let _operator = stage.start_operator().await;

    let what = "as it was written";
    stage.wait(stage.secrets(), "monitoring-creds", what, |secret| is_like(secret, &right)).await;
    assert_eq!(stage.broker.count(Route::Bind), 1);
}

#[tokio::test]
async fn labels_and_annotations_of_others_stay() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let right = labelled_key(&stage).await;

    let change = json!({
        "metadata": {"labels": {"backup": "yes"}, "annotations": {"example.com/seen": "today"}},
        "stringData": {"password": "guessed"},
    });
    stage.secrets().patch("monitoring-creds", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();

    let repaired = stage
        .wait(stage.secrets(), "monitoring-creds", "repaired", |secret| {
            secret.is_some_and(|secret| secret.data == right.data)
        })
        .await
        .unwrap();
    assert_eq!(repaired.labels()["backup"], "yes");
    assert_eq!(repaired.annotations()["example.com/seen"], "today");
}

#[tokio::test]
async fn a_changed_layout_rewrites_the_secret_with_the_same_key() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    labelled_key(&stage).await;

    let template = "postgresql://{{ username }}:{{ password | urlencode }}@{{ hostname }}:{{ port }}/app";
    let change = json!({"spec": {"secret": {
        "labels": {"team": null},
        "template": {"data": {"DATA_SOURCE_NAME": template}},
    }}});
    stage.keys().patch("monitoring-creds", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();

    let secret = stage
        .wait(stage.secrets(), "monitoring-creds", "in the new layout", |secret| {
            secret.is_some_and(|secret| entries_of(secret).contains_key("DATA_SOURCE_NAME"))
        })
        .await
        .unwrap();
    let entries = entries_of(&secret);
    assert_eq!(entries.len(), 1, "{:?}", entries.keys());
    assert!(!secret.labels().contains_key("team"));
    let given = &stage.broker.bindings()[0].credentials["uri"];
    assert!(given.as_str().unwrap().starts_with("postgresql://user-1:"));
    let rendered = String::from_utf8(entries["DATA_SOURCE_NAME"].0.clone()).unwrap();
    assert!(rendered.starts_with("postgresql://user-1:p%40ss%2F1%3A"), "the password is escaped");
    assert!(rendered.ends_with("@training-app-db.db.example.com:5432/app"));
    stage.wait_ready("monitoring-creds").await;
    assert_eq!(stage.broker.count(Route::Bind), 1);
}

/// Creates a ServiceKey with a label and an annotation of the user, waits until it is ready, and returns its Secret.
async fn labelled_key(stage: &Stage) -> Secret {
    let mut manifest = stage.key_manifest("monitoring-creds");
    manifest["spec"]["secret"] =
        json!({"labels": {"team": "data"}, "annotations": {"example.com/note": "any"}});
    stage.create::<servicekey_operator::api::ServiceKey>(manifest).await;
    stage.wait_ready("monitoring-creds").await;
    let secret = stage.secrets().get("monitoring-creds").await.unwrap();
    assert_eq!(secret.labels()["team"], "data");
    secret
}

fn is_like(secret: Option<&Secret>, right: &Secret) -> bool {
    secret.is_some_and(|secret| content(secret) == content(right))
}

type Map = BTreeMap<String, String>;

/// Everything that the operator writes.
fn content(secret: &Secret) -> (Entries, &Map, &Map, Vec<String>) {
    let owners = secret.owner_references().iter().map(|owner| owner.uid.clone()).collect();
    (entries_of(secret), secret.labels(), secret.annotations(), owners)
}

type Entries = BTreeMap<String, ByteString>;

fn entries_of(secret: &Secret) -> Entries {
    secret.data.clone().unwrap_or_default()
}
