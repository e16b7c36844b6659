//! Checks the login and the API version of every request.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header::AUTHORIZATION},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::digest::{Digest, SHA256, digest};
use secrecy::{ExposeSecret, SecretString};

use super::{Broker, refusal::Refusal};

const API_VERSION: HeaderName = HeaderName::from_static("x-broker-api-version");
/// The platform's id of the request, for the logs of both sides.
const REQUEST_IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-request-identity");

/// The login that platforms must send (section "Platform to Service Broker Authentication").
///
/// It compares digests instead of the texts, so that the time of a comparison does not reveal where the texts differ.
pub struct Login(Digest);

impl Login {
    pub fn basic(username: &str, password: &SecretString) -> Self {
        Self(digest(&SHA256, format!("{username}:{}", password.expose_secret()).as_bytes()))
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
        let basic = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
        let login = basic.and_then(|(_, encoded)| BASE64_STANDARD.decode(encoded.trim()).ok());
        login.is_some_and(|login| digest(&SHA256, &login).as_ref() == self.0.as_ref())
    }
}

/// Passes a request on or refuses it, and logs the status of the answer.
pub async fn admit(State(broker): State<Arc<Broker>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let identity = request.headers().get(REQUEST_IDENTITY).cloned();
    let mut response = match check(&broker.login, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    tracing::info!(%method, path, ?identity, status = response.status().as_u16(), "answered");
    if let Some(identity) = identity {
        response.headers_mut().insert(REQUEST_IDENTITY, identity);
    }
    response
}

fn check(login: &Login, headers: &HeaderMap) -> Result<(), Refusal> {
    if !login.admits(headers) {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "the login is missing or wrong"));
    }
    let version = headers.get(API_VERSION).and_then(|value| value.to_str().ok());
    if version.is_some_and(|version| version.starts_with("2.")) {
        return Ok(());
    }
    let description = "the header `X-Broker-API-Version` must name a version 2 of the API, such as 2.17";
    Err(Refusal::new(StatusCode::PRECONDITION_FAILED, description))
}
