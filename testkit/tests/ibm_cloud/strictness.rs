//! The violations that the fake reports of a client.

use anyhow::Result;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::ibm_cloud::{FakeIbmCloud, Instance, InstanceState, Route, Rule};

use crate::client::{
    Fixture, INSTANCE, INSTANCES, KEYS, POLICIES, SERVICE_IDS, answer, path, start, start_with,
};

impl Fixture {
    /// Sends a request that breaks exactly this rule and has no effect.
    async fn breaks(&self, rule: Rule, status: u16, request: RequestBuilder) -> Result<()> {
        let exists = || (self.ibm.keys(), self.ibm.service_ids(), self.ibm.policies());
        let before = exists();
        let (seen, body) = answer(request.send().await?).await?;
        let rules: Vec<_> = self.ibm.take_violations().iter().map(|violation| violation.rule).collect();
        assert_eq!((rules.as_slice(), seen), (&[rule][..], status), "{body}");
        assert_eq!(body["status_code"], json!(status), "{body}");
        assert_eq!(exists(), before);
        Ok(())
    }

    /// A request for a key with another value in a field of its body, or without the field.
    fn create_with(&self, field: &str, value: Option<Value>) -> Result<RequestBuilder> {
        Ok(self.call(Method::POST, KEYS).json(&changed(self.body("a")?, field, value)))
    }
}

fn changed(mut body: Value, field: &str, value: Option<Value>) -> Value {
    match value {
        Some(value) => body[field] = value,
        None => drop(body.as_object_mut().and_then(|fields| fields.remove(field))),
    }
    body
}

#[tokio::test]
async fn every_call_shows_a_token() -> Result<()> {
    let it = start().await?;
    for path in [KEYS, INSTANCES, "/v2/roles", SERVICE_IDS, POLICIES] {
        it.breaks(Rule::Authorization, 401, it.bare(Method::GET, path)).await?;
        for wrong in [format!("Basic {}", it.token), it.token.clone(), "Bearer guess".into()] {
            let request = it.bare(Method::GET, path).header("authorization", wrong);
            it.breaks(Rule::Authorization, 401, request).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn nothing_else_is_called() -> Result<()> {
    let it = start().await?;
    let elsewhere = [
        (Method::GET, "/v2/resource_bindings"),
        (Method::GET, "/v2/resource_keys/"),
        (Method::GET, "/v2/resource_keys/crn:v1:a/b"),
        (Method::POST, INSTANCES),
        (Method::PUT, KEYS),
        (Method::GET, "/identity/token"),
        (Method::GET, "/v1/apikeys"),
        (Method::PUT, SERVICE_IDS),
    ];
    for (method, path) in elsewhere {
        it.breaks(Rule::KnownRoute, 404, it.call(method, path)).await?;
    }
    assert_eq!(it.ibm.count(Route::Unknown), 8);
    Ok(())
}

#[tokio::test]
async fn a_query_holds_known_parameters_once() -> Result<()> {
    let it = start().await?;
    for query in ["names=a", "name=", "name=a&name=b", "updated_from=2026-01-01"] {
        it.breaks(Rule::Query, 400, it.call(Method::GET, &format!("{KEYS}?{query}"))).await?;
    }
    for query in ["limit=0", "limit=101", "limit=all", "start=guess"] {
        it.breaks(Rule::Page, 400, it.call(Method::GET, &format!("{KEYS}?{query}"))).await?;
    }
    let account = it.ibm.account_id();
    let of_iam = [
        (Rule::Query, SERVICE_IDS.to_owned()),
        (Rule::Query, POLICIES.to_owned()),
        (Rule::Page, format!("{SERVICE_IDS}?account_id={account}&pagesize=101")),
        (Rule::Page, format!("{SERVICE_IDS}?pagetoken=guess")),
        (Rule::Account, format!("{SERVICE_IDS}?account_id=other")),
        (Rule::Account, format!("{POLICIES}?account_id=other")),
        (Rule::Account, "/v2/roles?account_id=other".into()),
    ];
    for (rule, path) in of_iam {
        it.breaks(rule, 400, it.call(Method::GET, &path)).await?;
    }
    it.breaks(Rule::Query, 400, it.call(Method::GET, &format!("{INSTANCES}?state=odd"))).await?;
    it.breaks(Rule::Query, 400, it.call(Method::DELETE, &format!("{KEYS}/x?recursive=true"))).await
}

#[tokio::test]
async fn a_body_is_declared_as_json() -> Result<()> {
    let it = start().await?;
    let body = it.body("a")?.to_string();
    let request = || it.call(Method::POST, KEYS).body(body.clone());
    it.breaks(Rule::ContentType, 400, request()).await?;
    it.breaks(Rule::ContentType, 400, request().header("content-type", "text/plain")).await?;
    let broken = it.call(Method::POST, KEYS).header("content-type", "application/json").body("{");
    it.breaks(Rule::Body, 400, broken).await?;
    let request = request().header("content-type", "application/json; charset=utf-8");
    assert_eq!(request.send().await?.status(), 201);
    Ok(())
}

#[tokio::test]
async fn a_body_has_the_documented_fields() -> Result<()> {
    let it = start().await?;
    let wrong = [
        ("name", None),
        ("name", Some(json!(""))),
        ("name", Some(json!("a/b"))),
        ("name", Some(json!("n".repeat(181)))),
        ("source", None),
        ("parameters", Some(json!("text"))),
        ("parameters", Some(json!({ "HMAC": "true" }))),
        ("parameters", Some(json!({ "serviceid_crn": 1 }))),
        ("resource_group", Some(json!("default"))),
    ];
    for (field, value) in wrong {
        it.breaks(Rule::Body, 400, it.create_with(field, value)?).await?;
    }
    let key = it.created(&"n".repeat(180)).await?;
    let rename = it.call(Method::PATCH, &path(&key)?).json(&json!({ "name": "b", "role": "Writer" }));
    it.breaks(Rule::Body, 400, rename).await?;
    let service_id = json!({ "account_id": it.ibm.account_id(), "name": "a", "apikey": {} });
    it.breaks(Rule::Body, 400, it.call(Method::POST, SERVICE_IDS).json(&service_id)).await?;
    let elsewhere = json!({ "account_id": "other", "name": "a" });
    it.breaks(Rule::Account, 400, it.call(Method::POST, SERVICE_IDS).json(&elsewhere)).await
}

#[tokio::test]
async fn a_key_is_for_what_exists() -> Result<()> {
    let gone = Instance::new("gone").state(InstanceState::Removed);
    let it = start_with(FakeIbmCloud::builder().instance(gone)).await?;
    it.breaks(Rule::Role, 400, it.create_with("role", Some(json!("Gardener")))?).await?;
    let platform_role = "crn:v1:bluemix:public:iam::::role:Editor";
    it.breaks(Rule::Role, 400, it.create_with("role", Some(json!(platform_role)))?).await?;
    let unknown =
        json!({ "serviceid_crn": "crn:v1:bluemix:public:iam-identity::a/1::serviceid:ServiceId-1" });
    it.breaks(Rule::ServiceId, 400, it.create_with("parameters", Some(unknown))?).await?;
    let gone = json!(it.ibm.instance_guid("gone"));
    it.breaks(Rule::ActiveInstance, 422, it.create_with("source", Some(gone))?).await
}

#[tokio::test]
async fn a_policy_is_for_what_exists() -> Result<()> {
    let it = start().await?;
    let service_id = it.ibm.add_service_id("a");
    let policy = it.policy(&service_id.iam_id)?;
    let attributes = |attributes: Value| Some(json!([{ "attributes": attributes }]));
    let account = json!({ "name": "accountId", "value": it.ibm.account_id() });
    let wrong = [
        (Rule::Body, "type", Some(json!("authorization"))),
        (Rule::Body, "subjects", Some(json!([]))),
        (Rule::Body, "subjects", attributes(json!([{ "name": "access_group_id", "value": "a" }]))),
        (Rule::ServiceId, "subjects", attributes(json!([{ "name": "iam_id", "value": "iam-other" }]))),
        (Rule::Body, "roles", Some(json!([]))),
        (Rule::Role, "roles", Some(json!([{ "role_id": "Manager" }]))),
        (Rule::Body, "resources", attributes(json!([]))),
        (Rule::Account, "resources", attributes(json!([{ "name": "accountId", "value": "other" }]))),
        (Rule::Body, "resources", attributes(json!([account, { "name": "serviceName", "value": "other" }]))),
        (Rule::Body, "resources", attributes(json!([account, { "name": "serviceInstance", "value": "a" }]))),
        (Rule::Body, "resources", attributes(json!([account, account]))),
        (
            Rule::Body,
            "resources",
            attributes(json!([account, { "name": "region", "value": "eu", "operator": "equals" }])),
        ),
        (Rule::Body, "state", Some(json!("active"))),
    ];
    for (rule, field, value) in wrong {
        it.breaks(rule, 400, it.create_policy(&changed(policy.clone(), field, value))).await?;
    }
    assert_eq!(it.create_policy(&policy).send().await?.status(), 201);
    Ok(())
}

#[tokio::test]
async fn more_calls_than_the_limit_allows_are_held_against_the_client() -> Result<()> {
    let limit = 1.try_into()?;
    let it = start_with(FakeIbmCloud::builder().limit(limit)).await?;
    assert_eq!(it.get(KEYS).await?.0, 200);
    it.breaks(Rule::RateLimit, 429, it.call(Method::GET, KEYS)).await
}

#[tokio::test]
async fn secrets_are_not_in_what_a_test_prints() -> Result<()> {
    let it = start().await?;
    let key = it.created("a").await?;
    let password = key["credentials"]["password"].as_str().unwrap_or_default().to_owned();
    assert!(!password.is_empty());
    let printed = format!("{:?} {:?} {:?}", it.ibm.keys(), it.ibm.calls(), it.ibm);
    assert!(printed.contains("password") && !printed.contains(&password), "{printed}");
    assert!(it.ibm.add_key(INSTANCE, "b").is_some());
    Ok(())
}
