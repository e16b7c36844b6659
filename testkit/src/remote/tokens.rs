//! The issued tokens, and whether they are valid.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::environment::Environment;

/// Access tokens and refresh tokens.
pub(crate) struct Tokens {
    environment: Environment,
    access: BTreeMap<String, Access>,
    /// The login of each valid refresh token.
    refresh: BTreeMap<String, String>,
    /// All access tokens and refresh tokens, oldest first.
    all: Vec<String>,
}

struct Access {
    login: String,
    until: Instant,
    revoked: bool,
}

/// The validity of an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// It is valid, and belongs to this login.
    Good(String),
    /// It has expired.
    Expired,
    /// The test revoked it, which a client can't know.
    Revoked,
    /// It was not issued.
    Unknown,
}

impl Tokens {
    pub(crate) const fn none(environment: Environment) -> Self {
        Self { environment, access: BTreeMap::new(), refresh: BTreeMap::new(), all: Vec::new() }
    }

    /// Creates a text in the shape of a JWT, with these claims, its id and its times, and a random signature.
    pub(crate) fn jwt(&self, lifetime: Duration, claims: &Map<String, Value>) -> String {
        let epoch = self.environment.epoch();
        let mut claims = claims.clone();
        claims.insert("jti".into(), self.environment.secret().into());
        claims.insert("iat".into(), epoch.as_secs().into());
        claims.insert("exp".into(), (epoch + lifetime).as_secs().into());
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let header = json!({ "alg": "RS256", "kid": "fake", "typ": "JWT" });
        let signature = self.environment.secret();
        [part(header.to_string()), part(Value::from(claims).to_string()), part(signature)].join(".")
    }

    /// Issues an access token with this lifetime: a [JWT](Self::jwt).
    pub(crate) fn issue(&mut self, login: &str, lifetime: Duration, claims: &Map<String, Value>) -> String {
        let token = self.jwt(lifetime, claims);
        let access = Access { login: login.to_owned(), until: Instant::now() + lifetime, revoked: false };
        self.access.insert(token.clone(), access);
        self.all.push(token.clone());
        token
    }

    pub(crate) fn issue_refresh(&mut self, login: &str) -> String {
        let token = format!("{}-r", self.environment.secret());
        self.refresh.insert(token.clone(), login.to_owned());
        self.all.push(token.clone());
        token
    }

    pub(crate) fn worth(&self, token: &str) -> Worth {
        match self.access.get(token) {
            None => Worth::Unknown,
            Some(access) if access.revoked => Worth::Revoked,
            Some(access) if access.until <= Instant::now() => Worth::Expired,
            Some(access) => Worth::Good(access.login.clone()),
        }
    }

    /// The login of a refresh token.
    pub(crate) fn refreshed(&self, token: &str) -> Option<String> {
        self.refresh.get(token).cloned()
    }

    pub(crate) fn use_up(&mut self, refresh: &str) {
        self.refresh.remove(refresh);
    }

    pub(crate) fn revoke_access(&mut self) {
        self.access.values_mut().for_each(|access| access.revoked = true);
    }

    pub(crate) fn revoke_refresh(&mut self) {
        self.refresh.clear();
    }

    pub(crate) fn revoke_refresh_of(&mut self, login: &str) {
        self.refresh.retain(|_, owner| owner != login);
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.all.clone()
    }
}
