//! A previous key stays as long as a pod may use it (`revokeWhen: ConsumersMoved`). The pods are real processes.

use std::time::Duration;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::{control_plane::User, kubelet::Kubelet};

use crate::support::{
    rights,
    rotation::sequence,
    stage::{PATIENCE, Stage, condition, wait},
    time::Time,
};

const NAME: &str = "monitoring-creds";
const APP: &str = "app";
/// The delay after which a new container has the next key, plus ten seconds.
const SETTLING: Duration = Duration::from_secs(100);
/// The longest time between two looks at the pods, plus one second.
const NEXT_LOOK: Duration = Duration::from_secs(601);

fn rotation() -> Value {
    json!({"overlap": "1m", "revokeWhen": "ConsumersMoved", "maxOverlap": "24h"})
}

/// An account of an operator that may list pods.
async fn looking_user(stage: &Stage) -> User {
    let user = stage.operator_user().await;
    rights::to_list_pods(stage.plane, &stage.namespace, &user).await;
    user
}

/// Creates the Deployment `app` with two pods that have the Secret in their environment, and waits until a kubelet with
/// this clock runs them.
async fn deploy(stage: &Stage, time: &Time) -> Kubelet {
    let clock = time.clock();
    let kubelet = Kubelet::builder(stage.client.clone(), &stage.namespace);
    let kubelet = kubelet.clock(move || clock.now()).start().await.unwrap();
    let labels = json!({"app": APP});
    let variable =
        json!({"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": NAME, "key": "password"}}});
    let container =
        json!({"name": "main", "image": "program", "command": ["/bin/sleep", "3600"], "env": [variable]});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": labels}, "template": template});
    let deployment = json!({"metadata": {"name": APP}, "spec": spec});
    let deployment: Deployment = serde_json::from_value(deployment).unwrap();
    stage.api::<Deployment>().create(&PostParams::default(), &deployment).await.unwrap();
    wait_running(stage, &kubelet, &[]).await;
    kubelet
}

/// Waits until two other pods than these run, and returns their names.
async fn wait_running(stage: &Stage, kubelet: &Kubelet, former: &[String]) -> Vec<String> {
    let is_ready = |app: &Deployment| {
        let status = app.status.clone().unwrap_or_default();
        status.ready_replicas == Some(2) && status.updated_replicas == Some(2)
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "no new pods: {:?}", kubelet.starts());
        wait(stage.api(), APP, "with ready pods", |app: Option<&Deployment>| app.is_some_and(is_ready)).await;
        let names: Vec<_> = kubelet.running().into_iter().map(|start| start.pod).collect();
        if names.len() == 2 && names.iter().all(|name| !former.contains(name)) {
            return names;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the condition says that pods may use the previous key, and returns its message.
async fn wait_kept(stage: &Stage) -> String {
    let kept = |key: &ServiceKey| {
        let conditions = &key.status.as_ref()?.conditions;
        let kept = conditions.iter().find(|shown| shown.reason == Reason::ConsumersNotMoved.as_str())?;
        Some(kept.message.clone())
    };
    let is_kept = |key: Option<&ServiceKey>| key.and_then(kept).is_some();
    let key = wait(stage.keys(), NAME, "kept for its consumers", is_kept).await.unwrap();
    assert_eq!(condition(&key, "Ready"), Some("True"));
    kept(&key).unwrap()
}

async fn rotate(stage: &Stage, number: u32) {
    stage.request_rotation(json!(number.to_string())).await;
    let is_next = |key: &ServiceKey| sequence(key) == Some(number);
    wait(stage.keys(), NAME, "with the next key", |key| key.is_some_and(is_next)).await;
}

/// The condition names the pods. After they have started again, the next look revokes the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_stays_until_the_pods_have_started_again() {
    let stage = Stage::set().await;
    let time = Time::default();
    let user = looking_user(&stage).await;
    let _operator = stage.start_operator_as(&user, time.clock());
    stage.create_rotating(rotation()).await;
    let kubelet = deploy(&stage, &time).await;
    let former = wait_running(&stage, &kubelet, &[]).await;

    rotate(&stage, 2).await;
    time.pass(Duration::from_secs(61), &stage, NAME).await;
    let message = wait_kept(&stage).await;
    assert!(message.starts_with("key 1 is not revoked yet: pods"), "{message}");
    assert!(former.iter().all(|pod| message.contains(pod)), "{message}");
    assert_eq!(stage.broker.bindings().len(), 2);

    // Six hours later the pods are the same.
    time.pass(Duration::from_secs(6 * 3600), &stage, NAME).await;
    time.pass(NEXT_LOOK, &stage, NAME).await;
    wait_kept(&stage).await;
    assert_eq!(stage.broker.bindings().len(), 2);

    let pods = stage.api::<Pod>();
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        pods.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    }
    wait_running(&stage, &kubelet, &former).await;
    time.pass(NEXT_LOOK, &stage, NAME).await;
    stage.wait_settled_with(2).await;
    assert_eq!(stage.broker.bindings().len(), 1);
}

/// The operator revokes the key after `maxOverlap`, although the pods still use it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_stays_no_longer_than_the_longest_overlap() {
    let stage = Stage::set().await;
    let time = Time::default();
    let user = looking_user(&stage).await;
    let _operator = stage.start_operator_as(&user, time.clock());
    stage.create_rotating(rotation()).await;
    let _kubelet = deploy(&stage, &time).await;
    rotate(&stage, 2).await;
    time.pass(Duration::from_secs(61), &stage, NAME).await;
    assert!(wait_kept(&stage).await.contains("it is revoked at"));
    time.pass(Duration::from_secs(24 * 3600), &stage, NAME).await;
    stage.wait_settled_with(2).await;
    assert_eq!(stage.broker.bindings().len(), 1);
}

/// Pods that started after the rotation do not use the previous key, and the operator looks once.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_revoked_at_the_end_of_the_overlap_if_no_pod_uses_it() {
    let stage = Stage::set().await;
    let time = Time::default();
    let user = looking_user(&stage).await;
    let _operator = stage.start_operator_as(&user, time.clock());
    stage.create_rotating(json!({"overlap": "10m", "revokeWhen": "ConsumersMoved"})).await;
    rotate(&stage, 2).await;
    time.pass(SETTLING, &stage, NAME).await;
    let _kubelet = deploy(&stage, &time).await;
    time.pass(Duration::from_secs(601), &stage, NAME).await;
    stage.wait_settled_with(2).await;
    let lists = stage.plane.audit().requests(&user).unwrap().only(|request| request.resource == "pods");
    assert_eq!(lists.len(), 1, "{lists}");
}

/// Without the right, the key stays, and the condition names what is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_and_keeps_the_key() {
    let stage = Stage::set().await;
    let time = Time::default();
    let user = stage.operator_user().await;
    let _operator = stage.start_operator_as(&user, time.clock());
    stage.create_rotating(rotation()).await;
    rotate(&stage, 2).await;
    time.pass(Duration::from_secs(61), &stage, NAME).await;
    let message = wait_kept(&stage).await;
    assert!(message.contains("its consumers are unknown: the operator may not list pods here"), "{message}");
    assert_eq!(stage.broker.bindings().len(), 2);
    rights::to_list_pods(stage.plane, &stage.namespace, &user).await;
    time.pass(NEXT_LOOK, &stage, NAME).await;
    stage.wait_settled_with(2).await;
}
