//! Kill the operator between any two steps, at any kind of remote side, and start it again: there is exactly one key, or
//! none.
//!
//! Each test is a row of the matrix: what the operator was doing. Its columns are the remote side, the request that the
//! operator was killed at, and whether this request had taken effect.

use kube::api::{DeleteParams, Patch, PatchParams};
use rstest::rstest;
use serde_json::json;
use servicekey_operator::api::ServiceKey;
use testkit::{
    Gate,
    Moment::{self, AfterEffect, BeforeEffect},
    gateway::{Method, Requests},
};

use crate::support::{
    evidence::{assert_holds, settled},
    process::Process,
    remote::{
        Remote::{self, Broker, CloudFoundry, CloudFoundryJobs, IbmCloud},
        RemoteCall, RemoteStage,
    },
    rotation::sequence,
    stage::{Stage, condition},
};

const KEY: &str = "monitoring-creds";

/// A step of the operator: the request that it sends.
#[derive(Clone, Debug)]
enum Step {
    /// To the API server.
    Cluster(Method, &'static str),
    /// A dry run at the API server.
    DryRun(Method, &'static str),
    /// To the remote side.
    Remote(RemoteCall),
}
use Step::{Cluster, DryRun};

const ADD_FINALIZER: Step = Cluster(Method::PATCH, "servicekeys/monitoring-creds");
const LOOK_UP_SECRET: Step = Cluster(Method::GET, "secrets/monitoring-creds");
const TRY_SECRET: Step = DryRun(Method::POST, "secrets");
const CREATE_SECRET: Step = Cluster(Method::POST, "secrets");
const UPDATE_SECRET: Step = Cluster(Method::PUT, "secrets/monitoring-creds");
const UPDATE_STATUS: Step = Cluster(Method::PUT, "servicekeys/monitoring-creds/status");
const DELETE_SECRET: Step = Cluster(Method::DELETE, "secrets/monitoring-creds");
const REMOVE_FINALIZER: Step = Cluster(Method::PATCH, "servicekeys/monitoring-creds");
const FIND: Step = Step::Remote(RemoteCall::Find);
const CREATE: Step = Step::Remote(RemoteCall::Create);
const READ: Step = Step::Remote(RemoteCall::Read);
const REVOKE: Step = Step::Remote(RemoteCall::Revoke);

impl Step {
    fn hold(&self, moment: Moment, operator: &Process, stage: &RemoteStage) -> Gate {
        match self {
            Cluster(method, path) => operator.gateway.gate(Requests::to(method.clone(), path), moment),
            DryRun(method, path) => {
                operator.gateway.gate(Requests::to(method.clone(), path).dry_runs(), moment)
            }
            Self::Remote(call) => stage.gate(*call, moment),
        }
    }
}

/// Starts the operator, and waits until only a ServiceKey is missing.
async fn start(stage: &RemoteStage) -> Process {
    let operator = Process::start(stage).await;
    stage.wait_for_its_provider().await;
    operator
}

async fn create_key(stage: &RemoteStage) {
    stage.create::<ServiceKey>(stage.manifest(KEY)).await;
}

/// Starts the operator, and waits for the first key. Previous keys are revoked without an overlap.
async fn start_with_a_key(stage: &RemoteStage) -> Process {
    let operator = Process::start(stage).await;
    stage.create_with_rotation(KEY, json!({"overlap": "0s"})).await;
    stage.wait_ready_with_id(KEY).await;
    operator
}

/// The first key that the remote side created is the only one.
async fn assert_one_key(stage: &RemoteStage) {
    settled(stage, KEY).await;
    let key = stage.wait_ready_with_id(KEY).await;
    stage.assert_only_key(&key, 1).await;
}

async fn killed_while_it_creates(remote: Remote, step: Step, moment: Moment) -> RemoteStage {
    let stage = RemoteStage::set(remote).await;
    let operator = start(&stage).await;
    let gate = step.hold(moment, &operator, &stage);
    create_key(&stage).await;
    operator.kill_at(gate).await;
    stage
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_creates_a_key(
    #[values(Broker, CloudFoundry, IbmCloud)] remote: Remote,
    #[values(ADD_FINALIZER, TRY_SECRET, CREATE, CREATE_SECRET, UPDATE_STATUS)] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = killed_while_it_creates(remote, step, moment).await;
    let _operator = Process::start(&stage).await;
    assert_one_key(&stage).await;
}

/// The further calls of remote sides that choose the id of a key, or create it in the background.
#[rstest]
#[case::found_by_name(CloudFoundry, FIND)]
#[case::credentials_read(CloudFoundry, READ)]
#[case::found_by_name_before_a_job(CloudFoundryJobs, FIND)]
#[case::created_by_a_job(CloudFoundryJobs, CREATE)]
#[case::credentials_read_after_a_job(CloudFoundryJobs, READ)]
#[case::found_by_its_mark(IbmCloud, FIND)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_finds_or_reads_a_new_key(
    #[case] remote: Remote,
    #[case] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = killed_while_it_creates(remote, step, moment).await;
    let _operator = Process::start(&stage).await;
    assert_one_key(&stage).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_creates_a_key_that_is_deleted_before_it_is_back(
    #[values(Broker, CloudFoundry, IbmCloud)] remote: Remote,
    #[values(ADD_FINALIZER, TRY_SECRET, CREATE, CREATE_SECRET, UPDATE_STATUS)] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = killed_while_it_creates(remote, step, moment).await;
    stage.keys().delete(KEY, &DeleteParams::default()).await.unwrap();

    let _operator = Process::start(&stage).await;
    stage.assert_nothing_left(KEY).await;
}

async fn killed_while_it_deletes(remote: Remote, step: Step, moment: Moment) {
    let stage = RemoteStage::set(remote).await;
    let operator = start_with_a_key(&stage).await;
    let gate = step.hold(moment, &operator, &stage);
    stage.keys().delete(KEY, &DeleteParams::default()).await.unwrap();
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    stage.assert_nothing_left(KEY).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_deletes_a_key(
    #[values(Broker, CloudFoundry, IbmCloud)] remote: Remote,
    #[values(REVOKE, DELETE_SECRET, REMOVE_FINALIZER)] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    killed_while_it_deletes(remote, step, moment).await;
}

/// The further calls of a Cloud Foundry, which finds a key by its name first, and may delete it in the background.
#[rstest]
#[case::found_by_name(CloudFoundry, FIND)]
#[case::found_by_name_before_a_job(CloudFoundryJobs, FIND)]
#[case::deleted_by_a_job(CloudFoundryJobs, REVOKE)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_finds_or_deletes_an_old_key(
    #[case] remote: Remote,
    #[case] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    killed_while_it_deletes(remote, step, moment).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_restores_a_secret(
    #[values(Broker, CloudFoundry, IbmCloud)] remote: Remote,
    #[values(LOOK_UP_SECRET, READ, CREATE_SECRET, UPDATE_STATUS)] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = RemoteStage::set(remote).await;
    let operator = Process::start(&stage).await;
    create_key(&stage).await;
    stage.wait_ready_with_id(KEY).await;
    let gate = step.hold(moment, &operator, &stage);
    stage.secrets().delete(KEY, &DeleteParams::default()).await.unwrap();
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    assert_one_key(&stage).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_rotates_a_key(
    #[values(Broker, CloudFoundry, IbmCloud)] remote: Remote,
    #[values(CREATE, UPDATE_SECRET, UPDATE_STATUS, REVOKE)] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = RemoteStage::set(remote).await;
    let operator = start_with_a_key(&stage).await;
    let gate = step.hold(moment, &operator, &stage);
    let request = Patch::Merge(json!({"metadata": {"annotations": {"servicekeys.dev/rotate": "now"}}}));
    stage.keys().patch(KEY, &PatchParams::default(), &request).await.unwrap();
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    let key = stage
        .wait(stage.keys(), KEY, "ready with its second key alone", |key| {
            key.is_some_and(|key| {
                let status = key.status.as_ref().unwrap();
                let has_id = status.key.as_ref().is_some_and(|key| !key.id.is_empty());
                let is_over = status.previous_keys.is_empty() && status.operation.is_none();
                sequence(key) == Some(2) && has_id && is_over && condition(key, "Ready") == Some("True")
            })
        })
        .await
        .unwrap();
    stage.assert_only_key(&key, 2).await;
}

/// Where a key can't be read back, the operator creates the next one.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_replaces_a_key_that_cant_be_read_back(
    #[values(CREATE, CREATE_SECRET, UPDATE_STATUS)] step: Step,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = RemoteStage::Broker(Stage::with_instance("metrics", "basic").await);
    let operator = start_with_a_key(&stage).await;
    let gate = step.hold(moment, &operator, &stage);
    stage.secrets().delete(KEY, &DeleteParams::default()).await.unwrap();
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    let key = stage
        .wait(stage.keys(), KEY, "on its second key", |key| {
            key.is_some_and(|key| {
                let status = key.status.as_ref().unwrap();
                let is_replaced = status.previous_keys.len() == 1 && status.operation.is_none();
                sequence(key) == Some(2) && is_replaced && condition(key, "Ready") == Some("True")
            })
        })
        .await
        .unwrap();
    // The first key works for an hour, because no consumer expected this rotation.
    let bindings = stage.broker.bindings();
    assert_eq!(bindings.len(), 2, "{bindings:#?}");
    let id = key.status.unwrap().key.unwrap().id;
    let current = bindings.iter().find(|binding| binding.id.to_string() == id).unwrap();
    assert_holds(&stage.secrets().get(KEY).await.unwrap(), current);
}

/// The remote side still works on the request of an operator that died, while the next operator sends the same request.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_create_requests_of_two_operators_lead_to_one_key(
    #[values(Broker, CloudFoundry)] remote: Remote,
) {
    let stage = RemoteStage::set(remote).await;
    let operator = start(&stage).await;
    let gate = CREATE.hold(BeforeEffect, &operator, &stage);
    create_key(&stage).await;
    gate.wait_for_arrival().await.unwrap();
    operator.kill().await;

    let _operator = Process::start(&stage).await;
    gate.wait_for_arrivals(2).await.unwrap();
    gate.release();
    assert_one_key(&stage).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_revoke_requests_of_two_operators_leave_nothing(
    #[values(Broker, CloudFoundry, IbmCloud)] remote: Remote,
) {
    let stage = RemoteStage::set(remote).await;
    let operator = start_with_a_key(&stage).await;
    let gate = REVOKE.hold(BeforeEffect, &operator, &stage);
    stage.keys().delete(KEY, &DeleteParams::default()).await.unwrap();
    gate.wait_for_arrival().await.unwrap();
    operator.kill().await;

    let _operator = Process::start(&stage).await;
    gate.wait_for_arrivals(2).await.unwrap();
    gate.release();
    stage.assert_nothing_left(KEY).await;
}
