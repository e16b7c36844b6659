//! Logins by tokens that a server hands out for a while: one token for all calls of a provider, asked for by one call
//! and renewed before it dies.
//!
//! `endpoint` knows how a token is asked for, `answer` reads what comes, `cache` says when to ask. Nothing here knows
//! what the token is shown to.

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

/// Ends the message about a login that is not tried again for a while.
const TRIED_AGAIN: &str = "; the operator tries again when the login changes, otherwise three times an hour, because servers \
                           lock accounts after a few wrong passwords";

/// The tokens of one login.
#[derive(Debug)]
pub(super) struct Tokens {
    endpoint: TokenEndpoint,
    cache: TokenCache,
}

impl Tokens {
    /// Tokens for a client that logs in by itself; nothing is asked for yet.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`](super::ErrorClass::Rejected), where the address may not be called.
    pub(super) fn of_client(login: &ClientCredentials, http: &HttpClient) -> Result<Self, BackendError> {
        Ok(Self { endpoint: TokenEndpoint::of_client(login, http)?, cache: cache(http) })
    }

    /// Tokens for a user who logs in by password; nothing is asked for yet.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`](super::ErrorClass::Rejected), where the address may not be called.
    pub(super) fn of_user(login: &PasswordLogin<'_>, http: &HttpClient) -> Result<Self, BackendError> {
        Ok(Self { endpoint: TokenEndpoint::of_user(login, http)?, cache: cache(http) })
    }

    /// Tokens of IBM Cloud's IAM; nothing is asked for yet.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`](super::ErrorClass::Rejected), where the address may not be called.
    pub(super) fn of_iam(
        iam_url: &Url,
        login: IamLogin<'_>,
        http: &HttpClient,
    ) -> Result<Self, BackendError> {
        Ok(Self { endpoint: TokenEndpoint::of_iam(iam_url, login, http)?, cache: cache(http) })
    }

    /// A token that lives.
    ///
    /// # Errors
    /// Those of the request for one. None of them is
    /// [`ErrorClass::OrphanPossible`](super::ErrorClass::OrphanPossible): a call without a token is not made.
    pub(super) async fn current(&self, http: &HttpClient) -> Result<Arc<Token>, BackendError> {
        self.cache.current(|| self.endpoint.request(http)).await
    }

    /// A token that is asked for now, whatever is known: the server proves by it what it is.
    ///
    /// # Errors
    /// As for [`Tokens::current`].
    pub(super) async fn renewed(&self, http: &HttpClient) -> Result<Arc<Token>, BackendError> {
        self.cache.renewed(|| self.endpoint.request(http)).await
    }

    /// Another token, where the remote side refused this one (status 401) and another may help. A call that was refused
    /// did nothing, and may be made again.
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

    /// Hides the login that tokens are asked for with; each [`Token`] is a secret besides.
    pub(super) fn redactor(&self) -> Redactor {
        self.endpoint.redactor().clone()
    }
}

fn cache(http: &HttpClient) -> TokenCache {
    http.login_pause().map_or_else(TokenCache::default, TokenCache::pausing)
}
