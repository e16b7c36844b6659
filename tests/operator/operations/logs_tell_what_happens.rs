//! Each line of the log names its object, the operation, and the id by which the remote side knows the request. The log
//! filter can be changed while the operator runs.

use kube::ResourceExt;
use serde_json::Value;
use testkit::broker::{Fault, Route};

use crate::support::{process::Process, stage::Stage};

const KEY: &str = "monitoring-creds";

/// The fields of this span around a line.
fn span<'a>(line: &'a Value, name: &str) -> Option<&'a Value> {
    line["spans"].as_array()?.iter().find(|span| span["name"] == name)
}

/// Changes the log filter of the operator, and returns the command's answer.
async fn log_from_now_on(operator: &Process, filter: &str) -> Result<String, String> {
    // The operator listens on its control socket before it logs the address of its metrics.
    operator.http_address().await;
    let output = operator.log_level(filter).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_says_what_it_is_about() {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    stage.wait_for_provider("broker").await;
    let answer = log_from_now_on(&operator, "info,servicekey_operator=debug").await;
    assert_eq!(answer.unwrap(), "info,servicekey_operator=debug\n");
    let key = stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;

    let answered = |line: &Value| {
        let of_bind = span(line, "step").is_some_and(|step| step["effect"] == "Bind");
        (of_bind && line["fields"]["message"] == "answered").then(|| line.clone())
    };
    let line = operator.until_logged("the broker's answer", answered).await;
    let reconcile = span(&line, "reconcile").unwrap();
    assert_eq!(reconcile["kind"], "ServiceKey");
    assert_eq!(reconcile["object"], format!("{}/{KEY}", stage.namespace));
    assert_eq!(reconcile["uid"], key.uid().unwrap());
    assert_eq!(reconcile["provider"], "KeyProvider `broker`");
    let call = span(&line, "call").unwrap();
    assert_eq!(call["backend"], "OpenServiceBroker");
    assert_eq!(call["status"], 201);
    let bind = stage.broker.calls().into_iter().find(|call| call.route == Route::Bind).unwrap();
    assert_eq!(
        call["request_id"].as_str(),
        bind.request_identity.as_deref(),
        "the broker received the same id"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_are_told_by_events_is_logged_too() {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    stage.delete_and_leave_nothing(KEY).await;
    for reason in ["SecretWritten", "KeyRevoked"] {
        let told = |line: &Value| (line["fields"]["reason"] == reason).then(|| line.clone());
        let line = operator.until_logged(reason, told).await;
        assert_eq!(span(&line, "reconcile").unwrap()["object"], format!("{}/{KEY}", stage.namespace));
        assert_eq!(line["level"], "INFO");
    }
    let details = operator.logged().iter().filter(|line| line["level"] == "DEBUG").count();
    assert_eq!(details, 0, "the filter excludes debug lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_says_what_it_is_about_even_where_little_is_logged() {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    stage.wait_for_provider("broker").await;
    assert_eq!(log_from_now_on(&operator, "warn").await.unwrap(), "warn\n");
    let refused = log_from_now_on(&operator, "loud=louder").await.unwrap_err();
    assert!(refused.contains("`loud=louder` is not a valid log filter"), "{refused}");
    stage.broker.inject(Fault::Cut.on(Route::Bind).forever());
    stage.create_key(KEY).await;
    let warned = |line: &Value| (line["fields"]["reason"] == "BindFailed").then(|| line.clone());
    let line = operator.until_logged("a warning", warned).await;
    assert_eq!(span(&line, "reconcile").unwrap()["object"], format!("{}/{KEY}", stage.namespace));
    assert_eq!(line["level"], "WARN");
}
