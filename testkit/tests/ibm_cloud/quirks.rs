//! Occasional behaviour of real IBM Clouds, on demand.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::ibm_cloud::{Access, FakeIbmCloud, Instance, Login, Quirks, Redaction, Removed};

use crate::client::{Fixture, INSTANCE, KEYS, answer, names, path, start, start_with};

#[tokio::test]
async fn a_new_key_is_not_seen_at_once() -> Result<()> {
    let quirks = Quirks { looks_without_new_keys: 2, lists_without_new_keys: true, ..Quirks::default() };
    let it = start_with(FakeIbmCloud::builder().quirks(quirks)).await?;
    let key = it.created("a").await?;
    assert_eq!(names(&it.get(&format!("{KEYS}?name=other")).await?.1)?, [""; 0], "which is no look at it");
    assert_eq!(names(&it.get(KEYS).await?.1)?, [""; 0]);
    let (status, refused) = it.get(&path(&key)?).await?;
    assert_eq!((status, &refused["error_code"]), (404, &json!("RC-DatabaseErrorResponse")));
    assert_eq!(it.get(&path(&key)?).await?, (200, key));
    assert_eq!(names(&it.get(KEYS).await?.1)?, ["a"]);

    it.ibm.change_quirks(|quirks| quirks.lists_without_new_keys = false);
    let key = it.created("b").await?;
    assert_eq!(names(&it.get(KEYS).await?.1)?, ["a", "b"]);
    assert_eq!(it.delete(&path(&key)?).await?, 204, "it is there to be deleted");
    Ok(())
}

#[tokio::test]
async fn credentials_can_be_redacted() -> Result<()> {
    let it = start().await?;
    let key = it.created("a").await?;
    for (redaction, word) in [(Redaction::Redacted, "REDACTED"), (Redaction::Explicit, "REDACTED_EXPLICIT")] {
        it.ibm.change_quirks(|quirks| quirks.redaction = Some(redaction));
        let redacted = json!({ "REDACTED": word });
        assert_eq!(it.get(&path(&key)?).await?.1["credentials"], redacted);
        assert_eq!(it.get(KEYS).await?.1["resources"][0]["credentials"], redacted);
        it.ibm.change_quirks(|quirks| quirks.redacts_creations = false);
        assert!(it.created("b").await?["credentials"]["password"].is_string());
        it.ibm.change_quirks(|quirks| quirks.redacts_creations = true);
        assert_eq!(it.created("c").await?["credentials"], redacted);
    }
    Ok(())
}

#[tokio::test]
async fn credentials_can_be_shown_once_only() -> Result<()> {
    let builder = FakeIbmCloud::builder().without_instances();
    let it = start_with(builder.instance(Instance::new(INSTANCE).one_time())).await?;
    let key = it.created("a").await?;
    assert_eq!(key["onetime_credentials"], true);
    assert!(key["credentials"]["password"].is_string());
    let (status, again) = it.get(&path(&key)?).await?;
    assert_eq!((status, again.get("credentials"), &again["onetime_credentials"]), (200, None, &json!(true)));
    assert_eq!(it.get(KEYS).await?.1["resources"][0].get("credentials"), None);
    it.ibm.change_quirks(|quirks| quirks.redaction = Some(Redaction::Explicit));
    let (_, again) = it.get(&path(&key)?).await?;
    assert_eq!(again["credentials"], json!({ "REDACTED": "REDACTED_EXPLICIT" }));
    Ok(())
}

#[tokio::test]
async fn a_deleted_key_is_answered_for_in_several_ways() -> Result<()> {
    let it = start().await?;
    let key = it.created("a").await?;
    assert_eq!(it.delete(&path(&key)?).await?, 204);
    for (removed, status) in [(Removed::Shown, 200), (Removed::Gone, 410), (Removed::NotFound, 404)] {
        it.ibm.change_quirks(|quirks| quirks.removed = removed);
        assert_eq!(it.get(&path(&key)?).await?.0, status);
    }
    assert_eq!(it.delete(&path(&key)?).await?, 410);
    it.ibm.change_quirks(|quirks| (quirks.forgets_removed, quirks.lists_show_removed) = (true, true));
    assert_eq!(it.delete(&path(&key)?).await?, 404);
    assert_eq!(it.get(KEYS).await?.1["resources"][0]["state"], "removed");
    Ok(())
}

#[tokio::test]
async fn all_keys_of_an_auditing_instance_are_about_one_service_key_which_managers_see() -> Result<()> {
    let editor = Login::api_key("editor", "k").access(Access::Editor);
    let builder = FakeIbmCloud::builder().instance(Instance::auditing("audit")).login(editor);
    let mut it = start_with(builder).await?;
    let source = it.ibm.instance_guid("audit").context("an instance")?;
    let create = async |it: &Fixture, role: &str| -> Result<Value> {
        let wish = json!({ "name": "a", "source": source, "role": role });
        let (status, key) = answer(it.call(Method::POST, KEYS).json(&wish).send().await?).await?;
        assert_eq!(status, 201, "{key}");
        Ok(key)
    };
    assert_eq!(it.ibm.service_key("audit"), None);
    let (reader, manager) = (create(&it, "Reader").await?, create(&it, "Manager").await?);
    let service_key = json!(it.ibm.service_key("audit").context("a service key")?);
    for key in [&reader, &manager] {
        assert_eq!(key["credentials"]["service_key"], service_key, "whatever role the key has");
    }
    assert_ne!((&reader["guid"], &reader["credentials"]), (&manager["guid"], &manager["credentials"]));
    assert_eq!(it.delete(&path(&manager)?).await?, 204);
    assert_eq!(create(&it, "Manager").await?["credentials"]["service_key"], service_key, "it outlives keys");

    it.token = it.ibm.issue_token("editor");
    assert_eq!(create(&it, "Manager").await?["credentials"].get("service_key"), None);
    let (_, seen) = it.get(&path(&reader)?).await?;
    assert_eq!(seen["credentials"].get("service_key"), None);
    assert!(seen["credentials"]["apikey"].is_string());
    Ok(())
}
