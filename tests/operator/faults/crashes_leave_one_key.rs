//! Kill the operator between any two steps, start it again, and there is exactly one key, or none.

use std::collections::BTreeSet;

use kube::api::DeleteParams;
use rstest::rstest;
use serde_json::json;
use servicekey_operator::api::ServiceKey;
use testkit::{
    Gate,
    Moment::{self, AfterEffect, BeforeEffect},
    broker::Route,
    gateway::{Method, Requests},
};

use crate::support::{
    evidence::{asked_for, assert_holds, settled},
    process::Process,
    stage::{Stage, condition},
};

const KEY: &str = "monitoring-creds";

/// A step of the operator: the request that it makes.
#[derive(Clone, Debug)]
enum Step {
    /// To the API server.
    Cluster(Method, &'static str),
    /// To the API server, which stores nothing of it.
    Rehearsal(Method, &'static str),
    /// To the broker.
    Broker(Route),
}
use Step::{Broker, Cluster, Rehearsal};

const STORE_FINALIZER: Step = Cluster(Method::PATCH, "servicekeys/monitoring-creds");
const LOOK_UP_SECRET: Step = Cluster(Method::GET, "secrets/monitoring-creds");
const REHEARSE_SECRET: Step = Rehearsal(Method::POST, "secrets");
const BIND: Step = Broker(Route::Bind);
const FETCH: Step = Broker(Route::Fetch);
const CREATE_SECRET: Step = Cluster(Method::POST, "secrets");
const WRITE_STATUS: Step = Cluster(Method::PUT, "servicekeys/monitoring-creds/status");
const UNBIND: Step = Broker(Route::Unbind);
const DELETE_SECRET: Step = Cluster(Method::DELETE, "secrets/monitoring-creds");
const REMOVE_FINALIZER: Step = Cluster(Method::PATCH, "servicekeys/monitoring-creds");

impl Step {
    fn hold(&self, moment: Moment, operator: &Process, stage: &Stage) -> Gate {
        match self {
            Cluster(method, path) => operator.gateway.gate(Requests::to(method.clone(), path), moment),
            Rehearsal(method, path) => {
                operator.gateway.gate(Requests::to(method.clone(), path).dry_runs(), moment)
            }
            Broker(route) => stage.broker.gate(*route, moment),
        }
    }
}

/// Starts the operator, and waits until nothing but a ServiceKey is missing.
async fn start(stage: &Stage) -> Process {
    let operator = Process::start(stage).await;
    stage.wait_for_provider("broker").await;
    operator
}

#[rstest]
#[case::finalizer(STORE_FINALIZER)]
#[case::rehearsal(REHEARSE_SECRET)]
#[case::bind(BIND)]
#[case::secret(CREATE_SECRET)]
#[case::status(WRITE_STATUS)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_makes_a_key(
    #[case] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = Stage::set().await;
    let operator = start(&stage).await;
    let gate = step.hold(moment, &operator, &stage);
    stage.create_key(KEY).await;
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    assert_one_key(&stage).await;
}

#[rstest]
#[case::finalizer(STORE_FINALIZER)]
#[case::rehearsal(REHEARSE_SECRET)]
#[case::bind(BIND)]
#[case::secret(CREATE_SECRET)]
#[case::status(WRITE_STATUS)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_makes_a_key_that_nobody_wants_when_it_is_back(
    #[case] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = Stage::set().await;
    let operator = start(&stage).await;
    let gate = step.hold(moment, &operator, &stage);
    stage.create_key(KEY).await;
    operator.kill_at(gate).await;
    stage.keys().delete(KEY, &DeleteParams::default()).await.unwrap();

    let _operator = Process::start(&stage).await;
    assert_nothing_left(&stage).await;
}

#[rstest]
#[case::unbind(UNBIND)]
#[case::secret(DELETE_SECRET)]
#[case::finalizer(REMOVE_FINALIZER)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_revokes_a_key(
    #[case] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    let gate = step.hold(moment, &operator, &stage);
    stage.keys().delete(KEY, &DeleteParams::default()).await.unwrap();
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    assert_nothing_left(&stage).await;
}

#[rstest]
#[case::look_up(LOOK_UP_SECRET)]
#[case::fetch(FETCH)]
#[case::secret(CREATE_SECRET)]
#[case::status(WRITE_STATUS)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_repairs_a_secret(
    #[case] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    killed_while_it_repairs(step, moment, Stage::set().await).await;
}

/// Where a key can't be read back, the repair makes the next one.
#[rstest]
#[case::bind(BIND)]
#[case::secret(CREATE_SECRET)]
#[case::status(WRITE_STATUS)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_replaces_a_key_that_cant_be_read_back(
    #[case] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = Stage::with_instance("metrics", "basic").await;
    let operator = Process::start(&stage).await;
    let mut manifest = stage.key_manifest(KEY);
    manifest["spec"]["rotation"] = json!({"overlap": "0s"});
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready(KEY).await;
    let gate = step.hold(moment, &operator, &stage);
    stage.secrets().delete(KEY, &DeleteParams::default()).await.unwrap();
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    let key = stage
        .wait(stage.keys(), KEY, "on its second key", |key| {
            key.and_then(|key| key.status.as_ref()).is_some_and(|status| {
                let sequence = status.key.as_ref().map(|key| key.sequence);
                sequence == Some(2) && status.previous_keys.len() == 1 && status.operation.is_none()
            }) && key.is_some_and(|key| condition(key, "Ready") == Some("True"))
        })
        .await
        .unwrap();
    // The first key works for an hour: no consumer expected that it would be replaced.
    let bindings = stage.broker.bindings();
    assert_eq!(bindings.len(), 2, "{bindings:#?}");
    let id = key.status.unwrap().key.unwrap().id;
    let current = bindings.iter().find(|binding| binding.id.to_string() == id).unwrap();
    assert_holds(&stage.secrets().get(KEY).await.unwrap(), current);
}

async fn killed_while_it_repairs(step: Step, moment: Moment, stage: Stage) {
    let operator = Process::start(&stage).await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    let gate = step.hold(moment, &operator, &stage);
    stage.secrets().delete(KEY, &DeleteParams::default()).await.unwrap();
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    assert_one_key(&stage).await;
}

/// A broker goes on with what a dead operator has asked for, while the next operator asks for the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_operators_bind_and_the_next_ones_make_one_key() {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    let gate = BIND.hold(BeforeEffect, &operator, &stage);
    stage.create_key(KEY).await;
    gate.wait_for_arrival().await.unwrap();
    operator.kill().await;

    let _operator = Process::start(&stage).await;
    gate.wait_for_arrivals(2).await.unwrap();
    gate.release();
    assert_one_key(&stage).await;
}

/// The same for two that revoke.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_operators_unbind_and_the_next_ones_leave_nothing() {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    let gate = UNBIND.hold(BeforeEffect, &operator, &stage);
    stage.keys().delete(KEY, &DeleteParams::default()).await.unwrap();
    gate.wait_for_arrival().await.unwrap();
    operator.kill().await;

    let _operator = Process::start(&stage).await;
    gate.wait_for_arrivals(2).await.unwrap();
    gate.release();
    assert_nothing_left(&stage).await;
}

/// The only key that was ever made lives, and Secret and status tell of it.
async fn assert_one_key(stage: &Stage) {
    let key = settled(stage, KEY).await;
    let bindings = stage.broker.bindings();
    let [binding] = bindings.as_slice() else { panic!("there is not one binding: {bindings:?}") };
    assert_eq!(binding.number, 1, "another one was made before");
    assert_eq!(asked_for(&stage.broker), BTreeSet::from([binding.id.to_string()]));
    assert_eq!(key.status.unwrap().key.unwrap().id, binding.id.to_string());
    assert_holds(&stage.secrets().get(KEY).await.unwrap(), binding);
}

async fn assert_nothing_left(stage: &Stage) {
    stage.wait_gone(KEY).await;
    assert_eq!(stage.broker.bindings(), []);
    assert_eq!(stage.secrets().get_opt(KEY).await.unwrap().map(|secret| secret.metadata.name), None);
    assert!(asked_for(&stage.broker).len() <= 1, "{:?}", stage.broker.calls());
}
