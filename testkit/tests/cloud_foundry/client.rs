//! A client whose requests are correct unless a test changes them.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use testkit::cloud_foundry::{Builder, FakeCloudFoundry, Key};

pub const INSTANCE: &str = "training-app-db";
pub const KEYS: &str = "/v3/service_credential_bindings";

/// A Cloud Foundry, and a client with a token of `alice`.
pub struct Fixture {
    pub cf: FakeCloudFoundry,
    pub client: Client,
    pub token: String,
}

pub async fn start() -> Result<Fixture> {
    start_with(FakeCloudFoundry::builder()).await
}

pub async fn start_with(builder: Builder) -> Result<Fixture> {
    // Only the first call of the process can install it.
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = Client::builder().timeout(Duration::from_secs(20)).build()?;
    let cf = builder.start().await?;
    let token = cf.issue_token("alice");
    Ok(Fixture { cf, client, token })
}

impl Fixture {
    /// A call of the Cloud Controller without a token.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.cf.url()))
    }

    /// The same with a token.
    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(&self.token)
    }

    pub async fn get(&self, path: &str) -> Result<(u16, Value)> {
        answer(self.call(Method::GET, path).send().await?).await
    }

    pub fn body(&self, name: &str) -> Result<Value> {
        let guid = self.cf.instance_guid(INSTANCE).context("no such instance")?;
        Ok(json!({
            "type": "key",
            "name": name,
            "relationships": { "service_instance": { "data": { "guid": guid } } },
            "parameters": { "permissions": "read-only" },
            "metadata": { "labels": { "example.com/owner": "me" }, "annotations": { "uid": "1" } },
        }))
    }

    pub fn create(&self, name: &str) -> Result<RequestBuilder> {
        Ok(self.call(Method::POST, KEYS).json(&self.body(name)?))
    }

    /// Requests a key, and returns it with the path of its job.
    pub async fn ask_for(&self, name: &str) -> Result<(Key, String)> {
        let job = self.job_of(self.create(name)?).await?;
        Ok((self.cf.key_named(INSTANCE, name).context("no such key")?, job))
    }

    pub fn delete(&self, key: &Key) -> RequestBuilder {
        self.call(Method::DELETE, &path(key))
    }

    /// The path of the job in the answer to a request.
    pub async fn job_of(&self, request: RequestBuilder) -> Result<String> {
        let response = request.send().await?;
        assert_eq!(response.status(), 202);
        let location = response.headers()["location"].to_str()?.to_owned();
        assert_eq!(response.text().await?, "");
        Ok(location.strip_prefix(&self.cf.url()).context("a link to the same host")?.to_owned())
    }

    /// The state of a job, and its first error.
    pub async fn job(&self, path: &str) -> Result<(String, Value)> {
        let (status, job) = self.get(path).await?;
        assert_eq!(status, 200);
        let error = job["errors"].get(0).cloned().unwrap_or_default();
        Ok((job["state"].as_str().context("a state")?.to_owned(), error))
    }

    /// The status, code and detail of an error.
    pub async fn error(&self, request: RequestBuilder) -> Result<(u16, u64, String)> {
        let (status, body) = answer(request.send().await?).await?;
        let error = &body["errors"][0];
        assert!(error["title"].as_str().is_some_and(|title| title.starts_with("CF-")), "{body}");
        let detail = error["detail"].as_str().context("a detail")?.to_owned();
        Ok((status, error["code"].as_u64().context("a code")?, detail))
    }

    /// The detail of a 422.
    pub async fn refused(&self, request: RequestBuilder) -> Result<String> {
        let (status, code, detail) = self.error(request).await?;
        assert_eq!((status, code), (422, 10008), "{detail}");
        Ok(detail)
    }

    /// The names in a list.
    pub async fn names(&self, path: &str) -> Result<Vec<String>> {
        let (status, body) = self.get(path).await?;
        assert_eq!(status, 200, "{body}");
        names(&body)
    }

    /// The UAA's answer to a form of the client `cf`.
    pub async fn ask_uaa(&self, form: &[(&str, &str)]) -> Result<(u16, Value)> {
        answer(self.uaa_as(("cf", ""), form).send().await?).await
    }

    pub fn uaa_as(&self, (id, secret): (&str, &str), form: &[(&str, &str)]) -> RequestBuilder {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.client
            .post(format!("{}/oauth/token", self.cf.uaa_url()))
            .header("authorization", format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    }
}

pub fn path(key: &Key) -> String {
    format!("{KEYS}/{}", key.guid)
}

/// Status and JSON body of an answer.
pub async fn answer(response: Response) -> Result<(u16, Value)> {
    Ok((response.status().as_u16(), response.json().await?))
}

pub fn names(list: &Value) -> Result<Vec<String>> {
    let resources = list["resources"].as_array().context("a list")?;
    let name = |resource: &Value| resource["name"].as_str().map(str::to_owned).context("a name");
    resources.iter().map(name).collect()
}
