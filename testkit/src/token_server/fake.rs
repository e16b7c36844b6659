//! The methods of the handle that only a token server has.

use super::{
    builder::{Builder, TokenSetup},
    side::TokenIssuer,
    tokens::IssuedTokens,
};
use crate::{remote::Fake, wait::WaitError};

/// A running token server. Its tokens stay valid at a broker after it stops.
pub type TokenServer = Fake<TokenIssuer>;

impl TokenServer {
    /// A server on plain http that issues tokens for an hour to the client `operator` with the secret `client-secret`,
    /// and expects no scopes.
    pub fn builder() -> Builder {
        Builder::new(TokenSetup::default())
    }

    /// The issued tokens, for a broker that accepts them: [`Login::oauth`](crate::broker::Login::oauth).
    #[must_use]
    pub fn issued(&self) -> IssuedTokens {
        self.read(|side| side.tokens.clone())
    }

    /// All issued tokens, oldest first; tests search logs and objects for them.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.issued().list()
    }

    /// The number of requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.calls().len()
    }

    /// The number of issued tokens so far.
    #[must_use]
    pub fn grants(&self) -> usize {
        self.tokens().len()
    }

    /// Waits until this many tokens were issued.
    ///
    /// # Errors
    /// Fewer were within 30 seconds.
    pub async fn wait_for_grants(&self, count: usize) -> Result<(), WaitError> {
        let numbers = |side: &TokenIssuer| (1..=side.tokens.list().len()).collect();
        self.wait(numbers, |grants| grants.len() >= count).await.map(drop)
    }

    /// Revokes all tokens.
    pub fn revoke_all(&self) {
        self.change(|side| side.tokens.revoke_all());
    }

    /// Changes the secret of the client.
    pub fn change_secret(&self, secret: impl Into<String>) {
        self.change(|side| side.terms.client_secret = secret.into());
    }

    /// Sets the lifetime of new tokens in seconds.
    pub fn change_expires_in(&self, seconds: u64) {
        self.change(|side| side.expires_in = Some(seconds));
    }
}
