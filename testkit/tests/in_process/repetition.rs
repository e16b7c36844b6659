//! The same seed gives the same answers and the same record; another seed gives other ids.

use std::{fmt::Debug, time::Duration};

use anyhow::{Context, Result};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::{
    broker::{FakeBroker, Login, Pace},
    cloud_foundry::{self, FakeCloudFoundry, RateLimit},
    ibm_cloud::{self, FakeIbmCloud},
    remote::Environment,
    token_server::TokenServer,
};
use uuid::Uuid;

use crate::client::{BrokerCalls, INSTANCE, Transcript, environment, http_client, path, simulate};

/// Checks that a script repeats itself. It returns the answers, and the record of the fake.
fn repeats<R: Debug + PartialEq>(script: impl AsyncFn(Environment) -> Result<(Transcript, R)>) -> Result<()> {
    let run = |seed| simulate(async { script(environment(seed)).await });
    let ((first, record), (second, same_record), (other, _)) = (run(1)?, run(1)?, run(2)?);
    assert_eq!(first.0, second.0);
    assert_eq!(record, same_record);
    let same: Vec<_> = first.0.iter().zip(&other.0).filter(|(one, other)| one == other).collect();
    assert!(same.len() < first.0.len(), "the seed has no influence on {same:?}");
    Ok(())
}

#[test]
fn a_broker_repeats_itself() -> Result<()> {
    let client = http_client()?;
    repeats(async |environment| {
        let broker = FakeBroker::builder().environment(environment).in_process("broker.example")?;
        let calls = BrokerCalls { broker: &broker, client: &client };
        let mut answers = Transcript::default();
        answers.send(|call| broker.call(call), calls.call(Method::GET, "/v2/catalog"), 200).await?;
        for number in 0..3 {
            answers.send(|call| broker.call(call), calls.bind(Uuid::from_u128(number))?, 201).await?;
        }
        broker.change_pace(Pace::polls(1));
        let slow = Uuid::from_u128(7);
        for request in [calls.bind(slow)?, calls.unbind(Uuid::nil())?] {
            answers.send(|call| broker.call(call), request, 202).await?;
        }
        for open in broker.under_way() {
            let token = open.token.unwrap_or_default();
            for _ in 0..2 {
                answers.send(|call| broker.call(call), calls.poll(open.binding, &token), 200).await?;
            }
        }
        let fetch = calls.call(Method::GET, &path(slow));
        answers.send(|call| broker.call(call), fetch, 200).await?;
        Ok((answers, (broker.calls(), broker.bindings(), broker.violations())))
    })
}

#[test]
fn a_token_server_repeats_itself() -> Result<()> {
    let client = http_client()?;
    repeats(async |environment| {
        let server = TokenServer::builder().expires_in(20).environment(environment.clone());
        let server = server.in_process("tokens.example")?;
        let broker = FakeBroker::builder().login(Login::oauth(&server)).environment(environment);
        let broker = broker.in_process("broker.example")?;
        let (mut answers, mut tokens) = (Transcript::default(), Vec::new());
        for _ in 0..3 {
            let login = [("client_id", "operator"), ("client_secret", "client-secret")];
            let request =
                form(&client, &server.url(), &[login[0], login[1], ("grant_type", "client_credentials")]);
            let token = answers.send(|call| server.call(call), request, 200).await?;
            tokens.push(text(&token, "access_token")?);
        }
        let calls = BrokerCalls { broker: &broker, client: &client };
        for (token, status) in [(&tokens[2], 200), (&tokens[0], 401)] {
            let mut request = calls.call(Method::GET, "/v2/catalog").build()?;
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
            let request = RequestBuilder::from_parts(client.clone(), request);
            answers.send(|call| broker.call(call), request, status).await?;
        }
        broker.take_violations().clear();
        Ok((answers, (server.calls(), server.tokens(), broker.calls())))
    })
}

#[test]
fn a_cloud_foundry_repeats_itself() -> Result<()> {
    let client = http_client()?;
    repeats(async |environment| {
        let builder = FakeCloudFoundry::builder().environment(environment);
        let cf = builder.in_process("cf.example")?;
        let mut answers = Transcript::default();
        let login = [("grant_type", "password"), ("username", "alice"), ("password", "cf-password")];
        let request =
            form(&client, &format!("{}/oauth/token", cf.uaa_url()), &login).basic_auth("cf", Some(""));
        let token = text(&answers.send(|call| cf.call(call), request, 200).await?, "access_token")?;
        let ask =
            |method, path: &str| client.request(method, format!("{}{path}", cf.url())).bearer_auth(&token);
        for list in ["/", "/v3", "/v3/organizations", "/v3/spaces", "/v3/service_instances"] {
            answers.send(|call| cf.call(call), ask(Method::GET, list), 200).await?;
        }
        let instance = cf.instance_guid(INSTANCE).context("no instance")?;
        let create = |name: &str| {
            let instance = json!({ "service_instance": { "data": { "guid": instance } } });
            ask(Method::POST, KEYS).json(&json!({ "type": "key", "name": name, "relationships": instance }))
        };
        for name in ["a", "b", "c"] {
            answers.send(|call| cf.call(call), create(name), 202).await?;
        }
        cf.change_pace(cloud_foundry::Pace::looks(2));
        answers.send(|call| cf.call(call), create("d"), 202).await?;
        let first = cf.keys().remove(0);
        answers
            .send(|call| cf.call(call), ask(Method::DELETE, &format!("{KEYS}/{}", first.guid)), 202)
            .await?;
        for open in cf.under_way() {
            for _ in 0..3 {
                let job = ask(Method::GET, &format!("/v3/jobs/{}", open.job));
                answers.send(|call| cf.call(call), job, 200).await?;
            }
        }
        answers.send(|call| cf.call(call), ask(Method::GET, &format!("{KEYS}?per_page=2")), 200).await?;
        cf.limit_rate(Some(RateLimit { requests: 1, window: Duration::from_secs(60) }));
        for key in cf.live_keys().iter().take(2).zip([200, 429]).map(|(key, status)| (&key.guid, status)) {
            let details = ask(Method::GET, &format!("{KEYS}/{}/details", key.0));
            answers.send(|call| cf.call(call), details, key.1).await?;
        }
        Ok((answers, (cf.calls(), cf.keys(), cf.tokens())))
    })
}

#[test]
fn an_ibm_cloud_repeats_itself() -> Result<()> {
    let client = http_client()?;
    repeats(async |environment| {
        let builder = FakeIbmCloud::builder().instance(ibm_cloud::Instance::auditing("audit"));
        let ibm = builder.environment(environment).in_process("ibm.example")?;
        let mut answers = Transcript::default();
        let login = [("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", "ibm-api-key")];
        let request = form(&client, &format!("{}/identity/token", ibm.iam_url()), &login);
        let token = text(&answers.send(|call| ibm.call(call), request, 200).await?, "access_token")?;
        let ask = |method, host: String, path: &str| {
            client.request(method, format!("{host}{path}")).bearer_auth(&token)
        };
        let account = ibm.account_id();
        let wish = json!({ "account_id": account, "name": "app", "description": "for a test" });
        let service_id = ask(Method::POST, ibm.iam_url(), "/v1/serviceids").json(&wish);
        let service_id = answers.send(|call| ibm.call(call), service_id, 201).await?;
        let policy = ask(Method::POST, ibm.iam_url(), "/v1/policies").json(&json!({
            "type": "access",
            "subjects": [{ "attributes": [{ "name": "iam_id", "value": service_id["iam_id"] }] }],
            "roles": [{ "role_id": "crn:v1:bluemix:public:iam::::serviceRole:Manager" }],
            "resources": [{ "attributes": [
                { "name": "accountId", "value": account },
                { "name": "serviceName", "value": "cloudantnosqldb" },
            ] }],
        }));
        answers.send(|call| ibm.call(call), policy, 201).await?;
        for (name, instance) in [("a", INSTANCE), ("b", INSTANCE), ("c", "audit")] {
            let source = ibm.instance_guid(instance);
            let wish =
                json!({ "name": name, "source": source, "role": "Manager", "parameters": { "HMAC": true } });
            let create = ask(Method::POST, ibm.url(), IBM_KEYS).json(&wish);
            answers.send(|call| ibm.call(call), create, 201).await?;
        }
        let key = |name: &str| ibm.keys_named(name).first().map(|key| format!("{IBM_KEYS}/{}", key.guid));
        let gone = key("a").context("no key")?;
        answers.send(|call| ibm.call(call), ask(Method::DELETE, ibm.url(), &gone), 204).await?;
        answers.send(|call| ibm.call(call), ask(Method::DELETE, ibm.url(), &gone), 410).await?;
        let mut list = Some(format!("{IBM_KEYS}?limit=1"));
        while let Some(path) = list {
            let page = answers.send(|call| ibm.call(call), ask(Method::GET, ibm.url(), &path), 200).await?;
            list = page["next_url"].as_str().map(str::to_owned);
        }
        let unknown = ask(Method::GET, ibm.iam_url(), "/v1/serviceids/unknown");
        answers.send(|call| ibm.call(call), unknown, 404).await?;
        let roles = ask(Method::GET, ibm.iam_url(), &format!("/v2/roles?account_id={account}"));
        answers.send(|call| ibm.call(call), roles, 200).await?;
        Ok((answers, (ibm.calls(), ibm.keys(), ibm.policies(), ibm.tokens())))
    })
}

const KEYS: &str = "/v3/service_credential_bindings";
const IBM_KEYS: &str = "/v2/resource_keys";

fn form(client: &Client, url: &str, pairs: &[(&str, &str)]) -> RequestBuilder {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    client.post(url).header("content-type", "application/x-www-form-urlencoded").body(body)
}

fn text(body: &Value, field: &str) -> Result<String> {
    body[field].as_str().map(str::to_owned).with_context(|| format!("no `{field}`"))
}
