//! A client whose requests are correct unless a test changes them.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use testkit::broker::{Builder, FakeBroker};
use uuid::Uuid;

pub const INSTANCE: &str = "training-app-db";

/// A broker, and a client with its login.
pub struct Fixture {
    pub broker: FakeBroker,
    pub client: Client,
    offering: &'static str,
    plan: &'static str,
}

pub fn http_client() -> reqwest::ClientBuilder {
    // Only the first call of the process can install it.
    rustls::crypto::ring::default_provider().install_default().ok();
    Client::builder().timeout(Duration::from_secs(20))
}

pub async fn start() -> Result<Fixture> {
    start_with(FakeBroker::builder()).await
}

pub async fn start_with(builder: Builder) -> Result<Fixture> {
    let client = http_client().build()?;
    Ok(Fixture { broker: builder.start().await?, client, offering: "postgresql", plan: "small" })
}

impl Fixture {
    /// Uses this offering and plan in later requests.
    pub fn asking_for(self, offering: &'static str, plan: &'static str) -> Self {
        Self { offering, plan, ..self }
    }

    pub fn service_id(&self) -> Result<String> {
        Ok(self.broker.catalog().find(self.offering).context("no such offering")?.id.clone())
    }

    pub fn plan_id(&self) -> Result<String> {
        let catalog = self.broker.catalog();
        let offering = catalog.find(self.offering).context("no such offering")?;
        Ok(offering.find(self.plan).context("no such plan")?.id.clone())
    }

    /// A call with all required headers.
    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let user =
            json!({ "username": "alice", "uid": "u-1", "groups": ["dev"], "extra": { "team": ["data"] } });
        self.client
            .request(method, format!("{}{path}", self.broker.url()))
            .basic_auth("operator", Some("broker-password"))
            .header("X-Broker-API-Version", "2.17")
            .header("X-Broker-API-Request-Identity", Uuid::new_v4().to_string())
            .header(
                "X-Broker-API-Originating-Identity",
                format!("kubernetes {}", STANDARD.encode(user.to_string())),
            )
    }

    pub fn body(&self) -> Result<Value> {
        Ok(json!({
            "service_id": self.service_id()?,
            "plan_id": self.plan_id()?,
            "context": { "platform": "kubernetes", "namespace": "training" },
            "parameters": { "permissions": "read-only" },
        }))
    }

    pub fn bind(&self, id: Uuid) -> Result<RequestBuilder> {
        Ok(self.call(Method::PUT, &path(id)).json(&self.body()?))
    }

    /// A bind that may take time.
    pub fn bind_in_time(&self, id: Uuid) -> Result<RequestBuilder> {
        let path = format!("{}?accepts_incomplete=true", path(id));
        Ok(self.call(Method::PUT, &path).json(&self.body()?))
    }

    pub fn fetch(&self, id: Uuid) -> RequestBuilder {
        self.call(Method::GET, &path(id))
    }

    pub fn unbind(&self, id: Uuid) -> Result<RequestBuilder> {
        Ok(self.call(Method::DELETE, &format!("{}?{}", path(id), self.hints()?)))
    }

    /// An unbind that may take time.
    pub fn unbind_in_time(&self, id: Uuid) -> Result<RequestBuilder> {
        let path = format!("{}?{}&accepts_incomplete=true", path(id), self.hints()?);
        Ok(self.call(Method::DELETE, &path))
    }

    /// A poll with the token that the broker issued, if it issued one.
    pub fn poll(&self, id: Uuid, token: Option<&str>) -> Result<RequestBuilder> {
        let operation = token.map(|token| utf8_percent_encode(token, NON_ALPHANUMERIC));
        let operation = operation.map(|token| format!("&operation={token}")).unwrap_or_default();
        let path = format!("{}/last_operation?{}{operation}", path(id), self.hints()?);
        Ok(self.call(Method::GET, &path))
    }

    fn hints(&self) -> Result<String> {
        let hints = [("service_id", self.service_id()?), ("plan_id", self.plan_id()?)];
        Ok(hints.map(|(name, value)| format!("{name}={value}")).join("&"))
    }
}

pub fn path(id: impl ToString) -> String {
    format!("/v2/service_instances/{INSTANCE}/service_bindings/{}", id.to_string())
}

/// Status and JSON body of an answer.
pub async fn answer(response: Response) -> Result<(u16, Value)> {
    Ok((response.status().as_u16(), response.json().await?))
}
