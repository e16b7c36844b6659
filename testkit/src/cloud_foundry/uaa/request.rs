//! Reads a request for a token strictly, by the UAA's documentation.

use std::fmt;

use axum::http::{HeaderMap, StatusCode, Uri, header::AUTHORIZATION};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::json;

use super::super::{
    answer::{Answer, Refusal},
    record::Rule,
};
use crate::remote::reading::{self, Parameters};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// `true` means that id and secret are form-encoded before Basic authentication joins them.
const ENCODED_CREDENTIALS: &str = "x-cf-encoded-credentials";
const PARAMETERS: [&str; 10] = [
    "grant_type",
    "username",
    "password",
    "refresh_token",
    "assertion",
    "client_id",
    "client_secret",
    "scope",
    "response_type",
    "login_hint",
];

/// The grants of the UAA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// A user's name and password.
    Password,
    /// A client's id and secret.
    ClientCredentials,
    /// A refresh token.
    RefreshToken,
    /// An assertion of another identity provider.
    JwtBearer,
}

/// A well-formed request. `Debug` omits secrets.
#[derive(Clone)]
pub(in super::super) struct GrantRequest {
    pub client: (String, String),
    pub asked: Asked,
}

/// The proof for a token.
#[derive(Clone)]
pub(in super::super) enum Asked {
    Password { username: String, password: String, origin: Option<String> },
    ClientCredentials,
    Refresh { token: String },
    Assertion { assertion: String },
}

impl GrantRequest {
    /// Reads a request. `login_hint` may be in the query or in the form, everything else only in the form.
    pub(crate) fn read(uri: &Uri, headers: &HeaderMap, body: Option<&[u8]>) -> Result<Self, Refusal> {
        let mut form = form(uri, headers, body)?;
        let client = client(headers, &mut form)?;
        let mut take = |name: &str| {
            form.remove(name).ok_or_else(|| bad_request(Rule::TokenForm, format!("`{name}` is missing")))
        };
        let asked = match take("grant_type")?.as_str() {
            "password" => Asked::Password {
                username: take("username")?,
                password: take("password")?,
                origin: take("login_hint").ok().map(|hint| origin(&hint)).transpose()?,
            },
            "client_credentials" => Asked::ClientCredentials,
            "refresh_token" => Asked::Refresh { token: take("refresh_token")? },
            JWT_BEARER => Asked::Assertion { assertion: take("assertion")? },
            other => {
                let detail = format!("Unsupported grant type: {other}");
                let refused = refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", &detail);
                return Err(Refusal::breach(Rule::GrantType, refused, detail));
            }
        };
        Ok(Self { client, asked })
    }

    pub(crate) const fn grant(&self) -> Grant {
        match self.asked {
            Asked::Password { .. } => Grant::Password,
            Asked::ClientCredentials => Grant::ClientCredentials,
            Asked::Refresh { .. } => Grant::RefreshToken,
            Asked::Assertion { .. } => Grant::JwtBearer,
        }
    }
}

impl fmt::Debug for GrantRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantRequest").field("grant", &self.grant()).finish_non_exhaustive()
    }
}

/// An error in the shape of the UAA.
pub(super) fn refused(status: StatusCode, error: &str, description: &str) -> Answer {
    Answer::new(status, json!({ "error": error, "error_description": description }))
}

fn bad_request(rule: Rule, detail: impl Into<String>) -> Refusal {
    let detail = detail.into();
    Refusal::breach(rule, refused(StatusCode::BAD_REQUEST, "invalid_request", &detail), detail)
}

fn form(uri: &Uri, headers: &HeaderMap, body: Option<&[u8]>) -> Result<Parameters, Refusal> {
    let breach = |detail: String| bad_request(Rule::TokenForm, detail);
    let mut form = reading::form(headers, body, &PARAMETERS).map_err(breach)?;
    for (name, value) in reading::query(uri, &["login_hint"]).map_err(breach)? {
        if form.insert(name.clone(), value).is_some() {
            return Err(breach(format!("`{name}` is there twice")));
        }
    }
    Ok(form)
}

/// Id and secret, from exactly one location. A client without a secret may omit it in the form.
fn client(headers: &HeaderMap, form: &mut Parameters) -> Result<(String, String), Refusal> {
    let (id, secret) = (form.remove("client_id"), form.remove("client_secret"));
    match (headers.get(AUTHORIZATION), id, secret) {
        (None, Some(id), secret) => Ok((id, secret.unwrap_or_default())),
        (Some(header), None, None) => {
            let encoded = headers.get(ENCODED_CREDENTIALS).is_some_and(|value| value == "true");
            let login = header.to_str().ok().and_then(|header| basic(header, encoded));
            login
                .ok_or_else(|| bad_request(Rule::Client, "`Authorization` must be Basic, with id and secret"))
        }
        (Some(_), ..) => {
            Err(bad_request(Rule::Client, "the client must log in either by `Authorization` or in the form"))
        }
        (None, None, _) => {
            let detail = "the client does not log in";
            let refused = refused(StatusCode::UNAUTHORIZED, "unauthorized", detail);
            Err(Refusal::breach(Rule::Client, refused, detail))
        }
    }
}

/// Follows the compatible setting of the UAA, the default on most platforms: without the header, id and secret are not
/// decoded.
fn basic(header: &str, form_encoded: bool) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let decoded = |text: &str| if form_encoded { form_decoded(text) } else { text.to_owned() };
    scheme.eq_ignore_ascii_case("basic").then(|| (decoded(id), decoded(secret)))
}

fn form_decoded(text: &str) -> String {
    form_urlencoded::parse(text.as_bytes()).next().map(|(text, _)| text.into_owned()).unwrap_or_default()
}

/// The identity provider that a hint names: `{"origin":"…"}`.
fn origin(hint: &str) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct Hint {
        origin: String,
    }
    let hint: Hint = serde_json::from_str(hint)
        .map_err(|error| bad_request(Rule::TokenForm, format!("`login_hint` is malformed: {error}")))?;
    Ok(hint.origin)
}
