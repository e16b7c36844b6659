//! A test that used the broker wrongly fails, even if it does not check for violations.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result};
use testkit::broker::{FakeBroker, Fault, Instance, Route, Rule, StartError};
use uuid::Uuid;

use crate::client::start;

/// The panic message when the broker is dropped.
fn drop_panics(broker: FakeBroker) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| drop(broker))).err()?;
    panic.downcast_ref::<String>().cloned()
}

#[tokio::test]
async fn dropping_the_broker_fails_the_test_of_a_client_that_broke_a_rule() -> Result<()> {
    let it = start().await?;
    it.client.get(format!("{}/v2/catalog", it.broker.url())).send().await?;
    let message = drop_panics(it.broker).context("the drop panics")?;
    assert!(message.contains("call 0 broke Login"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_tolerated_breach_is_refused_and_forgiven() -> Result<()> {
    let it = start().await?;
    it.broker.tolerate(Rule::Login);
    let response = it.client.get(format!("{}/v2/catalog", it.broker.url())).send().await?;
    assert_eq!(response.status(), 401);
    assert!(response.headers().contains_key("www-authenticate"));
    assert_eq!(it.broker.violations(), []);
    assert_eq!(drop_panics(it.broker), None);
    Ok(())
}

#[tokio::test]
async fn a_fault_that_no_call_met_fails_the_test() -> Result<()> {
    let it = start().await?;
    it.broker.inject(Fault::Cut.on(Route::Unbind));
    let message = drop_panics(it.broker).context("the drop panics")?;
    assert!(message.contains("no call met the fault Cut"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_late_call_that_never_arrives_fails_the_test() -> Result<()> {
    let it = start().await?;
    it.broker.inject(Fault::Late.on(Route::Bind));
    assert!(it.bind(Uuid::new_v4())?.send().await.is_err());
    let message = drop_panics(it.broker).context("the drop panics")?;
    assert!(message.contains("a late call was never released"), "{message}");
    Ok(())
}

#[tokio::test]
async fn an_instance_of_an_unknown_plan_keeps_the_broker_from_starting() {
    let broker = FakeBroker::builder().instance(Instance::new("x", "postgresql", "huge"));
    let error = broker.start().await.err();
    assert!(matches!(error, Some(StartError::Instance { plan, .. }) if plan == "huge"));
}
