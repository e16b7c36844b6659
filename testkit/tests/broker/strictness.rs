//! The violations that a strict broker reports of a client.

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Method, RequestBuilder, header::HeaderValue};
use serde_json::{Value, json};
use testkit::broker::{FakeBroker, Instance, Route, Rule};
use uuid::Uuid;

use crate::client::{Fixture, INSTANCE, path, start, start_with};

impl Fixture {
    /// Sends a request that breaks exactly this rule and has no effect.
    pub async fn breaks(&self, rule: Rule, status: u16, request: RequestBuilder) -> Result<()> {
        let before = self.broker.bindings();
        let response = request.send().await?;
        let rules: Vec<_> = self.broker.take_violations().iter().map(|violation| violation.rule).collect();
        assert_eq!((rules.as_slice(), response.status().as_u16()), (&[rule][..], status));
        let body: Value = response.json().await?;
        assert!(body["description"].is_string(), "{body}");
        assert_eq!(self.broker.bindings(), before);
        Ok(())
    }

    /// A bind with another value in a header, or without the header.
    fn bind_with_header(&self, name: &'static str, value: Option<&str>) -> Result<RequestBuilder> {
        let mut request = self.bind(Uuid::new_v4())?.build()?;
        match value {
            Some(value) => request.headers_mut().insert(name, HeaderValue::from_str(value)?),
            None => request.headers_mut().remove(name),
        };
        Ok(RequestBuilder::from_parts(self.client.clone(), request))
    }

    /// A bind with another value in a field of its body, or without the field.
    fn bind_with_field(&self, name: &str, value: Option<Value>) -> Result<RequestBuilder> {
        let mut body = self.body()?;
        match value {
            Some(value) => body[name] = value,
            None => drop(body.as_object_mut().and_then(|fields| fields.remove(name))),
        }
        Ok(self.bind(Uuid::new_v4())?.json(&body))
    }
}

fn kubernetes(value: &str) -> String {
    format!("kubernetes {}", STANDARD.encode(value))
}

#[tokio::test]
async fn the_login_has_to_be_right() -> Result<()> {
    let it = start().await?;
    let wrong = format!("Basic {}", STANDARD.encode("operator:guess"));
    for sent in [None, Some(wrong.as_str()), Some("Bearer broker-password"), Some("Basic !")] {
        it.breaks(Rule::Login, 401, it.bind_with_header("authorization", sent)?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_api_version_has_to_be_2_17() -> Result<()> {
    let it = start().await?;
    for sent in [None, Some("2.16"), Some("2"), Some("")] {
        it.breaks(Rule::ApiVersion, 412, it.bind_with_header("x-broker-api-version", sent)?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_request_has_an_identity() -> Result<()> {
    let it = start().await?;
    for sent in [None, Some("7"), Some("")] {
        let request = it.bind_with_header("x-broker-api-request-identity", sent)?;
        it.breaks(Rule::RequestIdentity, 400, request).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_request_identity_comes_back() -> Result<()> {
    let it = start().await?;
    let identity = "0f4bb1f5-5a5f-4f6c-9d2e-7ad3a9a0c001";
    let response = it.bind_with_header("x-broker-api-request-identity", Some(identity))?.send().await?;
    assert_eq!(response.headers()["x-broker-api-request-identity"], identity);
    assert_eq!(it.broker.calls()[0].request_identity.as_deref(), Some(identity));
    Ok(())
}

#[tokio::test]
async fn a_user_stands_behind_every_call_for_a_binding() -> Result<()> {
    let it = start().await?;
    let whole = json!({ "username": "alice", "uid": "1", "groups": [], "extra": {} });
    let without = |field: &str| {
        let mut user = whole.clone();
        user.as_object_mut().map(|fields| fields.remove(field));
        kubernetes(&user.to_string())
    };
    let malformed = [
        without("username"),
        without("uid"),
        without("groups"),
        without("extra"),
        kubernetes("alice"),
        kubernetes(r#"{"username":"","uid":"","groups":[],"extra":{}}"#),
        format!("cloudfoundry {}", STANDARD.encode(whole.to_string())),
        format!("kubernetes {whole}"),
        "kubernetes".to_owned(),
    ];
    let name = "x-broker-api-originating-identity";
    for sent in malformed.iter().map(String::as_str).map(Some).chain([None]) {
        it.breaks(Rule::OriginatingIdentity, 400, it.bind_with_header(name, sent)?).await?;
    }
    let mut request = it.fetch(Uuid::new_v4()).build()?;
    request.headers_mut().remove(name);
    let request = RequestBuilder::from_parts(it.client.clone(), request);
    it.breaks(Rule::OriginatingIdentity, 400, request).await?;

    let mut request = it.unbind(Uuid::new_v4())?.build()?;
    request.headers_mut().remove(name);
    assert_eq!(it.client.execute(request).await?.status(), 410, "orphan mitigation has no originating user");
    Ok(())
}

#[tokio::test]
async fn the_catalog_needs_no_user() -> Result<()> {
    let it = start().await?;
    let mut request = it.call(Method::GET, "/v2/catalog").build()?;
    request.headers_mut().remove("x-broker-api-originating-identity");
    assert_eq!(it.client.execute(request).await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn a_binding_id_is_a_uuid_in_its_usual_form() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    let odd = [
        id.to_string().to_uppercase(),
        id.simple().to_string(),
        "monitoring-creds".to_owned(),
        String::new(),
    ];
    for id in odd {
        it.breaks(Rule::BindingId, 400, it.call(Method::PUT, &path(id)).json(&it.body()?)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_body_says_that_it_is_json() -> Result<()> {
    let it = start().await?;
    for sent in [None, Some("text/plain"), Some("application/json-patch+json")] {
        it.breaks(Rule::ContentType, 400, it.bind_with_header("content-type", sent)?).await?;
    }
    let request = it.bind_with_header("content-type", Some("Application/JSON; charset=utf-8"))?;
    assert_eq!(request.send().await?.status(), 201);
    Ok(())
}

#[tokio::test]
async fn a_body_has_the_specified_fields_and_no_others() -> Result<()> {
    let it = start().await?;
    for missing in ["service_id", "plan_id", "context"] {
        it.breaks(Rule::Body, 400, it.bind_with_field(missing, None)?).await?;
    }
    let wrong = [
        ("name", json!("monitoring-creds")),
        ("parameters", json!([])),
        ("service_id", json!(7)),
        ("app_guid", json!("")),
        ("predecessor_binding_id", json!("previous")),
    ];
    for (field, value) in wrong {
        it.breaks(Rule::Body, 400, it.bind_with_field(field, Some(value))?).await?;
    }
    it.breaks(Rule::Body, 400, it.bind(Uuid::new_v4())?.body("{")).await?;
    Ok(())
}

#[tokio::test]
async fn an_enormous_request_is_not_read() -> Result<()> {
    let it = start_with(FakeBroker::builder().tolerate(Rule::Body)).await?;
    let mut body = it.body()?;
    body["parameters"] = json!({ "padding": "x".repeat(1024 * 1024) });
    // The broker may answer before the client has sent everything. The client then sees either an answer or an error.
    drop(it.bind(Uuid::new_v4())?.json(&body).send().await);
    let calls = it.broker.wait_for_calls(|calls| !calls.is_empty()).await?;
    assert_eq!(calls[0].body, None);
    assert_eq!(it.broker.bindings(), []);
    Ok(())
}

#[tokio::test]
async fn the_context_names_platform_and_namespace() -> Result<()> {
    let it = start().await?;
    let wrong = [
        json!({}),
        json!({ "platform": "kubernetes" }),
        json!({ "platform": "kubernetes", "namespace": "" }),
        json!({ "platform": "cloudfoundry", "namespace": "training" }),
    ];
    for context in wrong {
        it.breaks(Rule::Context, 400, it.bind_with_field("context", Some(context))?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn offering_and_plan_are_those_of_the_instance() -> Result<()> {
    let it = start().await?;
    let catalog = it.broker.catalog();
    let id_of = |offering: &str, plan: &str| {
        catalog.find(offering).and_then(|offering| offering.find(plan)).map(|plan| plan.id.clone())
    };
    let wrong = [
        ("service_id", Some("no-such-offering".to_owned())),
        ("service_id", Some("postgresql".to_owned())),
        ("service_id", catalog.find("redis").map(|offering| offering.id.clone())),
        ("plan_id", Some("small".to_owned())),
        ("plan_id", id_of("redis", "small")),
        ("plan_id", id_of("postgresql", "rotating")),
    ];
    for (field, value) in &wrong {
        let request = it.bind_with_field(field, Some(json!(value)))?;
        it.breaks(Rule::OfferingAndPlan, 400, request).await?;
    }
    let request = it.call(Method::DELETE, &format!("{}?service_id=a&plan_id=b", path(Uuid::new_v4())));
    it.breaks(Rule::OfferingAndPlan, 400, request).await?;
    let request = it.call(Method::GET, &format!("{}?plan_id=b", path(Uuid::new_v4())));
    it.breaks(Rule::OfferingAndPlan, 400, request).await?;
    Ok(())
}

#[tokio::test]
async fn a_query_holds_known_parameters_once() -> Result<()> {
    let it = start().await?;
    let body = it.body()?;
    for query in [
        "accepts_incomplete=yes",
        "accepts_incomplete=",
        "force=true",
        "plan_id=",
        "plan_id=a&plan_id=a",
        "operation=a",
    ] {
        let request = it.call(Method::PUT, &format!("{}?{query}", path(Uuid::new_v4()))).json(&body);
        it.breaks(Rule::Query, 400, request).await?;
    }
    for query in ["accepts_incomplete=true", "accepts_incomplete=false"] {
        let request = it.call(Method::PUT, &format!("{}?{query}", path(Uuid::new_v4()))).json(&body);
        assert_eq!(request.send().await?.status(), 201);
    }
    Ok(())
}

#[tokio::test]
async fn an_unbind_says_offering_and_plan() -> Result<()> {
    let it = start().await?;
    let (service, plan) = (it.service_id()?, it.plan_id()?);
    for query in [String::new(), format!("service_id={service}"), format!("plan_id={plan}")] {
        let request = it.call(Method::DELETE, &format!("{}?{query}", path(Uuid::new_v4())));
        it.breaks(Rule::Query, 400, request).await?;
    }
    Ok(())
}

async fn at(offering: &'static str, plan: &'static str) -> Result<Fixture> {
    let instance = Instance::new(INSTANCE, offering, plan);
    let it = start_with(FakeBroker::builder().without_instances().instance(instance)).await?;
    Ok(it.asking_for(offering, plan))
}

#[tokio::test]
async fn what_cant_be_bound_is_not_bound() -> Result<()> {
    let it = at("postgresql", "archive").await?;
    it.breaks(Rule::Bindable, 400, it.bind(Uuid::new_v4())?).await
}

#[tokio::test]
async fn what_cant_be_read_back_is_not_read_back() -> Result<()> {
    let it = at("metrics", "basic").await?;
    let id = Uuid::new_v4();
    assert_eq!(it.bind(id)?.send().await?.status(), 201);
    it.breaks(Rule::Retrievable, 400, it.fetch(id)).await
}

#[tokio::test]
async fn what_cant_be_read_back_is_not_bound_in_time() -> Result<()> {
    let it = at("metrics", "basic").await?;
    it.breaks(Rule::AcceptsIncomplete, 400, it.bind_in_time(Uuid::new_v4())?).await
}

#[tokio::test]
async fn what_cant_be_rotated_has_no_predecessor() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    it.bind(id)?.send().await?.error_for_status()?;
    let request = it.bind_with_field("predecessor_binding_id", Some(json!(id)))?;
    it.breaks(Rule::Rotatable, 400, request).await
}

#[tokio::test]
async fn there_is_nothing_to_poll() -> Result<()> {
    let it = start().await?;
    let id = Uuid::new_v4();
    it.breaks(Rule::UnderWay, 404, it.poll(id, None)?).await?;
    it.bind(id)?.send().await?.error_for_status()?;
    it.breaks(Rule::UnderWay, 404, it.poll(id, None)?).await?;
    assert_eq!(it.broker.count(Route::LastOperation), 2);
    Ok(())
}

#[tokio::test]
async fn nothing_else_is_called() -> Result<()> {
    let it = start().await?;
    let elsewhere = [
        (Method::GET, "/"),
        (Method::PUT, "/v2/service_instances/x"),
        (Method::POST, "/v2/catalog"),
        (Method::GET, "/v2/catalog/"),
    ];
    for (method, path) in elsewhere {
        it.breaks(Rule::KnownRoute, 404, it.call(method, path)).await?;
    }
    Ok(())
}
