//! `LookForConsumers`: the pods that may use a previous key.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::fixtures::*;

/// A ServiceKey whose overlap ends now. The Secret got key 2 an hour ago.
async fn at_the_end_of_the_overlap() -> Scene {
    let key = service_key().finalized().with_key(2).with_previous_key(1, "2026-11-24T12:00:00Z");
    let rotation = json!({"overlap": "1h", "revokeWhen": "ConsumersMoved", "maxOverlap": "24h"});
    let mut scene = scene(key.specifying("rotation", rotation)).await.with_own_secret(2);
    scene.another_writer_edits_the_key(|key| {
        key["status"]["previousKeys"][0]["replacedAt"] = json!("2026-11-24T11:00:00Z");
    });
    scene.expect(read_secret(), works());
    scene
}

/// A pod whose container has run since this time.
fn pod(name: &str, spec: &Value, started: &str) -> Value {
    let state = json!({"running": {"startedAt": started}});
    let status = json!({"phase": "Running", "containerStatuses": [{"name": "app", "state": state}]});
    json!({"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec, "status": status})
}

fn with_environment_of(secret: &str) -> Value {
    let variable = json!({"name": "X", "valueFrom": {"secretKeyRef": {"name": secret, "key": "password"}}});
    json!({"containers": [{"name": "app", "env": [variable]}]})
}

const BEFORE: &str = "2026-11-24T10:00:00Z";
const AFTER: &str = "2026-11-24T11:10:00Z";

#[tokio::test]
async fn a_key_stays_until_no_pod_uses_it() {
    let mut scene = at_the_end_of_the_overlap().await;
    let ours = with_environment_of(NAME);
    scene.api.store_pods(vec![
        vec![pod("new", &ours, AFTER), pod("other", &with_environment_of("other"), BEFORE)],
        vec![pod("old", &ours, BEFORE)],
    ]);
    scene.expect(list_pods(None), works());
    scene.expect(list_pods(Some("1")), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    let (_, reason, message) = scene.condition("Rotating");
    assert_eq!(reason, "ConsumersNotMoved");
    let expected = "key 1 is not revoked yet: pods that started before the rotation may use it: `old`; it is revoked at \
                    2026-11-25T11:00:00Z at the latest";
    assert_eq!(message, expected);
    let previous = &scene.status()["previousKeys"][0];
    assert_eq!(previous["revokeAt"], "2026-11-24T12:06:00Z", "a tenth of the time since the rotation");
    assert!(scene.broker.calls().is_empty());

    scene.later(Duration::from_secs(360));
    scene.api.store_pods(vec![vec![pod("new", &ours, AFTER)]]);
    scene.expect(list_pods(None), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(scene.broker.calls(), ["DELETE binding"]);
    assert_eq!(scene.status().get("previousKeys").unwrap_or(&json!([])), &json!([]));
}

#[rstest]
#[case::a_permission_is_missing(
    forbidden("pods is forbidden: User \"operator\" cannot list resource \"pods\""),
    "its consumers are unknown: the operator may not list pods here; the Kubernetes API could not list the pods: pods is \
     forbidden"
)]
#[case::the_api_server_is_in_trouble(internal_error(), "its consumers are unknown: ")]
#[case::the_connection_is_lost(closes(), "its consumers are unknown: ")]
#[tokio::test]
async fn a_key_stays_if_its_consumers_are_unknown(#[case] answer: Answer, #[case] words: &str) {
    let mut scene = at_the_end_of_the_overlap().await;
    scene.expect(list_pods(None), answer);
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    let (_, reason, message) = scene.condition("Rotating");
    assert_eq!(reason, "ConsumersNotMoved");
    assert!(message.contains(words), "{message}");
    assert_eq!(scene.condition("Ready").0, "True");
    assert!(scene.broker.calls().is_empty());
}

/// After `maxOverlap` the operator does not look any more.
#[tokio::test]
async fn a_key_stays_no_longer_than_the_longest_overlap() {
    let mut scene = at_the_end_of_the_overlap().await;
    scene.api.store_pods(vec![vec![pod("old", &with_environment_of(NAME), BEFORE)]]);
    scene.later(Duration::from_secs(23 * 3600));
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(scene.broker.calls(), ["DELETE binding"]);
}

fn with_volume(volume: &Value, mount: &Value) -> Value {
    let containers = json!([{"name": "app", "volumeMounts": [mount]}]);
    json!({"containers": containers, "volumes": [volume]})
}

#[rstest]
#[case::a_variable(with_environment_of(NAME), true)]
#[case::a_variable_of_another_secret(with_environment_of("other"), false)]
#[case::all_variables(json!({"containers": [{"name": "app", "envFrom": [{"secretRef": {"name": NAME}}]}]}), true)]
#[case::a_part_of_a_volume(
    with_volume(&json!({"name": "v", "secret": {"secretName": NAME}}), &json!({"name": "v", "subPath": "password"})),
    true
)]
#[case::a_part_of_a_projected_volume(
    with_volume(
        &json!({"name": "v", "projected": {"sources": [{"configMap": {"name": "x"}}, {"secret": {"name": NAME}}]}}),
        &json!({"name": "v", "subPathExpr": "$(X)"})
    ),
    true
)]
#[case::a_volume_that_has_followed(
    with_volume(&json!({"name": "v", "secret": {"secretName": NAME}}), &json!({"name": "v", "mountPath": "/x"})),
    false
)]
#[case::a_volume_that_is_not_mounted(
    with_volume(&json!({"name": "v", "secret": {"secretName": NAME}}), &json!({"name": "w", "subPath": "x"})),
    false
)]
#[case::an_init_container(
    json!({"containers": [], "initContainers": [{"name": "app", "envFrom": [{"secretRef": {"name": NAME}}]}]}),
    false
)]
#[case::the_login_of_a_driver(
    with_volume(
        &json!({"name": "v", "csi": {"driver": "s3", "nodePublishSecretRef": {"name": NAME}}}),
        &json!({"name": "v", "mountPath": "/x"})
    ),
    true
)]
#[case::a_config_map_of_that_name(
    with_volume(&json!({"name": "v", "configMap": {"name": NAME}}), &json!({"name": "v", "subPath": "x"})),
    false
)]
#[case::an_ephemeral_container(
    json!({"containers": [], "ephemeralContainers": [{"name": "app", "envFrom": [{"secretRef": {"name": NAME}}]}]}),
    false
)]
#[case::a_form_that_is_not_known(json!({"containers": "none"}), true)]
#[tokio::test]
async fn each_kind_of_reference_counts(#[case] spec: Value, #[case] stays: bool) {
    let mut scene = at_the_end_of_the_overlap().await;
    scene.api.store_pods(vec![vec![pod("old", &spec, BEFORE)]]);
    scene.expect(list_pods(None), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    assert_eq!(scene.broker.calls().is_empty(), stays, "{:?}", scene.condition("Rotating"));
}

/// The pods of a workload that the operator restarts read their volumes only when they start, also before the first
/// restart.
#[rstest]
#[case::of_the_deployment("ReplicaSet", "orders-5d9c7b", true)]
#[case::of_another_deployment("ReplicaSet", "orders-api-5d9c7b", false)]
#[case::of_any_stateful_set("StatefulSet", "ledger", true)]
#[case::of_a_daemon_set("DaemonSet", "orders", false)]
#[tokio::test]
async fn the_owner_of_a_pod_counts(#[case] kind: &str, #[case] owner: &str, #[case] stays: bool) {
    let mut scene = at_the_end_of_the_overlap().await;
    let targets = json!([{"kind": "Deployment", "name": "orders"}, {"kind": "StatefulSet", "selector": {}}]);
    scene.another_writer_edits_the_key(|key| key["spec"]["rotation"]["restart"] = targets);
    let volume = json!({"name": "v", "secret": {"secretName": NAME}});
    let mut used = pod("app", &with_volume(&volume, &json!({"name": "v", "mountPath": "/x"})), BEFORE);
    let owner = json!({"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": "u", "controller": true});
    used["metadata"]["ownerReferences"] = json!([owner]);
    scene.api.store_pods(vec![vec![used]]);
    scene.expect(list_pods(None), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    assert_eq!(scene.broker.calls().is_empty(), stays, "{:?}", scene.condition("Rotating"));
}

/// The pod was created from the template with which the operator restarted its workload.
#[rstest]
#[case::with_the_new_key("2-0c1d2e3f", false)]
#[case::with_the_previous_key("1-0c1d2e3f", true)]
#[case::of_another_service_key("2-ffffffff", true)]
#[tokio::test]
async fn the_annotation_of_a_restart_counts(#[case] value: &str, #[case] stays: bool) {
    let mut scene = at_the_end_of_the_overlap().await;
    let mut restarted = pod("app", &with_environment_of(NAME), BEFORE);
    restarted["metadata"]["annotations"] = json!({"restart.servicekeys.dev/db": value});
    let mut ended = pod("job", &with_environment_of(NAME), BEFORE);
    ended["status"]["phase"] = json!("Succeeded");
    scene.api.store_pods(vec![vec![restarted, ended]]);
    scene.expect(list_pods(None), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    assert_eq!(scene.broker.calls().is_empty(), stays, "{:?}", scene.condition("Rotating"));
}
