//! A client that calls a fake in this process or over a socket, and a runtime with a paused clock.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Response};
use hyper::body::Bytes;
use jiff::Timestamp;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::{
    broker::{FakeBroker, NoAnswer},
    remote::Environment,
};
use uuid::Uuid;

pub const INSTANCE: &str = "training-app-db";

/// The environment of a simulation with this seed.
pub fn environment(seed: u64) -> Environment {
    Environment::seeded(seed, Timestamp::constant(1_767_268_800, 0))
}

/// Runs a script on a runtime with a paused clock.
pub fn simulate<T>(script: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(script)
}

/// A client that only builds requests in the tests without sockets.
pub fn http_client() -> Result<Client> {
    // Only the first call of the process can install it.
    rustls::crypto::ring::default_provider().install_default().ok();
    Ok(Client::builder().build()?)
}

/// The request in the form that [`testkit::remote::Fake::call`] accepts.
pub fn plain(request: RequestBuilder) -> Result<Request<Bytes>> {
    let request = request.build()?;
    let body = request.body().and_then(|body| body.as_bytes()).map(Bytes::copy_from_slice);
    let mut plain = Request::new(body.unwrap_or_default());
    *plain.method_mut() = request.method().clone();
    *plain.uri_mut() = request.url().as_str().parse()?;
    *plain.headers_mut() = request.headers().clone();
    Ok(plain)
}

/// The answer in the form of one over a socket.
pub fn received(response: Response<Body>) -> reqwest::Response {
    response.map(|body| reqwest::Body::wrap_stream(body.into_data_stream())).into()
}

/// Calls of a broker that are correct.
pub struct BrokerCalls<'a> {
    pub broker: &'a FakeBroker,
    pub client: &'a Client,
}

impl BrokerCalls<'_> {
    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let user = json!({ "username": "alice", "uid": "u-1", "groups": [], "extra": {} });
        self.client
            .request(method, format!("{}{path}", self.broker.url()))
            .basic_auth("operator", Some("broker-password"))
            .header("X-Broker-API-Version", "2.17")
            .header(
                "X-Broker-API-Request-Identity",
                Uuid::from_u128(self.broker.calls().len() as u128).to_string(),
            )
            .header(
                "X-Broker-API-Originating-Identity",
                format!("kubernetes {}", STANDARD.encode(user.to_string())),
            )
    }

    /// A bind of this id, which may take time.
    pub fn bind(&self, id: Uuid) -> Result<RequestBuilder> {
        let (service_id, plan_id) = self.plan()?;
        let context = json!({ "platform": "kubernetes", "namespace": "training" });
        let body = json!({ "service_id": service_id, "plan_id": plan_id, "context": context });
        Ok(self.call(Method::PUT, &format!("{}?accepts_incomplete=true", path(id))).json(&body))
    }

    pub fn poll(&self, id: Uuid, token: &str) -> RequestBuilder {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("operation", token).finish();
        self.call(Method::GET, &format!("{}/last_operation?{query}", path(id)))
    }

    pub fn unbind(&self, id: Uuid) -> Result<RequestBuilder> {
        let (service_id, plan_id) = self.plan()?;
        let query = format!("service_id={service_id}&plan_id={plan_id}&accepts_incomplete=true");
        Ok(self.call(Method::DELETE, &format!("{}?{query}", path(id))))
    }

    fn plan(&self) -> Result<(String, String)> {
        let catalog = self.broker.catalog();
        let offering = catalog.find("postgresql").context("no offering")?;
        Ok((offering.id.clone(), offering.find("small").context("no plan")?.id.clone()))
    }
}

pub fn path(id: Uuid) -> String {
    format!("/v2/service_instances/{INSTANCE}/service_bindings/{id}")
}

/// The answers to the calls of a script, in their order.
#[derive(Default)]
pub struct Transcript(pub Vec<String>);

impl Transcript {
    /// Calls a fake, records the answer, checks its status, and returns its body.
    pub async fn send(
        &mut self,
        call: impl AsyncFnOnce(Request<Bytes>) -> Result<Response<Body>, NoAnswer>,
        request: RequestBuilder,
        status: u16,
    ) -> Result<Value> {
        // Lifetimes and timestamps show the clock only if time passes between the calls.
        tokio::time::sleep(Duration::from_secs(7)).await;
        let request = plain(request)?;
        let called = format!("{} {}", request.method(), request.uri());
        let (head, body) = call(request).await?.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await?;
        let text = String::from_utf8_lossy(&body);
        self.0.push(format!("{called}: {} {:?} {text}", head.status, head.headers));
        ensure!(head.status.as_u16() == status, "{called}: {} {text}", head.status);
        let location = head.headers.get("location").and_then(|value| value.to_str().ok());
        Ok(serde_json::from_slice(&body).unwrap_or_else(|_| json!({ "location": location })))
    }
}
