//! Sends token requests to a token endpoint (RFC 6749).

use std::{
    fmt,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use parking_lot::Mutex;
use reqwest::{
    Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::{TRIED_AGAIN, Token, answer};
use crate::backend::{
    BackendError, ErrorClass,
    http::{HttpClient, HttpFailure, Redactor, Request, Response, base_url, below, without_query},
};

/// The metric label for the path of every token endpoint: the real path is the user's choice.
const ROUTE: &str = "/oauth/token";

/// In bytes. Servers accept tokens of a fraction of this in a header, and an answer may contain three of them.
const LARGEST_ANSWER: usize = 64 << 10;

/// Tells a UAA that the client's id and secret are form-encoded, as the RFC requires. Without it, most UAAs do not
/// decode them.
const ENCODED_CREDENTIALS: HeaderName = HeaderName::from_static("x-cf-encoded-credentials");

/// A client that logs in for itself, not on behalf of a user (RFC 6749, section 4.4).
#[derive(Clone)]
pub(crate) struct ClientCredentials {
    pub token_url: Url,
    pub client_id: String,
    pub client_secret: SecretString,
    /// The scopes of the token. If there are none, the server decides.
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

/// A user who logs in with name and password, through a client without a secret (RFC 6749, section 4.3).
pub(in crate::backend) struct PasswordLogin<'a> {
    pub(in crate::backend) token_url: &'a Url,
    /// The client that acts for the user.
    pub(in crate::backend) client_id: &'a str,
    pub(in crate::backend) username: &'a str,
    pub(in crate::backend) password: &'a SecretString,
    /// Further information for the server, such as the identity provider of the user.
    pub(in crate::backend) login_hint: Option<String>,
}

/// A login for IBM Cloud's IAM, whose grants extend the RFC.
pub(in crate::backend) enum IamLogin<'a> {
    ApiKey(&'a SecretString),
    /// A trusted profile that a compute resource assumes, such as a pod.
    TrustedProfile {
        /// Names the profile: the field of the form, and its value.
        profile: (&'static str, &'a str),
        /// Path of the resource's own token, which changes from time to time.
        token_file: PathBuf,
    },
}

/// A token endpoint, with the grant of its requests.
pub(super) struct TokenEndpoint {
    url: Url,
    /// The login of the client, if it has one.
    authorization: Option<HeaderValue>,
    grant: TokenGrant,
    /// A file that each request reads again.
    token_file: Option<PathBuf>,
    form: Vec<(&'static str, Zeroizing<String>)>,
    /// The refresh token, which replaces the login in the next request as long as the server accepts it.
    refresh_token: Mutex<Option<SecretString>>,
    redactor: Redactor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenGrant {
    ClientCredentials,
    Password,
    ApiKey,
    ComputeResource,
}

impl TokenGrant {
    const fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::Password => "password",
            Self::ApiKey => "urn:ibm:params:oauth:grant-type:apikey",
            Self::ComputeResource => "urn:ibm:params:oauth:grant-type:cr-token",
        }
    }

    const fn is_of_iam(self) -> bool {
        matches!(self, Self::ApiKey | Self::ComputeResource)
    }
}

impl TokenEndpoint {
    /// The grant of client credentials (section 4.4.2).
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the operator may not call the address.
    pub(super) fn of_client(login: &ClientCredentials, http: &HttpClient) -> Result<Self, BackendError> {
        let ClientCredentials { token_url, client_id, client_secret, scopes } = login;
        let (authorization, login) = authorization(client_id, client_secret)?;
        let mut form = vec![("grant_type", TokenGrant::ClientCredentials.name().to_owned().into())];
        if !scopes.is_empty() {
            form.push(("scope", scopes.join(" ").into()));
        }
        let encoded_secret = form_encoded(client_secret.expose_secret());
        Ok(Self {
            url: base_url(http, "tokenUrl", token_url)?,
            authorization: Some(authorization),
            grant: TokenGrant::ClientCredentials,
            token_file: None,
            form,
            refresh_token: Mutex::default(),
            redactor: Redactor::hiding([client_secret.clone(), encoded_secret, login]),
        })
    }

    /// The grant of a user's password (section 4.3.2).
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the operator may not call the address.
    pub(super) fn of_user(login: &PasswordLogin<'_>, http: &HttpClient) -> Result<Self, BackendError> {
        let PasswordLogin { token_url, client_id, username, password, login_hint } = login;
        let mut form = vec![
            ("grant_type", TokenGrant::Password.name().to_owned().into()),
            ("username", (*username).to_owned().into()),
            ("password", password.expose_secret().to_owned().into()),
        ];
        form.extend(login_hint.clone().map(|hint| ("login_hint", hint.into())));
        let encoded_password = form_encoded(password.expose_secret());
        Ok(Self {
            url: base_url(http, "apiUrl", token_url)?,
            authorization: Some(authorization(client_id, &SecretString::default())?.0),
            grant: TokenGrant::Password,
            token_file: None,
            form,
            refresh_token: Mutex::default(),
            redactor: Redactor::hiding([(*password).clone(), encoded_password]),
        })
    }

    /// The grants of IBM Cloud's IAM at this base address.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the operator may not call the address.
    pub(super) fn of_iam(
        iam_url: &Url,
        login: IamLogin<'_>,
        http: &HttpClient,
    ) -> Result<Self, BackendError> {
        let url = below(&base_url(http, "iamUrl", iam_url)?, "/identity/token");
        let (grant, field, token_file, redactor) = match login {
            IamLogin::ApiKey(key) => {
                let encoded = form_encoded(key.expose_secret());
                let redactor = Redactor::hiding([key.clone(), encoded]);
                (TokenGrant::ApiKey, ("apikey", key.expose_secret().to_owned().into()), None, redactor)
            }
            IamLogin::TrustedProfile { profile: (name, value), token_file } => {
                let profile = (name, value.to_owned().into());
                (TokenGrant::ComputeResource, profile, Some(token_file), Redactor::default())
            }
        };
        let form = vec![("grant_type", grant.name().to_owned().into()), field];
        let refresh_token = Mutex::default();
        Ok(Self { url, authorization: None, grant, token_file, form, refresh_token, redactor })
    }

    /// Requests a token, with the refresh token if the server still accepts it.
    ///
    /// # Errors
    /// None of them is [`ErrorClass::OrphanPossible`]: a token that did not arrive leaves nothing behind.
    pub(super) async fn request(&self, http: &HttpClient) -> Result<Token, BackendError> {
        if let Some(file) = &self.token_file {
            let mut form = self.form.clone();
            form.push(("cr_token", token_in(file).await?));
            return self.ask(http, &form).await;
        }
        let Some(refresh_token) = self.refresh_token() else { return self.ask(http, &self.form).await };
        let text = refresh_token.expose_secret().to_owned();
        let form = [("grant_type", "refresh_token".to_owned().into()), ("refresh_token", text.into())];
        match self.attempt(http, &form).await {
            // A refused refresh token does not show whether the login is valid.
            Err(failed) if failed.may_be_of_a_refresh_token() => {
                tracing::debug!("the server no longer accepts the refresh token");
                self.keep(None);
                self.ask(http, &self.form).await
            }
            outcome => outcome.map_err(|failed| failed.error),
        }
    }

    async fn ask(
        &self,
        http: &HttpClient,
        form: &[(&str, Zeroizing<String>)],
    ) -> Result<Token, BackendError> {
        self.attempt(http, form).await.map_err(|failed| failed.error)
    }

    async fn attempt(
        &self,
        http: &HttpClient,
        form: &[(&str, Zeroizing<String>)],
    ) -> Result<Token, TokenFailure> {
        let mut request = Request::new(Method::POST, ROUTE, self.url.clone())
            .for_token_server()
            .answered_in_bytes(LARGEST_ANSWER)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .form(form)
            .proving(is_of_a_token_endpoint);
        if let Some(authorization) = &self.authorization {
            request = request
                .header(AUTHORIZATION, authorization.clone())
                .header(ENCODED_CREDENTIALS, HeaderValue::from_static("true"));
        }
        let failed = |failure: HttpFailure| failure.into_error(&self.what(), ErrorClass::Transient);
        let response = http.send(request).await.map_err(failed)?;
        if !response.status.is_success() {
            let shown = form.iter().filter(|(name, _)| *name == "cr_token");
            let error = self.refused(&response, shown.map(|(_, token)| token.as_str().into()));
            return Err(TokenFailure { status: Some(response.status), error });
        }
        let body = response.body().map_err(failed)?;
        let token = answer::token(body).map_err(|what| self.malformed(&response, what))?;
        // A client that logs in for itself needs no refresh token (section 4.4.3). A renewal without a new refresh
        // token leaves the old one valid (section 6).
        let refresh_token = answer::refresh_token(body).filter(|_| self.grant == TokenGrant::Password);
        if refresh_token.is_some() {
            self.keep(refresh_token);
        }
        Ok(token)
    }

    fn refresh_token(&self) -> Option<SecretString> {
        self.refresh_token.lock().clone()
    }

    fn keep(&self, refresh_token: Option<SecretString>) {
        *self.refresh_token.lock() = refresh_token;
    }

    /// Hides the login in all its encodings.
    pub(super) const fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    fn what(&self) -> String {
        format!("token request to `{}`", without_query(&self.url))
    }

    /// `shown` contains the secrets of this request in addition to the constant login.
    fn refused(&self, response: &Response, shown: impl Iterator<Item = SecretString>) -> BackendError {
        let status = response.status.as_u16();
        // Without the body, the status still describes the refusal.
        let body = response.body().unwrap_or_default();
        let code = answer::error_code(body);
        let redactor = self.redactor.clone().and(self.refresh_token()).and(shown);
        let said = redactor.quote(body);
        // The code helps to search the documentation, the description explains it.
        let said = match code.as_deref().map(|code| redactor.sanitize(code)) {
            Some(code) if code != said => format!("{code}: {said}"),
            _ => said,
        };
        if response.is_of_a_router() {
            let message = format!(
                "{} failed: the server is not reachable behind its router, which answers {status}: it has no such route",
                self.what()
            );
            return BackendError::new(ErrorClass::Transient, message).retry_after(response.retry_after);
        }
        let class = class(self.grant, status, code.as_deref());
        let mut message = format!("{} failed: the server answers {status}: {said}", self.what());
        // A UAA also sends this code if the client is correct.
        let is_about_the_grant = answer::description(body).is_some_and(|said| said.contains(NOT_GRANTED));
        let code = if is_about_the_grant { Some("unauthorized_client".to_owned()) } else { code };
        let advice = if is_locked(body) { LOCKED } else { advice(self.grant, class, code.as_deref()) };
        if !advice.is_empty() {
            message.push_str("; ");
            message.push_str(advice);
        }
        let refuses_secret = |code| refuses_secret(self.grant, code);
        let is_refused = class == ErrorClass::Forbidden && code.as_deref().is_some_and(refuses_secret);
        if is_refused {
            message.push_str(TRIED_AGAIN);
        }
        let error = BackendError::new(class, message).retry_after(response.retry_after);
        if is_refused { error.of_login() } else { error }
    }

    fn malformed(&self, response: &Response, what: &str) -> BackendError {
        let message = format!(
            "{} failed: the server answers {}, but the body {what}; {}",
            self.what(),
            response.status.as_u16(),
            advice(self.grant, ErrorClass::Unexpected, None)
        );
        BackendError::new(ErrorClass::Unexpected, message).retry_after(response.retry_after)
    }
}

const LOCKED: &str = "the account is locked after logins with wrong passwords: check which other clients log in as \
                      this user, then wait or have an administrator unlock it";

/// Whether a UAA reports that it has locked the account.
fn is_locked(body: &[u8]) -> bool {
    answer::description(body)
        .is_some_and(|said| said.to_ascii_lowercase().contains("account has been locked"))
}

/// Whether this code refuses the login's secret, rather than what the client requests. A gateway may send all other
/// codes, or none. IAM has many codes. The token of a compute resource differs each time, so no server counts its
/// failures.
fn refuses_secret(grant: TokenGrant, code: &str) -> bool {
    match grant {
        TokenGrant::ComputeResource => false,
        TokenGrant::ApiKey => true,
        TokenGrant::ClientCredentials | TokenGrant::Password => {
            matches!(code, "invalid_client" | "invalid_grant" | "unauthorized" | "access_denied")
        }
    }
}

/// The UAA's description of a grant that the client may not use, under the code `invalid_client`.
const NOT_GRANTED: &str = "Unauthorized grant type";

/// A failed token request.
struct TokenFailure {
    /// The status, if the server answered.
    status: Option<StatusCode>,
    error: BackendError,
}

impl TokenFailure {
    /// Whether an invalid refresh token may be the cause. A UAA answers 401 or 500 to those.
    fn may_be_of_a_refresh_token(&self) -> bool {
        matches!(self.error.class, ErrorClass::Forbidden | ErrorClass::Rejected)
            || self.status == Some(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<BackendError> for TokenFailure {
    fn from(error: BackendError) -> Self {
        Self { status: None, error }
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint").field("url", &without_query(&self.url)).finish_non_exhaustive()
    }
}

/// The login of the client (section 2.3.1): the header, and the secret in it.
fn authorization(
    client_id: &str,
    secret: &SecretString,
) -> Result<(HeaderValue, SecretString), BackendError> {
    let login = BASE64_STANDARD.encode(login_of_client(client_id, secret)).into();
    let header = Zeroizing::new(format!("Basic {}", SecretString::expose_secret(&login)));
    let mut header = HeaderValue::from_str(&header).map_err(|_| {
        BackendError::new(ErrorClass::Rejected, "`clientId` and `clientSecret` can't be sent in a header")
    })?;
    header.set_sensitive(true);
    Ok((header, login))
}

/// Form-encodes id and secret, then joins them by a colon for Basic authentication (section 2.3.1).
fn login_of_client(id: &str, secret: &SecretString) -> Zeroizing<String> {
    let encoded = form_encoded(secret.expose_secret());
    Zeroizing::new(format!("{}:{}", form_encoded(id).expose_secret(), encoded.expose_secret()))
}

/// Whether only a token endpoint sends this answer: a token (section 5.1), or one of the errors of section 5.2.
fn is_of_a_token_endpoint(response: &Response) -> bool {
    let Ok(body) = response.body() else { return false };
    match response.status {
        status if status.is_success() => answer::token(body).is_ok(),
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => {
            answer::error_code(body).is_some_and(|code| CODES.contains(&code.as_str()))
        }
        _ => false,
    }
}

/// The error codes of section 5.2.
const CODES: [&str; 6] = [
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
];

/// The token that the cluster projects into the operator's pod, and replaces before it expires.
async fn token_in(file: &Path) -> Result<Zeroizing<String>, BackendError> {
    let unusable = |what: String| {
        let message = format!(
            "the service-account token in `{}` {what}; project one there (chart value \
             `ibmCloud.trustedProfiles.enabled: true`, or `deploy/kustomize/trusted-profiles`), or set another path \
             with `--service-account-token`",
            file.display()
        );
        BackendError::new(ErrorClass::Forbidden, message)
    };
    let read = tokio::fs::read_to_string(file).await.map(Zeroizing::new);
    let token = read.map_err(|error| unusable(format!("can't be read ({})", error.kind())))?;
    let token = token.trim();
    if token.is_empty() { Err(unusable("is empty".to_owned())) } else { Ok(token.to_owned().into()) }
}

fn form_encoded(text: &str) -> SecretString {
    let mut encoded = String::with_capacity(3 * text.len());
    encoded.extend(form_urlencoded::byte_serialize(text.as_bytes()));
    encoded.into()
}

/// The class of a refusal (section 5.2). Its status is 400, or 401 for a client whose login failed.
fn class(grant: TokenGrant, status: u16, code: Option<&str>) -> ErrorClass {
    match (status, code) {
        // A request to IAM contains only the login, and IAM has many codes.
        (400 | 404, Some(_)) if grant.is_of_iam() => ErrorClass::Forbidden,
        (401 | 403, _) | (400, Some("invalid_client" | "invalid_grant" | "unauthorized_client")) => {
            ErrorClass::Forbidden
        }
        (429, _) => ErrorClass::Throttled,
        (408 | 500.., _) => ErrorClass::Transient,
        (400, Some(_)) => ErrorClass::Rejected,
        _ => ErrorClass::Unexpected,
    }
}

/// The next step after a refusal. It is empty if a retry suffices.
fn advice(grant: TokenGrant, class: ErrorClass, code: Option<&str>) -> &'static str {
    match (class, code) {
        (_, Some("unauthorized_client" | "unsupported_grant_type")) if grant == TokenGrant::Password => {
            "allow the client `cf` the grant `password` there, or log in with `clientCredentials`"
        }
        (_, Some("unauthorized_client" | "unsupported_grant_type")) => {
            "allow this client the grant `client_credentials` there"
        }
        (ErrorClass::Forbidden, Some("invalid_client")) if grant == TokenGrant::Password => {
            "the server does not know the client `cf`; log in with `clientCredentials`"
        }
        (_, Some("invalid_scope")) => "check `scopes`, and which scopes the client may request there",
        (ErrorClass::Forbidden, _) if grant == TokenGrant::ApiKey => {
            "check the entry `apikey` of the login that the provider names: the API key may be wrong or deleted"
        }
        (ErrorClass::Forbidden, _) if grant == TokenGrant::ComputeResource => {
            "check `trustedProfile`, and that the profile trusts this cluster, and the operator's namespace and service \
             account in it"
        }
        (ErrorClass::Unexpected, _) if grant.is_of_iam() => "check that `iamUrl` is the base address of IAM",
        (ErrorClass::Forbidden, _) if grant == TokenGrant::Password => {
            "check the entries `username` and `password` of the login that the provider names, and `origin`"
        }
        (ErrorClass::Forbidden, _) => {
            "check the entries `clientId` and `clientSecret` of the login that the provider names"
        }
        (ErrorClass::Unexpected, _) => "check that this is the address of a token endpoint",
        (ErrorClass::Throttled, _) => "rate limited by the token server",
        _ => "",
    }
}
