//! The operator ends promptly and cleanly on SIGTERM, even during an operation.

use testkit::{Moment, broker::Route, gateway::Requests};

use crate::support::{evidence::settled, process::Process, stage::Stage};

const KEY: &str = "monitoring-creds";

#[tokio::test(flavor = "multi_thread")]
async fn at_rest() {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    assert_eq!(operator.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_makes_a_key_which_is_taken_up_later() {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    let gate = stage.broker.gate(Route::Bind, Moment::AfterEffect);
    stage.create_key(KEY).await;
    gate.wait_for_arrival().await.unwrap();
    assert_eq!(operator.terminate().await.code(), Some(0));
    gate.release();

    let _operator = Process::start(&stage).await;
    let id = settled(&stage, KEY).await.status.unwrap().key.unwrap().id;
    let bindings = stage.broker.bindings();
    assert_eq!(bindings.iter().map(|binding| binding.id.to_string()).collect::<Vec<_>>(), [id]);
    assert_eq!(bindings[0].number, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_does_not_answer() {
    let stage = Stage::set().await;
    let gateway = stage.gateway().await;
    let gate = gateway.gate(Requests::any(), Moment::BeforeEffect);
    let operator = Process::behind(gateway, &stage);
    gate.wait_for_arrival().await.unwrap();
    assert_eq!(operator.terminate().await.code(), Some(0));
}
