//! A provider and its login Secret outlive the ServiceKeys that need them, regardless of the order of deletion.

use jiff::SignedDuration;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use servicekey_operator::api::{KeyProvider, Reason};
use testkit::{
    Moment,
    broker::{Fault, Route, StatusCode},
    gateway::{Method, Requests},
};

use crate::support::{conditions::Reports, stage::Stage};

#[tokio::test]
async fn everything_deleted_at_once_goes_in_order() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.create_key("monitoring-creds").await;
    stage.wait_ready("monitoring-creds").await;
    // No operator runs until all objects are deleted.
    drop(operator);

    stage.secrets().delete("broker-login", &DeleteParams::default()).await.unwrap();
    stage.api::<KeyProvider>().delete("broker", &DeleteParams::default()).await.unwrap();
    stage.keys().delete("monitoring-creds", &DeleteParams::default()).await.unwrap();
    let _operator = stage.start_operator().await;

    stage.wait_gone("monitoring-creds").await;
    assert_eq!(stage.broker.bindings().len(), 0);
    wait_until_provider_is_gone(&stage).await;
    wait_until_secret_is_gone(&stage, "broker-login").await;
}

#[tokio::test]
async fn a_provider_in_use_says_what_it_waits_for() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key("monitoring-creds").await;
    stage.wait_ready("monitoring-creds").await;

    stage.api::<KeyProvider>().delete("broker", &DeleteParams::default()).await.unwrap();
    stage.secrets().delete("broker-login", &DeleteParams::default()).await.unwrap();

    let waits = "waiting for its ServiceKey";
    stage
        .wait(stage.api::<KeyProvider>(), "broker", waits, |provider| {
            let status = provider.and_then(|provider| provider.status.as_ref());
            status.iter().flat_map(|status| &status.conditions).any(|condition| {
                condition.type_ == "Reconciling"
                    && condition.reason == "InUse"
                    && condition
                        .message
                        .contains("no ServiceKey names this provider any more: delete `monitoring-creds`")
            })
        })
        .await;
    let login = stage.secrets().get("broker-login").await.unwrap();
    assert!(login.metadata.deletion_timestamp.is_some());

    stage.keys().delete("monitoring-creds", &DeleteParams::default()).await.unwrap();
    stage.wait_gone("monitoring-creds").await;
    assert_eq!(stage.broker.bindings().len(), 0);
    wait_until_provider_is_gone(&stage).await;
    wait_until_secret_is_gone(&stage, "broker-login").await;
}

#[tokio::test]
async fn a_provider_that_nobody_names_goes_at_once_and_lets_go_of_its_login() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    assert_ne!(stage.secrets().get("broker-login").await.unwrap().finalizers(), [] as [&str; 0]);

    stage.api::<KeyProvider>().delete("broker", &DeleteParams::default()).await.unwrap();

    wait_until_provider_is_gone(&stage).await;
    let login = stage.secrets().get("broker-login").await.unwrap();
    assert_eq!(login.finalizers(), [] as [&str; 0]);
    assert!(login.metadata.deletion_timestamp.is_none());
}

#[tokio::test]
async fn a_provider_that_names_another_login_lets_go_of_the_former() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;

    let second = Secret {
        metadata: ObjectMeta { name: Some("second-login".into()), ..ObjectMeta::default() },
        string_data: Some(
            [("username", "operator"), ("password", "broker-password")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        ),
        ..Secret::default()
    };
    stage.secrets().create(&PostParams::default(), &second).await.unwrap();
    let login =
        json!({"spec": {"openServiceBroker": {"auth": {"basic": {"secretRef": {"name": "second-login"}}}}}});
    stage.api::<KeyProvider>().patch("broker", &PatchParams::default(), &Patch::Merge(&login)).await.unwrap();

    let held = |secret: Option<&Secret>| secret.is_some_and(|secret| !secret.finalizers().is_empty());
    stage.wait(stage.secrets(), "second-login", "protected", held).await;
    stage.wait(stage.secrets(), "broker-login", "without a finalizer", |secret| !held(secret)).await;
    let provider = stage
        .wait(stage.api::<KeyProvider>(), "broker", "protecting only the second login", |provider| {
            provider
                .and_then(|provider| provider.status.as_ref())
                .is_some_and(|status| status.protected_secrets.iter().eq(["second-login"]))
        })
        .await;
    assert!(provider.is_some());
}

/// Whether the provider reports a deleted login.
fn tells_of_the_deletion(provider: Option<&KeyProvider>) -> bool {
    provider.is_some_and(|provider| {
        let told = |condition: &Condition| {
            condition.type_ == "Reconciling"
                && condition.reason == Reason::LoginSecretDeleted.as_str()
                && condition.message.contains("the login Secret `broker-login` was deleted")
        };
        provider.conditions().iter().any(told)
    })
}

/// Like a tool that replaces a Secret by deleting and creating it.
#[tokio::test]
async fn a_login_that_is_deleted_by_itself_is_told_of_and_released_after_a_minute() {
    let stage = Stage::set().await;
    let now = stage.start_operator().await;
    stage.create_key("monitoring-creds").await;
    stage.wait_ready("monitoring-creds").await;

    stage.secrets().delete("broker-login", &DeleteParams::default()).await.unwrap();
    stage.wait(stage.api::<KeyProvider>(), "broker", "reporting the deletion", tells_of_the_deletion).await;
    let note = stage.wait_event("broker", "LoginSecretDeleted").await;
    assert!(note.contains("create the Secret again after that"), "{note}");
    assert!(stage.secrets().get("broker-login").await.is_ok(), "the login was released at once");
    drop(now);

    let _later = stage.start_operator_ahead(SignedDuration::from_mins(2)).await;
    wait_until_secret_is_gone(&stage, "broker-login").await;
    stage.wait_provider(Reason::LoginSecretMissing).await;
    stage.create_login("operator", "broker-password").await;
    let is_well = |provider: Option<&KeyProvider>| {
        provider.is_some_and(|provider| provider.is(true, Reason::Available))
            && !tells_of_the_deletion(provider)
    };
    stage.wait(stage.api::<KeyProvider>(), "broker", "well again", is_well).await;
    stage.delete_and_leave_nothing("monitoring-creds").await;
}

/// Until the operator has listed all ServiceKeys, it can't exclude that a deleted one needs the login.
#[tokio::test]
async fn a_deleted_login_is_released_as_soon_as_the_operator_knows_that_no_key_needs_it() {
    let stage = Stage::set().await;
    let now = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    stage.secrets().delete("broker-login", &DeleteParams::default()).await.unwrap();
    drop(now);

    let gateway = stage.gateway().await;
    let keys = gateway.gate(Requests::to(Method::GET, "servicekeys"), Moment::BeforeEffect);
    let check = stage.broker.gate(Route::Catalog, Moment::BeforeEffect);
    let _later = stage.start_operator_ahead_behind(&gateway, SignedDuration::from_mins(2)).await;
    keys.wait_for_arrival().await.unwrap();
    check.wait_for_arrival().await.unwrap();
    assert!(stage.secrets().get("broker-login").await.is_ok(), "the login was released too early");
    keys.release();
    wait_until_secret_is_gone(&stage, "broker-login").await;
    check.release();
}

#[tokio::test]
async fn a_deleted_login_is_held_for_as_long_as_a_deleted_key_needs_it() {
    let stage = Stage::set().await;
    let _later = stage.start_operator_ahead(SignedDuration::from_mins(2)).await;
    stage.create_key("monitoring-creds").await;
    stage.wait_ready("monitoring-creds").await;
    stage.broker.inject(Fault::Status(StatusCode::FORBIDDEN, json!({})).on(Route::Unbind).forever());
    stage.delete_key("monitoring-creds").await;
    stage.wait_key("monitoring-creds", Reason::RevokeFailed).await;

    stage.secrets().delete("broker-login", &DeleteParams::default()).await.unwrap();
    stage.wait(stage.api::<KeyProvider>(), "broker", "reporting the deletion", tells_of_the_deletion).await;
    assert!(stage.secrets().get("broker-login").await.is_ok(), "the login that revokes the key is gone");

    stage.broker.clear_faults();
    stage.wait_gone("monitoring-creds").await;
    assert_eq!(stage.broker.bindings().len(), 0);
}

async fn wait_until_provider_is_gone(stage: &Stage) {
    stage.wait(stage.api::<KeyProvider>(), "broker", "gone", |provider| provider.is_none()).await;
}

async fn wait_until_secret_is_gone(stage: &Stage, name: &str) {
    stage.wait(stage.secrets(), name, "gone", |secret| secret.is_none()).await;
}
