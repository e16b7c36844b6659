//! A quota, a policy or an immutable Secret prevents the operator from writing the Secret. The operator finds this out
//! before it creates a key, and before it revokes one.

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::{ConditionType, Reason, ServiceKey};
use testkit::broker::Route;

use crate::support::{conditions::Reports, policy::Policy, stage::Stage};

const KEY: &str = "monitoring-creds";

/// Waits until a condition of the ServiceKey reports that the Secret is refused.
async fn wait_refused(stage: &Stage, type_: ConditionType) -> String {
    let refused = |key: Option<&ServiceKey>| {
        let told = key.and_then(|key| key.condition(type_));
        told.is_some_and(|condition| condition.reason == Reason::SecretRejected.as_str())
    };
    let key = stage.wait(stage.keys(), KEY, "refused", refused).await.unwrap();
    key.condition(type_).unwrap().message.clone()
}

async fn patch<K>(api: Api<K>, name: &str, patch: Value)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn a_quota_is_found_before_the_first_key() {
    let stage = Stage::set().await;
    let quotas: Api<ResourceQuota> = stage.api();
    let quota = json!({"metadata": {"name": "full"}, "spec": {"hard": {"count/secrets": "0"}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    // The controller that counts objects is not running, so the test writes the quota's status.
    let status = json!({"status": {"hard": {"count/secrets": "0"}, "used": {"count/secrets": "0"}}});
    quotas.patch_status("full", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let message = wait_refused(&stage, ConditionType::Ready).await;
    assert!(message.contains("exceeded quota: full") && !message.contains("Status {"), "{message}");
    assert_eq!(stage.broker.count(Route::Bind), 0);

    quotas.delete("full", &DeleteParams::default()).await.unwrap();
    stage.wait_ready(KEY).await;
    assert_eq!(stage.broker.count(Route::Bind), 1);
}

#[tokio::test]
async fn a_policy_is_found_before_the_first_key() {
    let stage = Stage::set().await;
    let (expression, message) =
        ("'cost-centre' in object.metadata.?labels.orValue({})", "Secrets need the label `cost-centre`");
    let _policy = Policy::refuse(&stage.client, &stage.namespace, expression, message, json!({})).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let message = wait_refused(&stage, ConditionType::Ready).await;
    assert!(message.contains("Secrets need the label `cost-centre`"), "{message}");
    assert_eq!(stage.broker.count(Route::Bind), 0);

    patch(stage.keys(), KEY, json!({"spec": {"secret": {"labels": {"cost-centre": "7"}}}})).await;
    stage.wait_ready(KEY).await;
    assert_eq!(stage.broker.count(Route::Bind), 1);
}

/// A webhook may record its change under the name of another field manager.
const INJECTOR: &str = ", JSONPatch{op: 'add', path: '/metadata/managedFields/-', value: {'manager': dyn('injector'), \
                        'operation': dyn('Update'), 'apiVersion': dyn('v1'), 'fieldsType': dyn('FieldsV1'), \
                        'time': dyn('2026-01-01T00:00:00Z'), 'fieldsV1': dyn({'f:data': {'f:password': {'.': {}}}})}}";

/// The API server attributes a policy's change within a request to the client that sent the request.
#[rstest]
#[case::as_policies_do(
    "",
    "`metadata.managedFields` does not name the author of such a change; check the MutatingWebhookConfigurations"
)]
#[case::with_its_name(
    INJECTOR,
    "`metadata.managedFields` names `injector` for `data[password]`; exclude Secrets with the label"
)]
#[tokio::test]
async fn an_entry_that_a_policy_overrides_is_found_before_the_first_key(
    #[case] patches: &str,
    #[case] words: &str,
) {
    let stage = Stage::set().await;
    let policy = Policy::replace_entry(&stage.client, &stage.namespace, KEY, "password", patches).await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let message = wait_refused(&stage, ConditionType::Ready).await;
    let field = "stores the Secret `monitoring-creds` with another `data[password]` than the operator sent: ";
    assert!(message.contains(field) && message.contains(words), "{message}");
    assert_eq!((stage.broker.count(Route::Bind), stage.broker.count(Route::Unbind)), (0, 0));

    policy.lift().await;
    stage.wait_ready(KEY).await;
    assert_eq!(stage.broker.count(Route::Bind), 1);
}

/// The dry run contains no entry with this name, so only the write reveals the policy. Its one key waits for the
/// administrator.
#[tokio::test]
async fn an_entry_that_a_policy_overrides_is_named_by_the_write() {
    let stage = Stage::set().await;
    let policy = Policy::replace_entry(&stage.client, &stage.namespace, KEY, "username", "").await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    let message = wait_refused(&stage, ConditionType::Ready).await;
    assert!(message.contains("another `data[username]` than the operator sent"), "{message}");
    assert_eq!(stage.broker.count(Route::Bind), 1);

    policy.lift().await;
    stage.wait_ready(KEY).await;
    assert_eq!((stage.broker.count(Route::Bind), stage.broker.bindings().len()), (1, 1));
}

/// For each type of Secret, the dry run is accepted if the Secret itself would be.
#[rstest]
#[case("kubernetes.io/tls", json!({"tls.crt": "{{ ca }}", "tls.key": "{{ password }}"}))]
#[case("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "{\"auths\":{}}"}))]
#[case("kubernetes.io/dockercfg", json!({".dockercfg": "{}"}))]
#[case("kubernetes.io/ssh-auth", json!({"ssh-privatekey": "{{ password }}"}))]
#[case("kubernetes.io/basic-auth", json!({}))]
#[case("example.com/any", json!({}))]
#[tokio::test]
async fn a_secret_of_any_type_is_written(#[case] type_: &str, #[case] templates: Value) {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let mut manifest = stage.key_manifest(KEY);
    manifest["spec"]["secret"] = json!({"type": type_, "template": {"data": templates}});
    if templates == json!({}) {
        manifest["spec"]["secret"].as_object_mut().unwrap().remove("template");
    }
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready(KEY).await;
    assert_eq!(stage.secrets().get(KEY).await.unwrap().type_.as_deref(), Some(type_));
}

/// The existing key continues to work, and the operator creates the next one once the Secret can be written.
#[tokio::test]
async fn an_immutable_secret_is_found_before_its_key_is_revoked() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let mut manifest = stage.key_manifest(KEY);
    manifest["spec"]["rotation"] = json!({"strategy": "Replace"});
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready(KEY).await;
    patch(stage.secrets(), KEY, json!({"immutable": true})).await;

    patch(stage.keys(), KEY, json!({"metadata": {"annotations": {"servicekeys.dev/rotate": "now"}}})).await;
    let message = wait_refused(&stage, ConditionType::Rotating).await;
    assert!(message.contains("delete the Secret, and the operator creates it again"), "{message}");
    assert_eq!((stage.broker.count(Route::Bind), stage.broker.count(Route::Unbind)), (1, 0));

    stage.secrets().delete(KEY, &DeleteParams::default()).await.unwrap();
    let rotated = |key: Option<&ServiceKey>| {
        let status = key.and_then(|key| key.status.as_ref());
        status.and_then(|status| status.key.as_ref()).is_some_and(|key| key.sequence == 2)
    };
    stage.wait(stage.keys(), KEY, "rotated", rotated).await;
    stage.wait_ready(KEY).await;
    assert_eq!(stage.broker.bindings().len(), 1);
}

/// A user restores the Secret in a form that can't be overwritten. The operator reports this, and creates no key for
/// it.
#[rstest]
#[case::immutable("postgresql", "small", json!({"immutable": true}))]
#[case::immutable_and_shown_once("metrics", "basic", json!({"immutable": true}))]
#[case::another_type("postgresql", "small", json!({"type": "example.com/other"}))]
#[case::another_type_and_shown_once("metrics", "basic", json!({"type": "example.com/other"}))]
#[tokio::test]
async fn a_secret_that_was_put_back_differently_is_reported(
    #[case] offering: &str,
    #[case] plan: &str,
    #[case] change: Value,
) {
    let stage = Stage::with_instance(offering, plan).await;
    let operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    drop(operator);

    let written = stage.secrets().get(KEY).await.unwrap();
    let mut back = serde_json::to_value(&written).unwrap();
    back["metadata"] = json!({
        "name": KEY,
        "labels": written.labels(),
        "annotations": written.annotations(),
        "ownerReferences": written.owner_references(),
    });
    back["data"] = json!({"password": "Z3Vlc3NlZA=="});
    back.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    stage.secrets().delete(KEY, &DeleteParams::default()).await.unwrap();
    stage.secrets().create(&PostParams::default(), &serde_json::from_value(back).unwrap()).await.unwrap();

    let _operator = stage.start_operator().await;
    let message = wait_refused(&stage, ConditionType::Ready).await;
    assert!(message.contains("delete the Secret, and the operator creates it again"), "{message}");
    assert_eq!(stage.broker.count(Route::Bind), 1);

    stage.secrets().delete(KEY, &DeleteParams::default()).await.unwrap();
    stage.wait_ready(KEY).await;
    assert!(stage.broker.bindings().len() <= 2);
}
