//! The UAA: its logins, grants and tokens.

mod login;
mod request;

use std::{collections::BTreeMap, time::Duration};

use axum::http::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue, WWW_AUTHENTICATE},
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    answer::{Answer, ApiError, Refusal},
    record::Rule,
};
use crate::remote::{Environment, Tokens, Worth, reading::bearer};
use login::{Access, LoginKind};
pub(super) use request::GrantRequest;
use request::{Asked, refused};

pub use login::{Login, Role};
pub use request::Grant;

/// The client of the `cf` command. It has no secret and acts for users.
const CF: &str = "cf";

/// The number of wrong passwords that lock a user out, as in `PeriodLockoutPolicy` of the UAA with its defaults: this
/// many within [`COUNTED`], for [`LOCKED`] after the last one.
const WRONG_PASSWORDS: usize = 5;
const COUNTED: Duration = Duration::from_secs(1200);
const LOCKED: Duration = Duration::from_secs(300);

/// The UAA's handling of refresh tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshTokens {
    /// Each can be used until it is revoked.
    Lasting,
    /// Each can be used once; the answer contains the next one.
    Rotating,
    /// The UAA issues none.
    None,
}

/// The caller of the Cloud Controller.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// The name of the user, or the id of the client.
    pub login: String,
    pub access: Access,
}

pub(super) struct Uaa {
    logins: Vec<Login>,
    tokens: Tokens,
    /// Assertions, each with its user.
    assertions: BTreeMap<String, String>,
    pub lifetime: Duration,
    pub refresh_tokens: RefreshTokens,
    granted: BTreeMap<Grant, usize>,
    /// The times of each user's wrong passwords.
    failures: BTreeMap<String, Vec<Instant>>,
}

impl Uaa {
    pub(super) fn new(
        logins: Vec<Login>,
        lifetime: Duration,
        refresh_tokens: RefreshTokens,
        environment: Environment,
    ) -> Self {
        Self {
            logins,
            tokens: Tokens::none(environment),
            assertions: BTreeMap::new(),
            lifetime,
            refresh_tokens,
            granted: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// The session of the token in a call of the Cloud Controller.
    pub(super) fn session(&self, headers: &HeaderMap) -> Result<Session, Refusal> {
        let breach = |error: ApiError, detail: &str| Refusal::breach(Rule::Authorization, error, detail);
        if !headers.contains_key(AUTHORIZATION) {
            return Err(breach(ApiError::not_authenticated(), "there is no token"));
        }
        let token = bearer(headers)
            .ok_or_else(|| breach(ApiError::invalid_auth_token(), "`Authorization` shows no bearer token"))?;
        match self.tokens.worth(token) {
            Worth::Good(login) => self
                .find(&login)
                .map(|found| Session { login, access: found.access.clone() })
                .ok_or_else(|| ApiError::invalid_auth_token().into()),
            Worth::Expired => {
                let detail = "the token's `expires_in` is over";
                Err(Refusal::breach(Rule::FreshToken, ApiError::invalid_auth_token(), detail))
            }
            Worth::Revoked => Err(ApiError::invalid_auth_token().into()),
            Worth::Unknown => Err(breach(ApiError::invalid_auth_token(), "nobody handed this token out")),
        }
    }

    /// Issues the tokens of a correct request.
    pub(super) fn grant(&mut self, request: &GrantRequest) -> Result<Answer, Refusal> {
        let grant = request.grant();
        self.check_client(&request.client, grant)?;
        let login = match &request.asked {
            Asked::ClientCredentials => request.client.0.clone(),
            Asked::Password { username, password, origin } => {
                self.let_in(username, password, origin.as_deref())?;
                username.clone()
            }
            Asked::Refresh { token } => self.tokens.refreshed(token).ok_or_else(|| {
                let detail = format!("The token expired, was revoked, or the token ID is incorrect: {token}");
                unpunished(refused(StatusCode::UNAUTHORIZED, "invalid_token", &detail))
            })?,
            Asked::Assertion { assertion } => self.assertions.get(assertion).cloned().ok_or_else(|| {
                let detail = "Assertion is invalid";
                unpunished(refused(StatusCode::UNAUTHORIZED, "invalid_grant", detail))
            })?,
        };
        *self.granted.entry(grant).or_default() += 1;
        Ok(self.hand_out(&login, &request.asked))
    }

    fn hand_out(&mut self, login: &str, asked: &Asked) -> Answer {
        let mut body = json!({
            "access_token": self.tokens.issue(login, self.lifetime, &claims(login)),
            "token_type": "bearer",
            "expires_in": self.lifetime.as_secs(),
            "scope": "cloud_controller.read cloud_controller.write",
            "jti": "fake",
        });
        let refresh = match (asked, self.refresh_tokens) {
            (Asked::ClientCredentials, _) | (_, RefreshTokens::None) => None,
            (Asked::Refresh { token }, RefreshTokens::Lasting) => Some(token.clone()),
            (Asked::Refresh { token }, RefreshTokens::Rotating) => {
                self.tokens.use_up(token);
                Some(self.tokens.issue_refresh(login))
            }
            (Asked::Password { .. } | Asked::Assertion { .. }, _) => Some(self.tokens.issue_refresh(login)),
        };
        if let Some(refresh) = refresh {
            body["refresh_token"] = refresh.into();
        }
        Answer::ok(body).with_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }

    fn check_client(&self, (id, secret): &(String, String), grant: Grant) -> Result<(), Refusal> {
        let is_cf = id == CF && secret.is_empty();
        let is_known = self
            .logins
            .iter()
            .any(|login| login.kind == LoginKind::Client && (&login.name, &login.secret) == (id, secret));
        if !is_cf && !is_known {
            let refused = refused(StatusCode::UNAUTHORIZED, "invalid_client", "Bad credentials");
            let challenge = HeaderValue::from_static("Basic realm=\"UAA/client\"");
            let refused = refused.with_header(WWW_AUTHENTICATE, challenge);
            return Err(Refusal::breach(Rule::Client, refused, "the client's id or secret is wrong"));
        }
        if is_cf == (grant == Grant::ClientCredentials) {
            let detail = format!("the client `{id}` must not ask for {grant:?}");
            let refused = refused(StatusCode::UNAUTHORIZED, "invalid_client", "Unauthorized grant type");
            return Err(Refusal::breach(Rule::GrantType, refused, detail));
        }
        Ok(())
    }

    /// Checks a password, unless the user is locked out.
    fn let_in(&mut self, name: &str, password: &str, hint: Option<&str>) -> Result<(), Refusal> {
        if self.is_locked(name) {
            let description = "Your account has been locked because of too many failed attempts to login.";
            return Err(unpunished(refused(StatusCode::UNAUTHORIZED, "unauthorized", description)));
        }
        let checked = self.check_user(name, password, hint);
        if checked.is_err() {
            self.failures.entry(name.to_owned()).or_default().push(Instant::now());
        } else {
            self.failures.remove(name);
        }
        checked
    }

    /// Whether a user sent too many wrong passwords.
    fn is_locked(&self, name: &str) -> bool {
        let failures = self.failures.get(name).map(Vec::as_slice).unwrap_or_default();
        let counted = failures.iter().filter(|at| at.elapsed() < COUNTED).count();
        counted >= WRONG_PASSWORDS && failures.last().is_some_and(|last| last.elapsed() < LOCKED)
    }

    fn check_user(&self, name: &str, password: &str, hint: Option<&str>) -> Result<(), Refusal> {
        let refuse = |description: &str, detail: &str| {
            let refused = refused(StatusCode::UNAUTHORIZED, "unauthorized", description);
            Refusal::breach(Rule::Password, refused, detail)
        };
        let origins = || self.logins.iter().filter_map(origin_of);
        if hint.is_some_and(|hint| hint != "uaa" && !origins().any(|origin| origin == hint)) {
            let description = "The origin provided in the login_hint does not match an active Identity Provider, \
                               that supports password grant.";
            return Err(refuse(description, "no user is of the origin that is named"));
        }
        let user = self
            .find(name)
            .filter(|login| login.secret == password && origin_of(login) == Some(hint.unwrap_or("uaa")));
        user.map(drop)
            .ok_or_else(|| refuse("Bad credentials", "the user's name, password or origin is wrong"))
    }

    fn find(&self, name: &str) -> Option<&Login> {
        self.logins.iter().find(|login| login.name == name)
    }
}

/// Changes that tests make to the UAA.
impl Uaa {
    /// The number of a user's wrong passwords.
    pub(super) fn failures(&self, name: &str) -> usize {
        self.failures.get(name).map_or(0, Vec::len)
    }

    /// Records enough wrong passwords to lock a user out.
    pub(super) fn lock(&mut self, name: &str) {
        self.failures.insert(name.to_owned(), vec![Instant::now(); WRONG_PASSWORDS]);
    }

    /// The number of tokens issued for this grant.
    pub(super) fn granted(&self, grant: Grant) -> usize {
        self.granted.get(&grant).copied().unwrap_or_default()
    }

    /// All access tokens and refresh tokens so far.
    pub(super) fn handed_out(&self) -> Vec<String> {
        self.tokens.all()
    }

    pub(super) fn issue(&mut self, login: &str) -> String {
        self.tokens.issue(login, self.lifetime, &claims(login))
    }

    /// Creates an assertion for a user, in the shape of a JWT.
    pub(super) fn assert(&mut self, user: &str) -> String {
        // The fake needs only a unique text in that shape.
        let assertion = self.tokens.jwt(self.lifetime, &claims(user));
        self.assertions.insert(assertion.clone(), user.to_owned());
        assertion
    }

    pub(super) fn revoke_access(&mut self) {
        self.tokens.revoke_access();
    }

    pub(super) fn revoke_refresh(&mut self) {
        self.tokens.revoke_refresh();
    }

    /// As in the UAA, a new secret revokes the refresh tokens. Access tokens stay valid until they expire.
    pub(super) fn change_secret(&mut self, name: &str, secret: String) {
        if let Some(login) = self.logins.iter_mut().find(|login| login.name == name) {
            login.secret = secret;
        }
        self.tokens.revoke_refresh_of(name);
    }

    pub(super) fn change_role(&mut self, name: &str, role: Role) {
        if let Some(login) = self.logins.iter_mut().find(|login| login.name == name) {
            login.access.role = role;
        }
    }
}

/// The claims in an access token, for clients that read it.
fn claims(login: &str) -> Map<String, Value> {
    let scope = json!(["cloud_controller.read", "cloud_controller.write"]);
    [("sub".into(), login.into()), ("scope".into(), scope)].into_iter().collect()
}

fn origin_of(login: &Login) -> Option<&str> {
    match &login.kind {
        LoginKind::User { origin } => Some(origin),
        LoginKind::Client => None,
    }
}

/// A refusal that a correct client can meet.
const fn unpunished(answer: Answer) -> Refusal {
    Refusal { answer, breach: None }
}
