//! Workloads that read their credentials from the environment restart once after each rotation, and for no other reason.
//! The pods of the first test are real processes that log in to a real database.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::kubelet::Kubelet;

use crate::support::{
    conditions::Reports,
    database::Database,
    deployment::{APP, assert_undisturbed, client, deploy, restarting_user, wait_for_logins},
    rights,
    rotation::sequence,
    stage::{Stage, wait},
    time::Time,
};

const NAME: &str = "monitoring-creds";
const ANNOTATION: &str = "restart.servicekeys.dev/monitoring-creds";
const EVERY: Duration = Duration::from_secs(720 * 3600);
/// The overlap plus one second, because the status stores its end in whole seconds.
const OVERLAP: Duration = Duration::from_secs(24 * 3600 + 1);
/// The delay of a restart plus one second.
const SETTLING: Duration = Duration::from_secs(31);

fn rotation() -> Value {
    json!({"every": "720h", "overlap": "24h", "restart": [{"kind": "Deployment", "name": APP}]})
}

/// The value of the operator's annotation in the pod template.
fn restarted_with(deployment: &Deployment) -> Option<&str> {
    let template = deployment.spec.as_ref()?.template.metadata.as_ref()?;
    template.annotations.as_ref()?.get(ANNOTATION).map(String::as_str)
}

/// Waits until the Deployment was restarted with the key of this number.
async fn wait_restarted_with(stage: &Stage, number: u32) -> Deployment {
    let is_restarted =
        |app: &Deployment| restarted_with(app).is_some_and(|value| value.starts_with(&format!("{number}-")));
    wait(stage.api(), APP, "restarted", |app| app.is_some_and(is_restarted)).await.unwrap()
}

async fn wait_for_key(stage: &Stage, number: u32) {
    let is_next = |key: &ServiceKey| sequence(key) == Some(number);
    wait(stage.keys(), NAME, "with the next key", |key| key.is_some_and(is_next)).await;
}

/// Waits until the status says that no restart is due.
async fn wait_restarts_done(stage: &Stage) {
    let is_done = |key: &ServiceKey| key.status.as_ref().is_some_and(|status| status.restart.is_none());
    wait(stage.keys(), NAME, "without a restart", |key| key.is_some_and(is_done)).await;
}

/// The message of the condition about a restart that failed.
fn failed_restart(key: &ServiceKey) -> Option<&str> {
    let conditions = &key.status.as_ref()?.conditions;
    let failed = conditions.iter().find(|shown| shown.reason == Reason::RestartFailed.as_str())?;
    Some(&failed.message)
}

async fn generation(stage: &Stage) -> i64 {
    stage.api::<Deployment>().get(APP).await.unwrap().metadata.generation.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_with_its_password_in_the_environment_logs_in_through_five_rotations() {
    const ROTATIONS: u32 = 5;
    let stage = Stage::set().await;
    let database = Database::behind_a_provider("app", &stage).await;
    let time = Time::default();
    let user = restarting_user(&stage).await;
    let _operator = stage.start_operator_as(&user, time.clock());
    let mut manifest = database.key_manifest(NAME, &stage);
    manifest["spec"]["rotation"] = rotation();
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready(NAME).await;

    let kubelet = Kubelet::builder(stage.client.clone(), &stage.namespace).start().await.unwrap();
    deploy(&stage, 2, client()).await;
    wait_for_logins(&kubelet, 0).await;

    for number in 2..=ROTATIONS + 1 {
        let before = kubelet.starts().len();
        time.pass(EVERY, &stage, NAME).await;
        wait_for_key(&stage, number).await;
        assert_eq!(kubelet.starts().len(), before, "no pod restarts before the kubelets know the key");
        time.pass(SETTLING, &stage, NAME).await;
        wait_restarted_with(&stage, number).await;
        wait_restarts_done(&stage).await;
        wait_for_logins(&kubelet, before).await;
        time.pass(OVERLAP, &stage, NAME).await;
        stage.wait_settled_with(number).await;
        wait_for_logins(&kubelet, before).await;
    }

    assert_undisturbed(&kubelet, ROTATIONS);
    assert_eq!(generation(&stage).await, 1 + i64::from(ROTATIONS));
}

/// Lets a pod count as available only after this many seconds. With more than the test takes for a rotation, the former pods run.
async fn set_min_ready(stage: &Stage, seconds: u32) {
    let patch = Patch::Merge(json!({"spec": {"minReadySeconds": seconds}}));
    stage.api::<Deployment>().patch(APP, &PatchParams::default(), &patch).await.unwrap();
}

/// Each overlap ends while the former pods still run. The variable `ROTATIONS` sets the number of rotations.
#[tokio::test(flavor = "multi_thread")]
async fn rollouts_that_take_longer_than_the_overlap_lock_nobody_out() {
    let rotations = std::env::var("ROTATIONS").map_or(3, |number| number.parse().unwrap());
    let stage = Stage::set().await;
    let database = Database::behind_a_provider("app", &stage).await;
    let time = Time::default();
    let user = restarting_user(&stage).await;
    rights::to_list_pods(stage.plane, &stage.namespace, &user).await;
    let _operator = stage.start_operator_as(&user, time.clock());
    let mut manifest = database.key_manifest(NAME, &stage);
    manifest["spec"]["rotation"] = json!({
        "every": "720h", "overlap": "1m", "revokeWhen": "ConsumersMoved",
        "restart": [{"kind": "Deployment", "name": APP}],
    });
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready(NAME).await;
    let clock = time.clock();
    let kubelet = Kubelet::builder(stage.client.clone(), &stage.namespace);
    let kubelet = kubelet.clock(move || clock.now()).start().await.unwrap();
    deploy(&stage, 2, client()).await;
    wait_for_logins(&kubelet, 0).await;

    for number in 2..=rotations + 1 {
        let before = kubelet.starts().len();
        set_min_ready(&stage, 500).await;
        time.pass(EVERY, &stage, NAME).await;
        wait_for_key(&stage, number).await;
        time.pass(SETTLING, &stage, NAME).await;
        wait_restarts_done(&stage).await;
        // The overlap counts from the restart.
        time.pass(Duration::from_secs(62), &stage, NAME).await;
        let is_kept = |key: &ServiceKey| {
            let previous = key.status.iter().flat_map(|status| &status.previous_keys);
            previous.into_iter().any(|previous| previous.consumers.is_some())
        };
        wait(stage.keys(), NAME, "kept for its consumers", |key| key.is_some_and(is_kept)).await;
        set_min_ready(&stage, 0).await;
        wait_for_logins(&kubelet, before).await;
        time.pass(Duration::from_secs(601), &stage, NAME).await;
        stage.wait_settled_with(number).await;
        wait_for_logins(&kubelet, before).await;
        if number % 20 == 1 {
            println!("{} of {rotations} rotations", number - 1);
        }
    }
    let logins = assert_undisturbed(&kubelet, rotations);
    println!("{rotations} rotations, {logins} logins, 0 refused");
}

/// The operator ends and starts fifty times: before and after each of five rotations, and around each restart.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_starts_of_the_operator_restart_nothing() {
    const ROTATIONS: u32 = 5;
    let stage = Stage::set().await;
    let time = Time::default();
    let user = restarting_user(&stage).await;
    let operator = stage.start_operator_as(&user, time.clock());
    stage.create_rotating(rotation()).await;
    drop(operator);
    deploy(&stage, 0, json!({"name": "main", "image": "program"})).await;

    let mut starts = 0;
    let mut start = async || {
        starts += 1;
        let operator = stage.start_operator_as(&user, time.clock());
        // The first reconcile of each start.
        time.pass(Duration::from_secs(1), &stage, NAME).await;
        operator
    };
    for number in 2..=ROTATIONS + 1 {
        time.leap(jiff::SignedDuration::try_from(EVERY).unwrap());
        let operator = start().await;
        wait_for_key(&stage, number).await;
        drop(operator);
        for _ in 0..3 {
            drop(start().await);
        }
        assert_eq!(generation(&stage).await, i64::from(number) - 1, "the restart is not due yet");
        time.leap(jiff::SignedDuration::try_from(SETTLING).unwrap());
        let operator = start().await;
        wait_restarted_with(&stage, number).await;
        drop(operator);
        let operator = start().await;
        wait_restarts_done(&stage).await;
        drop(operator);
        time.leap(jiff::SignedDuration::try_from(OVERLAP).unwrap());
        let operator = start().await;
        stage.wait_settled_with(number).await;
        drop(operator);
        for _ in 0..3 {
            drop(start().await);
        }
    }
    assert_eq!(starts, 50);
    assert_eq!(generation(&stage).await, 1 + i64::from(ROTATIONS));
    let _operator = stage.start_operator_as(&user, time.clock());
    stage.delete_and_leave_nothing(NAME).await;
    assert_eq!(generation(&stage).await, 1 + i64::from(ROTATIONS), "a deletion restarts nothing");
}

/// Three ServiceKeys name one Deployment. The third rotates twenty seconds after the others, so its restart is due when
/// the others have waited for it.
#[tokio::test(flavor = "multi_thread")]
async fn service_keys_that_rotate_together_restart_a_workload_once() {
    const NAMES: [&str; 3] = ["cache-creds", "mail-creds", NAME];
    let stage = Stage::set().await;
    let time = Time::default();
    let user = restarting_user(&stage).await;
    let _operator = stage.start_operator_as(&user, time.clock());
    for name in NAMES {
        let mut manifest = stage.key_manifest(name);
        manifest["spec"]["rotation"] = rotation();
        stage.create::<ServiceKey>(manifest).await;
        stage.wait_ready(name).await;
    }
    deploy(&stage, 0, json!({"name": "main", "image": "program"})).await;
    let rotate = async |name: &str, request: &str| {
        let annotation = json!({"metadata": {"annotations": {"servicekeys.dev/rotate": request}}});
        stage.keys().patch(name, &PatchParams::default(), &Patch::Merge(annotation)).await.unwrap();
    };
    let wait_for_second_key = async |name: &str| {
        let is_next = |key: &ServiceKey| sequence(key) == Some(2);
        wait(stage.keys(), name, "with the next key", |key| key.is_some_and(is_next)).await;
    };
    for name in &NAMES[..2] {
        rotate(name, "now").await;
        wait_for_second_key(name).await;
    }
    time.pass(Duration::from_secs(20), &stage, NAME).await;
    rotate(NAME, "now").await;
    wait_for_second_key(NAME).await;
    for _ in 0..3 {
        for name in NAMES {
            time.pass(Duration::from_secs(4), &stage, name).await;
        }
    }
    for name in NAMES {
        let is_done = |key: &ServiceKey| key.status.as_ref().is_some_and(|status| status.restart.is_none());
        wait(stage.keys(), name, "without a restart", |key| key.is_some_and(is_done)).await;
    }
    let app = stage.api::<Deployment>().get(APP).await.unwrap();
    assert_eq!(app.metadata.generation, Some(2), "it restarted once");
    let annotations = app.spec.unwrap().template.metadata.unwrap().annotations.unwrap();
    assert_eq!(annotations.len(), 3, "{annotations:?}");
    assert!(annotations.values().all(|value| value.starts_with("2-")), "{annotations:?}");
}

/// Without the right, the rotation succeeds, and the condition names what is missing. The restart follows once the
/// administrator has granted it.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named() {
    let stage = Stage::set().await;
    let time = Time::default();
    let user = stage.operator_user().await;
    let _operator = stage.start_operator_as(&user, time.clock());
    stage.create_rotating(rotation()).await;
    deploy(&stage, 0, json!({"name": "main", "image": "program"})).await;
    time.pass(EVERY, &stage, NAME).await;
    wait_for_key(&stage, 2).await;
    time.pass(SETTLING, &stage, NAME).await;
    let is_told = |key: &ServiceKey| failed_restart(key).is_some();
    let key = wait(stage.keys(), NAME, "RestartFailed", |key| key.is_some_and(is_told)).await.unwrap();
    let words = "Deployment `app` can't be restarted: the operator may not patch a Deployment here";
    assert!(failed_restart(&key).unwrap().contains(words), "{:?}", key.status);
    assert!(key.is(true, Reason::Available), "{:?}", key.status);
    assert_eq!(generation(&stage).await, 1);

    rights::to_restart_workloads(stage.plane, &stage.namespace, &user).await;
    time.pass(Duration::from_secs(61), &stage, NAME).await;
    wait_restarted_with(&stage, 2).await;
    wait_restarts_done(&stage).await;
    assert_eq!(failed_restart(&stage.keys().get(NAME).await.unwrap()), None);
}

/// Several ServiceKeys may name one workload, and each has an annotation of its own. A selector reads the labels of the
/// workloads, not of their pods.
#[tokio::test(flavor = "multi_thread")]
async fn a_selector_restarts_the_workloads_that_it_selects() {
    let stage = Stage::set().await;
    let time = Time::default();
    let user = restarting_user(&stage).await;
    let _operator = stage.start_operator_as(&user, time.clock());
    let target = json!({"kind": "Deployment", "selector": {"matchLabels": {"reads": NAME}}});
    stage.create_rotating(json!({"every": "720h", "restart": [target]})).await;
    deploy(&stage, 0, json!({"name": "main", "image": "program"})).await;
    let api = stage.api::<Deployment>();
    let mut other = api.get(APP).await.unwrap();
    other.metadata = kube::api::ObjectMeta {
        name: Some("other".to_owned()),
        labels: Some([("reads".to_owned(), NAME.to_owned())].into()),
        ..kube::api::ObjectMeta::default()
    };
    other.status = None;
    api.create(&PostParams::default(), &other).await.unwrap();
    time.pass(EVERY, &stage, NAME).await;
    wait_for_key(&stage, 2).await;
    time.pass(SETTLING, &stage, NAME).await;
    let is_restarted = |app: &Deployment| restarted_with(app).is_some();
    let restarted =
        wait(stage.api(), "other", "restarted", |app| app.is_some_and(is_restarted)).await.unwrap();
    let uid = stage.keys().get(NAME).await.unwrap().uid().unwrap();
    assert_eq!(restarted_with(&restarted), Some(format!("2-{}", &uid[..8]).as_str()));
    wait_restarts_done(&stage).await;
    assert_eq!(generation(&stage).await, 1, "the other Deployment has no such label");
}
