//! Injected faults, and what has happened at the broker by then.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::broker::{FakeBroker, Fault, ReservedPort, Route, StatusCode};
use uuid::Uuid;

use crate::client::{INSTANCE, answer, http_client, start, start_with};

const BUSY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

#[tokio::test]
async fn a_status_replaces_the_answer_as_often_as_it_says() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    let fault = Fault::Status(StatusCode::TOO_MANY_REQUESTS, json!({ "error": "Busy" }));
    it.broker.inject(fault.on(Route::Bind).retry_after(7).times(2));
    for _ in 0..2 {
        let response = it.bind(id)?.send().await?;
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(answer(response).await?, (429, json!({ "error": "Busy" })));
        assert_eq!(it.broker.bindings(), []);
    }
    assert_eq!(it.bind(id)?.send().await?.status(), 201);
    Ok(())
}

#[tokio::test]
async fn a_fault_can_strike_one_binding_only() -> Result<()> {
    let it = start().await?;
    let (struck, spared) = (Uuid::new_v4(), Uuid::new_v4());
    it.broker.inject(Fault::Status(BUSY, json!({})).on(Route::Bind).about(struck).forever());
    assert_eq!(it.bind(spared)?.send().await?.status(), 201);
    assert_eq!(it.bind(struck)?.send().await?.status(), 503);
    it.broker.clear_faults();
    assert_eq!(it.bind(struck)?.send().await?.status(), 201);
    Ok(())
}

#[tokio::test]
async fn an_error_can_hide_that_the_binding_was_made() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    it.broker.inject(Fault::Status(BUSY, json!({})).on(Route::Bind).after_effect());
    assert_eq!(it.bind(id)?.send().await?.status(), 503);
    assert_eq!(it.broker.bindings().len(), 1);
    assert_eq!(it.bind(id)?.send().await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn a_cut_connection_leaves_no_answer_and_the_effect_that_it_says() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    it.broker.inject(Fault::Cut.on(Route::Bind));
    assert!(it.bind(id)?.send().await.is_err());
    assert_eq!(it.broker.bindings(), []);

    it.broker.inject(Fault::Cut.on(Route::Bind).after_effect());
    assert!(it.bind(id)?.send().await.is_err());
    assert_eq!(it.broker.bindings().len(), 1);

    it.broker.inject(Fault::Cut.on(Route::Unbind).after_effect());
    assert!(it.unbind(id)?.send().await.is_err());
    assert_eq!(it.broker.bindings(), []);
    assert!(it.broker.calls().iter().all(|call| call.status.is_none()));
    Ok(())
}

#[tokio::test]
async fn a_bind_can_take_effect_after_the_unbind_that_was_to_undo_it() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    it.broker.inject(Fault::Late.on(Route::Bind));
    assert!(it.bind(id)?.send().await.is_err());
    it.broker.wait_for_late(1).await?;
    assert_eq!(it.broker.bindings(), []);
    assert_eq!(it.unbind(id)?.send().await?.status(), 410);

    assert_eq!(it.broker.release_late(), 1);
    assert_eq!(it.broker.bindings().len(), 1);
    assert_eq!(it.broker.release_late(), 0);
    assert_eq!(it.bind(id)?.send().await?.status(), 200);
    assert_eq!(it.unbind(id)?.send().await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn what_is_late_can_be_too_late() -> Result<()> {
    let it = start().await?;
    it.broker.inject(Fault::Late.on(Route::Bind));
    assert!(it.bind(Uuid::new_v4())?.send().await.is_err());
    assert!(it.broker.forget_instance(INSTANCE));
    assert_eq!(it.broker.release_late(), 0);
    assert_eq!(it.broker.violations(), []);
    Ok(())
}

#[tokio::test]
async fn a_body_can_be_cut_in_half() -> Result<()> {
    let it = start().await?;
    it.broker.inject(Fault::CutInBody.on(Route::Bind));
    let response = it.bind(Uuid::new_v4())?.send().await?;
    assert_eq!(response.status(), 201);
    assert!(response.bytes().await.is_err());
    assert_eq!(it.broker.bindings().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_call_can_hang_until_the_client_gives_up() -> Result<()> {
    let it = start().await?;
    it.broker.inject(Fault::Hang.on(Route::Bind).after_effect());
    let hanging = tokio::spawn(it.bind(Uuid::new_v4())?.send());
    it.broker.wait_until(|bindings| bindings.len() == 1).await?;
    assert_eq!(it.bind(Uuid::new_v4())?.send().await?.status(), 201, "others are served meanwhile");
    assert!(!hanging.is_finished());
    hanging.abort();
    assert_eq!(it.broker.calls()[0].status, None);
    Ok(())
}

#[tokio::test]
async fn a_broker_that_stops_ends_the_calls_that_hang() -> Result<()> {
    let it = start().await?;
    it.broker.inject(Fault::Hang.on(Route::Bind).after_effect());
    let hanging = tokio::spawn(it.bind(Uuid::new_v4())?.send());
    it.broker.wait_until(|bindings| bindings.len() == 1).await?;
    drop(it.broker);
    assert!(hanging.await?.is_err());
    Ok(())
}

#[tokio::test]
async fn an_answer_can_be_late() -> Result<()> {
    let it = start().await?;
    let pause = Duration::from_millis(50);
    it.broker.inject(Fault::Delay(pause).on(Route::Bind));
    let start = Instant::now();
    assert_eq!(it.bind(Uuid::new_v4())?.send().await?.status(), 201);
    assert!(start.elapsed() >= pause);
    Ok(())
}

#[tokio::test]
async fn an_answer_can_come_byte_by_byte() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    it.bind(id)?.send().await?.error_for_status()?;
    let (pause, bytes) = (Duration::from_millis(5), r"{}".len());
    it.broker.inject(Fault::Drip(pause).on(Route::Unbind));
    let start = Instant::now();
    assert_eq!(answer(it.unbind(id)?.send().await?).await?, (200, json!({})));
    assert!(start.elapsed() >= pause * u32::try_from(bytes)?);
    Ok(())
}

#[tokio::test]
async fn a_success_can_be_a_web_page() -> Result<()> {
    let it = start().await?;
    it.broker.inject(Fault::Html(StatusCode::CREATED).on(Route::Bind));
    let response = it.bind(Uuid::new_v4())?.send().await?;
    assert_eq!((response.status().as_u16(), &response.headers()["content-type"] == "text/html"), (201, true));
    assert!(response.json::<Value>().await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_body_can_be_missing() -> Result<()> {
    let it = start().await?;
    it.broker.inject(Fault::Empty(StatusCode::CREATED).on(Route::Bind).after_effect());
    let response = it.bind(Uuid::new_v4())?.send().await?;
    assert_eq!(response.status(), 201);
    assert_eq!(response.bytes().await?, "");
    assert_eq!(it.broker.bindings().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_true_answer_can_have_the_wrong_status() -> Result<()> {
    let it = start().await?;
    it.broker.inject(Fault::Relabel(StatusCode::OK).on(Route::Bind));
    let (status, body) = answer(it.bind(Uuid::new_v4())?.send().await?).await?;
    let binding = it.broker.bindings().pop().context("it is made all the same")?;
    assert_eq!((status, body), (200, json!({ "credentials": binding.credentials })));
    Ok(())
}

#[tokio::test]
async fn credentials_can_be_of_another_type() -> Result<()> {
    let it = start().await?;
    for wrong in [Value::Null, json!([]), json!(7), json!("secret")] {
        it.broker.inject(Fault::credentials(&wrong).on(Route::Bind));
        let (status, body) = answer(it.bind(Uuid::new_v4())?.send().await?).await?;
        assert_eq!((status, body), (201, json!({ "credentials": wrong })));
    }
    it.broker.inject(Fault::Body(json!({})).on(Route::Fetch));
    assert_eq!(answer(it.fetch(Uuid::new_v4()).send().await?).await?, (200, json!({})));
    Ok(())
}

#[tokio::test]
async fn a_body_can_be_big_and_well_formed() -> Result<()> {
    let it = start().await?;
    it.broker.inject(Fault::BigBody.on(Route::Bind));
    let response = it.bind(Uuid::new_v4())?.send().await?;
    let body = response.bytes().await?;
    assert!(body.len() > 10 * 1024 * 1024);
    serde_json::from_slice::<Value>(&body)?;
    Ok(())
}

#[tokio::test]
async fn a_body_can_have_no_end() -> Result<()> {
    let it = start().await?;
    it.broker.inject(Fault::EndlessBody.on(Route::Bind));
    let mut response = it.bind(Uuid::new_v4())?.send().await?;
    let mut received = 0;
    while received < 16 * 1024 * 1024 {
        received += response.chunk().await?.context("the body ended")?.len();
    }
    drop(response);
    assert_eq!(it.bind(Uuid::new_v4())?.send().await?.status(), 201, "the broker serves on");
    Ok(())
}

#[tokio::test]
async fn an_error_can_repeat_the_secrets() -> Result<()> {
    let it = start().await?;
    it.broker.inject(Fault::RepeatSecrets(BUSY).on(Route::Bind).after_effect());
    let (status, body) = answer(it.bind(Uuid::new_v4())?.send().await?).await?;
    assert_eq!(status, 503);
    let said = body["description"].as_str().context("a description")?;
    let binding = it.broker.bindings().pop().context("a binding")?;
    let password = binding.credentials["password"].as_str().context("a password")?;
    for secret in [password, "broker-password", "read-only"] {
        assert!(said.contains(secret), "{secret}");
    }
    Ok(())
}

#[tokio::test]
async fn a_broker_can_be_down_at_first() -> Result<()> {
    let port = ReservedPort::take()?;
    let url = port.url();
    let refused = http_client().build()?.get(&url).send().await.err().context("no server listens")?;
    assert!(refused.is_connect(), "{refused:?}");

    let it = start_with(FakeBroker::builder().port(port)).await?;
    assert_eq!(it.broker.url(), url);
    assert_eq!(it.bind(Uuid::new_v4())?.send().await?.status(), 201);
    Ok(())
}
