//! Another content of a Secret that `parametersFrom` names leads to the next key, if the user wants that.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use servicekey_operator::api::ServiceKey;
use testkit::broker::Route;

use crate::support::{
    stage::{Stage, wait},
    time::Time,
};

const NAME: &str = "monitoring-creds";
const SOURCE: &str = "extra";
/// The time between two looks of the operator.
const INTERVAL: Duration = Duration::from_secs(601);

/// Changes the Secret with the parameters.
async fn patch_source(stage: &Stage, patch: Value) {
    stage.secrets().patch(SOURCE, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn create_with_source(stage: &Stage, content: &str, on_change: Option<&str>) {
    let secret = json!({"metadata": {"name": SOURCE}, "stringData": {"params.json": content}});
    stage.create::<Secret>(secret).await;
    let mut key = stage.key_manifest(NAME);
    key["spec"]["parametersFrom"] =
        json!([{"secretKeyRef": {"name": SOURCE, "key": "params.json"}, "onChange": on_change}]);
    key["spec"]["rotation"] = json!({"overlap": "0s"});
    stage.create::<ServiceKey>(key).await;
    stage.wait_ready_with_the_only_key(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_content_leads_to_the_next_key_and_another_label_to_none() {
    let stage = Stage::set().await;
    let time = Time::default();
    let operator = stage.start_operator_by(time.clock()).await;
    create_with_source(&stage, "{\"role\": \"reader\"}", Some("Rotate")).await;

    patch_source(&stage, json!({"metadata": {"labels": {"seen": "yes"}}})).await;
    time.pass(INTERVAL, &stage, NAME).await;
    patch_source(&stage, json!({"stringData": {"params.json": "{\"role\": \"writer\"}"}})).await;
    time.pass(INTERVAL, &stage, NAME).await;
    stage.wait_settled_with(2).await;
    assert_eq!(stage.broker.bindings()[0].parameters["role"], "writer");

    // The change is found even if no operator ran when it happened.
    drop(operator);
    patch_source(&stage, json!({"stringData": {"params.json": "{\"role\": \"owner\"}"}})).await;
    let _operator = stage.start_operator_by(time.clock()).await;
    stage.wait_settled_with(3).await;
    assert_eq!(stage.broker.bindings()[0].parameters["role"], "owner");
    assert_eq!(stage.broker.count(Route::Bind), 3);
    stage.delete_and_leave_nothing(NAME).await;
}

/// The digests have a key of their own, which users can turn on and off. It leads to no further key.
#[tokio::test(flavor = "multi_thread")]
async fn the_field_can_be_set_and_removed_at_any_time() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    create_with_source(&stage, "{\"role\": \"reader\"}", None).await;
    let set = async |on_change: Value| {
        let source = json!({"secretKeyRef": {"name": SOURCE, "key": "params.json"}, "onChange": on_change});
        let patch = Patch::Merge(json!({"spec": {"parametersFrom": [source]}}));
        stage.keys().patch(NAME, &PatchParams::default(), &patch).await.unwrap();
    };
    let has_key = |secret: &Secret| {
        let annotations = secret.metadata.annotations.as_ref();
        annotations.is_some_and(|annotations| annotations.contains_key("servicekeys.dev/parameters-key"))
    };
    set(json!("Rotate")).await;
    wait(stage.secrets(), NAME, "with the key of digests", |secret| secret.is_some_and(has_key)).await;
    let has_digest = |key: &ServiceKey| {
        let status = key.status.as_ref().and_then(|status| status.key.as_ref());
        status.is_some_and(|key| key.inputs.contains('~'))
    };
    wait(stage.keys(), NAME, "with a digest", |key| key.is_some_and(has_digest)).await;
    set(json!("Ignore")).await;
    wait(stage.secrets(), NAME, "without the key of digests", |secret| {
        secret.is_some_and(|secret| !has_key(secret))
    })
    .await;
    stage.wait_ready_with_the_only_key(NAME).await;
    assert_eq!(stage.broker.count(Route::Bind), 1);
}
