//! Injected faults, and calls that wait at gates.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::cloud_foundry::{Fault, Moment, Route, StatusCode};

use crate::client::{INSTANCE, KEYS, answer, path, start};

#[tokio::test]
async fn a_call_can_be_lost_before_or_after_its_effect() -> Result<()> {
    let it = start().await?;
    it.cf.inject(Fault::Cut.on(Route::Create));
    assert!(it.create("a")?.send().await.is_err());
    assert_eq!(it.cf.keys(), []);
    it.cf.inject(Fault::Cut.on(Route::Create).after_effect());
    assert!(it.create("a")?.send().await.is_err());
    assert_eq!(it.cf.keys().len(), 1);
    assert_eq!(it.cf.calls()[1].status, None);
    it.ask_for("b").await?;
    Ok(())
}

#[tokio::test]
async fn a_call_can_take_effect_late() -> Result<()> {
    let it = start().await?;
    it.cf.inject(Fault::Late.on(Route::Create).times(2));
    assert!(it.create("a")?.send().await.is_err());
    assert!(it.create("a")?.send().await.is_err());
    it.cf.wait_for_late(2).await?;
    assert_eq!(it.cf.keys(), []);
    assert_eq!(it.cf.release_late(), 1, "the name is taken by then");
    assert_eq!(it.cf.keys().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_fault_strikes_what_it_is_about() -> Result<()> {
    let it = start().await?;
    let (key, _) = it.ask_for("a").await?;
    it.cf.inject(Fault::Html(StatusCode::BAD_GATEWAY).on(Route::Create).about("c"));
    it.cf.inject(Fault::broker_is_busy().on(Route::Delete).about(&key.guid).retry_after(7));
    it.ask_for("b").await?;
    let page = it.create("c")?.send().await?;
    assert_eq!((page.status().as_u16(), &page.headers()["content-type"]), (502, &"text/html".parse()?));
    let response = it.delete(&key).send().await?;
    assert_eq!(response.headers()["retry-after"], "7");
    let (status, body) = answer(response).await?;
    assert_eq!((status, &body["errors"][0]["code"]), (429, &json!(10016)));
    assert_eq!(it.cf.keys().len(), 2);
    Ok(())
}

#[tokio::test]
async fn credhub_can_be_down() -> Result<()> {
    let it = start().await?;
    let (key, _) = it.ask_for("a").await?;
    let details = format!("{}/details", path(&key));
    it.cf.inject(Fault::credhub_is_down().on(Route::Details).forever());
    let (status, code, detail) = it.error(it.call(Method::GET, &details)).await?;
    assert_eq!((status, code), (503, 10015));
    assert!(detail.starts_with("Fetching credentials from CredHub failed"), "{detail}");
    it.cf.clear_faults();
    assert_eq!(it.get(&details).await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_true_answer_can_be_changed() -> Result<()> {
    let it = start().await?;
    let without_uaa = |root: &mut Value| drop(root["links"].as_object_mut().map(|links| links.remove("uaa")));
    it.cf.inject(Fault::edit(without_uaa).on(Route::Root));
    let (status, root) = answer(it.bare(Method::GET, "/").send().await?).await?;
    assert_eq!((status, &root["links"]["uaa"]), (200, &Value::Null));
    assert!(root["links"]["login"].is_object());

    it.cf.inject(
        Fault::edit(|_| ()).on(Route::Create).header("location".parse()?, "https://elsewhere/".parse()?),
    );
    let response = it.create("a")?.send().await?;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (202, &"https://elsewhere/".parse()?)
    );
    assert_eq!(response.text().await?, "");
    assert_eq!(it.cf.live_keys().len(), 1);
    Ok(())
}

#[tokio::test]
async fn the_uaa_can_go_wrong_too() -> Result<()> {
    let it = start().await?;
    it.cf.inject(Fault::Status(StatusCode::SERVICE_UNAVAILABLE, json!({ "error": "down" })).on(Route::Token));
    it.cf.inject(Fault::Hang.on(Route::Token));
    let form = [("grant_type", "password"), ("username", "alice"), ("password", "cf-password")];
    assert_eq!(it.ask_uaa(&form).await?.0, 503);
    let patience = Duration::from_millis(200);
    let hanging = it.uaa_as(("cf", ""), &form).timeout(patience).send().await;
    assert!(hanging.is_err_and(|error| error.is_timeout()));
    assert_eq!(it.ask_uaa(&form).await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_breach_is_not_excused_by_a_fault() -> Result<()> {
    let it = start().await?;
    it.cf.inject(Fault::Html(StatusCode::BAD_GATEWAY).on(Route::Keys));
    let response = it.bare(Method::GET, KEYS).send().await?;
    assert_eq!(response.status(), 401);
    assert_eq!(it.cf.take_violations().len(), 1);
    assert_eq!(it.call(Method::GET, KEYS).send().await?.status(), 502);
    Ok(())
}

#[tokio::test]
async fn a_gate_holds_calls_before_or_after_their_effect() -> Result<()> {
    let it = start().await?;
    for (moment, name, keys) in [(Moment::BeforeEffect, "a", 0), (Moment::AfterEffect, "b", 2)] {
        let gate = it.cf.gate(Route::Create, moment);
        let create = tokio::spawn(it.create(name)?.send());
        gate.wait_for_arrival().await?;
        assert_eq!(it.cf.keys().len(), keys);
        gate.release();
        assert_eq!(create.await??.status(), 202);
    }
    let gate = it.cf.gate(Route::Delete, Moment::AfterEffect);
    let key = it.cf.key_named(INSTANCE, "a").context("a key")?;
    let delete = tokio::spawn(it.delete(&key).send());
    gate.wait_for_arrival().await?;
    gate.cut();
    assert!(delete.await?.is_err());
    it.cf.wait_until(|keys| keys.len() == 1).await?;
    Ok(())
}

#[tokio::test]
async fn what_was_begun_is_finished_without_its_client() -> Result<()> {
    let it = start().await?;
    let gate = it.cf.gate(Route::Create, Moment::BeforeEffect);
    let client = tokio::spawn(it.create("a")?.send());
    gate.wait_for_arrival().await?;
    client.abort();
    assert!(client.await.is_err_and(|error| error.is_cancelled()));
    gate.release();
    it.cf.wait_until(|keys| keys.len() == 1).await?;
    let calls = it.cf.wait_for_calls(|calls| calls.len() == 1).await?;
    assert_eq!(calls[0].login.as_deref(), Some("alice"));
    Ok(())
}
