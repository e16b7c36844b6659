//! Logins by short-lived tokens: all calls of a provider share one token. One call requests it, and renews it before it
//! expires.
//!
//! `endpoint` sends the token requests, `answer` reads the answers, and `cache` decides when to request a token.
//! Nothing here depends on the remote side that the token is for.

mod answer;
mod cache;
mod endpoint;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use url::Url;

pub(crate) use endpoint::ClientCredentials;

pub(super) use answer::Token;
pub(super) use endpoint::{IamLogin, PasswordLogin};

use self::{cache::TokenCache, endpoint::TokenEndpoint};
use super::{
    BackendError,
    http::{HttpClient, Redactor},
};

/// Ends the message about a login that the operator does not try again for some time.
const TRIED_AGAIN: &str = "; the operator tries again when the login changes, otherwise three times an hour, because \
                           servers lock accounts after a few wrong passwords";

#[derive(Debug)]
pub(super) struct Tokens {
    endpoint: TokenEndpoint,
    cache: TokenCache,
}

impl Tokens {
    /// Tokens for a client that logs in for itself. It does not request one yet.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`](super::ErrorClass::Rejected) if the operator may not call the address.
    pub(super) fn of_client(login: &ClientCredentials, http: &HttpClient) -> Result<Self, BackendError> {
        Ok(Self { endpoint: TokenEndpoint::of_client(login, http)?, cache: cache(http) })
    }

    /// Tokens for a user who logs in with a password. It does not request one yet.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`](super::ErrorClass::Rejected) if the operator may not call the address.
    pub(super) fn of_user(login: &PasswordLogin<'_>, http: &HttpClient) -> Result<Self, BackendError> {
        Ok(Self { endpoint: TokenEndpoint::of_user(login, http)?, cache: cache(http) })
    }

    /// Tokens of IBM Cloud's IAM. It does not request one yet.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`](super::ErrorClass::Rejected) if the operator may not call the address.
    pub(super) fn of_iam(
        iam_url: &Url,
        login: IamLogin<'_>,
        http: &HttpClient,
    ) -> Result<Self, BackendError> {
        Ok(Self { endpoint: TokenEndpoint::of_iam(iam_url, login, http)?, cache: cache(http) })
    }

    /// Returns a valid token.
    ///
    /// # Errors
    /// Those of the token request. None of them is [`ErrorClass::OrphanPossible`](super::ErrorClass::OrphanPossible):
    /// the operator sends no call without a token.
    pub(super) async fn current(&self, http: &HttpClient) -> Result<Arc<Token>, BackendError> {
        self.cache.current(|| self.endpoint.request(http)).await
    }

    /// Requests a new token even if a valid one is cached. The answer proves that the server is a token endpoint.
    ///
    /// # Errors
    /// As for [`Tokens::current`].
    pub(super) async fn renewed(&self, http: &HttpClient) -> Result<Arc<Token>, BackendError> {
        self.cache.renewed(|| self.endpoint.request(http)).await
    }

    /// Returns another token after the remote side refused this one (status 401), or `None` if another would not help.
    /// A refused call had no effect, so the operator may repeat it.
    ///
    /// # Errors
    /// As for [`Tokens::current`].
    pub(super) async fn instead_of(
        &self,
        refused: &Arc<Token>,
        http: &HttpClient,
    ) -> Result<Option<Arc<Token>>, BackendError> {
        if self.cache.refuse(refused) { self.current(http).await.map(Some) } else { Ok(None) }
    }

    /// Hides the login of the token requests. Each [`Token`] is a further secret.
    pub(super) fn redactor(&self) -> Redactor {
        self.endpoint.redactor().clone()
    }
}

fn cache(http: &HttpClient) -> TokenCache {
    http.login_pause().map_or_else(TokenCache::default, TokenCache::pausing)
}
