//! IAM's token endpoint: its logins, grants and tokens.

mod login;
mod request;

use std::{collections::BTreeMap, time::Duration};

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    answer::{Answer, Refusal, no_token, unauthorized},
    record::Rule,
    route::Route,
};
use crate::remote::{Environment, Tokens, Worth, reading::bearer};
pub(super) use request::GrantRequest;
use request::Profile;

pub use login::{Access, Login};
pub use request::Grant;

/// The caller.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// The name of the login.
    pub login: String,
    pub iam_id: String,
    pub access: Access,
}

pub(super) struct Iam {
    account: String,
    environment: Environment,
    logins: Vec<Login>,
    tokens: Tokens,
    pub lifetime: Duration,
    granted: BTreeMap<Grant, usize>,
}

impl Iam {
    pub(super) fn new(
        account: String,
        logins: Vec<Login>,
        lifetime: Duration,
        environment: Environment,
    ) -> Self {
        let (tokens, granted) = (Tokens::none(environment.clone()), BTreeMap::new());
        Self { account, environment, logins, tokens, lifetime, granted }
    }

    /// The session of the token in a call.
    pub(super) fn session(&self, route: Route, headers: &HeaderMap) -> Result<Session, Refusal> {
        let breach = |rule, detail: &str| Refusal::breach(rule, unauthorized(route, detail), detail);
        let token = bearer(headers).ok_or_else(|| breach(Rule::Authorization, "there is no bearer token"))?;
        match self.tokens.worth(token) {
            Worth::Good(login) => self
                .find(&login)
                .map(|login| Session {
                    login: login.name.clone(),
                    iam_id: login.iam_id(),
                    access: login.access,
                })
                .ok_or_else(|| Refusal::blameless(unauthorized(route, "Token is invalid"))),
            Worth::Expired => Err(breach(Rule::FreshToken, "Token is expired")),
            Worth::Revoked => Err(Refusal::blameless(unauthorized(route, "Token is expired"))),
            Worth::Unknown => Err(breach(Rule::Authorization, "nobody handed this token out")),
        }
    }

    /// Issues the token of a correct request.
    pub(super) fn grant(&mut self, request: &GrantRequest) -> Result<Answer, Refusal> {
        let refuse = |code: &str, message: &str| {
            Refusal::breach(Rule::Secret, no_token(StatusCode::BAD_REQUEST, code, message), message)
        };
        let login = match request {
            GrantRequest::ApiKey(key) => self
                .logins
                .iter()
                .find(|login| login.profile_id().is_none() && &login.secret == key)
                .ok_or_else(|| refuse("BXNIM0415E", "Provided API key could not be found."))?,
            GrantRequest::ComputeResource { token, profile } => {
                let found = self.logins.iter().find(|login| match profile {
                    Profile::Id(id) => login.profile_id() == Some(id),
                    Profile::Name(name) => login.profile_id().is_some() && &login.name == name,
                });
                found
                    .ok_or_else(|| refuse("BXNIM0523E", "The trusted profile could not be found."))
                    .and_then(|login| match &login.secret == token {
                        true => Ok(login),
                        false => Err(refuse("BXNIM0524E", "The compute resource token is not valid.")),
                    })?
            }
        };
        let name = login.name.clone();
        *self.granted.entry(request.grant()).or_default() += 1;
        Ok(self.hand_out(&name))
    }

    fn hand_out(&mut self, login: &str) -> Answer {
        Answer::ok(json!({
            "access_token": self.issue(login),
            "refresh_token": "not_supported",
            "token_type": "Bearer",
            "expires_in": self.lifetime.as_secs(),
            "expiration": (self.environment.epoch() + self.lifetime).as_secs(),
            "scope": "ibm openid",
        }))
    }

    /// The claims in an access token, for clients that read it.
    fn claims(&self, login: &str) -> Map<String, Value> {
        let iam_id = self.find(login).map(Login::iam_id).unwrap_or_default();
        let claims = [
            ("iam_id", json!(iam_id)),
            ("id", json!(iam_id)),
            ("sub", json!(login)),
            ("account", json!({ "valid": true, "bss": self.account, "frozen": false })),
            ("iss", json!("https://iam.cloud.ibm.com/identity")),
            ("scope", json!("ibm openid")),
        ];
        claims.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }

    fn find(&self, name: &str) -> Option<&Login> {
        self.logins.iter().find(|login| login.name == name)
    }
}

/// Changes that tests make to IAM.
impl Iam {
    /// The number of tokens issued for this grant.
    pub(super) fn granted(&self, grant: Grant) -> usize {
        self.granted.get(&grant).copied().unwrap_or_default()
    }

    /// IAM's id of a login.
    pub(super) fn iam_id(&self, login: &str) -> Option<String> {
        self.find(login).map(Login::iam_id)
    }

    /// The id of a trusted profile.
    pub(super) fn profile_id(&self, login: &str) -> Option<String> {
        self.find(login)?.profile_id().map(str::to_owned)
    }

    /// All tokens so far.
    pub(super) fn handed_out(&self) -> Vec<String> {
        self.tokens.all()
    }

    pub(super) fn issue(&mut self, login: &str) -> String {
        let claims = self.claims(login);
        self.tokens.issue(login, self.lifetime, &claims)
    }

    pub(super) fn revoke(&mut self) {
        self.tokens.revoke_access();
    }

    pub(super) fn change_secret(&mut self, name: &str, secret: String) {
        if let Some(login) = self.logins.iter_mut().find(|login| login.name == name) {
            login.secret = secret;
        }
    }

    pub(super) fn change_access(&mut self, name: &str, access: Access) {
        if let Some(login) = self.logins.iter_mut().find(|login| login.name == name) {
            login.access = access;
        }
    }
}
