//! With `secret.deletionPolicy: Retain`, the Secret stays together with its key, and belongs to the user afterwards.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ResourceExt};
use serde_json::json;
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::broker::{Fault, Route, StatusCode};

use crate::support::{
    conditions::Reports,
    evidence::assert_holds,
    stage::{Stage, entries},
};

const NAME: &str = "monitoring-creds";

impl Stage {
    async fn create_to_stay(&self) -> Secret {
        let mut manifest = self.key_manifest(NAME);
        manifest["spec"]["deletionPolicy"] = json!("Retain");
        manifest["spec"]["secret"] = json!({
            "deletionPolicy": "Retain",
            "labels": {"team": "data"},
            "annotations": {"example.com/owner": "data"},
        });
        self.create::<ServiceKey>(manifest).await;
        self.wait_ready_with_the_only_key(NAME).await;
        self.secrets().get(NAME).await.unwrap()
    }

    /// Fails unless the Secret has no marks of the operator and contains the only remaining key.
    async fn assert_left_with_its_key(&self, before: &Secret) {
        let left = self.secrets().get(NAME).await.unwrap();
        assert_eq!(left.uid(), before.uid(), "the Secret was created again");
        assert!(entries(&left) == entries(before), "the Secret's entries changed");
        let bindings = self.broker.bindings();
        let [only] = bindings.as_slice() else { panic!("expected exactly one key: {bindings:?}") };
        assert_holds(&left, only);
        let keys = |map: &std::collections::BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(left.labels()), ["team"]);
        assert_eq!(keys(left.annotations()), ["example.com/owner"]);
        assert_eq!(left.owner_references(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_stays_with_its_key() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let secret = stage.create_to_stay().await;
    stage.delete_key(NAME).await;
    stage.wait_gone(NAME).await;
    stage.assert_left_with_its_key(&secret).await;

    // A new ServiceKey with the same name does not get the Secret, which belongs to the user now.
    stage.create_key(NAME).await;
    stage.wait_key(NAME, Reason::SecretConflict).await;
    stage.assert_left_with_its_key(&secret).await;
}

/// Deletes like Argo CD and `kubectl delete --cascade=foreground`: the garbage collector first deletes all objects that
/// the ServiceKey owns.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_of_all_that_is_owned_does_not_reach_it() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let secret = stage.create_to_stay().await;
    stage.keys().delete(NAME, &DeleteParams::foreground()).await.unwrap();
    stage.wait_gone(NAME).await;
    stage.assert_left_with_its_key(&secret).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_be_chosen_as_long_as_the_service_key_is_there() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    let labels =
        json!({"secret": {"labels": {"team": "data"}, "annotations": {"example.com/owner": "data"}}});
    stage.change_key(NAME, labels).await;
    let labelled = |secret: &Secret| secret.labels().contains_key("team");
    let labelled = stage.wait(stage.secrets(), NAME, "labelled", |secret| secret.is_some_and(labelled));
    let secret = labelled.await.unwrap();
    stage.wait_ready_with_the_only_key(NAME).await;

    stage.broker.inject(Fault::Status(StatusCode::FORBIDDEN, json!({})).on(Route::Unbind).forever());
    stage.delete_key(NAME).await;
    stage.wait_key(NAME, Reason::RevokeFailed).await.says("abandon");
    let retain = json!({"deletionPolicy": "Retain", "secret": {"deletionPolicy": "Retain"}});
    stage.change_key(NAME, retain).await;
    stage.wait_gone(NAME).await;
    stage.assert_left_with_its_key(&secret).await;
    stage.broker.clear_faults();
}

/// The operator repairs a Secret without an owner reference, and notices its changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_without_an_owner_is_watched_over() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let secret = stage.create_to_stay().await;
    assert_eq!(secret.owner_references(), []);
    stage.secrets().delete(NAME, &DeleteParams::default()).await.unwrap();
    let anew = |found: &Secret| found.uid() != secret.uid();
    stage.wait(stage.secrets(), NAME, "created again", |secret| secret.is_some_and(anew)).await;
    stage.wait_ready_with_the_only_key(NAME).await;

    // `deletionPolicy: Delete` gives the Secret an owner reference, and keeps the key.
    stage.change_key(NAME, json!({"secret": {"deletionPolicy": "Delete"}})).await;
    let owned = |secret: &Secret| !secret.owner_references().is_empty();
    stage.wait(stage.secrets(), NAME, "owned", |secret| secret.is_some_and(owned)).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    assert_eq!(stage.broker.count(Route::Bind), 1);
}
