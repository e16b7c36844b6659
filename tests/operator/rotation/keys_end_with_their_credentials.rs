//! A key ends with the certificates and tokens in its credentials, and is replaced before.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::json;
use servicekey_operator::api::{ExpiryOriginKind, KeyStatus, ServiceKey};
use testkit::broker::CredentialsRecipe;

use crate::support::{
    conditions::Reports,
    remote::{Remote, RemoteStage},
    rotation::sequence,
    stage::{Stage, condition, wait},
    time::Time,
};

const NAME: &str = "monitoring-creds";
const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn key_status(key: &ServiceKey) -> &KeyStatus {
    key.status.as_ref().unwrap().key.as_ref().unwrap()
}

/// How long the key works, and how long until the next one replaces it, in hours.
fn hours(key: &ServiceKey) -> (Option<i64>, Option<i64>) {
    let since = |time: Timestamp| {
        (time.duration_since(key_status(key).created_at.0) + SignedDuration::from_mins(5)).as_hours()
    };
    let expires = key_status(key).expires_at.as_ref().map(|time| since(time.0));
    (expires, key.status.as_ref().unwrap().next_rotation.as_ref().map(|time| since(time.0)))
}

fn origin(key: &ServiceKey) -> Option<(ExpiryOriginKind, &str)> {
    let origin = key_status(key).expires_from.as_ref()?;
    Some((origin.source, origin.entry.as_deref()?))
}

#[rstest]
#[case::at_a_broker(Remote::Broker)]
#[case::at_a_cloud_foundry(Remote::CloudFoundry)]
#[case::at_an_ibm_cloud(Remote::IbmCloud)]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_replaced_before_its_certificate_ends(#[case] remote: Remote) {
    let recipe = CredentialsRecipe::postgresql().with_certificate(|_| WEEK);
    let stage = RemoteStage::set_with(remote, recipe).await;
    let time = Time::default();
    let _operator = stage.start_operator_by(time.clock()).await;
    stage.create_with_rotation(NAME, json!({"overlap": "1h"})).await;
    let key = stage.wait_ready_with_id(NAME).await;
    assert_eq!(hours(&key), (Some(168), Some(112)), "a third earlier");
    assert_eq!(origin(&key), Some((ExpiryOriginKind::Certificate, "/certificate")));
    let secret = stage.secrets().get(NAME).await.unwrap();
    let annotations = secret.metadata.annotations.unwrap();
    assert_eq!(annotations["servicekeys.dev/expires-from"], "certificate /certificate");
    assert_eq!(
        annotations["servicekeys.dev/expires-at"],
        key_status(&key).expires_at.as_ref().unwrap().0.to_string()
    );

    time.leap(SignedDuration::from_hours(112));
    let replaced = |key: &ServiceKey| sequence(key) == Some(2) && condition(key, "Ready") == Some("True");
    wait(stage.keys(), NAME, "replaced", |key| key.is_some_and(replaced)).await;
    assert_eq!(stage.remote_keys().len(), 2, "the previous key has its overlap");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_if_the_user_names_it_and_a_certificate_unless_the_user_ignores_it() {
    let recipe = || CredentialsRecipe::postgresql().with_certificate(|_| WEEK).with_token(WEEK / 2);
    let stage = RemoteStage::set_with(Remote::Broker, recipe()).await;
    let _operator = stage.start_operator().await;
    let token = (ExpiryOriginKind::Token, "/token");
    let certificate = (ExpiryOriginKind::Certificate, "/certificate");
    for (name, expiry, expires, from) in [
        ("both", json!({"tokens": ["/token"]}), Some(84), Some(token)),
        ("certificates", json!({}), Some(168), Some(certificate)),
        ("tokens", json!({"tokens": ["/token"], "certificates": "Ignore"}), Some(84), Some(token)),
        ("neither", json!({"certificates": "Ignore"}), None, None),
    ] {
        stage.create_with_rotation(name, json!({"expiry": expiry})).await;
        let key = stage.wait_ready(name).await;
        assert_eq!((hours(&key).0, origin(&key)), (expires, from), "{name}");
        assert_eq!(key_status(&key).ignored_expiry, None, "{name}");
    }
    stage
        .create_with_rotation("missing", json!({"expiry": {"tokens": ["/access_token", "/password"]}}))
        .await;
    let key = stage.wait_ready("missing").await;
    key.says("the expiry of the token at `/access_token` can't be read");
    assert_eq!(key_status(&key).ignored_expiry.as_ref().unwrap().at, None);
}

/// Each key of this broker has a certificate that ended before the key was created.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_had_ended_rotates_nothing_and_is_shown() {
    let recipe = CredentialsRecipe::postgresql().with_certificate(|_| Duration::ZERO);
    let stage = RemoteStage::set_with(Remote::Broker, recipe).await;
    let time = Time::default();
    let _operator = stage.start_operator_by(time.clock()).await;
    stage.create_with_rotation(NAME, json!({"overlap": "1h"})).await;
    let key = stage.wait_ready(NAME).await;
    key.says("is ignored, because it is not after the key's creation");
    key.says("the certificate at `/certificate`");
    assert_eq!(hours(&key).1, None);
    time.leap(SignedDuration::from_hours(100));
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_an_expired_certificate_is_not_ready_until_the_next_one_is_there() {
    let recipe =
        CredentialsRecipe::postgresql().with_certificate(|number| if number == 1 { 24 * HOUR } else { WEEK });
    let broker = testkit::broker::FakeBroker::builder().credentials(recipe).start().await.unwrap();
    let stage = Stage::set_with(broker).await;
    stage.outlive_the_first_key("according to the certificate at `/certificate`").await;
}
