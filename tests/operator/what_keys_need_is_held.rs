//! A provider and its login Secret outlast the ServiceKeys that need them, in whatever order things are deleted.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use servicekey_operator::api::KeyProvider;

use crate::stage::Stage;

#[tokio::test]
async fn everything_deleted_at_once_goes_in_order() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.create_key("monitoring-creds").await;
    stage.wait_ready("monitoring-creds").await;
    // Nobody acts on what is deleted before all of it is.
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
    stage.wait(stage.secrets(), "second-login", "held", held).await;
    stage.wait(stage.secrets(), "broker-login", "let go", |secret| !held(secret)).await;
    let provider = stage
        .wait(stage.api::<KeyProvider>(), "broker", "holding the second login only", |provider| {
            provider
                .and_then(|provider| provider.status.as_ref())
                .is_some_and(|status| status.held_secrets.iter().eq(["second-login"]))
        })
        .await;
    assert!(provider.is_some());
}

async fn wait_until_provider_is_gone(stage: &Stage) {
    stage.wait(stage.api::<KeyProvider>(), "broker", "gone", |provider| provider.is_none()).await;
}

async fn wait_until_secret_is_gone(stage: &Stage, name: &str) {
    stage.wait(stage.secrets(), name, "gone", |secret| secret.is_none()).await;
}
