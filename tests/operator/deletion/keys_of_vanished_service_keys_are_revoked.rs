//! A user replaces a ServiceKey without finalizers and deletes it at once, before the operator can add its finalizer
//! again. The operator revokes the keys that it has seen.

use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use testkit::{
    Moment,
    broker::{Fault, Route, StatusCode},
    gateway::{Method, Requests},
};

use crate::support::{process::Process, stage::Stage};

/// Like `kubectl replace` with a manifest without finalizers.
async fn replace_without_finalizers(stage: &Stage, name: &str) {
    let mut key = stage.keys().get(name).await.unwrap();
    assert!(!key.finalizers().is_empty());
    key.finalizers_mut().clear();
    stage.keys().replace(name, &PostParams::default(), &key).await.unwrap();
}

/// Removes the ServiceKey before the operator adds the finalizer again.
async fn make_vanish(stage: &Stage, operator: &Process, name: &str) {
    let patches = Requests::to(Method::PATCH, "servicekeys/*");
    let finalizer = operator.gateway.gate(patches, Moment::BeforeEffect);
    replace_without_finalizers(stage, name).await;
    stage.keys().delete(name, &DeleteParams::default()).await.unwrap();
    stage.wait_gone(name).await;
    finalizer.release();
}

async fn with_a_key() -> (Stage, Process) {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    stage.create_key("monitoring-creds").await;
    stage.wait_ready("monitoring-creds").await;
    (stage, operator)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_status_is_revoked() {
    let (stage, operator) = with_a_key().await;
    make_vanish(&stage, &operator, "monitoring-creds").await;
    stage.broker.wait_until(|bindings| bindings.is_empty()).await.unwrap();
    stage.wait(stage.secrets(), "monitoring-creds", "gone", |secret| secret.is_none()).await;
    assert_eq!(stage.broker.count(Route::Unbind), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_fails_is_attempted_again() {
    let (stage, operator) = with_a_key().await;
    stage.broker.inject(Fault::Status(StatusCode::SERVICE_UNAVAILABLE, json!({})).on(Route::Unbind));
    make_vanish(&stage, &operator, "monitoring-creds").await;
    stage.broker.wait_until(|bindings| bindings.is_empty()).await.unwrap();
    assert_eq!(stage.broker.count(Route::Unbind), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_just_being_created_is_revoked() {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    let bind = stage.broker.gate(Route::Bind, Moment::AfterEffect);
    stage.create_key("monitoring-creds").await;
    bind.wait_for_arrival().await.unwrap();
    assert_eq!(stage.broker.bindings().len(), 1);

    make_vanish(&stage, &operator, "monitoring-creds").await;
    bind.release();
    stage.broker.wait_until(|bindings| bindings.is_empty()).await.unwrap();
    assert_eq!(stage.broker.count(Route::Bind), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_to_stay_stays() {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    let mut manifest = stage.key_manifest("monitoring-creds");
    manifest["spec"]["deletionPolicy"] = json!("Retain");
    stage.create::<servicekey_operator::api::ServiceKey>(manifest).await;
    stage.wait_ready("monitoring-creds").await;

    make_vanish(&stage, &operator, "monitoring-creds").await;
    let note = stage.wait_event("monitoring-creds", "KeysLeftBehind").await;
    assert!(note.contains("keys 1 stay at the remote side, as requested"), "{note}");
    assert_eq!(stage.broker.count(Route::Unbind), 0);
    assert_eq!(stage.broker.bindings().len(), 1);
}
