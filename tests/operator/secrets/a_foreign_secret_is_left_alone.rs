//! The operator neither writes nor deletes another owner's Secret, and creates no key for it.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde_json::json;
use servicekey_operator::api::ServiceKey;
use testkit::broker::Route;

use crate::support::stage::{Stage, condition, entries, message, reason};

#[tokio::test]
async fn a_secret_that_was_there_first_stays_and_no_key_is_made() {
    let stage = Stage::set().await;
    let foreign = foreign_secret(&stage, "monitoring-creds").await;
    let _operator = stage.start_operator().await;

    stage.create_key("monitoring-creds").await;
    let key = wait_for_conflict(&stage, "monitoring-creds").await;
    assert_eq!(condition(&key, "Stalled"), Some("True"));
    assert!(
        message(&key, "Ready").contains("create the ServiceKey again with another `spec.secret.name`"),
        "{key:#?}"
    );
    assert_eq!(stage.broker.count(Route::Bind), 0);
    assert_eq!(key.finalizers(), [] as [&str; 0], "there is nothing to revoke");

    stage.keys().delete("monitoring-creds", &DeleteParams::default()).await.unwrap();
    stage.wait_gone("monitoring-creds").await;
    assert_eq!(stage.secrets().get("monitoring-creds").await.unwrap(), foreign);
    assert_eq!(stage.broker.count(Route::Unbind), 0);
}

#[tokio::test]
async fn the_key_is_made_once_the_name_is_free() {
    let stage = Stage::set().await;
    foreign_secret(&stage, "monitoring-creds").await;
    let _operator = stage.start_operator().await;
    stage.create_key("monitoring-creds").await;
    wait_for_conflict(&stage, "monitoring-creds").await;

    stage.secrets().delete("monitoring-creds", &DeleteParams::default()).await.unwrap();

    stage.wait_ready("monitoring-creds").await;
    assert_eq!(stage.broker.bindings().len(), 1);
}

#[tokio::test]
async fn a_foreign_secret_in_the_place_of_ours_is_reported_and_stays() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.create_key("monitoring-creds").await;
    stage.wait_ready("monitoring-creds").await;

    drop(operator);
    stage.secrets().delete("monitoring-creds", &DeleteParams::default()).await.unwrap();
    let foreign = foreign_secret(&stage, "monitoring-creds").await;
    let _operator = stage.start_operator().await;

    wait_for_conflict(&stage, "monitoring-creds").await;
    assert_eq!(stage.broker.count(Route::Bind), 1);
    assert_eq!(stage.broker.bindings().len(), 1, "the key still exists");

    stage.keys().delete("monitoring-creds", &DeleteParams::default()).await.unwrap();
    stage.wait_gone("monitoring-creds").await;
    assert_eq!(stage.secrets().get("monitoring-creds").await.unwrap(), foreign);
    assert_eq!(stage.broker.bindings().len(), 0);
}

#[tokio::test]
async fn of_two_servicekeys_with_one_secret_name_exactly_one_makes_a_key() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let named = |name: &str| {
        let mut manifest = stage.key_manifest(name);
        manifest["spec"]["secret"] = json!({"name": "shared"});
        manifest
    };
    tokio::join!(stage.create::<ServiceKey>(named("one")), stage.create::<ServiceKey>(named("two")));

    let decided = |key: Option<&ServiceKey>| {
        key.is_some_and(|key| matches!(reason(key, "Ready"), Some("Available" | "SecretConflict")))
    };
    let one = stage.wait(stage.keys(), "one", "decided", decided).await.unwrap();
    let two = stage.wait(stage.keys(), "two", "decided", decided).await.unwrap();
    let (winner, loser) = if condition(&one, "Ready") == Some("True") { (one, two) } else { (two, one) };
    assert_eq!(reason(&winner, "Ready"), Some("Available"));
    assert_eq!(reason(&loser, "Ready"), Some("SecretConflict"));
    let words = format!("ServiceKey `{}`", winner.name_any());
    assert!(message(&loser, "Ready").contains(&words), "{}", message(&loser, "Ready"));
    assert_eq!(stage.broker.count(Route::Bind), 1);
    let secret = stage.secrets().get("shared").await.unwrap();
    assert_eq!(secret.owner_references()[0].name, winner.name_any());

    stage.keys().delete(&winner.name_any(), &DeleteParams::default()).await.unwrap();
    stage.wait_gone(&winner.name_any()).await;
    stage.wait_ready(&loser.name_any()).await;
    let bindings = stage.broker.bindings();
    assert_eq!(bindings.len(), 1);
    let secret = stage.secrets().get("shared").await.unwrap();
    assert_eq!(secret.owner_references()[0].name, loser.name_any());
    assert_eq!(entries(&secret)["password"], bindings[0].credentials["password"].as_str().unwrap());
}

async fn foreign_secret(stage: &Stage, name: &str) -> Secret {
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        string_data: Some([("theirs".to_owned(), "untouched".to_owned())].into()),
        ..Secret::default()
    };
    stage.secrets().create(&PostParams::default(), &secret).await.unwrap()
}

async fn wait_for_conflict(stage: &Stage, name: &str) -> ServiceKey {
    let in_conflict = |key: Option<&ServiceKey>| {
        key.is_some_and(|key| {
            condition(key, "Ready") == Some("False") && reason(key, "Ready") == Some("SecretConflict")
        })
    };
    stage.wait(stage.keys(), name, "in conflict", in_conflict).await.unwrap()
}
