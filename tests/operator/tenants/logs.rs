//! Logs contain no secrets.

use http::Request;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{KeyProvider, Reason, ServiceKey},
    testing::{Metrics, client},
};
use testkit::{
    broker::{FakeBroker, Fault, Route, StatusCode},
    gateway::Gateway,
};
use tokio::process::Command;

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenant, Tenants, broker_login, broker_spec, instance_of_broker, key_manifest},
};
use crate::support::{
    conditions::{Reports, wait_for},
    process::{PROGRAM, Process},
};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        what_can_not_be_parsed_is_not_logged,
        Actor::Editor,
        "nests a login Secret and a ServiceKey too deep for the parser, while everything is logged",
        "neither the password nor the parameters of any tenant are in the log",
    ),
    abuse!(
        a_log_level_that_is_set_later_shows_no_secrets,
        Actor::Editor,
        "does the same after the administrator has set the log level of all crates to `trace` at run time",
        "neither the password nor the parameters of any tenant are in the log",
    ),
    abuse!(
        encoded_secrets_are_hidden,
        Actor::RemoteSide,
        "repeats a secret in its errors as a URL, a form, JSON and base64 encode it, or cut off at the end",
        "condition, Event and log show `[redacted]` instead",
    ),
    abuse!(
        words_and_secrets_that_are_made_for_it_cost_little,
        Actor::Editor,
        "has its broker refuse with a message that is composed of its parameters: `reda` and `cted` 200 times each, \
         and 4,000 backslashes",
        "conditions show `[redacted]` once, and that the message is not shown; another tenant gets its key",
    ),
    abuse!(
        answers_that_are_no_json_are_not_quoted,
        Actor::RemoteSide,
        "answers with a password in a text, in HTML, in a list, and in JSON that is nested 1,000 deep",
        "condition, Event and log name the kind of the answer, and quote nothing of it",
    ),
];

const PASSWORD: &str = "broker-password";
/// A password that the operator does not know. Only withholding the whole answer hides it.
const UNKNOWN: &str = "unkn0wn-pa55word";
const PARAMETER: &str = "tr0ub4dor/and \"thrée\"";

/// Starts the operator of the tenants' own cluster as a process with this log filter.
async fn start(tenants: &Tenants, filter: &str) -> Process {
    let client = tenants.plane().client_as(tenants.operator_user());
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--cluster-resource-namespace", &tenants.system, "--allow-cidr", "127.0.0.0/8"]);
    command.args(["--http-addr", "127.0.0.1:0", "--log-format", "json"]).env("RUST_LOG", filter);
    Process::run(Gateway::start(client).await.unwrap(), command)
}

fn key(name: &str, fields: Value) -> Value {
    key_manifest(name, json!({"name": "broker"}), instance_of_broker(), fields)
}

/// A JSON value with this many levels.
fn nested(levels: usize) -> Value {
    (1..levels).fold(json!({}), |inner, _| json!({"f:a": inner}))
}

/// Creates a provider with a login Secret that is too deep to be parsed, and a ServiceKey that is too deep.
async fn add_deep_objects(tenant: &Tenant, broker: &FakeBroker) {
    let managed_fields = json!([{
        "manager": "somebody",
        "operation": "Update",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": nested(150),
    }]);
    let login = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "broker-login", "managedFields": managed_fields},
        "stringData": broker_login(),
    });
    let deep = key("deep", json!({"parameters": {"secret": PARAMETER, "a": nested(150)}}));
    let namespace = &tenant.namespace;
    for (path, object) in [
        (format!("/api/v1/namespaces/{namespace}/secrets"), login),
        (format!("/apis/servicekeys.dev/v1alpha1/namespaces/{namespace}/servicekeys"), deep),
    ] {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(object.to_string().into_bytes()).unwrap();
        tenant.client.request_text(request).await.unwrap();
    }
    tenant.add_provider("broker", broker_spec(broker), None).await;
}

/// Waits until the operator has read everything that could appear in its log.
async fn wait_until_all_is_read(tenants: &Tenants) {
    tenants.victim.wait_ready("creds").await;
    let config = tenants.plane().config_as(&tenants.attacker.user);
    let client = client(config, &Metrics::default()).unwrap();
    let namespace = &tenants.attacker.namespace;
    wait_for(Api::<KeyProvider>::namespaced(client.clone(), namespace), "broker", true, Reason::Available)
        .await;
    wait_for(Api::<ServiceKey>::namespaced(client, namespace), "deep", false, Reason::InvalidSpec).await;
}

/// Fails if the log contains a secret, or does not contain the lines of all levels.
fn assert_no_secrets(log: &str) {
    let parameter = Value::from(PARAMETER).to_string();
    for secret in [PASSWORD, PARAMETER, parameter.trim_matches('"'), "tr0ub4dor"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "`{secret}` is in the log");
    }
    assert!(log.contains("carrying out"), "the log was not collected");
    assert!(log.contains(r#""target":"kube_client::client::builder""#), "the log contains requests");
    assert!(!log.contains(r#""target":"kube_client::client""#), "kube logged the content of answers");
}

async fn add_victim(tenants: &Tenants, broker: &FakeBroker) {
    tenants.victim.add_provider("broker", broker_spec(broker), Some(("broker-login", broker_login()))).await;
    tenants.victim.create::<ServiceKey>(key("creds", json!({"parameters": {"secret": PARAMETER}}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_parsed_is_not_logged() {
    let tenants = Tenants::meet_alone(Actor::Editor).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    add_victim(&tenants, &broker).await;
    add_deep_objects(&tenants.attacker, &broker).await;
    let operator = start(&tenants, "trace").await;
    wait_until_all_is_read(&tenants).await;
    assert_no_secrets(&operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_level_that_is_set_later_shows_no_secrets() {
    let tenants = Tenants::meet_alone(Actor::Editor).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    let operator = start(&tenants, "warn,servicekey_operator=info").await;
    operator.http_address().await;
    let filter = "trace,kube=trace,kube_client=trace,kube_client::client=trace,hyper=trace,rustls=trace";
    let output = operator.log_level(filter).await;
    assert!(output.status.success(), "{output:?}");
    add_victim(&tenants, &broker).await;
    add_deep_objects(&tenants.attacker, &broker).await;
    wait_until_all_is_read(&tenants).await;
    assert_no_secrets(&operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn encoded_secrets_are_hidden() {
    let tenants = Tenants::meet_alone(Actor::Editor).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    let in_url = utf8_percent_encode(PARAMETER, NON_ALPHANUMERIC).to_string();
    let in_form: String = url::form_urlencoded::byte_serialize(PARAMETER.as_bytes()).collect();
    let in_base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, PARAMETER);
    let in_json = r#"tr0ub4dor\/and \u0022thr\u00e9e\""#;
    let lower = in_url.replace("%2F", "%2f").replace("%C3%A9", "%c3%a9");
    let description = format!("a {in_url} b {lower} c {in_form} d {in_json} e {in_base64} f tr0ub4dor%2Fand");
    let fault = Fault::Status(StatusCode::INTERNAL_SERVER_ERROR, json!({ "description": description }));
    broker.inject(fault.on(Route::Bind).forever());
    let operator = start(&tenants, "trace").await;
    let parameters = json!({"params": json!({"secret": PARAMETER}).to_string()});
    tenants.attacker.create::<Secret>(json!({"metadata": {"name": "extra"}, "stringData": parameters})).await;
    tenants
        .attacker
        .add_provider("broker", broker_spec(&broker), Some(("broker-login", broker_login())))
        .await;
    let from = json!({"parametersFrom": [{"secretKeyRef": {"name": "extra", "key": "params"}}]});
    tenants.attacker.create::<ServiceKey>(key("creds", from)).await;
    let told = tenants.attacker.wait_key("creds", false, Reason::BindFailed).await;
    told.says("a [redacted] b [redacted] c [redacted] d [redacted] e [redacted] f [redacted]");
    let failed = |line: &Value| line.to_string().contains("BindFailed").then_some(());
    operator.until_logged("the failure", failed).await;
    assert!(
        !operator.log().contains("tr0ub4dor") && !operator.log().contains(&in_base64),
        "the secret is in the log"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn words_and_secrets_that_are_made_for_it_cost_little() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    tenants.start_operator(|_| {});
    let broker = FakeBroker::builder().start().await.unwrap();
    tenants
        .attacker
        .add_provider("broker", broker_spec(&broker), Some(("broker-login", broker_login())))
        .await;
    let backslashes = "\\".repeat(4000);
    let many: Vec<_> = (0..7).map(|number| format!("{backslashes}{number}")).collect();
    for (name, description, secrets, said) in [
        ("growing", "reda", json!(["reda", "cted"].repeat(200)), "answers 400: [redacted]"),
        (
            "slow",
            &*backslashes,
            json!(many),
            "answers 400: a message that is not shown, because searching it for secrets takes too long",
        ),
    ] {
        let refusal = Fault::Status(StatusCode::BAD_REQUEST, json!({ "description": description }));
        broker.inject(refusal.on(Route::Bind).forever());
        tenants.attacker.create::<ServiceKey>(key(name, json!({"parameters": {"x": secrets}}))).await;
        tenants.attacker.wait_says(name, said).await;
        broker.clear_faults();
    }
    add_victim(&tenants, &broker).await;
    tenants.victim.wait_ready("creds").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_no_json_are_not_quoted() {
    let tenants = Tenants::meet_alone(Actor::Editor).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    let operator = start(&tenants, "trace").await;
    tenants
        .attacker
        .add_provider("broker", broker_spec(&broker), Some(("broker-login", broker_login())))
        .await;
    tenants.attacker.wait_provider("broker", true, Reason::Available).await;
    let deep = json!({"description": UNKNOWN, "a": nested(1000)});
    let json = [json!(UNKNOWN), json!([UNKNOWN]), deep, json!({"credentials": UNKNOWN})];
    let bodies = json.map(|body| body.to_string()).into_iter();
    let bodies = bodies.chain([UNKNOWN.to_owned(), format!("<html><p>{UNKNOWN}</p></html>")]);
    for (number, body) in bodies.enumerate() {
        for (status, name, reason) in [
            (StatusCode::CREATED, "made", Reason::CredentialsUnusable),
            (StatusCode::BAD_REQUEST, "refused", Reason::BindRejected),
        ] {
            broker.inject(Fault::Text(status, body.clone()).on(Route::Bind).forever());
            let name = format!("{name}-{number}");
            let key = tenants.attacker.create::<ServiceKey>(key(&name, json!({}))).await;
            let api = tenants.attacker.keys();
            let is_told = |key: Option<&ServiceKey>| key.is_some_and(|key| key.is(false, reason));
            let told =
                crate::support::stage::wait(api, &name, "reporting the answer", is_told).await.unwrap();
            assert!(!told.message().contains(UNKNOWN), "{}: {}", key.metadata.name.unwrap(), told.message());
            broker.clear_faults();
        }
    }
    let log = operator.log();
    assert!(!log.contains(UNKNOWN) && !log.contains(PASSWORD), "the secret is in the log");
    assert!(log.contains("carrying out"), "the log was not collected");
}
