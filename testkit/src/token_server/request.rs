//! The strict reading of a request for a token (RFC 6749, sections 2.3.1, 3.2 and 4.4.2).

use std::{collections::HashMap, fmt};

use axum::http::{
    HeaderMap, Method, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Where the endpoint is.
pub(super) const PATH: &str = "/oauth/token";

/// A rule of the specification that a client can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantRule {
    /// Call the token endpoint only, by POST and with nothing in the query.
    Endpoint,
    /// Declare the body as `application/x-www-form-urlencoded`.
    ContentType,
    /// Send known parameters, once each.
    Parameters,
    /// Log in as a client in exactly one way: HTTP Basic, or `client_id` and `client_secret` in the body.
    Authentication,
    /// Show the right id and secret.
    Client,
    /// Ask for `client_credentials`.
    GrantType,
    /// Name the scopes that the server was told to expect, in any order.
    Scope,
}

/// One breach of the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantViolation {
    /// The rule that was broken.
    pub rule: GrantRule,
    /// What was wrong.
    pub detail: String,
}

impl fmt::Display for GrantViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a request broke {:?}: {}", self.rule, self.detail)
    }
}

/// Who gets a token, and for what.
pub(super) struct Terms {
    pub client_id: String,
    pub client_secret: String,
    pub scopes: Vec<String>,
}

/// A request as it came in.
pub(super) struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    /// Nothing where it was cut off, or larger than the server reads.
    pub body: Option<Vec<u8>>,
}

/// A request that gets no token (section 5.2).
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    /// The error code.
    pub error: &'static str,
    pub violation: GrantViolation,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, rule: GrantRule, detail: impl Into<String>) -> Self {
        Self { status, error, violation: GrantViolation { rule, detail: detail.into() } }
    }

    fn bad_request(error: &'static str, rule: GrantRule, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, rule, detail)
    }
}

/// Finds what is wrong with a request, if anything.
pub(super) fn check(request: &Request, terms: &Terms) -> Result<(), Refusal> {
    let Request { method, uri, headers, body } = request;
    if method != Method::POST || uri.path() != PATH || uri.query().is_some() {
        let detail = format!("the endpoint is `POST {PATH}`, without a query");
        return Err(Refusal::new(StatusCode::NOT_FOUND, "invalid_request", GrantRule::Endpoint, detail));
    }
    let parameters = parameters(headers, body.as_deref())?;
    let (id, secret) = login(headers, &parameters)?;
    if (&id, &secret) != (&terms.client_id, &terms.client_secret) {
        let detail = "the client's id or secret is wrong";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "invalid_client", GrantRule::Client, detail));
    }
    check_grant(&parameters, terms)
}

type Parameters = HashMap<String, String>;

fn parameters(headers: &HeaderMap, body: Option<&[u8]>) -> Result<Parameters, Refusal> {
    let breach = |rule, detail: String| Err(Refusal::bad_request("invalid_request", rule, detail));
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    if !essence.is_some_and(|value| value.eq_ignore_ascii_case("application/x-www-form-urlencoded")) {
        let detail =
            format!("`Content-Type` must be application/x-www-form-urlencoded, not {content_type:?}");
        return breach(GrantRule::ContentType, detail);
    }
    let Some(body) = body else {
        return breach(GrantRule::Parameters, "the body is too large or cut off".into());
    };
    let mut parameters = Parameters::new();
    for (name, value) in form_urlencoded::parse(body).into_owned() {
        if !["grant_type", "scope", "client_id", "client_secret"].contains(&name.as_str()) {
            return breach(GrantRule::Parameters, format!("unknown parameter `{name}`"));
        }
        if parameters.insert(name.clone(), value).is_some() {
            return breach(GrantRule::Parameters, format!("`{name}` is there twice"));
        }
    }
    Ok(parameters)
}

/// Id and secret, from the one place where they are.
fn login(headers: &HeaderMap, parameters: &Parameters) -> Result<(String, String), Refusal> {
    let sent = |name| parameters.get(name).cloned();
    match (headers.get(AUTHORIZATION), sent("client_id"), sent("client_secret")) {
        (None, Some(id), Some(secret)) => Ok((id, secret)),
        (Some(header), None, None) => header.to_str().ok().and_then(basic).ok_or_else(|| {
            let detail = "`Authorization` must be Basic, with id and secret form-encoded";
            Refusal::bad_request("invalid_request", GrantRule::Authentication, detail)
        }),
        (None, ..) => {
            let detail = "the client does not log in";
            Err(Refusal::new(StatusCode::UNAUTHORIZED, "invalid_client", GrantRule::Authentication, detail))
        }
        (Some(_), ..) => {
            let detail = "the client must log in either by `Authorization` or in the body";
            Err(Refusal::bad_request("invalid_request", GrantRule::Authentication, detail))
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
        return Err(Refusal::bad_request("unsupported_grant_type", GrantRule::GrantType, detail));
    }
    let scope = parameters.get("scope").map(String::as_str);
    let mut asked: Vec<&str> = scope.map(|scope| scope.split(' ').collect()).unwrap_or_default();
    let mut expected: Vec<&str> = terms.scopes.iter().map(String::as_str).collect();
    asked.sort_unstable();
    expected.sort_unstable();
    if asked != expected {
        let detail = format!("`scope` must name {expected:?}, not {asked:?}");
        return Err(Refusal::bad_request("invalid_scope", GrantRule::Scope, detail));
    }
    Ok(())
}
