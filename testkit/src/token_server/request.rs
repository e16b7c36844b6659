//! The strict check of a request for a token (RFC 6749, section 4.4).

use std::fmt;

use axum::http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::side::{Route, TokenIssuer};
use crate::remote::{
    self, Answer, Side,
    reading::{self, Parameters},
};

const PARAMETERS: [&str; 4] = ["grant_type", "scope", "client_id", "client_secret"];

/// A rule of the specification that a client can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantRule {
    /// Call only the token endpoint, by POST and without a query.
    Endpoint,
    /// Send no more requests than the [limit](super::Builder::limit) allows.
    RateLimit,
    /// Declare the body as `application/x-www-form-urlencoded`.
    ContentType,
    /// Send only known parameters, once each.
    Parameters,
    /// Log in as a client in exactly one way: HTTP Basic, or `client_id` and `client_secret` in the body.
    Authentication,
    /// Send the right id and secret.
    Client,
    /// Use the grant `client_credentials`.
    GrantType,
    /// Name the scopes that the server expects, in any order.
    Scope,
}

/// The conditions for a token. `Debug` leaves the secret out.
pub(super) struct Terms {
    pub client_id: String,
    pub client_secret: String,
    pub scopes: Vec<String>,
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client_id, client_secret: _, scopes } = self;
        f.debug_struct("Terms").field("client_id", client_id).field("scopes", scopes).finish_non_exhaustive()
    }
}

/// A request as the server received it.
pub(super) type Request = remote::Request<Route>;

/// The answer to a request that gets no token.
pub(super) type Refusal = remote::Refusal<GrantRule>;

/// A refusal with an error code of the specification (section 5.2).
pub(super) fn refused(
    status: StatusCode,
    error: &str,
    rule: GrantRule,
    detail: impl Into<String>,
) -> Refusal {
    let detail = detail.into();
    let answer = Answer::new(status, json!({ "error": error, "error_description": detail }));
    Refusal::breach(rule, answer, detail)
}

fn bad_request(error: &str, rule: GrantRule, detail: impl Into<String>) -> Refusal {
    refused(StatusCode::BAD_REQUEST, error, rule, detail)
}

/// Returns the first rule that a request breaks as a refusal.
pub(super) fn check(request: &Request, terms: &Terms) -> Result<(), Refusal> {
    let Request { target, uri, headers, body } = request;
    if target.route != Route::Token || uri.query().is_some() {
        let detail = format!("the endpoint is `POST {}`, without a query", TokenIssuer::PATH);
        return Err(refused(StatusCode::NOT_FOUND, "invalid_request", GrantRule::Endpoint, detail));
    }
    reading::declares(headers, "application/x-www-form-urlencoded")
        .map_err(|detail| bad_request("invalid_request", GrantRule::ContentType, detail))?;
    let parameters = reading::form(headers, body.as_deref(), &PARAMETERS)
        .map_err(|detail| bad_request("invalid_request", GrantRule::Parameters, detail))?;
    let (id, secret) = login(headers, &parameters)?;
    if (&id, &secret) != (&terms.client_id, &terms.client_secret) {
        let detail = "the client's id or secret is wrong";
        return Err(refused(StatusCode::UNAUTHORIZED, "invalid_client", GrantRule::Client, detail));
    }
    check_grant(&parameters, terms)
}

/// The client's id and secret, which must be in exactly one location.
fn login(headers: &HeaderMap, parameters: &Parameters) -> Result<(String, String), Refusal> {
    let sent = |name| parameters.get(name).cloned();
    match (headers.get(AUTHORIZATION), sent("client_id"), sent("client_secret")) {
        (None, Some(id), Some(secret)) => Ok((id, secret)),
        (Some(header), None, None) => header.to_str().ok().and_then(basic).ok_or_else(|| {
            let detail = "`Authorization` must be Basic, with id and secret form-encoded";
            bad_request("invalid_request", GrantRule::Authentication, detail)
        }),
        (None, ..) => {
            let detail = "the client does not log in";
            Err(refused(StatusCode::UNAUTHORIZED, "invalid_client", GrantRule::Authentication, detail))
        }
        (Some(_), ..) => {
            let detail = "the client must log in either by `Authorization` or in the body";
            Err(bad_request("invalid_request", GrantRule::Authentication, detail))
        }
    }
}

fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    scheme.eq_ignore_ascii_case("basic").then_some((form_decoded(id)?, form_decoded(secret)?))
}

/// The specification form-encodes id and secret before Basic authentication joins them.
fn form_decoded(text: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(text.as_bytes());
    match (pairs.next(), pairs.next()) {
        (None, _) => Some(String::new()),
        (Some((decoded, rest)), None) if rest.is_empty() => Some(decoded.into_owned()),
        // An `=` or `&` that was not encoded.
        (Some(_), _) => None,
    }
}

fn check_grant(parameters: &Parameters, terms: &Terms) -> Result<(), Refusal> {
    let grant_type = parameters.get("grant_type").map(String::as_str);
    if grant_type != Some("client_credentials") {
        let detail = format!("`grant_type` must be client_credentials, not {grant_type:?}");
        return Err(bad_request("unsupported_grant_type", GrantRule::GrantType, detail));
    }
    let scope = parameters.get("scope").map(String::as_str);
    let mut asked: Vec<&str> = scope.map(|scope| scope.split(' ').collect()).unwrap_or_default();
    let mut expected: Vec<&str> = terms.scopes.iter().map(String::as_str).collect();
    asked.sort_unstable();
    expected.sort_unstable();
    if asked != expected {
        let detail = format!("`scope` must name {expected:?}, not {asked:?}");
        return Err(bad_request("invalid_scope", GrantRule::Scope, detail));
    }
    Ok(())
}
