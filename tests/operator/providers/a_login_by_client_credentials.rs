//! If a broker requires tokens, the operator requests them: one for all keys, and the next one before it expires.

use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::Reason;
use testkit::{
    Moment,
    broker::{Fault, Route, StatusCode, TlsIdentity},
    token_server::{GrantRule, TokenServer},
};

use crate::support::{
    conditions::Reports,
    oauth::{client_credentials, stage},
    stage::Stage,
};

const NAME: &str = "monitoring-creds";
const MANY: usize = 500;
/// The default number of a provider's concurrent requests.
const AT_ONCE: usize = 16;

impl Stage {
    /// Creates this many ServiceKeys at the same time.
    async fn create_keys(&self, count: usize) {
        let names: Vec<_> = (0..count).map(|number| format!("key-{number}")).collect();
        join_all(names.iter().map(|name| self.create_key(name))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_keys_cost_one_token() {
    let tokens = TokenServer::builder().start().await.unwrap();
    let stage = stage(&tokens).await;
    stage.change_provider(json!({"limits": {"requestsPerSecond": 1000}})).await;
    let _operator = stage.start_operator().await;
    stage.create_keys(MANY).await;
    stage.wait_all_ready(MANY).await;
    assert_eq!((stage.broker.bindings().len(), stage.broker.count(Route::Bind)), (MANY, MANY));
    assert_eq!(tokens.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_is_followed_by_one() {
    let life = Duration::from_secs(12);
    let tokens = TokenServer::builder().expires_in(life.as_secs()).start().await.unwrap();
    let stage = stage(&tokens).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready(NAME).await;
    assert_eq!(tokens.requests(), 1);

    tokens.change_expires_in(3600);
    // The test waits only for the token to expire.
    tokio::time::sleep(life).await;
    stage.create_keys(AT_ONCE).await;
    stage.wait_all_ready(1 + AT_ONCE).await;
    assert_eq!(tokens.requests(), 2);
    assert_eq!(stage.broker.count(Route::Bind), 1 + AT_ONCE, "the operator used no expired token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_followed_by_one_however_many_keys_it_hits() {
    let tokens = TokenServer::builder().start().await.unwrap();
    let stage = stage(&tokens).await;
    stage.change_provider(json!({"limits": {"timeout": "1m"}})).await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;

    let gate = stage.broker.gate(Route::Bind, Moment::BeforeEffect);
    stage.create_keys(AT_ONCE).await;
    gate.wait_for_arrivals(AT_ONCE).await.unwrap();
    tokens.revoke_all();
    let refusal = Fault::Status(StatusCode::UNAUTHORIZED, json!({"description": "that was revoked"}));
    stage.broker.inject(refusal.on(Route::Bind).times(AT_ONCE));
    gate.release();

    stage.wait_all_ready(AT_ONCE).await;
    assert_eq!(tokens.requests(), 2);
    assert_eq!(
        stage.broker.count(Route::Bind),
        2 * AT_ONCE,
        "each request was repeated once, with the new token"
    );
    assert_eq!((stage.broker.bindings().len(), stage.broker.count(Route::Unbind)), (AT_ONCE, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_secret_is_reported_until_it_is_corrected() {
    let tokens = TokenServer::builder().start().await.unwrap();
    tokens.tolerate(GrantRule::Client);
    let stage = stage(&tokens).await;
    stage.change_secret("broker-client", json!({"clientSecret": "a-wrong-guess"})).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;

    let words = format!(
        "token request to `{}` failed: the server answers 401: invalid_client: the client's id or secret is wrong; check \
         the entries `clientId` and `clientSecret` of the login that the provider names; the operator tries again when \
         the login changes, otherwise three times an hour, because servers lock accounts after a few wrong passwords",
        tokens.url()
    );
    let provider = stage.wait_provider(Reason::Unauthorized).await;
    let key = stage.wait_key(NAME, Reason::Unauthorized).await;
    assert_eq!((provider.message(), key.message()), (&*words, &*words));
    assert!(provider.is_stalled() && key.is_stalled());
    assert!(!stage.everything_public().await.contains("a-wrong-guess"));
    assert_eq!(stage.broker.calls(), []);

    stage.change_secret("broker-client", json!({"clientSecret": "client-secret"})).await;
    stage.wait_for_provider("broker").await;
    stage.wait_ready_with_the_only_key(NAME).await;
    assert_eq!((tokens.grants(), stage.broker.count(Route::Bind)), (1, 1));
    stage.delete_and_leave_nothing(NAME).await;
}

#[rstest]
#[case::without_id(json!({"clientId": null}), "the entry `clientId` of the Secret `broker-client`", "is missing")]
#[case::without_secret(json!({"clientSecret": null}), "the entry `clientSecret` of the Secret", "is missing")]
#[case::empty(json!({"clientSecret": "\n"}), "the entry `clientSecret` of the Secret", "is empty; correct it")]
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_incomplete_is_asked_for(
    #[case] entries: Value,
    #[case] entry: &str,
    #[case] what: &str,
) {
    let tokens = TokenServer::builder().start().await.unwrap();
    let stage = stage(&tokens).await;
    stage.change_secret("broker-client", entries).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    let provider = stage.wait_provider(Reason::LoginSecretIncomplete).await;
    provider.says(entry);
    provider.says(what);
    stage.wait_key(NAME, Reason::ProviderNotReady).await.says(entry);
    assert_eq!(tokens.requests(), 0);

    let right = json!({"clientId": "operator", "clientSecret": "client-secret"});
    stage.change_secret("broker-client", right).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.wait_for_provider("broker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_that_are_missing_are_asked_for() {
    let scopes = ["keys.read", "keys.write"];
    let tokens = TokenServer::builder().scopes(scopes).tolerate(GrantRule::Scope).start().await.unwrap();
    let stage = stage(&tokens).await;
    let _operator = stage.start_operator().await;
    let provider = stage.wait_provider(Reason::InvalidSpec).await;
    provider.says("the server answers 400: invalid_scope: ");
    provider.says("; check `scopes`, and which scopes the client may request there");

    let auth = json!({"clientCredentials": {"scopes": scopes}});
    stage.change_provider(json!({"openServiceBroker": {"auth": auth}})).await;
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.wait_for_provider("broker").await;
}

/// The provider's rules for addresses and certificates also apply to its token server.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_server_is_no_exception() {
    let tokens = TokenServer::builder().tls(TlsIdentity::trusted().unwrap()).start().await.unwrap();
    let stage = stage(&tokens).await;
    stage.change_provider(client_credentials("http://10.1.2.3/oauth/token")).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    let words = "`tokenUrl`: plain http to `10.1.2.3` is refused; use https";
    stage.wait_provider(Reason::InvalidSpec).await.says(words);
    stage.wait_key(NAME, Reason::ProviderNotReady).await.says(words);

    stage.change_provider(client_credentials(&tokens.url())).await;
    let words = "its certificate is not trusted: set `tls.caBundle`";
    stage.wait_provider(Reason::TlsFailed).await.says(words);
    stage.wait_key(NAME, Reason::TlsFailed).await.says(words);
    assert_eq!((tokens.requests(), stage.broker.calls().len()), (0, 0));

    stage.change_provider(json!({"tls": {"caBundle": tokens.ca_pem()}})).await;
    stage.wait_for_provider("broker").await;
    stage.wait_ready_with_the_only_key(NAME).await;
}
