//! The differences of a Korifi.

use anyhow::Result;
use reqwest::Method;
use serde_json::json;
use testkit::cloud_foundry::{FakeCloudFoundry, Pace};

use crate::client::{Fixture, KEYS, path, start_with};

async fn korifi(pace: Pace) -> Result<Fixture> {
    start_with(FakeCloudFoundry::builder().korifi().pace(pace)).await
}

impl Fixture {
    /// Creates a key without labels, as a Korifi requires.
    async fn create_bare(&self, name: &str) -> Result<String> {
        let mut body = self.body(name)?;
        drop(body.as_object_mut().and_then(|fields| fields.remove("metadata")));
        self.job_of(self.call(Method::POST, KEYS).json(&body)).await
    }
}

#[tokio::test]
async fn it_says_what_it_is() -> Result<()> {
    let it = korifi(Pace::at_once()).await?;
    let (_, root) = it.get("/").await?;
    assert_eq!(root["cf_on_k8s"], true);
    assert_eq!(root["links"]["uaa"], json!(null));
    assert_eq!(root["links"]["cloud_controller_v3"]["meta"]["version"], "3.117.0+cf-k8s");
    Ok(())
}

#[tokio::test]
async fn a_key_is_labelled_after_it_was_created() -> Result<()> {
    let it = korifi(Pace::at_once()).await?;
    let mut body = it.body("a")?;
    body["metadata"] = json!({"labels": {"a": "b"}});
    let (status, code, detail) = it.error(it.call(Method::POST, KEYS).json(&body)).await?;
    assert_eq!((status, code), (422, 10008));
    assert_eq!(detail, "invalid request body: json: unknown field \"metadata\"");
    assert_eq!(it.cf.keys(), []);

    let job = it.create_bare("a").await?;
    let key = &it.cf.keys()[0];
    assert!(job.ends_with(&format!("/v3/jobs/managed_service_binding.create~{}", key.guid)), "{job}");
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(it.call(Method::PATCH, &path(key)).json(&labels).send().await?.status(), 200);
    assert_eq!(it.cf.keys()[0].labels["a"], "b");
    Ok(())
}

#[tokio::test]
async fn a_name_is_free_once_the_deletion_of_its_key_begins() -> Result<()> {
    let it = korifi(Pace::until_told()).await?;
    it.create_bare("a").await?;
    let taken = it.call(Method::POST, KEYS).json(&{
        let mut body = it.body("a")?;
        drop(body.as_object_mut().and_then(|fields| fields.remove("metadata")));
        body
    });
    let (status, code, detail) = it.error(taken).await?;
    assert_eq!((status, code), (422, 10016));
    assert!(detail.starts_with("Service binding already exists: "), "{detail}");
    assert_eq!(it.cf.finish_all(), 1);
    let first = it.cf.keys().remove(0);
    it.job_of(it.delete(&first)).await?;
    it.job_of(it.delete(&first)).await?;
    it.create_bare("a").await?;
    assert_eq!(it.cf.keys().len(), 2);
    Ok(())
}

#[tokio::test]
async fn no_more_is_listed_than_the_api_admits() -> Result<()> {
    let it = start_with(FakeCloudFoundry::builder().max_total_results(100)).await?;
    let (status, code, detail) = it.error(it.call(Method::GET, &format!("{KEYS}?per_page=101"))).await?;
    assert_eq!((status, code), (400, 10005));
    assert_eq!(
        detail,
        "The query parameter is invalid: Maximum result (page * per_page) must be less than 100"
    );
    assert_eq!(it.get(&format!("{KEYS}?per_page=50&page=2")).await?.0, 200);
    assert_eq!(it.get(&format!("{KEYS}?per_page=50&page=3")).await?.0, 400);
    Ok(())
}
