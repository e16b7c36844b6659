//! Effects at the remote side: what they read at the API server before.

use http::Method;
use rstest::rstest;
use serde_json::{Value, json};

use super::fixtures::*;

/// A ServiceKey with parameters in the Secret `parameters`.
fn with_parameters() -> KeyFixture {
    let source = json!([{"secretKeyRef": {"name": "parameters", "key": "json"}}]);
    service_key().finalized().specifying("parametersFrom", source)
}

#[rstest]
#[case::they_are_missing(not_found(), "there is no such Secret; create it")]
#[case::a_permission_is_missing(
    forbidden("secrets \"parameters\" is forbidden"),
    "the Kubernetes API could not read a Secret of `spec.parametersFrom`: secrets \"parameters\" is forbidden"
)]
#[case::the_api_server_is_in_trouble(internal_error(), "leader changed")]
#[case::the_connection_is_lost(closes(), "could not read a Secret of `spec.parametersFrom`")]
#[tokio::test]
async fn no_key_is_created_without_its_parameters(#[case] answer: Answer, #[case] words: &str) {
    let mut scene = scene(with_parameters()).await;
    scene.api.store_other(secret_with("parameters", &[("json", "{\"size\": 3}")]));
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), answer);
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    let (status, _, message) = scene.condition("Ready");
    assert!(status == "False" && message.contains(words), "{message}");
    assert!(scene.broker.calls().is_empty());

    scene.after_the_backoff();
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
}

/// The Secret lost its password, and the broker shows the credentials again.
#[tokio::test]
async fn the_credentials_are_read_again_once_the_parameters_can_be() {
    let mut scene = scene(with_parameters().with_key(1)).await.with_lost_password(1);
    scene.api.store_other(secret_with("parameters", &[("json", "{\"size\": 3}")]));
    scene.expect(read_secret(), works());
    scene.expect(read_secret_named("parameters"), internal_error());
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    assert!(scene.broker.calls().is_empty());

    scene.after_the_backoff();
    scene.expect(read_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(scene.broker.calls(), ["GET binding"]);
}

fn refuse(method: &Method, path: &str) -> (u16, Value) {
    assert_eq!(method, Method::PUT, "{path}");
    (400, json!({"description": "what is correct horse?"}))
}

#[tokio::test]
async fn the_words_of_the_broker_are_shown_without_the_parameters() {
    let mut scene = scene(with_parameters()).await;
    scene.api.store_other(secret_with("parameters", &[("json", "{\"phrase\": \"correct horse\"}")]));
    scene.broker.answers(refuse);
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("BindRejected", "what is");
    assert!(!scene.status().to_string().contains("correct horse"), "{}", scene.status());
}

#[rstest]
#[case::a_permission_is_missing(forbidden("no"))]
#[case::the_api_server_is_in_trouble(internal_error())]
#[case::the_connection_is_lost(closes())]
#[tokio::test]
async fn no_words_are_shown_where_the_secrets_to_hide_are_unknown(#[case] answer: Answer) {
    let mut scene = scene(with_parameters()).await;
    scene.api.store_other(secret_with("parameters", &[("json", "{\"phrase\": \"correct horse\"}")]));
    scene.broker.answers(refuse);
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(read_secret_named("parameters"), answer);
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    assert_eq!(scene.condition("Ready").1, "BindRejected");
    let status = scene.status().to_string();
    assert!(!status.contains("what is") && !status.contains("correct horse"), "{status}");
}
