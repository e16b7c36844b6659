//! A client whose requests are correct unless a test changes them.

use std::time::Duration;

use anyhow::{Context, Result};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use testkit::ibm_cloud::{Builder, FakeIbmCloud, Key};

pub const INSTANCE: &str = "training-app-db";
pub const KEYS: &str = "/v2/resource_keys";
pub const INSTANCES: &str = "/v2/resource_instances";
pub const SERVICE_IDS: &str = "/v1/serviceids";
pub const POLICIES: &str = "/v1/policies";
pub const MANAGER: &str = "crn:v1:bluemix:public:iam::::serviceRole:Manager";

/// An IBM Cloud, and a client with a token of `alice`.
pub struct Fixture {
    pub ibm: FakeIbmCloud,
    pub client: Client,
    pub token: String,
}

pub async fn start() -> Result<Fixture> {
    start_with(FakeIbmCloud::builder()).await
}

pub async fn start_with(builder: Builder) -> Result<Fixture> {
    // Only the first call of the process can install it.
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = Client::builder().timeout(Duration::from_secs(20)).build()?;
    let ibm = builder.start().await?;
    let token = ibm.issue_token("alice");
    Ok(Fixture { ibm, client, token })
}

impl Fixture {
    /// A call without a token, to the host of the path.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        let is_of_iam = path.starts_with("/v1/") || path.starts_with("/v2/roles");
        let host = if is_of_iam { self.ibm.iam_url() } else { self.ibm.url() };
        self.client.request(method, format!("{host}{path}"))
    }

    /// The same with a token.
    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(&self.token)
    }

    pub async fn get(&self, path: &str) -> Result<(u16, Value)> {
        answer(self.call(Method::GET, path).send().await?).await
    }

    pub async fn delete(&self, path: &str) -> Result<u16> {
        Ok(self.call(Method::DELETE, path).send().await?.status().as_u16())
    }

    pub fn body(&self, name: &str) -> Result<Value> {
        let source = self.ibm.instance_guid(INSTANCE).context("no such instance")?;
        Ok(json!({ "name": name, "source": source, "role": "Manager", "parameters": { "HMAC": true } }))
    }

    pub fn create(&self, name: &str) -> Result<RequestBuilder> {
        Ok(self.call(Method::POST, KEYS).json(&self.body(name)?))
    }

    /// Creates a key, and returns it as the answer shows it.
    pub async fn created(&self, name: &str) -> Result<Value> {
        let (status, key) = answer(self.create(name)?.send().await?).await?;
        assert_eq!(status, 201, "{key}");
        Ok(key)
    }

    pub fn create_service_id(&self, name: &str) -> RequestBuilder {
        let wish = json!({ "account_id": self.ibm.account_id(), "name": name, "description": "for a test" });
        self.call(Method::POST, SERVICE_IDS).json(&wish)
    }

    /// A policy for an iam_id at the instance.
    pub fn policy(&self, iam_id: &str) -> Result<Value> {
        let guid = self.ibm.instance_guid(INSTANCE).context("no such instance")?;
        Ok(json!({
            "type": "access",
            "subjects": [{ "attributes": [{ "name": "iam_id", "value": iam_id }] }],
            "roles": [{ "role_id": MANAGER }],
            "resources": [{ "attributes": [
                { "name": "accountId", "value": self.ibm.account_id() },
                { "name": "serviceName", "value": "cloudantnosqldb" },
                { "name": "serviceInstance", "value": guid, "operator": "stringEquals" },
            ] }],
        }))
    }

    pub fn create_policy(&self, policy: &Value) -> RequestBuilder {
        self.call(Method::POST, POLICIES).json(policy)
    }

    /// IAM's answer to a form.
    pub async fn ask_iam(&self, form: &[(&str, &str)]) -> Result<(u16, Value)> {
        answer(self.token_request(form).send().await?).await
    }

    pub fn token_request(&self, form: &[(&str, &str)]) -> RequestBuilder {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.client
            .post(format!("{}/identity/token", self.ibm.iam_url()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    }
}

/// Status and JSON body of an answer.
pub async fn answer(response: Response) -> Result<(u16, Value)> {
    let status = response.status().as_u16();
    let body = response.text().await?;
    Ok((status, serde_json::from_str(&body).with_context(|| format!("{status}: {body}"))?))
}

/// The path of a key by its GUID.
pub fn path(key: &Value) -> Result<String> {
    Ok(format!("{KEYS}/{}", key["guid"].as_str().context("a GUID")?))
}

/// The path of a key by its CRN.
pub fn crn_path(key: &Key) -> String {
    format!("{KEYS}/{}", utf8_percent_encode(&key.crn, NON_ALPHANUMERIC))
}

/// The names in a list of the Resource Controller.
pub fn names(list: &Value) -> Result<Vec<String>> {
    let resources = list["resources"].as_array().context("a list")?;
    let name = |resource: &Value| resource["name"].as_str().map(str::to_owned).context("a name");
    resources.iter().map(name).collect()
}
