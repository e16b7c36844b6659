//! The declarative equivalent of `cf create-service-key`, `cf service-key` and `cf delete-service-key`.

use serde_json::json;
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::cloud_foundry::{FakeCloudFoundry, Fault, Pace, Route, StatusCode, Work};

use crate::support::{
    conditions::Reports,
    foundry::{FoundryStage, INSTANCE, KEY, later_name},
    stage::entries,
};

#[tokio::test(flavor = "multi_thread")]
async fn each_service_key_has_a_key_of_its_own() {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let ready = stage.wait_ready(KEY).await;
    stage.create_key("reporting-creds").await;
    let other = stage.wait_ready("reporting-creds").await;

    let key = stage.foundry.key_named(INSTANCE, KEY).unwrap();
    let other_key = stage.foundry.key_named(INSTANCE, "reporting-creds").unwrap();
    stage.assert_holds(&ready, &key).await;
    stage.assert_holds(&other, &other_key).await;
    let secret = entries(&stage.secrets().get(KEY).await.unwrap());
    for entry in ["hostname", "port", "username", "password"] {
        assert!(secret.contains_key(entry), "{entry} is missing");
    }
    assert!(key.credentials != other_key.credentials, "both have the same credentials");
    assert_eq!(stage.foundry.keys().len(), 2);

    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    assert_eq!(stage.foundry.keys(), [other_key]);
    assert!(stage.secrets().get_opt(KEY).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_tells_whose_it_is() {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    let mut manifest = stage.manifest(KEY);
    manifest["spec"]["parameters"] = json!({"permissions": "read-only"});
    let asked: ServiceKey = stage.create(manifest).await;
    stage.wait_ready(KEY).await;
    let keys = stage.foundry.keys();
    let [key] = keys.as_slice() else { panic!("expected exactly one key: {keys:#?}") };
    assert_eq!(key.name, KEY);
    assert_eq!(json!(key.parameters), json!({"permissions": "read-only"}));
    assert_eq!(key.labels["servicekeys.dev/managed-by"], "servicekey-operator");
    assert_eq!(key.labels["servicekeys.dev/owner"], asked.metadata.uid.unwrap());
    assert_eq!(key.annotations["servicekeys.dev/namespace"], stage.namespace);
    assert_eq!(key.annotations["servicekeys.dev/name"], KEY);
    assert_eq!(key.annotations["servicekeys.dev/sequence"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_be_named_by_its_service_key_and_its_instance_by_guid() {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    let mut manifest = stage.manifest(KEY);
    manifest["spec"]["instance"] = json!({"id": stage.foundry.instance_guid(INSTANCE).unwrap()});
    manifest["spec"].as_object_mut().unwrap().remove("keyName");
    let asked: ServiceKey = stage.create(manifest).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    let name = format!("{}-{KEY}-{}", stage.namespace, asked.metadata.uid.unwrap());
    assert_eq!(stage.foundry.keys()[0].name, name);
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_parameters_make_the_next_key() {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    let change = json!({"parameters": {"permissions": "all"}, "rotation": {"overlap": "0s"}});
    stage.change_key(KEY, change).await;
    let keys = stage.foundry.wait_until(|keys| keys.len() == 1 && keys[0].number == 2).await.unwrap();
    let asked = stage.keys().get(KEY).await.unwrap();
    assert_eq!(keys[0].name, later_name(&asked, KEY, 2));
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_may_take_their_time() {
    let foundry = FakeCloudFoundry::builder().pace(Pace::looks(3)).page_limit(1).look_ups(0);
    let stage = FoundryStage::set_with(foundry.start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    for name in [KEY, "reporting-creds"] {
        stage.create_key(name).await;
    }
    for name in [KEY, "reporting-creds"] {
        let ready = stage.wait_ready(name).await;
        stage.assert_holds(&ready, &stage.foundry.key_named(INSTANCE, name).unwrap()).await;
    }
    for name in [KEY, "reporting-creds"] {
        stage.delete_key(name).await;
        stage.wait_gone(name).await;
    }
    assert_eq!(stage.foundry.keys(), []);
    assert_eq!(stage.count(&[Route::Create]), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_is_told_and_its_key_replaced() {
    let foundry = FakeCloudFoundry::builder().pace(Pace::until_told().only(Work::Create));
    let stage = FoundryStage::set_with(foundry.start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let open = stage.foundry.wait_for_work(|open| open.len() == 1).await.unwrap();
    assert!(stage.foundry.fail(&open[0].key, "the database is full"));
    let failing = stage.wait_key(KEY, Reason::BindFailed).await;
    failing.says("the database is full");
    assert!(!failing.is_stalled(), "the operator retries");

    stage.foundry.change_pace(Pace::at_once());
    let again = stage.foundry.wait_until(|keys| keys.iter().any(|key| key.number > 1));
    again.await.unwrap();
    let _ = stage.foundry.finish_all();
    stage.wait_ready_with_the_one_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_fails_is_told_and_tried_again() {
    let foundry = FakeCloudFoundry::builder().pace(Pace::until_told().only(Work::Delete));
    let stage = FoundryStage::set_with(foundry.start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    stage.delete_key(KEY).await;
    let open = stage.foundry.wait_for_work(|open| open.len() == 1).await.unwrap();
    stage.foundry.change_pace(Pace::at_once());
    assert!(stage.foundry.fail(&open[0].key, "the database is in use"));
    stage.wait_gone(KEY).await;
    assert_eq!(stage.foundry.keys(), []);
    assert!(stage.count(&[Route::Delete]) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_credhub_does_not_give_are_waited_for() {
    let stage = FoundryStage::set().await;
    stage.foundry.inject(Fault::credhub_is_down().on(Route::Details).times(2));
    let _operator = stage.start_operator().await;
    // The provider's check lists all keys.
    stage.wait_for_provider("foundry").await;
    let before = stage.count(&[Route::Keys]);
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.foundry.keys()[0].number, 1, "another key was created first");
    let calls = stage.count(&[Route::Create, Route::Keys]) - before;
    assert_eq!(calls, 2, "one request to create the key, and one list");
    assert_eq!(stage.count(&[Route::Details]), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_without_a_backend_costs_no_key() {
    let stage = FoundryStage::set().await;
    stage.foundry.inject(Fault::Html(StatusCode::BAD_GATEWAY).on(Route::Create));
    stage.foundry.inject(Fault::Html(StatusCode::SERVICE_UNAVAILABLE).on(Route::Create).after_effect());
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
}
