//! The addresses of one Cloud Foundry, and the token that is sent there.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::{
    Method,
    header::{ACCEPT, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use super::{
    CloudFoundryLogin,
    classify::{CloudFoundryCall, unreachable},
    discovery::{Links, TokensFrom},
    wire::CloudFoundryError,
};
use crate::backend::{
    BackendError, ClientCredentials, ErrorClass,
    exchange::{Authorization, Dialect, RemoteApi, Session, refusal},
    http::{HttpClient, HttpFailure, Redactor, Request, below},
    single_flight::SingleFlight,
    token::{PasswordLogin, Token, Tokens},
};

/// How long the links of the root document are cached.
const LINKS_TTL: Duration = Duration::from_secs(3600);
/// How long a failure is cached. Otherwise every key would repeat the request.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);
/// Thirty days. A token with a shorter life needs frequent replacement by hand, so the operator warns about its expiry.
const SHORT_LIFE_SECONDS: i64 = 30 * 24 * 3600;

/// The client of the `cf` command. It acts for users and has no secret.
const CF: &str = "cf";

/// The API's limit on the size of a page.
pub(super) const MOST_PER_PAGE: usize = 5000;

/// Access to the API of one Cloud Foundry.
pub(super) type CloudFoundryApi<'a> = RemoteApi<'a, CloudFoundrySession>;

/// The addresses and the login of one Cloud Foundry.
pub(super) struct CloudFoundrySession {
    root: Url,
    auth: CloudFoundryLogin,
    tokens_from: TokensFrom,
    links: SingleFlight<Links>,
    /// The tokens, and the endpoint that issues them.
    tokens: Mutex<Option<(Url, Arc<Tokens>)>>,
    /// How many resources the API permits on a page.
    pub(super) page_size: AtomicUsize,
}

impl CloudFoundrySession {
    /// `uaa` replaces the UAA that the API names.
    pub(super) fn new(root: Url, uaa: Option<Url>, auth: CloudFoundryLogin) -> Self {
        let tokens_from = match (&auth, uaa) {
            (CloudFoundryLogin::Bearer { .. }, _) => TokensFrom::Nowhere,
            (_, Some(uaa)) => TokensFrom::Uaa(uaa),
            (_, None) => TokensFrom::Root,
        };
        let kept = |error: &BackendError| error.retry_after.unwrap_or_default().max(PAUSE_AFTER_FAILURE);
        Self {
            root,
            auth,
            tokens_from,
            links: SingleFlight::kept(kept),
            tokens: Mutex::default(),
            page_size: AtomicUsize::new(MOST_PER_PAGE),
        }
    }

    /// The addresses of the API and the UAA. If discovery fails, the last known addresses stay in use.
    ///
    /// # Errors
    /// Failures of the request, and links that the operator does not follow.
    pub(super) async fn links(&self, http: &HttpClient) -> Result<Arc<Links>, BackendError> {
        let fresh = self.links.get(|known| known.since.elapsed() < LINKS_TTL, || self.discover(http)).await;
        match fresh {
            Ok(known) => Ok(known.value),
            Err(error) => self.links.latest().map(|known| known.value).ok_or(error),
        }
    }

    /// Requests the addresses again, even if they are cached.
    ///
    /// # Errors
    /// As for [`CloudFoundrySession::links`].
    pub(super) async fn check(&self, http: &HttpClient) -> Result<(), BackendError> {
        self.links.get(|_| false, || self.discover(http)).await.map(drop)
    }

    async fn discover(&self, http: &HttpClient) -> Result<Links, BackendError> {
        let call = CloudFoundryCall::Discovery;
        let (root, tokens_from) = (self.root.clone(), self.tokens_from.clone());
        let request = Request::new(Method::GET, call.route(), below(&self.root, "/"))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .proving(move |response| {
                response.status.is_success()
                    && response.body().is_ok_and(|body| Links::read(&root, &tokens_from, body).is_ok())
            });
        let failed = |failure: HttpFailure| failure.into_error(&call.to_string(), ErrorClass::Transient);
        let response = http.send(request).await.map_err(failed)?;
        if response.is_of_a_router() {
            let error = unreachable(call, &response, &Redactor::default());
            let message = format!("{}; check `apiUrl` if this lasts", error.message);
            return Err(BackendError { message, ..error });
        }
        if !response.status.is_success() {
            return Err(refusal(call, &response, &Redactor::default()));
        }
        let links = Links::read(&self.root, &self.tokens_from, response.body().map_err(failed)?)?;
        for link in [Some(&links.api), links.token.as_ref()].into_iter().flatten() {
            http.check(link)
                .map_err(|failure| BackendError::new(ErrorClass::Rejected, failure.to_string()))?;
        }
        Ok(links)
    }

    /// # Errors
    /// If the API does not name a login server, or the login can't be sent.
    fn authorization(&self, links: &Links, http: &HttpClient) -> Result<Authorization, BackendError> {
        if let CloudFoundryLogin::Bearer { token } = &self.auth {
            return header(token).map(Authorization::Header);
        }
        let Some(token_url) = &links.token else {
            let message = "the API does not name a login server; name the UAA in `uaaUrl`";
            return Err(BackendError::new(ErrorClass::Rejected, message));
        };
        let mut tokens = self.tokens.lock();
        if let Some((url, tokens)) = tokens.as_ref()
            && url == token_url
        {
            return Ok(Authorization::Tokens(Arc::clone(tokens)));
        }
        let new = Arc::new(match &self.auth {
            CloudFoundryLogin::Password { username, password, origin } => {
                let login_hint = origin.as_ref().map(|origin| json!({ "origin": origin }).to_string());
                let login = PasswordLogin { token_url, client_id: CF, username, password, login_hint };
                Tokens::of_user(&login, http)?
            }
            CloudFoundryLogin::ClientCredentials { client_id, client_secret } => {
                let login = ClientCredentials {
                    token_url: token_url.clone(),
                    client_id: client_id.clone(),
                    client_secret: client_secret.clone(),
                    scopes: Vec::new(),
                };
                Tokens::of_client(&login, http)?
            }
            CloudFoundryLogin::Bearer { token } => return header(token).map(Authorization::Header),
        });
        *tokens = Some((token_url.clone(), Arc::clone(&new)));
        Ok(Authorization::Tokens(new))
    }

    /// The expiry of a token that is sent unchanged, if it is a JWT with a short life.
    pub(super) fn expiry_of_bearer(&self) -> Option<Timestamp> {
        match &self.auth {
            CloudFoundryLogin::Bearer { token } => expiry(bare(token)),
            CloudFoundryLogin::Password { .. } | CloudFoundryLogin::ClientCredentials { .. } => None,
        }
    }

    /// Advice to the user when the API refuses the login.
    const fn advice_on_login(&self) -> &'static str {
        match &self.auth {
            CloudFoundryLogin::Bearer { .. } => {
                "the login's entry `token` is not a valid token, or has expired; replace it"
            }
            CloudFoundryLogin::Password { .. } | CloudFoundryLogin::ClientCredentials { .. } => {
                "the API refuses the tokens of its own UAA; ask the operator of the Cloud Foundry"
            }
        }
    }
}

impl Session for CloudFoundrySession {
    type Dialect = CloudFoundryCall;

    async fn base(&self, http: &HttpClient, _call: CloudFoundryCall) -> Result<Url, BackendError> {
        Ok(self.links(http).await?.api.clone())
    }

    async fn authorize(&self, http: &HttpClient) -> Result<Authorization, BackendError> {
        let links = self.links(http).await?;
        self.authorization(&links, http)
    }

    /// A host proves with its links that it is the API.
    fn prove<'a>(
        &'a self,
        http: &'a HttpClient,
        _call: CloudFoundryCall,
    ) -> BoxFuture<'a, Result<Option<Arc<Token>>, BackendError>> {
        Box::pin(async move { self.check(http).await.map(|()| None) })
    }

    fn advice(&self, call: CloudFoundryCall, status: u16, refusal: &CloudFoundryError) -> Cow<'static, str> {
        let advice = if status == 401 { self.advice_on_login() } else { call.advice(status, refusal) };
        advice.into()
    }

    fn redactor(&self) -> Redactor {
        match &self.auth {
            CloudFoundryLogin::Password { password, .. } => Redactor::hiding([password.clone()]),
            CloudFoundryLogin::ClientCredentials { client_secret, .. } => {
                Redactor::hiding([client_secret.clone()])
            }
            CloudFoundryLogin::Bearer { token } => Redactor::hiding([token.clone(), bare(token).into()]),
        }
    }
}

impl fmt::Debug for CloudFoundrySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("auth", &self.auth).finish_non_exhaustive()
    }
}

/// The header for a token that is sent unchanged. `cf oauth-token` prints the token with its type.
pub(super) fn header(token: &SecretString) -> Result<HeaderValue, BackendError> {
    let header = Zeroizing::new(format!("Bearer {}", bare(token)));
    let mut value = HeaderValue::from_str(&header).map_err(|_| {
        let message =
            "the login's `token` contains a line break or another character that can't be sent in a header; correct it";
        BackendError::new(ErrorClass::Rejected, message)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The expiry of a JWT (RFC 7519, section 4.1.4) that was issued for a short time.
fn expiry(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct TokenClaims {
        exp: i64,
        #[serde(default)]
        iat: i64,
    }
    let payload = token.split('.').nth(1)?;
    let payload = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?);
    let TokenClaims { exp, iat } = serde_json::from_slice(&payload).ok()?;
    let is_short = exp.saturating_sub(iat) <= SHORT_LIFE_SECONDS;
    Timestamp::from_second(exp).ok().filter(|_| is_short)
}

/// The token without its type.
fn bare(token: &SecretString) -> &str {
    let token = token.expose_secret();
    match token.split_once(' ') {
        Some((kind, rest)) if kind.eq_ignore_ascii_case("bearer") => rest,
        _ => token,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    fn jwt(claims: &Value) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[rstest]
    #[case::of_a_uaa(json!({"iat": 1_795_521_600, "exp": 1_795_522_799}), Some("2026-11-24T12:19:59Z"))]
    #[case::for_a_year(json!({"iat": 1_795_521_600, "exp": 1_827_057_600}), None)]
    #[case::without_end(json!({"sub": "alice"}), None)]
    #[case::absurd(json!({"iat": i64::MIN, "exp": i64::MAX}), None)]
    fn the_end_of_a_short_token_is_known(#[case] claims: Value, #[case] expected: Option<&str>) {
        assert_eq!(expiry(&jwt(&claims)), expected.map(|time| time.parse().unwrap()));
    }

    #[rstest]
    #[case("opaque")]
    #[case("a.b.c")]
    #[case("..")]
    #[case("")]
    fn other_tokens_tell_nothing(#[case] token: &str) {
        assert_eq!(expiry(token), None);
    }
}
