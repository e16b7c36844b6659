//! The options of a token server.

use super::{request::Terms, side::TokenIssuer, tokens::IssuedTokens};
use crate::remote::{self, Environment, Hosts, ListenError};

/// A token server that is not running yet; [`TokenServer::builder`](super::TokenServer::builder) lists the defaults.
pub type Builder = remote::Builder<TokenSetup>;

/// The options that only a token server has.
#[derive(Debug)]
pub struct TokenSetup {
    terms: Terms,
    expires_in: Option<u64>,
}

impl Default for TokenSetup {
    fn default() -> Self {
        let (client_id, client_secret) = ("operator".into(), "client-secret".into());
        Self { terms: Terms { client_id, client_secret, scopes: Vec::new() }, expires_in: Some(3600) }
    }
}

impl Builder {
    /// Sets the client that gets tokens.
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        (self.setup.terms.client_id, self.setup.terms.client_secret) = (id.into(), secret.into());
        self
    }

    /// Sets the scopes that a request must name, exactly. By default it must name none.
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.setup.terms.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the lifetime of tokens in seconds.
    pub const fn expires_in(mut self, seconds: u64) -> Self {
        self.setup.expires_in = Some(seconds);
        self
    }

    /// Issues tokens without `expires_in`, which are valid until they are revoked.
    pub const fn without_expires_in(mut self) -> Self {
        self.setup.expires_in = None;
        self
    }
}

impl remote::Setup for TokenSetup {
    type Side = TokenIssuer;
    type Error = ListenError;

    fn into_side(self, _hosts: &Hosts<()>, environment: &Environment) -> Result<TokenIssuer, ListenError> {
        let Self { terms, expires_in } = self;
        let (environment, tokens) = (environment.clone(), IssuedTokens::default());
        Ok(TokenIssuer { terms, expires_in, environment, tokens })
    }
}
