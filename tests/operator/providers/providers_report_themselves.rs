//! A provider reports whether it can provide keys, and its ServiceKeys continue automatically as soon as it can.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::broker::{FakeBroker, Fault, Login, Route, Rule};

use crate::support::{
    conditions::{Reports, wait_for},
    stage::Stage,
};

const NAME: &str = "monitoring-creds";

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_can_be_reached_is_ready() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let provider = wait_for(stage.api::<KeyProvider>(), "broker", true, Reason::Available).await;
    provider.says("the remote side can be reached with this login");
    assert!(!provider.is_stalled());
    assert_eq!(provider.status.as_ref().unwrap().observed_generation, provider.metadata.generation);
    assert_eq!(stage.broker.calls().len(), 1, "only the catalog was read");
}

/// The provider names each plan that can't be read. Such a plan does not prevent keys of other plans from being created
/// and revoked.
#[tokio::test(flavor = "multi_thread")]
async fn an_odd_plan_of_the_catalog_is_reported_and_hides_no_other() {
    let stage = Stage::set().await;
    let mut catalog = serde_json::to_value(stage.broker.catalog()).unwrap();
    let plans = catalog["services"][0]["plans"].as_array_mut().unwrap();
    plans.insert(0, json!({"id": "plan-odd", "name": "odd", "bindable": "true"}));
    plans.insert(0, json!({"id": 7, "name": "numbered"}));
    stage.broker.inject(Fault::Body(catalog).on(Route::Catalog).forever());
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    let provider = wait_for(stage.api::<KeyProvider>(), "broker", true, Reason::Available).await;
    provider.says("plan `odd` of offering `postgresql` has a `bindable` that is neither true nor false");
    provider.says("plan `numbered` of offering `postgresql` has no `id` that is a string");
    stage.delete_and_leave_nothing(NAME).await;
}

/// The ServiceKey also reports what is missing, and waits.
async fn login_is_asked_for(stage: &Stage, reason: Reason, words: &str) {
    stage.create_key(NAME).await;
    let provider = stage.wait_provider(reason).await;
    provider.says(words);
    assert!(!provider.is_stalled(), "the Secret may still be created");
    let key = stage.wait_key(NAME, Reason::ProviderNotReady).await;
    key.says("KeyProvider `broker` can't be used");
    key.says(words);
    assert!(key.finalizers().is_empty());
    assert_eq!(stage.broker.calls(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_secret_that_is_missing_is_asked_for() {
    let stage = Stage::set().await;
    stage.delete_by_force(stage.secrets(), "broker-login").await;
    let _operator = stage.start_operator().await;
    let words = format!("the Secret `broker-login` does not exist in the namespace `{}`", stage.namespace);
    login_is_asked_for(&stage, Reason::LoginSecretMissing, &words).await;

    stage.create_login("operator", "broker-password").await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.wait_for_provider("broker").await;

    // An existing key does not need the login.
    stage.delete_by_force(stage.secrets(), "broker-login").await;
    stage.wait_provider(Reason::LoginSecretMissing).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.create_login("operator", "broker-password").await;
    stage.wait_for_provider("broker").await;
}

#[rstest]
#[case::without_username(json!({"username": null}), "the entry `username` of the Secret `broker-login`", "is missing")]
#[case::without_password(json!({"password": null}), "the entry `password` of the Secret `broker-login`", "is missing")]
#[case::empty(json!({"password": ""}), "the entry `password` of the Secret `broker-login`", "is empty; correct it")]
#[case::only_a_line_break(json!({"password": "\n"}), "the entry `password` of the Secret", "is empty; correct it")]
#[tokio::test(flavor = "multi_thread")]
async fn a_login_secret_that_is_incomplete_is_asked_for(
    #[case] entries: Value,
    #[case] entry: &str,
    #[case] what: &str,
) {
    let stage = Stage::set().await;
    stage.change_secret("broker-login", entries).await;
    let _operator = stage.start_operator().await;
    let words = format!("in the namespace `{}` {what}", stage.namespace);
    login_is_asked_for(&stage, Reason::LoginSecretIncomplete, &words).await;
    stage.wait_key(NAME, Reason::ProviderNotReady).await.says(entry);

    let right = json!({"username": "operator", "password": "broker-password"});
    stage.change_secret("broker-login", right).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.wait_for_provider("broker").await;
}

#[rstest]
#[case::by_the_secret(true)]
#[case::by_the_broker(false)]
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_is_reported_until_it_is_corrected(#[case] by_the_secret: bool) {
    let stage = Stage::set().await;
    stage.broker.tolerate(Rule::Login);
    stage.broker.change_login(Login::basic("operator", "another-password"));
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    let words =
        "catalog failed: the broker answers 401: the login is missing or wrong; check the provider's login";
    let provider = stage.wait_provider(Reason::Unauthorized).await;
    provider.says(words);
    assert!(provider.is_stalled());
    stage.wait_key(NAME, Reason::Unauthorized).await.says(words);

    if by_the_secret {
        stage.change_secret("broker-login", json!({"password": "another-password"})).await;
    } else {
        stage.broker.change_login(Login::basic("operator", "broker-password"));
    }
    stage.wait_for_provider("broker").await;
    stage.wait_ready_with_the_only_key(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_login_secret_is_watched_instead_of_the_first() {
    let stage = Stage::set_with(
        FakeBroker::builder().login(Login::Bearer("token-1".to_owned())).start().await.unwrap(),
    )
    .await;
    let auth = json!({"basic": null, "bearer": {"secretRef": {"name": "broker-token"}}});
    stage.change_provider(json!({"openServiceBroker": {"auth": auth}})).await;
    let _operator = stage.start_operator().await;
    stage.wait_provider(Reason::LoginSecretMissing).await.says("the Secret `broker-token` does not exist");

    let token = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "broker-token"},
        "stringData": {"token": "token-1"},
    });
    stage.create::<Secret>(token).await;
    stage.wait_for_provider("broker").await;
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
}

/// This operator may not read anything outside its namespaces.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_for_single_namespaces_serves_no_cluster_providers() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let mut key = stage.key_manifest(NAME);
    key["spec"]["providerRef"]["kind"] = json!("ClusterKeyProvider");
    stage.create::<ServiceKey>(key).await;
    let key = stage.wait_key(NAME, Reason::ProviderNotFound).await;
    key.says("this operator serves single namespaces; use a KeyProvider");
}

/// A ServiceKey that the operator lists before its provider must not report that the provider does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_starts_says_nothing_that_it_does_not_know() {
    let stage = Stage::set().await;
    for name in ["one", "two", "three"] {
        stage.create_key(name).await;
    }
    let operator = stage.start_operator().await;
    stage.wait_all_ready(3).await;
    let writes = stage.plane.audit().requests(&operator.user).unwrap().of("servicekeys").writes();
    let statuses = writes.only(|request| request.subresource == "status");
    assert_eq!(statuses.len(), 3, "{statuses}");
}
