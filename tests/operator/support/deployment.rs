//! A Deployment whose pods are real processes that log in to a real database, with a password from their environment.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::PostParams;
use serde_json::{Value, json};
use testkit::{control_plane::User, kubelet::Kubelet};
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;

use crate::support::{
    database::log_in,
    rights,
    stage::{PATIENCE, Stage},
};

/// The Secret that the pods read.
const SECRET: &str = "monitoring-creds";
/// The name of the Deployment.
pub const APP: &str = "app";

/// An account of an operator that may restart workloads.
pub async fn restarting_user(stage: &Stage) -> User {
    let user = stage.operator_user().await;
    rights::to_restart_workloads(stage.plane, &stage.namespace, &user).await;
    user
}

/// Creates the Deployment `app` with this many pods of this container.
pub async fn deploy(stage: &Stage, replicas: u32, container: Value) {
    let labels = json!({"app": APP});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": labels}, "template": template});
    let deployment = json!({"metadata": {"name": APP}, "spec": spec});
    let deployment: Deployment = serde_json::from_value(deployment).unwrap();
    stage.api::<Deployment>().create(&PostParams::default(), &deployment).await.unwrap();
}

/// The program of the pods: logs in with the variable `DB_URI` each 50 ms, and prints a line for each login.
#[tokio::test]
#[ignore = "a pod of another test runs it until it is ended"]
async fn log_in_with_the_environment() {
    let login = std::env::var("DB_URI").unwrap().parse().unwrap();
    loop {
        match log_in(&login).await {
            Ok(_) => println!("login ok"),
            Err(error) if error.code() == Some(&SqlState::INVALID_PASSWORD) => println!("login refused"),
            Err(error) => println!("login failed: {error:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until two pods of the newest template run, and each of them has logged in again.
pub async fn wait_for_logins(kubelet: &Kubelet, since: usize) {
    let logins = |pod: &str| kubelet.log(pod, "main").lines().filter(|line| *line == "login ok").count();
    let deadline = Instant::now() + PATIENCE;
    let newest = || {
        let running = kubelet.running();
        let known: Vec<_> = kubelet.starts().iter().take(since).map(|start| start.pod.clone()).collect();
        (running.len() == 2 && running.iter().all(|start| !known.contains(&start.pod))).then_some(running)
    };
    let running = loop {
        assert!(Instant::now() < deadline, "no new pods: {:?}", kubelet.starts());
        match newest() {
            Some(running) => break running,
            None => sleep(Duration::from_millis(20)).await,
        }
    };
    for start in running {
        let before = logins(&start.pod);
        while logins(&start.pod) < before + 2 {
            assert!(Instant::now() < deadline, "{}", kubelet.log(&start.pod, "main"));
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The container of a client that reads its password from the environment.
pub fn client() -> Value {
    let program = std::env::current_exe().unwrap();
    let test = concat!(module_path!(), "::log_in_with_the_environment").split_once("::").unwrap().1;
    let uri = json!({"secretKeyRef": {"name": SECRET, "key": "uri"}});
    json!({
        "name": "main", "image": "program", "command": [program],
        "args": ["--ignored", "--exact", test, "--nocapture"],
        "env": [{"name": "DB_URI", "valueFrom": uri}],
    })
}

/// Fails unless both pods started once for each rotation, and the database refused none of their logins. Returns the
/// number of logins.
pub fn assert_undisturbed(kubelet: &Kubelet, rotations: u32) -> usize {
    let starts = kubelet.starts();
    let expected = 2 * (usize::try_from(rotations).unwrap() + 1);
    assert_eq!(starts.len(), expected, "each pod restarts once per rotation");
    let logs: Vec<_> = starts.iter().map(|start| kubelet.log(&start.pod, "main")).collect();
    let logins = || logs.iter().flat_map(|log| log.lines()).filter(|line| line.starts_with("login"));
    let failures: Vec<_> = logins().filter(|line| *line != "login ok").collect();
    assert_eq!(failures, [""; 0]);
    logins().count()
}
