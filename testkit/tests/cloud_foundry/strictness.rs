//! The violations that the fake reports of a client.

use anyhow::Result;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::cloud_foundry::{FakeCloudFoundry, Route, Rule};

use crate::client::{Fixture, KEYS, path, start, start_with};

impl Fixture {
    /// Sends a request that breaks exactly this rule and has no effect.
    async fn breaks(&self, rule: Rule, status: u16, code: u64, request: RequestBuilder) -> Result<()> {
        let before = self.cf.keys();
        let (seen, seen_code, detail) = self.error(request).await?;
        let rules: Vec<_> = self.cf.take_violations().iter().map(|violation| violation.rule).collect();
        assert_eq!((rules.as_slice(), seen, seen_code), (&[rule][..], status, code), "{detail}");
        assert_eq!(self.cf.keys(), before);
        Ok(())
    }

    /// A request for a key with another value in a field of its body, or without the field.
    fn create_with(&self, field: &str, value: Option<Value>) -> Result<RequestBuilder> {
        let mut body = self.body("a")?;
        match value {
            Some(value) => body[field] = value,
            None => drop(body.as_object_mut().and_then(|fields| fields.remove(field))),
        }
        Ok(self.call(Method::POST, KEYS).json(&body))
    }
}

#[tokio::test]
async fn every_call_shows_a_token() -> Result<()> {
    let it = start().await?;
    for path in [KEYS, "/v3/organizations", "/v3/jobs/x"] {
        it.breaks(Rule::Authorization, 401, 10002, it.bare(Method::GET, path)).await?;
        for wrong in [format!("Basic {}", it.token), it.token.clone(), "Bearer guess".into()] {
            let request = it.bare(Method::GET, path).header("authorization", wrong);
            it.breaks(Rule::Authorization, 401, 1000, request).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn nothing_else_is_called() -> Result<()> {
    let it = start().await?;
    let elsewhere = [
        (Method::GET, "/v2/service_keys"),
        (Method::GET, "/v3/service_credential_bindings/"),
        (Method::GET, "/v3/apps"),
        (Method::PUT, KEYS),
        (Method::POST, "/v3/jobs/x"),
        (Method::GET, "/oauth/token"),
    ];
    for (method, path) in elsewhere {
        it.breaks(Rule::KnownRoute, 404, 10000, it.call(method, path)).await?;
    }
    assert_eq!(it.cf.count(Route::Unknown), 6);
    Ok(())
}

#[tokio::test]
async fn a_query_holds_known_parameters_once() -> Result<()> {
    let it = start().await?;
    for query in ["name=a", "names=", "names=a&names=b", "type=other", "include=space", "label_selector=a%3D"]
    {
        it.breaks(Rule::Query, 400, 10005, it.call(Method::GET, &format!("{KEYS}?{query}"))).await?;
    }
    for query in ["per_page=0", "per_page=5001", "per_page=all", "page=0"] {
        it.breaks(Rule::PerPage, 400, 10005, it.call(Method::GET, &format!("{KEYS}?{query}"))).await?;
    }
    it.breaks(Rule::Query, 400, 10005, it.call(Method::GET, "/v3/spaces?space_guids=x")).await?;
    it.breaks(
        Rule::Query,
        400,
        10005,
        it.call(Method::POST, &format!("{KEYS}?async=true")).json(&it.body("a")?),
    )
    .await?;
    it.breaks(Rule::Query, 400, 10005, it.call(Method::DELETE, &format!("{KEYS}/x?purge=true"))).await?;
    Ok(())
}

#[tokio::test]
async fn a_url_stays_within_what_routers_pass_on() -> Result<()> {
    let it = start().await?;
    let names = vec!["a-name-of-twenty-char"; 400].join(",");
    let response = it.call(Method::GET, &format!("{KEYS}?names={names}")).send().await?;
    assert_eq!(response.status(), 414);
    assert_eq!(it.cf.take_violations()[0].rule, Rule::UrlLength);
    Ok(())
}

#[tokio::test]
async fn a_body_is_declared_as_json() -> Result<()> {
    let it = start().await?;
    let body = it.body("a")?.to_string();
    let request = || it.call(Method::POST, KEYS).body(body.clone());
    it.breaks(Rule::ContentType, 400, 1001, request()).await?;
    it.breaks(Rule::ContentType, 400, 1001, request().header("content-type", "text/plain")).await?;
    let broken = it.call(Method::POST, KEYS).header("content-type", "application/json").body("{");
    it.breaks(Rule::Body, 400, 1001, broken).await?;
    let request = request().header("content-type", "application/json; charset=utf-8");
    assert_eq!(request.send().await?.status(), 202);
    Ok(())
}

#[tokio::test]
async fn a_body_has_the_documented_fields() -> Result<()> {
    let it = start().await?;
    let wrong = [
        ("type", None),
        ("type", Some(json!("service"))),
        ("name", None),
        ("name", Some(json!(""))),
        ("name", Some(json!(7))),
        ("name", Some(json!("n".repeat(256)))),
        ("relationships", None),
        ("relationships", Some(json!({ "service_instance": { "guid": "x" } }))),
        ("relationships", Some(json!({ "service_instance": { "data": { "guid": "x" } }, "space": {} }))),
        ("parameters", Some(json!("text"))),
        ("metadata", Some(json!({ "labels": {}, "tags": [] }))),
        ("metadata", Some(json!({ "labels": { "a": 1 } }))),
        ("accepts_incomplete", Some(json!(true))),
    ];
    for (field, value) in wrong {
        it.breaks(Rule::Body, 422, 10008, it.create_with(field, value)?).await?;
    }
    assert_eq!(it.create_with("name", Some(json!("n".repeat(255))))?.send().await?.status(), 202);
    Ok(())
}

#[tokio::test]
async fn apps_are_not_bound() -> Result<()> {
    let it = start().await?;
    it.breaks(Rule::KeyType, 422, 10008, it.create_with("type", Some(json!("app")))?).await
}

#[tokio::test]
async fn labels_and_annotations_are_within_the_limits() -> Result<()> {
    let it = start().await?;
    let (key, _) = it.ask_for("b").await?;
    let wrong = [
        json!({ "labels": { "owner": "v".repeat(64) } }),
        json!({ "labels": { "owner": "a/b" } }),
        json!({ "labels": { "local/owner": "a" } }),
        json!({ "annotations": { "uid": "v".repeat(5001) } }),
        json!({ "annotations": { "": "a" } }),
    ];
    for metadata in wrong {
        it.breaks(Rule::Metadata, 422, 10008, it.create_with("metadata", Some(metadata.clone()))?).await?;
        let patch = it.call(Method::PATCH, &path(&key)).json(&json!({ "metadata": metadata }));
        it.breaks(Rule::Metadata, 422, 10008, patch).await?;
    }
    let patch = it.call(Method::PATCH, &path(&key)).json(&json!({ "name": "c" }));
    it.breaks(Rule::Body, 422, 10008, patch).await
}

#[tokio::test]
async fn keys_are_not_looked_up_one_by_one() -> Result<()> {
    let it = start_with(FakeCloudFoundry::builder().look_ups(2)).await?;
    let (key, job) = it.ask_for("a").await?;
    assert_eq!(it.get(&path(&key)).await?.0, 200);
    assert_eq!(it.get(&job).await?.0, 200);
    assert_eq!(it.cf.violations(), []);
    assert_eq!(it.get(&job).await?.0, 200, "it is answered all the same");
    assert_eq!(it.cf.take_violations()[0].rule, Rule::OneByOne);
    it.cf.allow_look_ups(1);
    assert_eq!(it.get(&path(&key)).await?.0, 200);
    assert_eq!(it.names(KEYS).await?, ["a"]);
    assert_eq!(it.get(&format!("{}/details", path(&key))).await?.0, 200);
    Ok(())
}
