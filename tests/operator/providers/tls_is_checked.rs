//! The operator sends no request to a broker with an invalid certificate, and the conditions say how to correct it.

use k8s_openapi::api::core::v1::Secret;
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::broker::{FakeBroker, TlsError, TlsIdentity};

use crate::support::{
    conditions::Reports,
    stage::{Running, Stage},
};

const NAME: &str = "monitoring-creds";

async fn broker(identity: Result<TlsIdentity, TlsError>) -> FakeBroker {
    FakeBroker::builder().tls(identity.unwrap()).start().await.unwrap()
}

/// A stage whose provider trusts this bundle in addition to the public authorities.
async fn trusting(broker: FakeBroker, ca_bundle: Option<&str>) -> (Stage, Running) {
    let ca_bundle = ca_bundle.map_or(Value::Null, |pem| json!(pem));
    let stage = Stage::set_with(broker).await;
    stage.change_provider(json!({"tls": {"caBundle": ca_bundle}})).await;
    let operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    (stage, operator)
}

/// Waits until both the provider and its ServiceKey report with this text that TLS fails.
async fn tls_fails(stage: &Stage, words: &str) -> (KeyProvider, ServiceKey) {
    let provider = stage.wait_provider(Reason::TlsFailed).await;
    let key = stage.wait_key(NAME, Reason::TlsFailed).await;
    provider.says(words);
    key.says(words);
    assert!(provider.is_stalled() && key.is_stalled());
    assert_eq!(stage.broker.calls(), []);
    (provider, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_the_bundle_is_trusted() {
    let broker = broker(TlsIdentity::trusted()).await;
    let bundle = broker.ca_pem().map(str::to_owned);
    let (stage, _operator) = trusting(broker, bundle.as_deref()).await;
    stage.wait_for_provider("broker").await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.delete_and_leave_nothing(NAME).await;
}

#[rstest]
#[case::no_bundle(None)]
#[case::bundle_of_another_authority(Some(TlsIdentity::trusted()))]
#[tokio::test(flavor = "multi_thread")]
async fn the_right_bundle_is_asked_for_and_taken(#[case] other: Option<Result<TlsIdentity, TlsError>>) {
    let other = other.map(|identity| identity.unwrap().ca_pem().to_owned());
    let (stage, _operator) = trusting(broker(TlsIdentity::trusted()).await, other.as_deref()).await;
    tls_fails(
        &stage,
        "its certificate is not trusted: set `tls.caBundle` to the certificate of the authority",
    )
    .await;

    stage.change_provider(json!({"tls": {"caBundle": stage.broker.ca_pem()}})).await;
    let key = stage.wait_ready_with_the_only_key(NAME).await;
    assert!(!key.is_stalled());
    stage.wait_for_provider("broker").await;
}

/// The bundle does not help here: the broker needs another certificate, or the provider another address.
#[rstest]
#[case::unknown_ca(TlsIdentity::unknown_ca(), "its certificate is not trusted")]
#[case::wrong_host_name(
    TlsIdentity::wrong_host_name(),
    "is for another name: use a name that the certificate lists"
)]
#[case::expired(TlsIdentity::expired(), "its certificate has expired: renew it there")]
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_is_refused(
    #[case] identity: Result<TlsIdentity, TlsError>,
    #[case] words: &str,
) {
    let wrong = broker(identity).await;
    let bundle = wrong.ca_pem().map(str::to_owned);
    let (stage, _operator) = trusting(wrong, bundle.as_deref()).await;
    tls_fails(&stage, words).await;

    let right = broker(TlsIdentity::trusted()).await;
    let spec = json!({"openServiceBroker": {"url": right.url()}, "tls": {"caBundle": right.ca_pem()}});
    stage.change_provider(spec).await;
    stage.wait_ready(NAME).await;
    stage.wait_for_provider("broker").await;
    assert_eq!((right.bindings().len(), stage.broker.calls().len()), (1, 0));
}

/// The operator checks its own certificate before it connects.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_that_is_none_is_asked_for() {
    let stage = Stage::set().await;
    let spec = json!({"tls": {"clientCertificate": {"secretRef": {"name": "operator-identity"}}}});
    stage.change_provider(spec).await;
    let identity = rcgen::generate_simple_self_signed(["operator".to_owned()]).unwrap();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "operator-identity"},
        "stringData": {"tls.crt": identity.cert.pem(), "tls.key": "hunter2"},
    });
    stage.create::<Secret>(secret).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    let words = "`tls.key` of `tls.clientCertificate` contains no private key in PEM";
    stage.wait_provider(Reason::TlsFailed).await.says(words);
    stage.wait_key(NAME, Reason::ProviderNotReady).await.says(words);
    assert!(!stage.everything_public().await.contains("hunter2"));

    stage.change_secret("operator-identity", json!({"tls.key": identity.signing_key.serialize_pem()})).await;
    stage.wait_for_provider("broker").await;
    stage.wait_ready_with_the_only_key(NAME).await;
}
