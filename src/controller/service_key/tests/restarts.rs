//! `RestartWorkloads`: patches of pod templates after a rotation.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::pending_restarts::{PendingRestart, Targets},
    fixtures::*,
};
use crate::lifecycle::Companion;

/// A ServiceKey that has to restart these workloads with its second key.
async fn restarting(targets: Value) -> Scene {
    let key = service_key().finalized().with_key(2).with_restart(2, "2026-11-24T12:00:00Z");
    let key = key.specifying("rotation", json!({"restart": targets}));
    let mut scene = scene(key).await.with_own_secret(2);
    scene.expect(read_secret(), works());
    scene
}

fn orders() -> Value {
    json!([{"kind": "Deployment", "name": "orders"}])
}

/// The patch of the pod template. The value begins with the number of the key, and ends with the first digits of the
/// ServiceKey's UID.
fn with_second_key() -> Value {
    let annotations = json!({"restart.servicekeys.dev/db": "2-0c1d2e3f"});
    json!({"spec": {"template": {"metadata": {"annotations": annotations}}}})
}

#[tokio::test]
async fn each_workload_is_patched_once() {
    let targets = json!([
        {"kind": "Deployment", "name": "orders"},
        {"kind": "StatefulSet", "name": "ledger"},
        {"kind": "DaemonSet", "name": "agent"},
        {"kind": "Deployment", "name": "orders"},
    ]);
    let mut scene = restarting(targets).await;
    let workloads = ["deployments/orders", "statefulsets/ledger", "daemonsets/agent"];
    for workload in workloads {
        scene.api.store_workload(workload, json!({"template": {"metadata": {"annotations": {"mine": "x"}}}}));
        scene.expect(patch_workload(workload).with(with_second_key()), works());
    }
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    for workload in workloads {
        let expected = json!({"mine": "x", "restart.servicekeys.dev/db": "2-0c1d2e3f"});
        assert_eq!(scene.api.template_annotations(workload), &expected);
    }
    assert_eq!(scene.status().get("restart"), None);

    scene.cache_catches_up();
    assert_eq!(scene.reconcile().await, "settled, awaits a change", "nothing is patched again");
    let events = scene.events().await;
    let note = "restarted with key 2: DaemonSet `agent`, Deployment `orders`, StatefulSet `ledger`";
    assert_eq!(events, [("WorkloadsRestarted".to_owned(), note.to_owned())]);
}

#[tokio::test]
async fn nothing_is_patched_before_the_time() {
    let key = service_key().finalized().with_key(2).with_restart(2, "2026-11-24T12:00:30Z");
    let mut scene = scene(key.specifying("rotation", json!({"restart": orders()}))).await.with_own_secret(2);
    scene.api.store_workload("deployments/orders", json!({}));
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.later(Duration::from_secs(30));
    scene.expect(patch_workload("deployments/orders"), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

/// The answer to the patch is lost, or that to the write of the status, or the operator crashes. The next patch has the
/// same value, so it restarts nothing.
#[tokio::test]
async fn a_repeated_patch_changes_nothing() {
    let mut scene = restarting(orders()).await;
    scene.api.store_workload("deployments/orders", json!({}));
    scene.expect(patch_workload("deployments/orders").with(with_second_key()), works());
    scene.expect(write_status(), internal_error());
    assert_eq!(scene.reconcile().await, "error, requeued");
    scene.expect(patch_workload("deployments/orders").with(with_second_key()), works_unheard());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.later(Duration::from_secs(60));
    scene.cache_catches_up();
    scene.expect(patch_workload("deployments/orders").with(with_second_key()), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

/// Another ServiceKey names `orders` as well, and its restart is due. Only `orders` gets its annotation.
#[tokio::test]
async fn one_patch_restarts_a_workload_for_two_service_keys() {
    let mut scene = restarting(json!([
        {"kind": "Deployment", "name": "orders"},
        {"kind": "Deployment", "name": "search"},
    ]))
    .await;
    let annotation = ("restart.servicekeys.dev/cache".to_owned(), "7-0c1d2e3a".to_owned());
    let restart = PendingRestart {
        companion: Companion::Due(start()),
        targets: Targets::of(&serde_json::from_value::<Vec<_>>(orders()).unwrap()),
        annotation: Some(annotation),
    };
    scene.context.restarts.note(NAMESPACE, Uuid::from_u128(7), Some(restart));
    for workload in ["deployments/orders", "deployments/search"] {
        scene.api.store_workload(workload, json!({}));
        scene.expect(patch_workload(workload).with(with_second_key()), works());
    }
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    let own = json!({"restart.servicekeys.dev/db": "2-0c1d2e3f"});
    assert_eq!(scene.api.template_annotations("deployments/search"), &own);
    let both =
        json!({"restart.servicekeys.dev/db": "2-0c1d2e3f", "restart.servicekeys.dev/cache": "7-0c1d2e3a"});
    assert_eq!(scene.api.template_annotations("deployments/orders"), &both);
    assert_eq!(scene.context.restarts.len(), 1, "the own restart is over");
}

/// Another ServiceKey gets its next key.
#[tokio::test]
async fn a_restart_waits_for_another_rotation() {
    let mut scene = restarting(orders()).await;
    scene.api.store_workload("deployments/orders", json!({}));
    let targets = Targets::of(&serde_json::from_value::<Vec<_>>(orders()).unwrap());
    let restart = PendingRestart { companion: Companion::Rotating, targets, annotation: None };
    scene.context.restarts.note(NAMESPACE, Uuid::from_u128(7), Some(restart));
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.context.restarts.note(NAMESPACE, Uuid::from_u128(7), None);
    scene.later(Duration::from_secs(10));
    scene.expect(patch_workload("deployments/orders").with(with_second_key()), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

/// The watch shows the end of a ServiceKey.
#[tokio::test]
async fn nothing_is_left_of_the_restart_of_a_service_key_that_is_gone() {
    let key = service_key().finalized().with_key(2).with_restart(2, "2026-11-24T12:00:30Z");
    let mut scene = scene(key.specifying("rotation", json!({"restart": orders()}))).await.with_own_secret(2);
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    assert_eq!(scene.context.restarts.len(), 1);
    scene.api.remove_key();
    scene.cache_catches_up();
    assert_eq!(scene.context.restarts.len(), 0);
}

#[tokio::test]
async fn a_selector_restarts_all_that_it_selects() {
    let selector = json!({
        "matchLabels": {"app": "orders"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}],
    });
    let mut scene = restarting(json!([{"kind": "StatefulSet", "selector": selector}])).await;
    for name in ["one", "two"] {
        scene.api.store_workload(&format!("statefulsets/{name}"), json!({}));
    }
    scene.expect(list_workloads("statefulsets", "app%3Dorders%2Ctier+in+%28front%29"), works());
    scene.expect(patch_workload("statefulsets/one").with(with_second_key()), works());
    scene.expect(patch_workload("statefulsets/two").with(with_second_key()), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

#[tokio::test]
async fn a_selector_of_too_many_workloads_is_reported() {
    let mut scene = restarting(json!([{"kind": "StatefulSet", "selector": {}}])).await;
    for number in 0..101 {
        scene.api.store_workload(&format!("statefulsets/app-{number:03}"), json!({}));
    }
    scene.expect(list_workloads("statefulsets", ""), works());
    for number in 0..100 {
        scene.expect(patch_workload(&format!("statefulsets/app-{number:03}")), works());
    }
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    let (_, reason, message) = scene.condition("Rotating");
    assert_eq!(reason, "RestartFailed");
    assert!(message.contains("selects more than 100 workloads: name fewer"), "{message}");
}

#[rstest]
#[case::it_is_missing(json!({}), not_found(), "Deployment `orders` does not exist")]
#[case::a_permission_is_missing(
    json!({}),
    forbidden("deployments.apps \"orders\" is forbidden: User \"operator\" cannot patch resource"),
    "the operator may not patch a Deployment here; the Kubernetes API could not restart the workload: deployments.apps"
)]
#[case::a_policy_refuses_it(
    json!({}),
    forbidden("deployments.apps \"orders\" is forbidden: ValidatingAdmissionPolicy 'freeze' denied request"),
    "Deployment `orders` can't be restarted: the Kubernetes API could not restart the workload: deployments.apps"
)]
#[case::the_api_server_is_in_trouble(json!({}), internal_error(), "Deployment `orders` can't be restarted")]
#[case::it_is_paused(json!({"paused": true}), works(), "Deployment `orders` is paused: resume it")]
#[case::some_pods_stay(
    json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}),
    works(),
    "has `partition: 2`, so as many of its pods keep the previous key"
)]
#[case::its_pods_stay(
    json!({"updateStrategy": {"type": "OnDelete"}}),
    works(),
    "has the update strategy `OnDelete`: delete its pods"
)]
#[tokio::test]
async fn a_failure_is_told_and_tried_again(#[case] spec: Value, #[case] answer: Answer, #[case] words: &str) {
    let targets = json!([{"kind": "Deployment", "name": "orders"}, {"kind": "Deployment", "name": "bills"}]);
    let mut scene = restarting(targets).await;
    scene.api.store_workload("deployments/orders", spec);
    scene.api.store_workload("deployments/bills", json!({}));
    scene.expect(patch_workload("deployments/orders"), answer);
    scene.expect(patch_workload("deployments/bills"), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    let (status, reason, message) = scene.condition("Rotating");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "RestartFailed"));
    assert!(
        message.contains(words) && message.contains("the next attempt is at 2026-11-24T12:01:00Z"),
        "{message}"
    );
    assert_eq!(scene.condition("Ready").0, "True");

    scene.later(Duration::from_secs(60));
    scene.cache_catches_up();
    scene.api.store_workload("deployments/orders", json!({}));
    scene.expect(patch_workload("deployments/orders").with(with_second_key()), works());
    scene.expect(patch_workload("deployments/bills").with(with_second_key()), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert!(scene.status()["conditions"].as_array().unwrap().iter().all(|shown| shown["type"] != "Rotating"));
}

/// A policy or a webhook chooses the text of its refusal, and the status has room for 2,048 characters.
#[tokio::test]
async fn a_long_refusal_is_cut() {
    let mut targets = Vec::new();
    for number in 0..16 {
        targets.push(json!({"kind": "Deployment", "name": format!("app-{number:02}")}));
    }
    let mut scene = restarting(json!(targets)).await;
    for number in 0..16 {
        scene.expect(patch_workload(&format!("deployments/app-{number:02}")), forbidden(&"x".repeat(5000)));
    }
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    let problem = scene.status()["restart"]["problem"].as_str().unwrap();
    assert!(
        problem.starts_with("Deployment `app-00` can't be restarted") && problem.len() < 2048,
        "{problem}"
    );
    assert!(problem.ends_with("; and 14 more"), "{problem}");
}
