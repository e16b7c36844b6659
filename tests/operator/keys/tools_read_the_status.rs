//! How tools judge an object at each stage of its life: kstatus (and so Flux and Helm 4's `--wait`); Argo CD, by the
//! health script in `deploy/`; `kubectl wait --for=condition=Ready`. The tools are the real ones, and the objects come
//! from the API server.

use std::{fs, future::Future, path::Path, time::Duration};

use axum::http::StatusCode;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use rstest::rstest;
use serde::Serialize;
use serde_json::{Value, json};
use servicekey_operator::api::{ClusterKeyProvider, KeyProvider, Reason, ServiceKey};
use testkit::{
    broker::{FakeBroker, Fault, Injection, Pace, Route},
    cloud_foundry, gitops,
};

use crate::support::{
    conditions::{Reports, wait_for},
    foundry::FoundryStage,
    stage::{Running, Stage, reason, wait},
};

const NAME: &str = "monitoring-creds";

/// The expected verdicts: kstatus, Argo CD's health, and whether `kubectl wait` ends.
type Expected = (&'static str, &'static str, bool);

#[rstest]
#[case::not_seen_yet(not_seen_yet(), ("InProgress", "Progressing", false))]
#[case::without_a_provider(without_a_provider(), ("InProgress", "Progressing", false))]
#[case::being_made(being_made(), ("InProgress", "Progressing", false))]
#[case::failing(failing(503), ("InProgress", "Progressing", false))]
#[case::refused(failing(400), ("Failed", "Degraded", false))]
#[case::secret_of_somebody_else(secret_of_somebody_else(), ("Failed", "Degraded", false))]
#[case::ready(ready(), ("Current", "Healthy", true))]
#[case::edited_and_not_seen_yet(edited_and_not_seen_yet(), ("InProgress", "Progressing", false))]
#[case::another_key_is_made(another_key_is_made(), ("InProgress", "Progressing", true))]
#[case::another_key_fails(another_key_fails(503), ("InProgress", "Progressing", true))]
#[case::another_key_is_refused(another_key_fails(400), ("Failed", "Degraded", true))]
#[case::overlapping(overlapping(), ("Current", "Healthy", true))]
#[case::rotation_by_age_fails(rotation_by_age_fails(503), ("Current", "Healthy", true))]
#[case::rotation_by_age_is_refused(rotation_by_age_fails(400), ("Current", "Healthy", true))]
#[case::in_the_gap(in_the_gap(503), ("InProgress", "Progressing", false))]
#[case::in_the_gap_for_ever(in_the_gap(400), ("Failed", "Degraded", false))]
#[case::lost(lost(), ("InProgress", "Progressing", false))]
#[case::suspended_with_a_key(suspended(true), ("Current", "Suspended", true))]
#[case::suspended_without_a_key(suspended(false), ("InProgress", "Suspended", false))]
#[case::terminating(terminating(), ("Terminating", "Progressing", false))]
#[case::provider_not_seen_yet(provider_not_seen_yet(), ("InProgress", "Progressing", false))]
#[case::cluster_provider_not_seen_yet(cluster_provider_not_seen_yet(), ("InProgress", "Progressing", false))]
#[case::provider_ready(provider_ready(), ("Current", "Healthy", true))]
#[case::provider_without_login(provider_without_login(), ("InProgress", "Progressing", false))]
#[case::provider_that_can_not_be_reached(provider_fails(503), ("InProgress", "Progressing", false))]
#[case::provider_whose_login_is_refused(provider_fails(401), ("Failed", "Degraded", false))]
#[case::provider_in_use_that_is_deleted(provider_in_use_that_is_deleted(), ("Terminating", "Progressing", true))]
#[tokio::test(flavor = "multi_thread")]
async fn tools_say_what_is_so(#[case] recorded: impl Future<Output = Value>, #[case] expected: Expected) {
    let object = recorded.await;
    let script = fs::read_to_string(root().join("deploy/argo-cd/health.lua")).unwrap();
    let [seen] = gitops::judge(&script, std::slice::from_ref(&object)).await.unwrap().try_into().unwrap();
    let found = (seen.kstatus.as_str(), seen.health.as_str(), seen.ready);
    assert_eq!(found, expected, "{seen:#?}\n{object:#}");
    assert_ne!(seen.health_message, "", "people read the health message");
}

/// Argo CD's configuration contains the same script for each of the kinds.
#[test]
fn argo_cd_is_configured_with_the_script_for_each_kind() {
    let folder = root().join("deploy/argo-cd");
    let script = fs::read_to_string(folder.join("health.lua")).unwrap();
    let patch = fs::read_to_string(folder.join("argocd-cm.yaml")).unwrap();
    let patch: Value = serde_saphyr::from_str(&patch).unwrap();
    let keys = ["ServiceKey", "KeyProvider", "ClusterKeyProvider"];
    let data =
        keys.map(|kind| (format!("resource.customizations.health.servicekeys.dev_{kind}"), json!(script)));
    assert_eq!(patch, json!({"data": data.into_iter().collect::<serde_json::Map<_, _>>()}));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn record(object: impl Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

fn answer(status: u16, route: Route) -> Injection {
    Fault::Status(StatusCode::from_u16(status).unwrap(), json!({})).on(route).forever()
}

async fn working() -> (Stage, Running) {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready(NAME).await;
    (stage, operator)
}

async fn wait_with(stage: &Stage, type_: &str, reasons: &[Reason]) -> Value {
    let holds = |key: &ServiceKey| {
        key.status.as_ref().and_then(|status| status.observed_generation) == key.metadata.generation
            && reasons.iter().any(|wanted| reason(key, type_) == Some(wanted.as_str()))
    };
    let what = format!("{type_} with one of {reasons:?}");
    record(wait(stage.keys(), NAME, &what, |key| key.is_some_and(holds)).await)
}

async fn not_seen_yet() -> Value {
    let stage = Stage::set().await;
    stage.create_key(NAME).await;
    record(stage.keys().get(NAME).await.unwrap())
}

async fn without_a_provider() -> Value {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let mut key = stage.key_manifest(NAME);
    key["spec"]["providerRef"]["name"] = json!("later");
    stage.create::<ServiceKey>(key).await;
    record(stage.wait_key(NAME, Reason::ProviderNotFound).await)
}

async fn being_made() -> Value {
    let broker = FakeBroker::builder().pace(Pace::until_told()).start().await.unwrap();
    let stage = Stage::set_with(broker).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    record(stage.wait_key(NAME, Reason::Binding).await)
}

async fn failing(status: u16) -> Value {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.broker.inject(answer(status, Route::Bind));
    stage.create_key(NAME).await;
    let reason = if status == 400 { Reason::BindRejected } else { Reason::BindFailed };
    record(stage.wait_key(NAME, reason).await)
}

async fn secret_of_somebody_else() -> Value {
    let stage = Stage::set().await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}});
    stage.create::<k8s_openapi::api::core::v1::Secret>(secret).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    record(stage.wait_key(NAME, Reason::SecretConflict).await)
}

async fn ready() -> Value {
    let (stage, _operator) = working().await;
    record(stage.keys().get(NAME).await.unwrap())
}

async fn edited_and_not_seen_yet() -> Value {
    let (stage, operator) = working().await;
    drop(operator);
    stage.change_key(NAME, json!({"parameters": {"role": "reader"}})).await;
    record(stage.keys().get(NAME).await.unwrap())
}

async fn another_key_is_made() -> Value {
    let (stage, _operator) = working().await;
    stage.broker.change_pace(Pace::until_told());
    stage.change_key(NAME, json!({"parameters": {"role": "reader"}})).await;
    wait_with(&stage, "Rotating", &[Reason::Binding]).await
}

async fn another_key_fails(status: u16) -> Value {
    let (stage, _operator) = working().await;
    stage.broker.inject(answer(status, Route::Bind));
    stage.change_key(NAME, json!({"parameters": {"role": "reader"}})).await;
    wait_with(&stage, "Rotating", &[Reason::BindFailed, Reason::BindRejected]).await
}

async fn overlapping() -> Value {
    let (stage, _operator) = working().await;
    stage.change_key(NAME, json!({"parameters": {"role": "reader"}})).await;
    wait_with(&stage, "Rotating", &[Reason::Overlapping]).await
}

/// The key was created two hours ago, and its maximum age is half an hour.
async fn rotation_by_age_fails(status: u16) -> Value {
    let stage = Stage::set().await;
    let long_ago = stage.start_operator_ahead(jiff::SignedDuration::from_hours(-2)).await;
    stage.create_rotating(json!({"every": "30m", "overlap": "0s"})).await;
    drop(long_ago);
    stage.broker.inject(answer(status, Route::Bind));
    let _operator = stage.start_operator().await;
    wait_with(&stage, "Rotating", &[Reason::BindFailed, Reason::BindRejected]).await
}

/// The operator revoked the only key first, and the remote side refuses to create the next one.
async fn in_the_gap(status: u16) -> Value {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_rotating(json!({"strategy": "Replace"})).await;
    stage.broker.inject(answer(status, Route::Bind));
    stage.request_rotation(json!("now")).await;
    wait_with(&stage, "Rotating", &[Reason::BindFailed, Reason::BindRejected]).await
}

/// The key was deleted at the remote side, and the remote side refuses to create the next one.
async fn lost() -> Value {
    let stage = FoundryStage::set().await;
    let _operator = stage.start_operator_checking(Duration::from_millis(200)).await;
    stage.create_key(NAME).await;
    let key = stage.wait_ready_with_the_one_key(NAME).await.status.unwrap().key.unwrap();
    let unavailable = Fault::Status(StatusCode::SERVICE_UNAVAILABLE, json!({}));
    stage.foundry.inject(unavailable.on(cloud_foundry::Route::Create).forever());
    stage.foundry.allow_look_ups(1);
    assert!(stage.foundry.forget(&key.id));
    stage.foundry.wait_for_calls(|calls| calls.iter().any(|call| call.status == Some(503))).await.unwrap();
    record(stage.wait_key(NAME, Reason::KeyLost).await)
}

async fn suspended(with_a_key: bool) -> Value {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let mut key = stage.key_manifest(NAME);
    key["spec"]["suspend"] = json!(!with_a_key);
    stage.create::<ServiceKey>(key).await;
    if with_a_key {
        stage.wait_ready(NAME).await;
        stage.change_key(NAME, json!({"suspend": true})).await;
    }
    record(wait_for(stage.keys(), NAME, with_a_key, Reason::Suspended).await)
}

async fn terminating() -> Value {
    let (stage, _operator) = working().await;
    stage.broker.inject(answer(503, Route::Unbind));
    stage.delete_key(NAME).await;
    record(stage.wait_key(NAME, Reason::RevokeFailed).await)
}

async fn provider_not_seen_yet() -> Value {
    let stage = Stage::set().await;
    record(stage.api::<KeyProvider>().get("broker").await.unwrap())
}

/// The operators of this control plane serve only namespaces, so no operator serves the ClusterKeyProvider.
async fn cluster_provider_not_seen_yet() -> Value {
    let stage = Stage::set().await;
    let mut provider = stage.provider_manifest(&stage.namespace);
    provider["kind"] = json!("ClusterKeyProvider");
    let provider: ClusterKeyProvider = serde_json::from_value(provider).unwrap();
    let api: Api<ClusterKeyProvider> = Api::all(stage.client.clone());
    api.create(&PostParams::default(), &provider).await.unwrap();
    let object = api.get(&stage.namespace).await.unwrap();
    api.delete(&stage.namespace, &DeleteParams::default()).await.unwrap();
    record(object)
}

async fn provider_ready() -> Value {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    record(wait_for(stage.api::<KeyProvider>(), "broker", true, Reason::Available).await)
}

async fn provider_without_login() -> Value {
    let stage = Stage::set().await;
    stage.delete_by_force(stage.secrets(), "broker-login").await;
    let _operator = stage.start_operator().await;
    record(stage.wait_provider(Reason::LoginSecretMissing).await)
}

async fn provider_fails(status: u16) -> Value {
    let stage = Stage::set().await;
    stage.broker.inject(answer(status, Route::Catalog));
    let _operator = stage.start_operator().await;
    let reason = if status == 401 { Reason::Unauthorized } else { Reason::RemoteUnreachable };
    record(stage.wait_provider(reason).await)
}

async fn provider_in_use_that_is_deleted() -> Value {
    let (stage, _operator) = working().await;
    stage.wait_for_provider("broker").await;
    stage.api::<KeyProvider>().delete("broker", &DeleteParams::default()).await.unwrap();
    let says_so = |provider: &KeyProvider| {
        provider.conditions().iter().any(|condition| condition.reason == Reason::InUse.as_str())
    };
    let provider =
        wait(stage.api::<KeyProvider>(), "broker", "in use", |provider| provider.is_some_and(says_so));
    record(provider.await)
}
