//! `spec.rotation.verify`: credentials are published only after the service has accepted them.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;

use super::{super::local_state::LocalState, fixtures::*};

const EVERY: Duration = Duration::from_secs(5);
const WITHIN: Duration = Duration::from_secs(120);
const HOUR: Duration = Duration::from_secs(3600);

/// A ServiceKey whose credentials have to be verified.
fn verifying() -> KeyFixture {
    let verify = json!({"redis": {"address": "db.example:6379", "password": "{{ password }}"}});
    service_key().finalized().specifying("rotation", json!({"overlap": "1h", "verify": verify}))
}

/// A new process knows only what is stored.
fn restart_the_operator(scene: &Scene) {
    scene.with_local_state(|local| *local = LocalState::default());
}

/// A user sets the annotation.
fn user_requests_a_rotation(scene: &mut Scene) {
    scene.another_writer_edits_the_key(|key| {
        key["metadata"]["annotations"]["servicekeys.dev/rotate"] = json!("now");
    });
}

/// The reconcile that creates the first key. The service does not accept it yet.
async fn the_first_key_is_staged_and_refused(scene: &mut Scene) {
    scene.expect(rehearse_new_secret(), works());
    scene.expect(rehearse_staging(), works());
    scene.expect(stage_credentials(), works());
    scene.expect(write_status(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "under_way, requeued");
}

/// The reconcile that creates the next key. The service does not accept it yet.
async fn the_next_key_is_staged_and_refused(scene: &mut Scene) {
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(stage_credentials(), works());
    scene.expect(write_status(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
}

/// The reconcile at the end of the time limit: the operator records the failure, revokes the key, and records that it is
/// gone.
async fn the_next_key_is_given_up(scene: &mut Scene) {
    scene.expect(write_status(), works());
    scene.expect(discard_staged_credentials(), works());
    scene.expect(write_status(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
}

/// The reconcile that creates another key after a refused one. The service accepts it.
async fn another_key_is_published(scene: &mut Scene) {
    scene.expect(write_status(), works());
    scene.expect(stage_credentials(), works());
    scene.expect(write_status(), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(discard_staged_credentials(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(2);
}

#[tokio::test]
async fn the_first_key_is_published_once_it_is_accepted() {
    let mut scene = scene(verifying()).await;
    scene.prober.refuses_once("28P01");
    the_first_key_is_staged_and_refused(&mut scene).await;
    scene.assert_not_ready("Verifying", "the service does not accept key 1 yet: ");
    assert_eq!(scene.prober.probes(), 1);
    scene.cache_catches_up();
    scene.expect(look_up_secret(), works());
    assert_eq!(scene.reconcile().await, "under_way, requeued");
    assert_eq!(scene.prober.probes(), 0, "an event does not cause a probe");

    scene.later(EVERY);
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(discard_staged_credentials(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    scene.assert_ready_with(1);
    assert_eq!(scene.prober.probes(), 1);
    assert_eq!(scene.status().get("verification"), None);
    assert_eq!(scene.broker.calls(), ["PUT binding"]);
}

/// The next key is dead. The Secret keeps the current one, and the next attempt waits.
#[tokio::test]
async fn a_key_that_is_never_accepted_is_revoked() {
    let mut scene = scene(verifying().with_key(1)).await.with_own_secret(1);
    user_requests_a_rotation(&mut scene);
    scene.prober.refuses(Some("28P01"));
    the_next_key_is_staged_and_refused(&mut scene).await;
    assert_eq!(scene.condition("Ready").0, "True");
    assert_eq!(scene.condition("Rotating").1, "Verifying");

    scene.later(WITHIN);
    the_next_key_is_given_up(&mut scene).await;
    assert_eq!(scene.condition("Ready").0, "True");
    let (_, reason, message) = scene.condition("Rotating");
    assert_eq!(reason, "VerificationFailed");
    assert!(message.contains("28P01") && message.contains("key 2"), "{message}");
    assert_eq!(scene.status()["key"]["sequence"], 1);
    assert_eq!(scene.api.secret().unwrap()["metadata"]["annotations"]["servicekeys.dev/sequence"], "1");
    assert_eq!(scene.broker.calls(), ["PUT binding", "DELETE binding"]);

    scene.cache_catches_up();
    restart_the_operator(&scene);
    assert_eq!(scene.reconcile().await, "settled, requeued", "the wait survives a restart");
    assert_eq!(scene.broker.calls().len(), 2);

    scene.prober.refuses(None);
    scene.later(HOUR);
    another_key_is_published(&mut scene).await;
}

/// A first key is refused. The operator tries to log in every five seconds, and once more at the end. It revokes the key
/// once, whatever happens meanwhile. Without a key that works, it waits ten minutes only.
#[tokio::test]
async fn a_refused_first_key_is_revoked_once() {
    let mut scene = scene(verifying()).await;
    scene.prober.refuses(Some("28P01"));
    scene.later(Duration::from_secs(60));
    the_first_key_is_staged_and_refused(&mut scene).await;
    assert_eq!(scene.prober.probes(), 1, "one attempt in each five seconds");
    scene.cache_catches_up();
    scene.later(WITHIN);
    scene.expect(look_up_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(discard_staged_credentials(), works());
    scene.expect(write_status(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "under_way, requeued");
    scene.assert_not_ready("VerificationFailed", "28P01");
    assert_eq!(scene.prober.probes(), 1);
    assert_eq!(scene.status()["verification"]["revoked"], true);
    assert_eq!(scene.broker.calls(), ["PUT binding", "DELETE binding"]);

    scene.cache_catches_up();
    restart_the_operator(&scene);
    scene.expect(look_up_secret(), works());
    assert_eq!(scene.reconcile().await, "under_way, requeued");
    assert_eq!(scene.broker.calls().len(), 2, "no further call while it waits");

    scene.prober.refuses(None);
    scene.later(Duration::from_secs(600));
    scene.expect(look_up_secret(), works());
    scene.expect(stage_credentials(), works());
    scene.expect(write_status(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(discard_staged_credentials(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    scene.assert_ready_with(1);
}

/// Two minutes after the first attempt, the next key is refused, revoked, and waits.
async fn with_refused_key() -> Scene {
    let mut scene = scene(verifying().with_key(1)).await.with_own_secret(1);
    user_requests_a_rotation(&mut scene);
    scene.prober.refuses(Some("28P01"));
    the_next_key_is_staged_and_refused(&mut scene).await;
    scene.later(WITHIN);
    the_next_key_is_given_up(&mut scene).await;
    scene.cache_catches_up();
    scene
}

/// The Secret disappears while the next key waits. Workloads need the current one.
#[tokio::test]
async fn the_secret_is_restored_while_a_refused_key_waits() {
    let mut scene = with_refused_key().await;
    scene.api.remove_secret();
    scene.cache_catches_up();
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(1);
    assert_eq!(scene.condition("Rotating").1, "VerificationFailed");
    let calls = scene.broker.calls();
    assert!(calls[2..].iter().all(|call| call.starts_with("GET") || call.starts_with("PUT")), "{calls:?}");
}

/// The same while the next key is verified: its credentials stay staged.
#[tokio::test]
async fn the_secret_is_restored_while_the_next_key_is_verified() {
    let mut scene = scene(verifying().with_key(1)).await.with_own_secret(1);
    user_requests_a_rotation(&mut scene);
    scene.prober.refuses(Some("28P01"));
    the_next_key_is_staged_and_refused(&mut scene).await;
    scene.api.remove_secret();
    scene.cache_catches_up();
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(read_staged_credentials(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(1);
    scene.prober.refuses(None);
    scene.later(EVERY);
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(discard_staged_credentials(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    scene.assert_ready_with(2);
}

/// A corrected probe does not wait for the end of the hour.
#[tokio::test]
async fn another_probe_ends_the_wait() {
    let mut scene = with_refused_key().await;
    scene.prober.refuses(None);
    scene.another_writer_edits_the_key(|key| {
        key["spec"]["rotation"]["verify"]["redis"]["address"] = json!("db.example:6380");
        key["metadata"]["generation"] = json!(2);
    });
    another_key_is_published(&mut scene).await;
    assert_eq!(scene.status()["key"]["sequence"], 2);
}

/// The probe does not fit the credentials, or no admitted network has its address. Another key would not help.
#[rstest]
#[case::no_credential_of_that_name("{{ no_such_credential }}", "InvalidSpec")]
#[case::an_address_in_no_admitted_network("db.example:6379", "NotPermitted")]
#[tokio::test]
async fn a_key_that_the_service_was_not_asked_about_stays(#[case] address: &str, #[case] reason: &str) {
    let verify = json!({"tcp": {"address": address}});
    let key = service_key().finalized().with_key(1).specifying("rotation", json!({"verify": verify}));
    let mut scene = scene(key).await.with_own_secret(1);
    scene.prober.does_not_admit();
    user_requests_a_rotation(&mut scene);
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(stage_credentials(), works());
    scene.expect(write_status(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "stalled, requeued");
    assert_eq!(scene.condition("Ready").0, "True");
    assert_eq!(scene.condition("Rotating").1, reason);
    scene.later(HOUR);
    assert_eq!(scene.reconcile().await, "stalled, requeued");
    assert_eq!(scene.broker.calls(), ["PUT binding"], "the key stays");
}

/// The user takes the change back before the service has accepted the next key.
#[tokio::test]
async fn a_key_that_is_no_longer_wanted_is_not_published() {
    let mut scene = scene(verifying().with_key(1)).await.with_own_secret(1);
    scene.another_writer_edits_the_key(|key| {
        key["spec"]["parameters"] = json!({"role": "admin"});
    });
    scene.prober.refuses_once("28P01");
    the_next_key_is_staged_and_refused(&mut scene).await;
    scene.another_writer_edits_the_key(|key| {
        key["spec"].as_object_mut().unwrap().remove("parameters");
    });
    scene.later(Duration::from_secs(60));
    scene.expect(discard_staged_credentials(), works());
    scene.expect(write_status(), works());
    scene.expect(write_status(), works());
    scene.reconcile().await;
    assert_eq!(scene.prober.probes(), 1);
    assert_eq!(scene.broker.calls(), ["PUT binding", "DELETE binding"]);
    assert_eq!(scene.status()["key"]["sequence"], 1);
    assert_eq!(scene.status().get("verification"), None);
}

/// The broker shows credentials only once. The process that received them dies before they are verified.
#[tokio::test]
async fn staged_credentials_survive_a_crash() {
    let mut scene = scene(verifying()).await;
    scene.prober.refuses_once("28P01");
    the_first_key_is_staged_and_refused(&mut scene).await;
    scene.cache_catches_up();
    restart_the_operator(&scene);
    scene.expect(look_up_secret(), works());
    scene.expect(read_staged_credentials(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(discard_staged_credentials(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    scene.assert_ready_with(1);
    assert_eq!(scene.broker.calls(), ["PUT binding"], "the broker is not asked again");
}

#[tokio::test]
async fn without_an_admitted_network_no_key_is_created() {
    let mut scene = scene(verifying()).await;
    scene.prober.has_no_networks();
    scene.expect(write_status(), works());
    scene.reconcile().await;
    scene.assert_not_ready("NotPermitted", "`spec.rotation.verify`");
    assert!(scene.broker.calls().is_empty());
}

#[rstest]
#[case::a_filter_is_unknown("{{ password | reverse_it }}", "reverse_it")]
#[case::the_syntax_is_wrong("{{ password", "tcp.address")]
#[tokio::test]
async fn a_probe_that_can_not_be_rendered_is_refused_early(#[case] address: &str, #[case] words: &str) {
    let verify = json!({"tcp": {"address": address}});
    let mut scene = scene(service_key().finalized().specifying("rotation", json!({"verify": verify}))).await;
    scene.expect(write_status(), works());
    scene.reconcile().await;
    scene.assert_not_ready("InvalidSpec", words);
    assert!(scene.broker.calls().is_empty());
}

/// The user removes the probe while the service does not accept the key.
#[tokio::test]
async fn without_a_probe_the_staged_key_is_published() {
    let mut scene = scene(verifying()).await;
    scene.prober.refuses(Some("28P01"));
    the_first_key_is_staged_and_refused(&mut scene).await;
    scene.another_writer_edits_the_key(|key| {
        key["spec"]["rotation"] = json!({"overlap": "1h"});
        key["metadata"]["generation"] = json!(2);
    });
    scene.expect(look_up_secret(), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(discard_staged_credentials(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    scene.assert_ready_with(1);
}

/// A Secret that the API server refuses would leave credentials that are in no Secret.
#[rstest]
#[case::a_quota_is_used_up(forbidden("exceeded quota: secrets, used: secrets=10"), "exceeded quota")]
#[case::a_webhook_refuses_it(invalid("admission webhook \"policy\" denied it"), "denied it")]
#[case::a_webhook_changes_it(works_with(json!({"data": {"credentials.json": "c3dhcHBlZA=="}})), "with")]
#[tokio::test]
async fn no_key_is_created_for_a_staging_secret_that_is_refused(#[case] answer: Answer, #[case] words: &str) {
    let mut scene = scene(verifying()).await;
    scene.expect(rehearse_new_secret(), works());
    scene.expect(rehearse_staging(), answer);
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretRejected", words);
    scene.assert_not_ready("SecretRejected", "`spec.rotation.verify` needs a further Secret");
    assert!(scene.broker.calls().is_empty());
}

/// The name of the staging Secret is taken: nothing is created.
#[tokio::test]
async fn no_key_is_created_while_another_owner_has_the_staging_secret() {
    let mut scene = scene(verifying()).await;
    scene.api.store_other(foreign_staging_secret());
    scene.expect(rehearse_new_secret(), works());
    scene.expect(rehearse_staging(), works());
    scene.expect(look_up_staging(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    scene.assert_not_ready("SecretRejected", "a Secret that does not belong to a ServiceKey");
    assert!(scene.broker.calls().is_empty());
}

/// The key that the user replaces is revoked first, so the operator makes sure before that it can store the next one.
#[tokio::test]
async fn a_key_is_not_replaced_while_the_staging_secret_is_refused() {
    let verify = json!({"redis": {"address": "db.example:6379", "password": "{{ password }}"}});
    let key = service_key().finalized().with_key(1);
    let key = key.specifying("rotation", json!({"strategy": "Replace", "verify": verify}));
    let mut scene = scene(key).await.with_own_secret(1);
    user_requests_a_rotation(&mut scene);
    scene.expect(read_secret(), works());
    scene.expect(rehearse_existing_secret(), works());
    scene.expect(rehearse_staging(), forbidden("exceeded quota: secrets, used: secrets=10"));
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "failed, requeued");
    assert_eq!(scene.condition("Ready").0, "True");
    assert!(scene.condition("Rotating").2.contains("exceeded quota"));
    assert!(scene.broker.calls().is_empty());
}

/// A user deletes the ServiceKey while the service does not accept its first key.
#[tokio::test]
async fn a_deletion_leaves_no_staged_credentials() {
    let mut scene = scene(verifying()).await;
    scene.prober.refuses(Some("28P01"));
    the_first_key_is_staged_and_refused(&mut scene).await;
    scene.cache_catches_up();
    scene.later(Duration::from_secs(60));
    scene.another_writer_edits_the_key(|key| {
        key["metadata"]["deletionTimestamp"] = json!("2026-11-24T11:30:00Z");
    });
    scene.expect(look_up_secret(), works());
    scene.expect(discard_staged_credentials(), works());
    scene.expect(patch_key(), works());
    scene.reconcile().await;
    assert_eq!(scene.broker.calls(), ["PUT binding", "DELETE binding"]);
}
