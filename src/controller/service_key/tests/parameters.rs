//! `ReadParameters`: another content of `parametersFrom` requires another key, if the user wants that.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{super::local_state::LocalState, fixtures::*};
use crate::secret::ParametersKey;

const INTERVAL: Duration = Duration::from_secs(600);
const KEY: &str = "servicekeys.dev/parameters-key";

/// A ServiceKey with parameters in the Secret `parameters`.
fn following() -> KeyFixture {
    let source = json!([{"secretKeyRef": {"name": "parameters", "key": "json"}, "onChange": "Rotate"}]);
    service_key().finalized().specifying("parametersFrom", source)
}

fn set_content(scene: &mut Scene, content: &str) {
    scene.api.store_other(secret_with("parameters", &[("json", content)]));
}

/// A ServiceKey whose first key was just created from the content `{"size": 3}`.
async fn with_first_key() -> Scene {
    let mut scene = scene(following()).await;
    set_content(&mut scene, "{\"size\": 3}");
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.cache_catches_up();
    scene
}

/// The part of `status.key.inputs` about the content: the id of the key, and the digest.
fn digest(scene: &Scene) -> Option<(String, String)> {
    let (_, parameters) = scene.status()["key"]["inputs"].as_str()?.split_once('~')?;
    let (id, digest) = parameters.split_once('.')?;
    Some((id.to_owned(), digest.to_owned()))
}

fn key_on_secret(scene: &Scene) -> Option<String> {
    scene.api.secret()?["metadata"]["annotations"][KEY].as_str().map(str::to_owned)
}

/// A new process knows only what is stored.
fn restart_the_operator(scene: &Scene) {
    scene.with_local_state(|local| *local = LocalState::default());
}

#[rstest]
#[case::it_has_changed("{\"size\": 4}", true)]
#[case::only_its_format_has("{ \"size\" :3 }", false)]
#[tokio::test]
async fn another_content_requires_another_key(#[case] content: &str, #[case] rotates: bool) {
    let mut scene = with_first_key().await;
    let before = digest(&scene).unwrap();
    let key = key_on_secret(&scene).unwrap();
    assert!(!scene.status().to_string().contains(&key));
    assert_eq!(scene.reconcile().await, "settled, requeued", "the content was read a moment ago");

    set_content(&mut scene, content);
    scene.later(INTERVAL);
    scene.expect(read_secret_named("parameters"), works());
    if rotates {
        scene.expect(write_status(), works());
        scene.expect(read_secret_named("parameters"), works());
        scene.expect(replace_secret(), works());
        scene.expect(write_status(), works());
    }
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(if rotates { 2 } else { 1 });
    assert_eq!(digest(&scene).unwrap() != before, rotates);
    assert_eq!(key_on_secret(&scene), Some(key), "the key of the digests stays");
}

/// Without the field, the content is read only for a new key.
#[tokio::test]
async fn a_content_that_does_not_matter_is_not_read() {
    let source = json!([{"secretKeyRef": {"name": "parameters", "key": "json"}}]);
    let key = service_key().finalized().specifying("parametersFrom", source).with_key(1);
    let mut scene = scene(key).await.with_own_secret(1);
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(digest(&scene), None);
}

/// A user sets the field for a key that exists. Its content may have changed before, which nobody can know.
#[tokio::test]
async fn changes_count_from_the_first_read() {
    let mut scene = scene(following().with_key(1)).await.with_own_secret(1);
    set_content(&mut scene, "{\"size\": 3}");
    scene.expect(read_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(1);
    assert!(digest(&scene).is_some() && key_on_secret(&scene).is_some());
    assert!(scene.broker.calls().is_empty());
}

/// The Secret with the key of digests is lost. A process that has seen the key writes it again, and another one takes a
/// new one.
#[rstest]
#[case::the_same_process(false)]
#[case::another_process(true)]
#[tokio::test]
async fn changes_are_noticed_after_the_secret_was_lost(#[case] restarts: bool) {
    let mut scene = with_first_key().await;
    let (key, before) = (key_on_secret(&scene), digest(&scene).unwrap());
    scene.api.remove_secret();
    scene.cache_catches_up();
    if restarts {
        restart_the_operator(&scene);
    }
    scene.expect(look_up_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    assert_eq!(key_on_secret(&scene) != key, restarts);
    assert_eq!(digest(&scene).unwrap() != before, restarts);

    scene.cache_catches_up();
    set_content(&mut scene, "{\"size\": 4}");
    scene.later(INTERVAL);
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(write_status(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(2);
}

/// The user also wants another key for other entries from now on. Their content has not changed.
#[tokio::test]
async fn another_list_of_entries_leads_to_no_key() {
    let entry = |key: &str, on_change: &str| {
        let source = json!({"name": "parameters", "key": key});
        json!({"secretKeyRef": source, "onChange": on_change})
    };
    let key = service_key().finalized();
    let key = key.specifying("parametersFrom", json!([entry("json", "Rotate"), entry("more", "Ignore")]));
    let mut scene = scene(key).await;
    scene.api.store_other(secret_with("parameters", &[("json", "{\"size\": 3}"), ("more", "{}")]));
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.cache_catches_up();
    let before = digest(&scene).unwrap();

    scene.another_writer_edits_the_key(|key| {
        key["spec"]["parametersFrom"] = json!([entry("json", "Rotate"), entry("more", "Rotate")]);
        key["metadata"]["generation"] = json!(2);
    });
    scene.later(INTERVAL);
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(1);
    assert_ne!(digest(&scene).unwrap(), before);
}

/// The content changes while the user does not want another key for that.
#[tokio::test]
async fn changes_do_not_count_while_the_field_is_not_set() {
    let mut scene = with_first_key().await;
    let set = |scene: &mut Scene, on_change: &str, generation: u32| {
        scene.another_writer_edits_the_key(|key| {
            key["spec"]["parametersFrom"][0]["onChange"] = json!(on_change);
            key["metadata"]["generation"] = json!(generation);
        });
    };
    set(&mut scene, "Ignore", 2);
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, awaits a change");
    assert_eq!(key_on_secret(&scene), None);
    scene.cache_catches_up();

    set_content(&mut scene, "{\"size\": 4}");
    set(&mut scene, "Rotate", 3);
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(1);
}

/// The current key is revoked only if the content was read right before.
#[rstest]
#[case::it_has_changed("{\"size\": 4}", true)]
#[case::it_is_again_as_before("{\"size\": 3}", false)]
#[tokio::test]
async fn no_key_is_revoked_for_an_old_content(#[case] now: &str, #[case] rotates: bool) {
    let mut scene = scene(following().specifying("rotation", json!({"strategy": "Replace"}))).await;
    set_content(&mut scene, "{\"size\": 3}");
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.cache_catches_up();
    let key = key_on_secret(&scene).unwrap().parse().unwrap();
    scene.with_local_state(|local| {
        let key = ParametersKey::of(Uuid::as_u128(&key));
        local.parameters.digest = Some(key.digest(&[("parameters", "json")], ["{\"size\":4}"]));
    });
    set_content(&mut scene, now);
    scene.expect(read_secret_named("parameters"), works());
    if rotates {
        scene.expect(rehearse_existing_secret(), works());
        scene.expect(write_status(), works());
        scene.expect(write_status(), works());
        scene.expect(read_secret_named("parameters"), works());
        scene.expect(replace_secret(), works());
        scene.expect(write_status(), works());
    }
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(if rotates { 2 } else { 1 });
}

#[tokio::test]
async fn a_new_process_reads_the_content_once() {
    let mut scene = with_first_key().await;
    restart_the_operator(&scene);
    scene.expect(read_secret_named("parameters"), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");

    set_content(&mut scene, "{\"size\": 4}");
    restart_the_operator(&scene);
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(write_status(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(2);
}

/// A tenant changes the key of the digests while no operator runs. No metadata of a Secret may lead to another key.
#[rstest]
#[case::to_another_one(json!("0c1d2e3f-0000-4000-8000-00000000000b"))]
#[case::to_nonsense(json!("x"))]
#[case::to_nothing(Value::Null)]
#[tokio::test]
async fn a_forged_key_of_digests_leads_to_no_key(#[case] forged: Value) {
    let mut scene = with_first_key().await;
    let (id, _) = digest(&scene).unwrap();
    let mut secret = scene.api.secret().unwrap().clone();
    match forged {
        Value::Null => drop(secret["metadata"]["annotations"].as_object_mut().unwrap().remove(KEY)),
        forged => secret["metadata"]["annotations"][KEY] = forged,
    }
    scene.api.store_secret(secret);
    scene.cache_catches_up();
    restart_the_operator(&scene);
    scene.expect(read_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(read_secret(), works());
    scene.expect(write_status(), works());
    scene.expect(read_secret(), works());
    scene.expect(read_secret(), works());
    scene.expect(replace_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(1);
    assert_ne!(digest(&scene).unwrap().0, id, "later changes are compared with a new key");
}

/// A webhook may quote the Secret that it refuses.
#[tokio::test]
async fn the_key_of_digests_is_in_no_message() {
    let mut scene = scene(following()).await;
    set_content(&mut scene, "{\"size\": 3}");
    scene.with_local_state(|local| local.parameters.key = Some(ParametersKey::of(0x1234_5678)));
    let quoted = "00000000-0000-0000-0000-000012345678";
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(create_secret(), forbidden(&format!("no Secret with {quoted}")));
    scene.expect(write_status(), works());
    scene.reconcile().await;
    scene.assert_not_ready("SecretRejected", "no Secret with [redacted]");
    assert!(!scene.status().to_string().contains(quoted));
}

#[rstest]
#[case::it_is_missing(not_found(), "there is no such Secret; create it")]
#[case::a_permission_is_missing(forbidden("secrets \"parameters\" is forbidden"), "is forbidden")]
#[tokio::test]
async fn a_content_that_can_not_be_read_changes_nothing(#[case] answer: Answer, #[case] words: &str) {
    let mut scene = with_first_key().await;
    let before = digest(&scene);
    scene.later(INTERVAL);
    scene.expect(read_secret_named("parameters"), answer);
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(1);
    assert_eq!(digest(&scene), before);
    assert_eq!(scene.reconcile().await, "settled, requeued", "the next look follows ten minutes later");
    let events = scene.events().await;
    let told = |(reason, note): &(String, String)| reason == "ParametersUnusable" && note.contains(words);
    assert!(events.iter().any(told), "{events:?}");
}

/// The rotation waits for the next window. The present content counts then.
#[tokio::test]
async fn another_content_waits_for_a_window() {
    let windows = json!([{"schedule": "0 3 * * *", "duration": "1h"}]);
    let mut scene = scene(following().specifying("rotation", json!({"windows": windows}))).await;
    set_content(&mut scene, "{\"size\": 3}");
    scene.expect(rehearse_new_secret(), works());
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(create_secret(), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.cache_catches_up();
    set_content(&mut scene, "{\"size\": 4}");
    scene.later(INTERVAL);
    scene.expect(read_secret_named("parameters"), works());
    scene.expect(write_status(), works());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    scene.assert_ready_with(1);
    assert_eq!(scene.status()["nextRotation"], "2026-11-25T03:00:00Z");

    // A read that fails does not undo what is known.
    scene.later(INTERVAL);
    scene.expect(read_secret_named("parameters"), internal_error());
    assert_eq!(scene.reconcile().await, "settled, requeued");
    assert_eq!(scene.status()["nextRotation"], "2026-11-25T03:00:00Z");
    scene.later(Duration::from_secs(60));
    scene.expect(read_secret_named("parameters"), works());
    assert_eq!(scene.reconcile().await, "settled, requeued", "it is repeated after a minute");
}
