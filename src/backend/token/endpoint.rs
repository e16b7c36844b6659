//! A token endpoint, and how a token is asked for there (RFC 6749).

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{
    Method,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use url::{Url, form_urlencoded};

use super::{Token, answer};
use crate::backend::{
    BackendError, ErrorClass,
    http::{Failure, HttpClient, Redactor, Request, Response, base_url, without_query},
};

/// A client that logs in by itself, and not on behalf of a user (RFC 6749, section 4.4).
#[derive(Clone)]
pub struct ClientCredentials {
    /// The token endpoint.
    pub token_url: Url,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: SecretString,
    /// What the token is to be good for; without any, the server decides.
    pub scopes: Vec<String>,
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("token_url", &without_query(&self.token_url))
            .field("client_id", &self.client_id)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// Where tokens are asked for, and with which grant.
pub(super) struct TokenEndpoint {
    url: Url,
    authorization: HeaderValue,
    form: Vec<(&'static str, String)>,
    redactor: Redactor,
}

impl TokenEndpoint {
    /// The grant of client credentials (section 4.4.2).
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`], where the address may not be called.
    pub(super) fn of_client(login: &ClientCredentials, http: &HttpClient) -> Result<Self, BackendError> {
        let ClientCredentials { token_url, client_id, client_secret, scopes } = login;
        let login = BASE64_STANDARD.encode(login_of_client(client_id, client_secret));
        let mut authorization = HeaderValue::from_str(&format!("Basic {login}")).map_err(|_| {
            BackendError::new(ErrorClass::Rejected, "`clientId` and `clientSecret` can't be sent in a header")
        })?;
        authorization.set_sensitive(true);
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        if !scopes.is_empty() {
            form.push(("scope", scopes.join(" ")));
        }
        let encoded_secret = form_encoded(client_secret.expose_secret());
        Ok(Self {
            url: base_url(http, "tokenUrl", token_url)?,
            authorization,
            form,
            redactor: Redactor::hiding([client_secret.clone(), encoded_secret.into(), login.into()]),
        })
    }

    /// Asks for a token.
    ///
    /// # Errors
    /// None of them is [`ErrorClass::OrphanPossible`]: a token that nobody got is nothing left behind.
    pub(super) async fn request(&self, http: &HttpClient) -> Result<Token, BackendError> {
        let request = Request::new(Method::POST, self.url.clone())
            .elsewhere()
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(AUTHORIZATION, self.authorization.clone())
            .form(&self.form);
        let failed = |failure: Failure| failure.into_error(&self.what(), ErrorClass::Transient);
        let response = http.send(request).await.map_err(failed)?;
        if !response.status.is_success() {
            return Err(self.refused(&response));
        }
        let body = response.body().map_err(failed)?;
        answer::token(body).map_err(|what| self.malformed(&response, what))
    }

    /// Hides the login, in whatever way it is written.
    pub(super) const fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    fn what(&self) -> String {
        format!("token request to `{}`", without_query(&self.url))
    }

    fn refused(&self, response: &Response) -> BackendError {
        let status = response.status.as_u16();
        // Where the body did not arrive the status still says what happened.
        let body = response.body().unwrap_or_default();
        let code = answer::error_code(body);
        let said = self.redactor.quote(body);
        // The code is what documentation is searched for, and the description what people write.
        let said = match code.as_deref().map(|code| self.redactor.sanitize(code)) {
            Some(code) if code != said => format!("{code}: {said}"),
            _ => said,
        };
        let class = class(status, code.as_deref());
        let mut message = format!("{} failed: the server answers {status}: {said}", self.what());
        let advice = advice(class, code.as_deref());
        if !advice.is_empty() {
            message.push_str("; ");
            message.push_str(advice);
        }
        BackendError { class, message, retry_after: response.retry_after }
    }

    fn malformed(&self, response: &Response, what: &str) -> BackendError {
        let message = format!(
            "{} failed: the server answers {}, but the body {what}; {}",
            self.what(),
            response.status.as_u16(),
            advice(ErrorClass::Unexpected, None)
        );
        BackendError { class: ErrorClass::Unexpected, message, retry_after: response.retry_after }
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint").field("url", &without_query(&self.url)).finish_non_exhaustive()
    }
}

/// Both are form-encoded before Basic authentication joins them by a colon (section 2.3.1).
fn login_of_client(id: &str, secret: &SecretString) -> String {
    format!("{}:{}", form_encoded(id), form_encoded(secret.expose_secret()))
}

fn form_encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// What a refusal means (section 5.2). Its statuses are 400, and 401 for a client that failed to log in.
fn class(status: u16, code: Option<&str>) -> ErrorClass {
    match (status, code) {
        (401 | 403, _) | (400, Some("invalid_client" | "invalid_grant" | "unauthorized_client")) => {
            ErrorClass::Forbidden
        }
        (429, _) => ErrorClass::Throttled,
        (408 | 500.., _) => ErrorClass::Transient,
        (400, Some(_)) => ErrorClass::Rejected,
        _ => ErrorClass::Unexpected,
    }
}

/// What to do about a refusal; empty where it is simply tried again.
fn advice(class: ErrorClass, code: Option<&str>) -> &'static str {
    match (class, code) {
        (_, Some("unauthorized_client" | "unsupported_grant_type")) => {
            "allow this client the grant `client_credentials` there"
        }
        (_, Some("invalid_scope")) => "check `scopes`, and what the client may ask for there",
        (ErrorClass::Forbidden, _) => {
            "check the entries `clientId` and `clientSecret` of the login that the provider names"
        }
        (ErrorClass::Unexpected, _) => "check that this is the address of a token endpoint",
        (ErrorClass::Throttled, _) => "it asks for fewer requests",
        _ => "",
    }
}
