//! A ServiceKey without a status, as it is after a backup was restored. Its Secret may name the key that it has.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::fixtures::*;

/// The cache shows the Secret of a ServiceKey that was deleted. The ServiceKey that was created again under the same name
/// has keys of its own.
#[tokio::test]
async fn a_secret_that_only_the_cache_shows_is_of_no_former_service_key() {
    let mut scene = scene(service_key()).await.with_cached_secret_of_a_deleted_service_key();
    scene.expect(look_up_secret(), works());
    scene.expect(patch_key(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    scene.assert_ready_with(1);
    assert_eq!(scene.status()["formerUid"], Value::Null);
}

/// Somebody changed an entry of the Secret, and the user changed the parameters. The operator reads the credentials of
/// key 1 again, and then creates a key with the new parameters.
#[tokio::test]
async fn a_key_that_only_the_secret_names_keeps_its_inputs_and_its_time() {
    let mut scene = scene(service_key().finalized()).await.with_lost_password(1);
    scene.another_writer_edits_the_key(|key| key["spec"]["parameters"] = json!({"size": 2}));
    scene.later(Duration::from_secs(7200));
    let annotations = &scene.api.secret().unwrap()["metadata"]["annotations"];
    let annotation = |name: &str| annotations[name].clone();
    let [inputs, created_at] = ["servicekeys.dev/inputs", "servicekeys.dev/created-at"];
    let kept = json!({inputs: annotation(inputs), created_at: annotation(created_at)});
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret().with(json!({"metadata": {"annotations": kept}})), works());
    scene.expect(write_status(), works());
    scene.expect(write_status(), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    scene.assert_ready_with(2);
    assert_eq!(scene.broker.calls(), ["GET binding", "PUT binding"]);
}

/// A JSON Web Token that ends at this time.
fn token(ends: &str) -> Value {
    let exp = ends.parse::<jiff::Timestamp>().unwrap().as_second();
    let claims = BASE64_URL_SAFE_NO_PAD.encode(json!({"exp": exp}).to_string());
    json!({"credentials": {"token": format!("e30.{claims}.c2ln")}})
}

const ENDED: &str = "2026-11-24T11:00:00Z";
const LATER: &str = "2026-12-24T12:00:00Z";

/// The broker has had key 1 for long. Key 2 replaces it after five minutes, because there are brokers that return the same
/// old token with each key.
#[tokio::test]
async fn an_existing_key_that_has_ended_is_replaced_soon() {
    let mut scene = scene(with_token().finalized()).await;
    let mut answers = [(200, token(ENDED)), (201, token(LATER))].into_iter();
    scene.broker.answers_binds(move || answers.next().unwrap());
    scene.expect(rehearse_new_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");

    scene.later(Duration::from_secs(299));
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "under_way, requeued");
    scene.assert_not_ready("KeyExpired", "the token at `/token`");

    scene.later(Duration::from_secs(1));
    scene.expect(write_status(), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    scene.assert_ready_with(2);
    assert_eq!(scene.broker.calls(), ["PUT binding"; 2]);
}

/// The time of creation is known, and the token is older: the broker returns the same one with each key.
#[tokio::test]
async fn a_new_key_that_has_ended_is_used() {
    let mut scene = scene(with_token().finalized()).await;
    scene.broker.answers_binds(|| (201, token(ENDED)));
    scene.expect(rehearse_new_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    scene.assert_ready_with(1);
}

/// An existing key that has not ended is used, as after a crash.
#[tokio::test]
async fn an_existing_key_is_used() {
    let mut scene = scene(with_token().finalized()).await;
    scene.broker.answers_binds(|| (200, token(LATER)));
    scene.expect(rehearse_new_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    assert_eq!(scene.broker.calls(), ["PUT binding"]);
}

fn with_token() -> KeyFixture {
    service_key().specifying("rotation", json!({"expiry": {"tokens": ["/token"]}}))
}
