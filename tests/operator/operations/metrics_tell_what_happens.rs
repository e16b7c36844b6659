//! Metrics count each operation on a key once. They contain no secrets, and no labels with an unbounded number of
//! values.

use std::time::Duration;

use serde_json::json;
use servicekey_operator::{
    api::{Reason, ServiceKey},
    testing::{MetricEntry, Metrics, Values},
};
use testkit::{
    broker::{Fault, Route, StatusCode},
    prometheus::promtool,
};
use tokio::time::{Instant, sleep};

use crate::support::{
    conditions::Reports,
    stage::{PATIENCE, Running, Stage},
};

const NAME: &str = "monitoring-creds";
const BINDING: &str = "/v2/service_instances/{instance}/service_bindings/{binding}";

/// The value of a series with these labels.
fn value(text: &str, series: &str) -> Option<f64> {
    let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value)
}

impl Running {
    /// Waits until the series have these values, because an effect is visible a moment before it is counted.
    async fn counts(&self, expected: &[(&str, f64)]) {
        for (series, count) in expected {
            self.counts_so(series, |value| value == Some(*count)).await;
        }
    }

    /// Waits until the value of a series satisfies the condition.
    async fn counts_so(&self, series: &str, holds: impl Fn(Option<f64>) -> bool) {
        let began = Instant::now();
        loop {
            let text = self.metrics.text();
            let counted = value(&text, series);
            if holds(counted) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "`{series}` is {counted:?} in\n{text}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn remote(method: &str, route: &str, status: &str) -> String {
    let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
    format!("servicekeys_remote_requests_total{{backend=\"OpenServiceBroker\",{labels}}}")
}

fn operation(operation: &str, outcome: &str) -> String {
    let labels = format!("operation=\"{operation}\",outcome=\"{outcome}\"");
    format!("servicekeys_key_operations_total{{backend=\"OpenServiceBroker\",{labels}}}")
}

fn api(verb: &str, resource: &str, status: u16) -> String {
    let labels = format!("verb=\"{verb}\",resource=\"{resource}\",status=\"{status}\"");
    format!("servicekeys_kubernetes_requests_total{{{labels}}}")
}

fn rotations(outcome: &str) -> String {
    format!("servicekeys_rotations_total{{backend=\"OpenServiceBroker\",outcome=\"{outcome}\"}}")
}

impl Stage {
    fn keys_in(&self, state: &str) -> String {
        let provider = format!("provider_namespace=\"{}\",provider=\"broker\"", self.namespace);
        format!("servicekeys_keys{{backend=\"OpenServiceBroker\",{provider},state=\"{state}\"}}")
    }

    fn of_provider(&self, name: &str) -> String {
        format!("{name}{{provider_namespace=\"{}\",provider=\"broker\"}}", self.namespace)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_made_and_goes_again() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    stage.create_key(NAME).await;
    stage.wait_ready(NAME).await;
    let made = [
        (operation("bind", "done"), 1.0),
        (remote("PUT", BINDING, "201"), 1.0),
        (remote("GET", "/v2/catalog", "200"), 1.0),
        // The first request was a dry run.
        (api("create", "secrets", 201), 2.0),
        (api("patch", "servicekeys", 200), 1.0),
        (api("update", "servicekeys/status", 200), 1.0),
        (stage.keys_in("ready"), 1.0),
        (stage.keys_in("pending"), 0.0),
        (stage.of_provider("servicekeys_provider_ready"), 1.0),
        (stage.of_provider("servicekeys_provider_queue_depth"), 0.0),
        (stage.of_provider("servicekeys_rotations_due"), 0.0),
    ];
    operator.counts(&made.each_ref().map(|(series, count)| (series.as_str(), *count))).await;
    assert_eq!(
        value(&operator.metrics.text(), &rotations("completed")),
        Some(0.0),
        "the first key replaces no other"
    );

    stage.delete_and_leave_nothing(NAME).await;
    let gone = [
        (operation("bind", "done"), 1.0),
        (operation("unbind", "done"), 1.0),
        (remote("PUT", BINDING, "201"), 1.0),
        (remote("DELETE", BINDING, "200"), 1.0),
        (api("create", "secrets", 201), 2.0),
        (api("delete", "secrets", 200), 1.0),
        (api("patch", "servicekeys", 200), 2.0),
        (stage.keys_in("ready"), 0.0),
        (stage.keys_in("deleting"), 0.0),
        ("servicekeys_worker_queue_depth".to_owned(), 0.0),
    ];
    operator.counts(&gone.each_ref().map(|(series, count)| (series.as_str(), *count))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_refused_and_then_replaced() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    let refusal = || Fault::Status(StatusCode::BAD_REQUEST, json!({"description": "the quota is used up"}));
    stage.broker.inject(refusal().on(Route::Bind));
    stage.create_rotating(json!({"overlap": "0s"})).await;
    let failed = "servicekeys_reconciles_total{kind=\"ServiceKey\",outcome=\"failed\"}";
    let made = [
        (operation("bind", "failed"), 1.0),
        (operation("bind", "done"), 1.0),
        (remote("PUT", BINDING, "400"), 1.0),
        (remote("PUT", BINDING, "201"), 1.0),
        (failed.to_owned(), 1.0),
    ];
    operator.counts(&made.each_ref().map(|(series, count)| (series.as_str(), *count))).await;
    assert_eq!(
        value(&operator.metrics.text(), &rotations("failed")),
        Some(0.0),
        "there was no key to replace"
    );

    stage.broker.inject(refusal().on(Route::Bind));
    stage.request_rotation(json!("now")).await;
    stage.wait_settled_with(2).await;
    let replaced = [
        (operation("bind", "failed"), 2.0),
        (operation("bind", "done"), 2.0),
        (operation("unbind", "done"), 1.0),
        (rotations("failed"), 1.0),
        (rotations("completed"), 1.0),
        (failed.to_owned(), 2.0),
        (stage.of_provider("servicekeys_rotations_failing"), 0.0),
        (stage.keys_in("ready"), 1.0),
    ];
    operator.counts(&replaced.each_ref().map(|(series, count)| (series.as_str(), *count))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_wants_to_be_left_alone() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    let too_many = Fault::Status(StatusCode::TOO_MANY_REQUESTS, json!({"description": "slow down"}));
    stage.broker.inject(too_many.on(Route::Bind).retry_after(3600));
    stage.create_key(NAME).await;
    stage.wait_key(NAME, Reason::RateLimited).await.says("answers 429: slow down");
    // This ServiceKey learns of the pause without a request to the broker.
    stage.create_key("next").await;
    stage.wait_key("next", Reason::RateLimited).await;
    let waiting = [
        ("servicekeys_remote_pauses_total{backend=\"OpenServiceBroker\"}".to_owned(), 1.0),
        (remote("PUT", BINDING, "429"), 1.0),
        (operation("bind", "failed"), 1.0),
        (stage.keys_in("pending"), 2.0),
    ];
    operator.counts(&waiting.each_ref().map(|(series, count)| (series.as_str(), *count))).await;
    let paused = "servicekeys_reconciles_total{kind=\"ServiceKey\",outcome=\"paused\"}";
    // The ServiceKeys may have been reconciled more than once.
    operator.counts_so(paused, |count| count >= Some(1.0)).await;
    let pause = value(&operator.metrics.text(), &stage.of_provider("servicekeys_provider_pause_seconds"));
    assert!(pause.is_some_and(|pause| (3000.0..=3600.0).contains(&pause)), "{pause:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_slow_broker() {
    let stage = Stage::set().await;
    stage.change_provider(json!({"limits": {"concurrency": 1, "timeout": "60s"}})).await;
    let operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    let gate = stage.broker.gate(Route::Bind, testkit::Moment::BeforeEffect);
    for name in ["first", "second", "third"] {
        stage.create_key(name).await;
    }
    let depth = stage.of_provider("servicekeys_provider_queue_depth");
    let waits = stage.of_provider("servicekeys_provider_queue_wait_seconds_count");
    operator.counts(&[(&depth, 2.0), ("servicekeys_worker_queue_depth", 0.0)]).await;
    gate.release();
    stage.wait_all_ready(3).await;
    operator.counts(&[(&depth, 0.0), (&operation("bind", "done"), 3.0)]).await;
    operator.counts_so(&waits, |count| count >= Some(2.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exposed_is_documented_well_formed_and_no_secret() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready(NAME).await;
    operator.counts(&[(&stage.keys_in("ready"), 1.0)]).await;
    let text = operator.metrics.plain_text();
    promtool(&["check", "metrics"], &text).await.unwrap();
    assert_documented(&text);

    let key: ServiceKey = stage.keys().get(NAME).await.unwrap();
    let bindings = stage.broker.bindings();
    let credentials = bindings[0].credentials.values().filter_map(|value| value.as_str());
    let ids = [key.metadata.uid.unwrap(), bindings[0].id.to_string(), NAME.to_owned()];
    let long = credentials.filter(|value| value.len() > 4).chain(ids.iter().map(String::as_str));
    for unwanted in long.chain(["broker-password", "broker-login"]) {
        assert!(!text.contains(unwanted), "`{unwanted}` is in\n{text}");
    }
}

/// Every series belongs to a documented family, has exactly its labels, and only their documented values.
fn assert_documented(text: &str) {
    let metrics = Metrics::default();
    let entry = |series: &str| -> &'static MetricEntry {
        let is_of = |entry: &&'static MetricEntry| {
            let part = series.strip_prefix(entry.name);
            part.is_some_and(|part| matches!(part, "" | "_bucket" | "_sum" | "_count"))
        };
        let entries = metrics.families().iter().map(|family| family.entry);
        entries.into_iter().find(is_of).unwrap_or_else(|| panic!("`{series}` is not documented"))
    };
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix("\"}").unwrap_or_default();
        let labels: Vec<_> = labels.split("\",").filter_map(|label| label.split_once("=\"")).collect();
        let entry = entry(name);
        let named = labels.iter().map(|(name, _)| *name).filter(|name| *name != "le");
        assert!(named.eq(entry.labels.iter().map(|label| label.name)), "{line}");
        for (label, (_, value)) in entry.labels.iter().zip(&labels) {
            if let Values::OneOf(values) = label.values {
                assert!(values.contains(value), "`{value}` is not documented: {line}");
            }
        }
    }
}
