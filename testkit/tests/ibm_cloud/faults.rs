//! Injected faults, and calls that wait at gates.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::ibm_cloud::{Fault, Moment, Route, StatusCode};

use crate::client::{KEYS, answer, path, start};

#[tokio::test]
async fn a_call_can_be_lost_before_or_after_its_effect() -> Result<()> {
    let it = start().await?;
    it.ibm.inject(Fault::Cut.on(Route::CreateKey));
    assert!(it.create("a")?.send().await.is_err());
    assert_eq!(it.ibm.keys(), []);
    it.ibm.inject(Fault::Cut.on(Route::CreateKey).after_effect());
    assert!(it.create("a")?.send().await.is_err());
    assert_eq!(it.ibm.live_keys().len(), 1);
    assert_eq!(it.ibm.calls()[1].status, None);
    Ok(())
}

#[tokio::test]
async fn a_call_can_take_effect_late() -> Result<()> {
    let it = start().await?;
    it.ibm.inject(Fault::Late.on(Route::CreateKey));
    assert!(it.create("a")?.send().await.is_err());
    it.ibm.wait_for_late(1).await?;
    it.created("a").await?;
    assert_eq!(it.ibm.release_late(), 1, "names are not unique");
    assert_eq!(it.ibm.keys_named("a").len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_fault_strikes_what_it_is_about() -> Result<()> {
    let it = start().await?;
    let key = it.created("a").await?;
    let guid = key["guid"].as_str().context("a GUID")?;
    it.ibm.inject(Fault::Html(StatusCode::BAD_GATEWAY).on(Route::CreateKey).about("c"));
    it.ibm.inject(Fault::too_many_requests().on(Route::Key).about(guid).retry_after(7));
    it.created("b").await?;
    let page = it.create("c")?.send().await?;
    assert_eq!((page.status().as_u16(), &page.headers()["content-type"]), (502, &"text/html".parse()?));
    let response = it.call(reqwest::Method::GET, &path(&key)?).send().await?;
    assert_eq!(response.headers()["retry-after"], "7");
    assert_eq!(answer(response).await?.0, 429);
    assert_eq!(it.get(&path(&key)?).await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn the_broker_behind_can_refuse() -> Result<()> {
    let it = start().await?;
    let said = "the plan allows no keys";
    it.ibm.inject(Fault::wrapped_broker_error(said).on(Route::CreateKey));
    it.ibm.inject(Fault::flat_broker_error(said).on(Route::CreateKey));
    let (status, wrapped) = answer(it.create("a")?.send().await?).await?;
    assert_eq!((status, &wrapped["errors"][0]["code"]), (422, &json!("RC-ServiceBrokerErrorResponse")));
    assert_eq!(wrapped["errors"][0]["message"], said);
    let (status, flat) = answer(it.create("a")?.send().await?).await?;
    assert_eq!((status, &flat["message"], flat.get("errors")), (422, &json!(said), None));
    assert_eq!(it.ibm.keys(), []);
    Ok(())
}

#[tokio::test]
async fn iam_can_go_wrong_too() -> Result<()> {
    let it = start().await?;
    let down = Fault::of_iam(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "down");
    it.ibm.inject(down.on(Route::Token));
    it.ibm.inject(Fault::Hang.on(Route::Token));
    let form = [("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", "ibm-api-key")];
    assert_eq!(it.ask_iam(&form).await?.0, 503);
    let hanging = it.token_request(&form).timeout(Duration::from_millis(200)).send().await;
    assert!(hanging.is_err_and(|error| error.is_timeout()));
    assert_eq!(it.ask_iam(&form).await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_true_answer_can_be_changed() -> Result<()> {
    let it = start().await?;
    let without_credentials = |key: &mut Value| key["credentials"] = Value::Null;
    it.ibm.inject(Fault::edit(without_credentials).on(Route::CreateKey));
    assert_eq!(it.created("a").await?["credentials"], Value::Null);
    assert_eq!(it.ibm.live_keys().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_gate_holds_calls_before_or_after_their_effect() -> Result<()> {
    let it = start().await?;
    for (moment, name, keys) in [(Moment::BeforeEffect, "a", 0), (Moment::AfterEffect, "b", 2)] {
        let gate = it.ibm.gate(Route::CreateKey, moment);
        let create = tokio::spawn(it.create(name)?.send());
        gate.wait_for_arrival().await?;
        assert_eq!(it.ibm.keys().len(), keys);
        gate.release();
        assert_eq!(create.await??.status(), 201);
    }
    it.ibm.wait_until(|keys| keys.len() == 2).await?;
    it.ibm.wait_for_calls(|calls| calls.iter().filter(|call| call.path == KEYS).count() == 2).await?;
    Ok(())
}
