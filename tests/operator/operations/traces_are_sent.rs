//! With the feature `otlp`, the operator sends each reconcile, with its steps and calls, to the collector that the
//! environment names.

use std::{collections::BTreeSet, time::Duration};

use axum::{Router, body::Bytes, http::StatusCode, routing::post};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

use crate::support::{process::Process, stage::Stage};

const KEY: &str = "monitoring-creds";

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_with_its_steps_and_calls() {
    let (sender, mut received) = mpsc::unbounded_channel();
    let collect = async move |body: Bytes| {
        sender.send(body).unwrap();
        StatusCode::OK
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let collector = Router::new().route("/v1/traces", post(collect));
    let _collector = tokio::spawn(async move { axum::serve(listener, collector).await });

    let stage = Stage::set().await;
    let mut command = Process::command(&stage);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
    let operator = Process::run(stage.gateway().await, command);
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    assert_eq!(operator.terminate().await.code(), Some(0), "the operator sends its last traces and ends");

    // Names and values are plain text in the protocol's encoding.
    let expected = [
        "servicekey-operator",
        "reconcile",
        "step",
        "call",
        KEY,
        "Bind",
        "WriteSecret",
        "OpenServiceBroker",
        "request_id",
    ];
    let mut missing: BTreeSet<_> = expected.into();
    let complete = timeout(Duration::from_secs(30), async {
        while !missing.is_empty() {
            let body = received.recv().await.unwrap();
            let holds = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!holds("broker-password"), "the login is in a trace");
            missing.retain(|text| !holds(text));
        }
    });
    assert!(complete.await.is_ok(), "the traces do not contain {missing:?}");
}
