//! What real ones do now and then, on demand.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::ibm_cloud::{FakeIbmCloud, Instance, Quirks, Redaction, Removed};

use crate::client::{INSTANCE, KEYS, answer, names, path, start, start_with};

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
async fn an_auditing_instance_has_one_key_and_gives_it_again() -> Result<()> {
    let it = start_with(FakeIbmCloud::builder().instance(Instance::auditing("audit"))).await?;
    let source = it.ibm.instance_guid("audit").context("an instance")?;
    let create = async |name: &str, role: &str| -> Result<Value> {
        let wish = json!({ "name": name, "source": source, "role": role });
        let (status, key) = answer(it.call(Method::POST, KEYS).json(&wish).send().await?).await?;
        assert_eq!(status, 201, "{key}");
        Ok(key)
    };
    let reader = create("a", "Reader").await?;
    assert_eq!(reader["credentials"].get("service_key"), None);
    assert_eq!(it.delete(&path(&reader)?).await?, 204);

    let first = create("b", "Manager").await?;
    assert!(first["credentials"]["service_key"].is_string());
    assert_eq!(create("c", "Manager").await?, first);
    assert_eq!(it.ibm.live_keys().len(), 1);
    assert_eq!(it.delete(&path(&first)?).await?, 204);
    assert_ne!(create("c", "Manager").await?["credentials"], first["credentials"]);
    Ok(())
}
