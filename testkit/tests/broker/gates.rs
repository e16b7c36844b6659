//! Gates, with which a test acts between any two steps.

use anyhow::Result;
use testkit::broker::{Moment, Route};
use uuid::Uuid;

use crate::client::start;

#[tokio::test]
async fn a_gate_holds_calls_before_their_effect() -> Result<()> {
    let it = start().await?;
    let gate = it.broker.gate(Route::Bind, Moment::BeforeEffect);
    let bind = tokio::spawn(it.bind(Uuid::new_v4())?.send());
    gate.wait_for_arrival().await?;
    assert_eq!(it.broker.bindings(), []);
    assert_eq!(it.broker.calls()[0].status, None);
    gate.release();
    assert_eq!(bind.await??.status(), 201);
    assert_eq!(it.broker.calls()[0].status, Some(201));
    Ok(())
}

#[tokio::test]
async fn a_gate_holds_answers_after_their_effect() -> Result<()> {
    let it = start().await?;
    let gate = it.broker.gate(Route::Bind, Moment::AfterEffect);
    let binds = [it.bind(Uuid::new_v4())?, it.bind(Uuid::new_v4())?].map(|bind| tokio::spawn(bind.send()));
    gate.wait_for_arrivals(2).await?;
    assert_eq!(it.broker.bindings().len(), 2);
    assert_eq!(gate.arrivals(), 2);
    gate.release();
    for bind in binds {
        assert_eq!(bind.await??.status(), 201);
    }
    Ok(())
}

#[tokio::test]
async fn a_gate_holds_its_own_route_only() -> Result<()> {
    let it = start().await?;
    let gate = it.broker.gate(Route::Unbind, Moment::BeforeEffect);
    assert_eq!(it.bind(Uuid::new_v4())?.send().await?.status(), 201);
    assert_eq!(gate.arrivals(), 0);
    Ok(())
}

#[tokio::test]
async fn what_a_broker_has_begun_it_finishes_without_its_client() -> Result<()> {
    let it = start().await?;
    let gate = it.broker.gate(Route::Bind, Moment::BeforeEffect);
    let client = tokio::spawn(it.bind(Uuid::new_v4())?.send());
    gate.wait_for_arrival().await?;
    client.abort();
    assert!(client.await.is_err_and(|error| error.is_cancelled()));
    gate.release();
    it.broker.wait_until(|bindings| bindings.len() == 1).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_cut_before_its_effect_has_none_and_later_calls_pass() -> Result<()> {
    let it = start().await?;
    let gate = it.broker.gate(Route::Bind, Moment::BeforeEffect);
    let bind = tokio::spawn(it.bind(Uuid::new_v4())?.send());
    gate.wait_for_arrival().await?;
    gate.cut();
    assert!(bind.await?.is_err());
    assert_eq!(it.broker.bindings(), []);
    assert_eq!(it.bind(Uuid::new_v4())?.send().await?.status(), 201);
    Ok(())
}

#[tokio::test]
async fn what_is_cut_after_its_effect_had_it() -> Result<()> {
    let it = start().await?;
    let gate = it.broker.gate(Route::Bind, Moment::AfterEffect);
    let bind = tokio::spawn(it.bind(Uuid::new_v4())?.send());
    gate.wait_for_arrival().await?;
    gate.cut();
    assert!(bind.await?.is_err());
    assert_eq!(it.broker.bindings().len(), 1);
    Ok(())
}
