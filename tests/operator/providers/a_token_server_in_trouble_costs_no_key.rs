//! Without a token the operator sends the broker no request. Keys wait, there is nothing to clean up, and everything
//! continues automatically.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use servicekey_operator::api::Reason;
use testkit::{
    broker::{Fault, Login, ReservedPort, Route, Rule, StatusCode},
    token_server::{Route::Token, TokenServer},
};

use crate::support::{
    conditions::Reports,
    oauth::{client_credentials, stage},
    stage::Stage,
};

const NAME: &str = "monitoring-creds";

fn sorry(code: u16) -> Fault {
    let body = json!({"error": "server_error", "error_description": "the disk is full"});
    Fault::Status(StatusCode::from_u16(code).unwrap(), body)
}

/// Waits until both the provider and its ServiceKey report with this text that there is no token.
async fn waits(stage: &Stage, reason: Reason, words: &str) {
    stage.create_key(NAME).await;
    let provider = stage.wait_provider(reason).await;
    let key = stage.wait_key(NAME, reason).await;
    for message in [provider.message(), key.message()] {
        assert!(message.starts_with("token request to `http://127.0.0.1:"), "{message}");
        assert!(message.contains(words), "`{words}` is not in `{message}`");
    }
    assert_eq!(stage.broker.calls(), []);
}

async fn goes_on(stage: &Stage) {
    let key = stage.wait_ready_with_the_only_key(NAME).await;
    assert!(!key.is_stalled());
    stage.wait_for_provider("broker").await;
    let of_keys = [Route::Bind, Route::Unbind].map(|route| stage.broker.count(route));
    assert_eq!(of_keys, [1, 0], "there was nothing to clean up");
}

#[rstest]
#[case::internal_error(sorry(500), Reason::RemoteUnreachable, "answers 500: server_error: the disk is full")]
#[case::too_many_requests(sorry(429), Reason::RateLimited, "rate limited by the token server")]
#[case::web_page(
    Fault::Html(StatusCode::OK),
    Reason::UnexpectedAnswer,
    "check that this is the address of a token endpoint"
)]
#[case::slow(Fault::Delay(Duration::from_secs(3)), Reason::RemoteUnreachable, "within 1s")]
#[case::hangs(Fault::Hang, Reason::RemoteUnreachable, "within 1s")]
#[case::cut(Fault::Cut, Reason::RemoteUnreachable, "closed before the answer was complete")]
#[tokio::test(flavor = "multi_thread")]
async fn keys_wait_for_a_token_server_that_fails(
    #[case] fault: Fault,
    #[case] reason: Reason,
    #[case] words: &str,
) {
    let tokens = TokenServer::builder().start().await.unwrap();
    let stage = stage(&tokens).await;
    stage.change_provider(json!({"limits": {"timeout": "1s"}})).await;
    tokens.inject(fault.on(Token).forever());
    let _operator = stage.start_operator().await;
    waits(&stage, reason, words).await;

    tokens.clear_faults();
    // The first request to the broker may take longer on a busy machine.
    stage.change_provider(json!({"limits": {"timeout": "5s"}})).await;
    goes_on(&stage).await;
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_wait_for_a_token_server_that_is_down() {
    let stage = Stage::set().await;
    stage.create_client("client-secret").await;
    let port = ReservedPort::take().unwrap();
    stage.change_provider(client_credentials(&format!("{}/oauth/token", port.url()))).await;
    let _operator = stage.start_operator().await;
    waits(&stage, Reason::RemoteUnreachable, "connection refused: check address and port").await;

    let tokens = TokenServer::builder().port(port).start().await.unwrap();
    stage.broker.change_login(Login::oauth(&tokens));
    goes_on(&stage).await;
}

/// The broker refuses the token, and the operator can't get another one.
#[tokio::test(flavor = "multi_thread")]
async fn keys_wait_for_the_token_after_a_refused_one() {
    let tokens = TokenServer::builder().start().await.unwrap();
    let stage = stage(&tokens).await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    stage.broker.tolerate(Rule::Login);
    tokens.inject(sorry(503).on(Token).forever());
    tokens.revoke_all();
    stage.create_key(NAME).await;
    let key = stage.wait_key(NAME, Reason::RemoteUnreachable).await;
    key.says("the server answers 503: server_error: the disk is full");
    assert_eq!((stage.broker.bindings(), stage.broker.count(Route::Unbind)), (vec![], 0));

    tokens.clear_faults();
    stage.wait_ready_with_the_only_key(NAME).await;
    assert_eq!(stage.broker.count(Route::Bind), 2, "one bind was refused, and one created the key");
    stage.delete_and_leave_nothing(NAME).await;
    assert_eq!(stage.broker.count(Route::Unbind), 1);
}

/// The operator must not forget a key because it has no token to revoke it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_revoked_as_soon_as_there_is_a_token() {
    let tokens = TokenServer::builder().start().await.unwrap();
    let stage = stage(&tokens).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.broker.tolerate(Rule::Login);
    tokens.inject(sorry(500).on(Token).forever());
    tokens.revoke_all();
    stage.delete_key(NAME).await;
    stage.wait_key(NAME, Reason::RevokeFailed).await.says("token request to `http://127.0.0.1:");
    assert_eq!(stage.broker.bindings().len(), 1);

    tokens.clear_faults();
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings(), []);
}
