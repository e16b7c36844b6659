//! Each fault does the same in process as over a socket.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Client;
use serde_json::json;
use testkit::broker::{Binding, FakeBroker, Fault, NoAnswer, Route, StatusCode};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::client::{BrokerCalls, environment, http_client, plain, received, simulate};

const BUSY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
const PAUSE: Duration = Duration::from_millis(2);
/// The client waits this long for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The client of a call that hangs gives up after this time.
const IMPATIENCE: Duration = Duration::from_secs(2);
/// An endless body has more.
const MOST_BYTES: usize = 11 * 1024 * 1024;

/// All that a client and a test see of a bind.
#[derive(Debug, PartialEq)]
struct Seen {
    end: End,
    bindings: Vec<Binding>,
    /// The status in the record.
    recorded: Option<u16>,
    /// The calls that take effect later.
    late: usize,
}

#[derive(Debug, PartialEq)]
enum End {
    Cut,
    Hung,
    Answer { status: u16, headers: Vec<(String, String)>, body: Body },
}

#[derive(Debug, PartialEq)]
enum Body {
    Whole(String),
    Long { bytes: usize },
    Endless,
    CutAfter(String),
}

async fn bind(client: &Client, broker: &FakeBroker, fault: Fault, after: bool, send: Send) -> Result<Seen> {
    let patience = if matches!(fault, Fault::Hang) { IMPATIENCE } else { PATIENCE };
    let fault = fault.on(Route::Bind).retry_after(7);
    broker.inject(if after { fault.after_effect() } else { fault });
    let request = BrokerCalls { broker, client }.bind(Uuid::nil())?;
    let answered = match send {
        Send::InProcess => {
            let called = timeout(patience, broker.call(plain(request)?)).await;
            called.map(|called| called.map(received).map_err(|lost| assert_eq!(lost, NoAnswer::Cut)))
        }
        Send::OverSocket => timeout(patience, request.send()).await.map(|sent| sent.map_err(drop)),
    };
    let end = match answered {
        Err(_) => End::Hung,
        Ok(Err(())) => End::Cut,
        Ok(Ok(response)) => read(response).await?,
    };
    let (bindings, recorded) = (broker.bindings(), broker.calls()[0].status);
    Ok(Seen { end, bindings, recorded, late: broker.release_late() })
}

#[derive(Clone, Copy)]
enum Send {
    InProcess,
    OverSocket,
}

async fn read(mut response: reqwest::Response) -> Result<End> {
    let status = response.status().as_u16();
    // A server on a socket adds these.
    let added = ["date", "content-length", "transfer-encoding"];
    let headers = response.headers().iter().filter(|(name, _)| !added.contains(&name.as_str()));
    let headers = headers.map(|(name, value)| Ok((name.to_string(), value.to_str()?.to_owned())));
    let mut headers = headers.collect::<Result<Vec<_>>>()?;
    headers.sort();
    let mut bytes = Vec::new();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).context("no UTF-8");
    let body = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend(chunk),
            Ok(None) if bytes.len() > 100_000 => break Body::Long { bytes: bytes.len() },
            Ok(None) => break Body::Whole(text(bytes)?),
            Err(_) => break Body::CutAfter(text(bytes)?),
        }
        if bytes.len() > MOST_BYTES {
            break Body::Endless;
        }
    };
    Ok(End::Answer { status, headers, body })
}

/// Binds in process and over a socket while a fault is injected, before and after its effect, and compares both. It
/// returns what a client and a test see, and the virtual time that passes in process.
fn same(fault: Fault) -> Result<[(Seen, Duration); 2]> {
    Ok([compare(&fault, false)?, compare(&fault, true)?])
}

fn compare(fault: &Fault, after: bool) -> Result<(Seen, Duration)> {
    let client = http_client()?;
    let builder = || FakeBroker::builder().environment(environment(1));
    let (in_process, time) = simulate(async {
        let (start, broker) = (Instant::now(), builder().in_process("broker.example")?);
        Ok((bind(&client, &broker, fault.clone(), after, Send::InProcess).await?, start.elapsed()))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let over_socket = runtime.block_on(async {
        let broker = builder().start().await?;
        bind(&http_client()?, &broker, fault.clone(), after, Send::OverSocket).await
    })?;
    assert_eq!(in_process, over_socket);
    Ok((in_process, time))
}

fn status_of((seen, _): &(Seen, Duration)) -> Option<u16> {
    match &seen.end {
        End::Answer { status, .. } => Some(*status),
        End::Cut | End::Hung => None,
    }
}

fn bindings([before, after]: &[(Seen, Duration); 2]) -> [usize; 2] {
    [before.0.bindings.len(), after.0.bindings.len()]
}

#[test]
fn status() -> Result<()> {
    let seen = same(Fault::Status(BUSY, json!({ "error": "Busy" })))?;
    assert_eq!((seen.each_ref().map(status_of), bindings(&seen)), ([Some(503); 2], [0, 1]));
    Ok(())
}

#[test]
fn body() -> Result<()> {
    let seen = same(Fault::Body(json!([])))?;
    assert_eq!((seen.each_ref().map(status_of), bindings(&seen)), ([Some(201); 2], [0, 1]));
    Ok(())
}

#[test]
fn text() -> Result<()> {
    assert_eq!(same(Fault::Text(BUSY, "{".into()))?.each_ref().map(status_of), [Some(503); 2]);
    Ok(())
}

#[test]
fn plain_text() -> Result<()> {
    assert_eq!(same(Fault::PlainText(BUSY, "down"))?.each_ref().map(status_of), [Some(503); 2]);
    Ok(())
}

#[test]
fn html() -> Result<()> {
    assert_eq!(same(Fault::Html(BUSY))?.each_ref().map(status_of), [Some(503); 2]);
    Ok(())
}

#[test]
fn empty() -> Result<()> {
    assert_eq!(same(Fault::Empty(StatusCode::OK))?.each_ref().map(status_of), [Some(200); 2]);
    Ok(())
}

#[test]
fn relabel() -> Result<()> {
    let seen = same(Fault::Relabel(StatusCode::OK))?;
    assert_eq!((seen.each_ref().map(status_of), bindings(&seen)), ([Some(200); 2], [1, 1]));
    Ok(())
}

#[test]
fn edit() -> Result<()> {
    let seen = same(Fault::edit(|body| body["credentials"] = json!("secret")))?;
    assert_eq!((seen.each_ref().map(status_of), bindings(&seen)), ([Some(201); 2], [1, 1]));
    Ok(())
}

#[test]
fn repeat_secrets() -> Result<()> {
    let seen = same(Fault::RepeatSecrets(BUSY))?;
    assert_eq!((seen.each_ref().map(status_of), bindings(&seen)), ([Some(503); 2], [0, 1]));
    Ok(())
}

#[test]
fn big_body() -> Result<()> {
    assert_eq!(same(Fault::BigBody)?.each_ref().map(status_of), [Some(201); 2]);
    Ok(())
}

#[test]
fn endless_body() -> Result<()> {
    for (seen, _) in same(Fault::EndlessBody)? {
        assert!(matches!(seen.end, End::Answer { status: 201, body: Body::Endless, .. }));
    }
    Ok(())
}

#[test]
fn cut() -> Result<()> {
    let seen = same(Fault::Cut)?;
    assert!(seen.iter().all(|(seen, _)| seen.end == End::Cut && seen.recorded.is_none()));
    assert_eq!(bindings(&seen), [0, 1]);
    Ok(())
}

#[test]
fn late() -> Result<()> {
    let seen = same(Fault::Late)?;
    assert!(seen.iter().all(|(seen, _)| seen.end == End::Cut));
    assert_eq!((seen.each_ref().map(|(seen, _)| seen.late), bindings(&seen)), ([1, 0], [0, 1]));
    Ok(())
}

#[test]
fn hang() -> Result<()> {
    let seen = same(Fault::Hang)?;
    assert!(seen.iter().all(|(seen, time)| seen.end == End::Hung && *time == IMPATIENCE));
    assert_eq!(bindings(&seen), [0, 1]);
    Ok(())
}

#[test]
fn delay() -> Result<()> {
    let seen = same(Fault::Delay(PAUSE))?;
    assert!(seen.iter().all(|(_, time)| *time == PAUSE));
    assert_eq!((seen.each_ref().map(status_of), bindings(&seen)), ([Some(201); 2], [1, 1]));
    Ok(())
}

#[test]
fn drip() -> Result<()> {
    for (seen, time) in same(Fault::Drip(PAUSE))? {
        let End::Answer { status: 201, body: Body::Whole(body), .. } = seen.end else {
            anyhow::bail!("{:?}", seen.end);
        };
        assert_eq!(time, PAUSE * u32::try_from(body.len())?);
    }
    Ok(())
}

#[test]
fn cut_in_body() -> Result<()> {
    for (seen, _) in same(Fault::CutInBody)? {
        assert!(matches!(seen.end, End::Answer { status: 201, body: Body::CutAfter(_), .. }));
    }
    Ok(())
}
