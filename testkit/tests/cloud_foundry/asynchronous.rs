//! Keys whose creation and deletion take time.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::cloud_foundry::{FakeCloudFoundry, Key, Pace, Work};

use crate::client::{Fixture, INSTANCE, KEYS, path, start_with};

async fn at(pace: Pace) -> Result<Fixture> {
    start_with(FakeCloudFoundry::builder().pace(pace)).await
}

impl Fixture {
    /// Type and state of the last operation on a key, as a list shows them.
    async fn last_operation(&self, key: &Key) -> Result<(String, String)> {
        let (_, list) = self.get(&format!("{KEYS}?guids={}", key.guid)).await?;
        let operation = &list["resources"][0]["last_operation"];
        let text = |field: &str| operation[field].as_str().map(str::to_owned).context("a text");
        Ok((text("type")?, text("state")?))
    }

    async fn state(&self, job: &str) -> Result<String> {
        Ok(self.job(job).await?.0)
    }
}

fn operation(kind: &str, state: &str) -> (String, String) {
    (kind.to_owned(), state.to_owned())
}

#[tokio::test]
async fn a_job_is_processing_then_polling_then_complete() -> Result<()> {
    let it = at(Pace::looks(3)).await?;
    let (key, job) = it.ask_for("a").await?;
    for state in ["PROCESSING", "POLLING", "POLLING", "COMPLETE", "COMPLETE"] {
        assert_eq!(it.state(&job).await?, state);
    }
    assert!(it.cf.key(&key.guid).context("a key")?.is_live());
    let job = it.job_of(it.delete(&key)).await?;
    for state in ["PROCESSING", "POLLING", "POLLING", "COMPLETE", "COMPLETE"] {
        assert_eq!(it.state(&job).await?, state);
    }
    assert_eq!(it.cf.keys(), []);
    Ok(())
}

#[tokio::test]
async fn a_list_shows_how_far_every_key_is() -> Result<()> {
    let it = at(Pace::looks(2)).await?;
    let (key, _) = it.ask_for("a").await?;
    for state in ["initial", "in progress", "succeeded"] {
        assert_eq!(it.last_operation(&key).await?, operation("create", state));
    }
    it.job_of(it.delete(&key)).await?;
    // The Cloud Controller has not called the broker yet.
    assert_eq!(it.last_operation(&key).await?, operation("create", "succeeded"));
    assert_eq!(it.last_operation(&key).await?, operation("delete", "in progress"));
    assert_eq!(it.names(KEYS).await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn work_lasts_until_the_test_ends_it() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let (one, job) = it.ask_for("one").await?;
    it.ask_for("two").await?;
    for _ in 0..5 {
        it.state(&job).await?;
    }
    let open = it.cf.wait_for_work(|open| open.len() == 2).await?;
    assert_eq!((open[0].work, &open[0].name, open[0].looks), (Work::Create, &"one".to_owned(), 5));
    assert!(job.ends_with(&open[0].job));
    assert_eq!((&open[0].key, open[1].looks), (&one.guid, 0));
    assert!(it.cf.finish(&one.guid) && !it.cf.finish(&one.guid));
    assert_eq!(it.state(&job).await?, "COMPLETE");
    assert_eq!(it.cf.live_keys().len(), 1);
    assert_eq!(it.cf.finish_all(), 1);
    assert_eq!(it.cf.live_keys().len(), 2);
    Ok(())
}

#[tokio::test]
async fn credentials_are_there_once_the_key_is() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let (key, _) = it.ask_for("a").await?;
    let details = || it.call(Method::GET, &format!("{}/details", path(&key)));
    let missing = |detail: &str| (404, 10010, detail.to_owned());
    assert_eq!(it.error(details()).await?, missing("Creation of service key initial"));
    assert_eq!(it.error(details()).await?, missing("Creation of service key in progress"));
    assert_eq!(it.get(&format!("{}/parameters", path(&key))).await?.0, 404);
    assert!(it.cf.finish(&key.guid));
    assert_eq!(details().send().await?.status(), 200);

    it.job_of(it.delete(&key)).await?;
    assert_eq!(details().send().await?.status(), 200, "the Cloud Controller has not called the broker yet");
    assert_eq!(it.error(details()).await?, missing("Deletion of service key in progress"));
    assert!(it.cf.fail(&key.guid, "it is in use"));
    assert_eq!(it.error(details()).await?, missing("Deletion of service key failed"));
    Ok(())
}

#[tokio::test]
async fn a_creation_that_fails_leaves_a_key_that_the_next_one_replaces() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let (failed, job) = it.ask_for("a").await?;
    assert!(it.cf.fail(&failed.guid, "the disk is full"));
    let (state, error) = it.job(&job).await?;
    let detail = "bind could not be completed: the disk is full";
    assert_eq!(state, "FAILED");
    assert_eq!(error, json!({ "code": 10009, "title": "CF-UnableToPerform", "detail": detail }));
    let (_, shown) = it.get(&path(&failed)).await?;
    assert_eq!(shown["last_operation"]["description"], "the disk is full");
    assert_eq!(it.names(KEYS).await?, ["a"]);

    let (second, _) = it.ask_for("a").await?;
    assert_ne!(second.guid, failed.guid);
    assert_eq!(it.cf.keys().len(), 1);
    assert_eq!(it.get(&path(&failed)).await?.0, 404);
    assert!(it.cf.fail(&second.guid, "again"));
    it.cf.change_pace(Pace::at_once());
    it.job_of(it.delete(&second)).await?;
    assert_eq!(it.cf.keys(), []);
    Ok(())
}

#[tokio::test]
async fn a_deletion_that_fails_leaves_the_key_and_its_name() -> Result<()> {
    let it = at(Pace::until_told().only(Work::Delete)).await?;
    let (key, _) = it.ask_for("a").await?;
    let job = it.job_of(it.delete(&key)).await?;
    assert!(it.cf.fail(&key.guid, "it is in use"));
    let (state, error) = it.job(&job).await?;
    assert_eq!((state.as_str(), &error["code"]), ("FAILED", &json!(10009)));
    assert_eq!(it.last_operation(&key).await?, operation("delete", "failed"));
    let refused = it.refused(it.create("a")?).await?;
    assert!(
        refused.ends_with("with the name 'a' that is getting deleted or its deletion failed."),
        "{refused}"
    );
    it.job_of(it.delete(&key)).await?;
    assert_eq!(it.cf.finish_all(), 1);
    assert_eq!(it.cf.keys(), []);
    Ok(())
}

#[tokio::test]
async fn a_name_is_taken_from_the_request_for_it_on() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    it.ask_for("a").await?;
    for _ in 0..3 {
        let refused = it.refused(it.create("a")?).await?;
        assert!(refused.ends_with("already has a key binding with name 'a'."), "{refused}");
        it.names(KEYS).await?;
    }
    assert_eq!(it.cf.keys().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_key_that_the_broker_does_not_know_yet_cant_be_deleted() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let (key, created) = it.ask_for("a").await?;
    let refused = it.refused(it.delete(&key)).await?;
    assert_eq!(refused, "There is an operation in progress for the service binding.");
    // The second look finds the broker at work. A deletion can overtake that.
    assert_eq!(it.state(&created).await?, "PROCESSING");
    assert_eq!(it.state(&created).await?, "POLLING");
    let deleted = it.job_of(it.delete(&key)).await?;
    assert_eq!(it.cf.finish_all(), 1);
    assert_eq!(it.state(&deleted).await?, "COMPLETE");
    let (state, error) = it.job(&created).await?;
    assert_eq!((state.as_str(), &error["code"]), ("FAILED", &json!(10010)));
    assert_eq!(it.cf.keys(), []);
    Ok(())
}

#[tokio::test]
async fn a_deletion_can_be_asked_for_again_until_the_broker_is_at_it() -> Result<()> {
    let it = at(Pace::until_told().only(Work::Delete)).await?;
    let (key, _) = it.ask_for("a").await?;
    let one = it.job_of(it.delete(&key)).await?;
    let two = it.job_of(it.delete(&key)).await?;
    assert_ne!(one, two);
    for _ in 0..2 {
        it.names(KEYS).await?;
    }
    let refused = it.refused(it.delete(&key)).await?;
    assert_eq!(refused, "There is an operation in progress for the service binding.");
    let patch = it.call(Method::PATCH, &path(&key)).json(&json!({ "metadata": { "labels": {} } }));
    assert_eq!(it.refused(patch).await?, "The service binding is being deleted");
    assert_eq!(it.cf.finish_all(), 1);
    for job in [one, two] {
        assert_eq!(it.state(&job).await?, "COMPLETE");
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_vanishes_ends_its_jobs() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let (made, created) = it.ask_for("a").await?;
    assert!(it.cf.forget(&made.guid));
    let (state, error) = it.job(&created).await?;
    let detail = format!("The binding could not be found: {}", made.guid);
    assert_eq!((state.as_str(), &error["detail"]), ("FAILED", &json!(detail)));

    let (key, _) = it.ask_for("b").await?;
    assert!(it.cf.finish(&key.guid));
    let deleted = it.job_of(it.delete(&key)).await?;
    assert!(it.cf.forget_instance(INSTANCE));
    assert_eq!(it.job(&deleted).await?, ("COMPLETE".to_owned(), Value::Null));
    let unknown = it.call(Method::GET, "/v3/jobs/unknown");
    assert_eq!(it.error(unknown).await?, (404, 10010, "Job not found".to_owned()));
    Ok(())
}

#[tokio::test]
async fn what_is_under_way_keeps_its_pace() -> Result<()> {
    let it = at(Pace::looks(1)).await?;
    let (_, job) = it.ask_for("a").await?;
    it.cf.change_pace(Pace::at_once());
    assert_eq!(it.state(&job).await?, "PROCESSING");
    assert_eq!(it.state(&job).await?, "COMPLETE");
    let (two, _) = it.ask_for("b").await?;
    assert!(two.is_live());
    Ok(())
}

#[tokio::test]
async fn a_broker_that_does_one_thing_at_a_time_fails_the_job_and_leaves_the_key() -> Result<()> {
    let it = start_with(FakeCloudFoundry::builder().one_at_a_time()).await?;
    let (one, _) = it.ask_for("one").await?;
    let (two, _) = it.ask_for("two").await?;
    it.cf.change_pace(Pace::looks(3));
    let first = it.job_of(it.delete(&one)).await?;
    let second = it.job_of(it.delete(&two)).await?;
    for job in [&first, &first, &second, &second] {
        it.state(job).await?;
    }
    assert_eq!(it.state(&first).await?, "POLLING");
    let (state, error) = it.job(&second).await?;
    assert_eq!(state, "FAILED");
    assert_eq!(
        error["detail"],
        "unbind could not be completed: The service broker rejected the request due to an operation being in progress \
         for the service binding."
    );
    assert_eq!(it.last_operation(&two).await?, operation("create", "succeeded"));
    let _ = it.cf.finish_all();
    let again = it.job_of(it.delete(&two)).await?;
    for state in ["PROCESSING", "POLLING", "POLLING", "COMPLETE"] {
        assert_eq!(it.state(&again).await?, state);
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_that_dies_leaves_key_and_job_as_they_are() -> Result<()> {
    let it = at(Pace::until_told().only(Work::Delete)).await?;
    let (key, _) = it.ask_for("one").await?;
    let job = it.job_of(it.delete(&key)).await?;
    assert!(it.cf.kill_worker(&key.guid) && !it.cf.kill_worker(&key.guid));
    for _ in 0..3 {
        assert_eq!(it.state(&job).await?, "PROCESSING");
    }
    assert_eq!(it.last_operation(&key).await?, operation("create", "succeeded"));
    Ok(())
}
