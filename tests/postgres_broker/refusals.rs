//! The broker's answers if it has no key to return.

use std::{path::Path, process::Command};

use reqwest::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::stage::{PASSWORD, Stage, answer, log_in, why};

/// Fails unless the answer has this status, and its `description` contains this text.
#[track_caller]
fn refused((status, body): (StatusCode, Value), expected: u16, words: &str) {
    assert_eq!(status, expected, "{body}");
    let description = body["description"].as_str().unwrap_or_default();
    assert!(description.contains(words), "`{words}` is not in {body}");
}

fn id() -> String {
    Uuid::new_v4().to_string()
}

#[tokio::test]
async fn another_request_under_the_same_id_is_a_conflict() {
    let stage = Stage::set().await;
    let id = id();
    let login = stage.login(&id, json!({})).await;
    refused(stage.bind("one", &id, json!({"access": "read-only"})).await, 409, "other access");
    refused(stage.bind("two", &id, json!({})).await, 409, "another instance");
    refused(stage.fetch("two", &id).await, 404, "no such binding");
    assert_eq!(stage.unbind("two", &id).await, (StatusCode::GONE, json!({})));
    log_in(&login).await.expect("the key still works");
}

#[tokio::test]
async fn an_instance_that_is_not_served_is_not_found_and_its_keys_are_not_called_gone() {
    let stage = Stage::set().await;
    let words = "serves no instance `three`";
    refused(stage.bind("three", &id(), json!({})).await, 404, words);
    refused(stage.fetch("three", &id()).await, 404, words);
    refused(stage.unbind("three", &id()).await, 404, words);
}

#[tokio::test]
async fn nobody_is_served_without_login_and_version() {
    let stage = Stage::set().await;
    let catalog = || stage.bare_request(Method::GET, "/v2/catalog").header("X-Broker-API-Version", "2.17");
    refused(answer(catalog()).await, 401, "login");
    refused(answer(catalog().basic_auth("operator", Some("a guess"))).await, 401, "login");
    refused(answer(catalog().basic_auth("somebody", Some(PASSWORD))).await, 401, "login");
    refused(answer(catalog().bearer_auth(PASSWORD)).await, 401, "login");
    let challenge = catalog().send().await.unwrap();
    assert!(challenge.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));

    let unversioned =
        || stage.bare_request(Method::GET, "/v2/catalog").basic_auth("operator", Some(PASSWORD));
    refused(answer(unversioned()).await, 412, "X-Broker-API-Version");
    refused(answer(unversioned().header("X-Broker-API-Version", "3.0")).await, 412, "X-Broker-API-Version");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_makes_no_key() {
    let stage = Stage::set().await;
    let path = format!("/v2/service_instances/one/service_bindings/{}", id());
    let [service, plan] = stage.plan().await;
    let bind = |body: Value| stage.request(Method::PUT, &path).json(&body);
    let wish = |parameters: Value| json!({"service_id": service, "plan_id": plan, "parameters": parameters});

    refused(answer(bind(json!({}))).await, 400, "service_id");
    refused(answer(bind(json!({"service_id": service, "plan_id": "large"}))).await, 400, "catalog");
    refused(answer(bind(wish(json!({"acces": "read-only"})))).await, 400, "unknown field `acces`");
    refused(answer(bind(wish(json!({"access": "all"})))).await, 400, "read-only");
    refused(answer(stage.request(Method::PUT, &path).body("{")).await, 400, "Content-Type");
    let unbind = || stage.request(Method::DELETE, &path);
    refused(answer(unbind()).await, 400, "service_id");
    refused(answer(unbind().query(&[("service_id", &*service), ("plan_id", "large")])).await, 400, "catalog");
    refused(answer(stage.request(Method::POST, &path)).await, 404, "nothing here");
    refused(answer(stage.request(Method::GET, "/v2/service_instances/one")).await, 404, "nothing here");
    assert_eq!(stage.roles().await, 0);
}

#[rstest]
#[case::nul("a\0b".to_owned(), "NUL")]
#[case::long("x".repeat(60), "63 bytes")]
#[tokio::test]
async fn an_id_that_postgresql_would_change_is_refused(#[case] id: String, #[case] words: &str) {
    let stage = Stage::set().await;
    refused(stage.bind("one", &id, json!({})).await, 400, words);
    refused(stage.unbind("one", &id).await, 400, words);
}

#[tokio::test]
async fn credentials_that_no_longer_work_are_not_handed_out() {
    let mut stage = Stage::set().await;
    let id = id();
    stage.login(&id, json!({})).await;
    stage.restart(Some("another secret, of another 32 characters")).await;
    refused(stage.bind("one", &id, json!({})).await, 500, "was the broker's secret changed?");
    refused(stage.fetch("one", &id).await, 500, "was the broker's secret changed?");
    assert_eq!(stage.unbind("one", &id).await.0, StatusCode::OK, "the key can be revoked anyway");
}

#[tokio::test]
async fn a_revocation_that_came_to_no_end_is_no_key_and_is_ended_by_the_next() {
    let stage = Stage::set().await;
    let id = id();
    stage.login(&id, json!({})).await;
    // The state after a broker was killed during a revocation.
    stage.superuser(0).await.batch_execute(&format!("ALTER ROLE \"key-{id}\" NOLOGIN")).await.unwrap();
    refused(stage.fetch("one", &id).await, 404, "no such binding");
    let (status, body) = stage.bind("one", &id, json!({})).await;
    assert_eq!((status.as_u16(), &body["error"]), (422, &json!("ConcurrencyError")));
    assert_eq!(stage.unbind("one", &id).await.0, StatusCode::OK);
    assert_eq!(stage.roles().await, 0);
    assert_eq!(stage.bind("one", &id, json!({})).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_key_that_can_not_be_taken_apart_is_locked_and_the_reason_told() {
    let stage = Stage::set().await;
    let id = id();
    let login = stage.login(&id, json!({})).await;
    let elsewhere = stage.superuser(1).await;
    let own = format!("CREATE TABLE kept (); ALTER TABLE kept OWNER TO \"key-{id}\"");
    elsewhere.batch_execute(&own).await.unwrap();
    refused(stage.unbind("one", &id).await, 500, &format!("1 object in database {}", stage.databases[1]));
    assert_eq!(
        why(log_in(&login).await),
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        "the role is locked"
    );
    elsewhere.batch_execute("DROP TABLE kept").await.unwrap();
    assert_eq!(stage.unbind("one", &id).await.0, StatusCode::OK);
    assert_eq!(stage.roles().await, 0);
}

#[tokio::test]
async fn what_a_request_is_called_is_in_the_answer() {
    let stage = Stage::set().await;
    let request = stage.request(Method::GET, "/v2/catalog").header("X-Broker-API-Request-Identity", "r-1");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["x-broker-api-request-identity"], "r-1");
}

/// Cargo provides no path for examples; they are next to the binaries. `cargo test` builds them, unless it builds only
/// named tests.
#[test]
fn a_secret_that_could_be_guessed_is_refused_in_one_line() {
    let binary = Path::new(env!("CARGO_BIN_EXE_servicekey-operator"));
    let broker = binary.with_file_name("examples").join("postgres-broker");
    assert!(broker.exists(), "build it with `cargo build --example postgres-broker`");
    let arguments =
        ["--server", "postgresql://", "--instance", "one", "--password", "p", "--secret", "guess me"];
    let output = Command::new(broker).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("`openssl rand -hex 32`"), "{stderr}");
    assert!(!stderr.contains("guess me"), "{stderr}");
}
