//! The operator uses a changed login without a restart, and never sends the previous one again.

use k8s_openapi::api::core::v1::Secret;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, Reason};
use testkit::{
    broker::{FakeBroker, Login, Route, TlsIdentity},
    token_server::TokenServer,
};

use crate::support::{conditions::Reports, oauth, stage::Stage};

const NAME: &str = "monitoring-creds";
const LATER: &str = "postgres-exporter";

/// Creates a key with the first login, and changes the login at the remote side. Then creates one key and revokes the
/// other with the new login. The fake broker fails the test if it receives any login but the current one.
async fn takes_effect(stage: &Stage, change_remote_side: impl FnOnce(), (secret, entries): (&str, Value)) {
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    assert_eq!(stage.broker.count(Route::Catalog), 1);

    change_remote_side();
    stage.change_secret(secret, entries).await;
    let checked = |calls: &[testkit::broker::Call]| {
        calls.iter().filter(|call| call.route == Route::Catalog).count() == 2
    };
    stage.broker.wait_for_calls(checked).await.unwrap();
    stage.create_key(LATER).await;
    stage.wait_ready(LATER).await;
    stage.delete_key(NAME).await;
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings().len(), 1);
    stage.wait_for_provider("broker").await;
}

#[rstest]
#[case::password("operator", "another-password", json!({"password": "another-password"}))]
#[case::user("somebody", "broker-password", json!({"username": "somebody"}))]
#[tokio::test(flavor = "multi_thread")]
async fn another_user_or_password(#[case] username: &str, #[case] password: &str, #[case] entries: Value) {
    let stage = Stage::set().await;
    let change = || stage.broker.change_login(Login::basic(username, password));
    takes_effect(&stage, change, ("broker-login", entries)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_bearer_token() {
    let broker = FakeBroker::builder().login(Login::Bearer("token-1".to_owned())).start().await.unwrap();
    let stage = Stage::set_with(broker).await;
    stage.change_secret("broker-login", json!({"token": "token-1"})).await;
    let auth = json!({"basic": null, "bearer": {"secretRef": {"name": "broker-login"}}});
    stage.change_provider(json!({"openServiceBroker": {"auth": auth}})).await;
    let change = || stage.broker.change_login(Login::Bearer("token-2".to_owned()));
    takes_effect(&stage, change, ("broker-login", json!({"token": "token-2"}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_secret() {
    let tokens = TokenServer::builder().start().await.unwrap();
    let stage = oauth::stage(&tokens).await;
    let change = || {
        tokens.change_secret("another-secret");
        // The broker would detect the use of the previous token.
        tokens.revoke_all();
    };
    takes_effect(&stage, change, ("broker-client", json!({"clientSecret": "another-secret"}))).await;
    assert_eq!(tokens.requests(), 2);
}

async fn broker_for_clients_of(authority: &CertifiedKey<KeyPair>) -> FakeBroker {
    let identity = TlsIdentity::trusted().unwrap().for_clients_of(authority.cert.pem());
    FakeBroker::builder().tls(identity).start().await.unwrap()
}

fn entries_of(identity: &CertifiedKey<KeyPair>) -> Value {
    json!({"tls.crt": identity.cert.pem(), "tls.key": identity.signing_key.serialize_pem()})
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_certificate() {
    let [right, wrong] =
        ["operator", "somebody-else"].map(|name| generate_simple_self_signed([name.to_owned()]).unwrap());
    let stage = Stage::set_with(broker_for_clients_of(&right).await).await;
    stage.change_provider(json!({"tls": {"caBundle": stage.broker.ca_pem()}})).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    let words = "it requires a client certificate: set `tls.clientCertificate`";
    stage.wait_provider(Reason::TlsFailed).await.says(words);
    stage.wait_key(NAME, Reason::TlsFailed).await.says(words);

    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "operator-identity"},
        "stringData": entries_of(&wrong),
    });
    stage.create::<Secret>(secret).await;
    let certificate = json!({"clientCertificate": {"secretRef": {"name": "operator-identity"}}});
    stage.change_provider(json!({"tls": certificate})).await;
    let refused = "it does not accept the operator's certificate: correct `tls.clientCertificate`";
    let says_so = |provider: Option<&KeyProvider>| {
        provider.is_some_and(|provider| provider.message().contains(refused))
    };
    stage.wait(stage.api(), "broker", "refused", says_so).await;
    assert_eq!(stage.broker.calls(), []);

    stage.change_secret("operator-identity", entries_of(&right)).await;
    stage.wait_for_provider("broker").await;
    stage.wait_ready_with_the_only_key(NAME).await;

    // No connection that was opened with the previous certificate serves the next call.
    stage.change_secret("operator-identity", entries_of(&wrong)).await;
    stage.wait_provider(Reason::TlsFailed).await.says(refused);
    stage.create_key(LATER).await;
    stage.wait_key(LATER, Reason::TlsFailed).await.says(refused);
    assert_eq!(stage.broker.count(Route::Bind), 1);

    stage.change_secret("operator-identity", entries_of(&right)).await;
    stage.wait_ready(LATER).await;
    stage.wait_for_provider("broker").await;
}
