//! Policies, controllers and people also write the Secret. The operator creates no key because of metadata, and there
//! are never more than three keys. It distinguishes a writer that undoes each repair from a single mistake.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::{ConditionType, Reason, ServiceKey};
use testkit::broker::{FakeBroker, Fault, Instance, Route, StatusCode};

use crate::support::{conditions::Reports, policy::Policy, stage::Stage};

const KEY: &str = "monitoring-creds";

/// A stage whose broker shows credentials once, with a ServiceKey that is ready and has these further fields.
async fn with_a_key_shown_once(spec: Value) -> (Stage, impl Drop) {
    let stage = Stage::with_instance("metrics", "basic").await;
    let operator = stage.start_operator().await;
    let mut manifest = stage.key_manifest(KEY);
    manifest["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready(KEY).await;
    (stage, operator)
}

/// A stage whose broker does not support reading bindings, with a ServiceKey that is ready.
async fn with_a_broker_that_repeats() -> (Stage, impl Drop) {
    let instance = Instance::new("training-app-db", "metrics", "basic");
    let broker = FakeBroker::builder().without_instances().instance(instance.clone()).start().await.unwrap();
    let stage = Stage::set_for(broker, instance).await;
    let operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    (stage, operator)
}

async fn patch_secret(stage: &Stage, patch: &Value) -> Secret {
    stage.secrets().patch(KEY, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
}

async fn patch_spec(stage: &Stage, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    stage.keys().patch(KEY, &PatchParams::default(), &patch).await.unwrap();
}

/// Whether the entries and the metadata that the operator writes are the same.
fn is_like(secret: Option<&Secret>, right: &Secret) -> bool {
    secret.is_some_and(|secret| {
        secret.data == right.data
            && secret.labels() == right.labels()
            && secret.annotations() == right.annotations()
            && secret.owner_references() == right.owner_references()
    })
}

#[rstest]
#[case::an_entry_is_added(json!({"stringData": {"extra": "x"}}))]
#[case::a_label_is_removed(json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}))]
#[case::the_users_label_is_changed(json!({"metadata": {"labels": {"team": "x"}}}))]
#[case::all_annotations_are_removed(json!({"metadata": {"annotations": null}}))]
#[case::the_sequence_is_changed(json!({"metadata": {"annotations": {"servicekeys.dev/sequence": "7"}}}))]
#[case::the_sequence_is_no_number(json!({"metadata": {"annotations": {"servicekeys.dev/sequence": "x"}}}))]
#[case::the_content_mark_is_changed(json!({"metadata": {"annotations": {"servicekeys.dev/content": "x"}}}))]
#[case::the_layout_mark_is_removed(json!({"metadata": {"annotations": {"servicekeys.dev/layout": null}}}))]
#[case::the_owner_reference_is_removed(json!({"metadata": {"ownerReferences": null}}))]
#[case::all_of_it_but_the_owner(
    json!({"metadata": {"labels": null, "annotations": null}, "stringData": {"extra": "x"}})
)]
#[tokio::test]
async fn a_key_that_is_shown_once_stays_while_its_credentials_are_there(#[case] damage: Value) {
    let (stage, _operator) = with_a_key_shown_once(json!({"secret": {"labels": {"team": "data"}}})).await;
    let right = stage.secrets().get(KEY).await.unwrap();
    patch_secret(&stage, &damage).await;
    stage.wait(stage.secrets(), KEY, "restored", |secret| is_like(secret, &right)).await;
    stage.wait_ready(KEY).await;
    assert_eq!((stage.broker.count(Route::Bind), stage.broker.bindings().len()), (1, 1));
}

#[rstest]
#[case::labels(json!({"labels": {"team": "other"}}))]
#[case::annotations(json!({"annotations": {"example.com/note": "any"}}))]
#[case::no_owner(json!({"deletionPolicy": "Retain"}))]
#[tokio::test]
async fn another_layout_costs_no_key_that_is_shown_once(#[case] secret: Value) {
    let (stage, _operator) =
        with_a_key_shown_once(json!({"deletionPolicy": "Retain", "secret": {"labels": {"team": "data"}}}))
            .await;
    let before = stage.secrets().get(KEY).await.unwrap();
    patch_spec(&stage, json!({ "secret": secret })).await;
    let changed = stage
        .wait(stage.secrets(), KEY, "in the new layout", |secret| {
            secret.is_some_and(|secret| secret.resource_version() != before.resource_version())
        })
        .await
        .unwrap();
    assert_eq!(changed.data, before.data);
    let generation = stage.keys().get(KEY).await.unwrap().metadata.generation;
    let settled = |key: Option<&ServiceKey>| {
        key.is_some_and(|key| {
            key.status.as_ref().is_some_and(|status| status.observed_generation == generation)
                && key.is(true, Reason::Available)
        })
    };
    stage.wait(stage.keys(), KEY, "settled", settled).await;
    assert_eq!((stage.broker.count(Route::Bind), stage.broker.bindings().len()), (1, 1));
}

/// The operator needs the credentials again, and the broker does not show them, so a regular rotation follows. The
/// consumers' key continues to work, although the user wants no overlap.
#[tokio::test]
async fn other_templates_replace_a_key_that_is_shown_once_in_order() {
    let (stage, _operator) = with_a_key_shown_once(json!({"rotation": {"overlap": "0s"}})).await;
    let began = Timestamp::now();
    patch_spec(&stage, json!({"secret": {"template": {"data": {"only": "{{ password }}"}}}})).await;
    let rendered = |secret: Option<&Secret>| {
        secret.is_some_and(|secret| secret.data.as_ref().is_some_and(|data| data.contains_key("only")))
    };
    stage.wait(stage.secrets(), KEY, "rendered", rendered).await;
    let replaced = |key: Option<&ServiceKey>| {
        key.and_then(|key| key.status.as_ref()?.key.as_ref()).is_some_and(|key| key.sequence == 2)
    };
    let key = stage.wait(stage.keys(), KEY, "with its second key", replaced).await.unwrap();
    let previous = &key.status.unwrap().previous_keys;
    assert!(
        previous[0].revoke_at.as_ref().unwrap().0 >= began + SignedDuration::from_mins(60),
        "{previous:?}"
    );
    assert_eq!(stage.broker.bindings().len(), 2);
}

/// Most brokers don't support reading bindings. They answer a repeated bind with the credentials of the existing key.
#[rstest]
#[case::an_entry_is_edited(Some(json!({"stringData": {"password": "guessed"}})), json!({}))]
#[case::the_secret_is_deleted(None, json!({}))]
#[case::the_template_is_changed(
    Some(json!({})),
    json!({"secret": {"template": {"data": {"only": "{{ password }}"}}}}),
)]
#[tokio::test]
async fn a_repeated_bind_brings_the_credentials_of_the_same_key_back(
    #[case] damage: Option<Value>,
    #[case] spec: Value,
) {
    let (stage, _operator) = with_a_broker_that_repeats().await;
    let written = stage.secrets().get(KEY).await.unwrap();
    match damage {
        Some(damage) => drop(patch_secret(&stage, &damage).await),
        None => drop(stage.secrets().delete(KEY, &DeleteParams::default()).await.unwrap()),
    }
    patch_spec(&stage, spec.clone()).await;
    let is_right = |secret: Option<&Secret>| {
        let data = secret.and_then(|secret| secret.data.as_ref());
        data.is_some_and(|data| match spec.get("secret") {
            None => Some(data) == written.data.as_ref(),
            Some(_) => data.get("only") == written.data.as_ref().unwrap().get("password"),
        })
    };
    stage.wait(stage.secrets(), KEY, "right again", is_right).await;
    stage.wait_settled_with(1).await;
    assert_eq!((stage.broker.count(Route::Bind), stage.broker.count(Route::Fetch)), (2, 0));
    assert_eq!(stage.broker.bindings().len(), 1);
    stage.broker.assert_clean();
    stage.delete_and_leave_nothing(KEY).await;
}

/// A bind with other parameters is a different request: the broker would refuse it, or answer with the old credentials.
#[tokio::test]
async fn a_bind_is_not_repeated_with_other_parameters() {
    let (stage, operator) = with_a_broker_that_repeats().await;
    drop(operator);
    stage.secrets().delete(KEY, &DeleteParams::default()).await.unwrap();
    patch_spec(&stage, json!({"parameters": {"role": "reader"}})).await;
    let _operator = stage.start_operator().await;
    let replaced = |key: Option<&ServiceKey>| {
        key.and_then(|key| key.status.as_ref()?.key.as_ref()).is_some_and(|key| key.sequence == 2)
    };
    stage.wait(stage.keys(), KEY, "with its second key", replaced).await;
    assert_eq!((stage.broker.count(Route::Bind), stage.broker.bindings().len()), (2, 2));
    stage.broker.assert_clean();
}

/// The broker is unavailable while the operator needs the credentials. The operator keeps the key, and repeats the
/// request.
#[tokio::test]
async fn a_repeated_bind_that_fails_costs_no_key() {
    let (stage, _operator) = with_a_broker_that_repeats().await;
    stage.broker.inject(Fault::Status(StatusCode::BAD_GATEWAY, json!({})).on(Route::Bind).times(2));
    let written = stage.secrets().get(KEY).await.unwrap();
    stage.secrets().delete(KEY, &DeleteParams::default()).await.unwrap();
    let is_back = |secret: Option<&Secret>| secret.is_some_and(|secret| secret.data == written.data);
    stage.wait(stage.secrets(), KEY, "back", is_back).await;
    assert_eq!((stage.broker.count(Route::Bind), stage.broker.count(Route::Unbind)), (4, 0));
    assert_eq!(stage.broker.bindings().len(), 1);
}

/// The operator accepts the Secret as the API server stored it: one key and one write, also after a restart.
#[rstest]
#[case::shown_once("metrics", "basic")]
#[case::retrievable("postgresql", "small")]
#[tokio::test]
async fn a_label_that_a_policy_overrides_causes_no_storm(#[case] offering: &str, #[case] plan: &str) {
    let stage = Stage::with_instance(offering, plan).await;
    let operator = stage.start_operator().await;
    stage.create_key("first").await;
    stage.wait_ready("first").await;
    let _policy = Policy::label(&stage.client, &stage.namespace, "team", "policy").await;
    let mut manifest = stage.key_manifest(KEY);
    manifest["spec"]["secret"] = json!({"labels": {"team": "data"}});
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready(KEY).await;
    let written = stage.secrets().get(KEY).await.unwrap();
    assert_eq!(written.labels()["team"], "policy");

    drop(operator);
    let _operator = stage.start_operator().await;
    // The operator reconciles the existing ServiceKey before the second one.
    stage.create_key("second").await;
    stage.wait_ready("second").await;
    let after = stage.secrets().get(KEY).await.unwrap();
    assert_eq!(after.resource_version(), written.resource_version(), "it was written once");
    // The API server records no name for the policy, whether it overrides the label or adds it.
    let second = stage.secrets().get("second").await.unwrap();
    assert_eq!(second.labels()["team"], "policy");
    for secret in [&after, &second] {
        let managers = secret.managed_fields().iter().map(|record| record.manager.as_deref());
        assert_eq!(managers.collect::<Vec<_>>(), [Some("servicekey-operator")]);
    }
    assert_eq!((stage.broker.count(Route::Bind), stage.broker.count(Route::Fetch)), (3, 0));
}

const WRITER: &str = "drift-controller";

/// A writer that changes the Secret as soon as the operator has repaired it, until this is dropped.
struct Writer(tokio::task::JoinHandle<()>);

impl Writer {
    fn start(stage: &Stage, change: Value) -> Self {
        let secrets = stage.secrets();
        let named = PatchParams { field_manager: Some(WRITER.to_owned()), ..PatchParams::default() };
        Self(tokio::spawn(async move {
            loop {
                let _ = secrets.patch(KEY, &named, &Patch::Merge(&change)).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Neither the operator's own repairs nor the other writer's changes cause an immediate reconcile. Each further repair
/// waits longer. The condition reports this, and names the writer and the field.
#[rstest]
#[case::shown_once("metrics", "basic", json!({"stringData": {"extra": "x"}}), Some("data[extra]"), 1)]
#[case::retrievable("postgresql", "small", json!({"stringData": {"extra": "x"}}), Some("data[extra]"), 1)]
// Each repair costs two calls: one to repeat the bind, and one to create the next key.
#[case::lost("metrics", "basic", json!({"stringData": {"password": "guessed"}}), Some("data[password]"), 20)]
#[case::read_again("postgresql", "small", json!({"stringData": {"password": "guessed"}}), Some("data[password]"), 10)]
#[case::marked(
    "metrics",
    "basic",
    json!({"metadata": {"annotations": {"servicekeys.dev/sequence": "7"}}}),
    Some("metadata.annotations[servicekeys.dev/sequence]"),
    1
)]
#[case::removed("metrics", "basic", json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}), None, 1)]
#[tokio::test]
async fn a_writer_that_undoes_each_repair_causes_no_storm(
    #[case] offering: &str,
    #[case] plan: &str,
    #[case] change: Value,
    #[case] field: Option<&str>,
    #[case] most_calls: usize,
) {
    let works = most_calls == 1;
    let stage = Stage::with_instance(offering, plan).await;
    let operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;

    let writer = Writer::start(&stage, change);
    let words = field.map_or_else(
        || "`metadata.managedFields` names no other writer".to_owned(),
        |field| format!("`metadata.managedFields` names `{WRITER}` for `{field}`; stop that writer"),
    );
    let contested = |key: Option<&ServiceKey>| {
        let says_so = |type_| {
            key.and_then(|key| key.condition(type_)).is_some_and(|condition| {
                condition.reason == Reason::SecretContested.as_str() && condition.message.contains(&words)
            })
        };
        says_so(ConditionType::Ready) || says_so(ConditionType::Rotating)
    };
    let told =
        stage.wait(stage.keys(), KEY, "contested, with the expected message", contested).await.unwrap();
    let ready = told.condition(ConditionType::Ready).unwrap();
    assert_eq!(ready.status == "True", works, "{ready:?}");
    // During ten seconds with hundreds of changes, the operator makes a few repairs at once, and few later.
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop(writer);
    let calls = stage.broker.count(Route::Bind) + stage.broker.count(Route::Fetch);
    assert!(calls <= most_calls, "{calls} calls");
    assert!(stage.broker.bindings().len() <= 3, "{} keys", stage.broker.bindings().len());
    drop(operator);
}
