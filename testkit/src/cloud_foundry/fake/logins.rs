//! What a test sees of logins and tokens, and does to them.

use std::time::Duration;

use super::{
    super::uaa::{Grant, RefreshTokens, Role},
    FakeCloudFoundry,
};

/// Logins and tokens. A login is named by its user's name, or its client's id.
impl FakeCloudFoundry {
    /// How many tokens were handed out for this grant so far.
    #[must_use]
    pub fn granted(&self, grant: Grant) -> usize {
        self.shared.look().side.uaa.granted(grant)
    }

    /// How often a user showed a wrong password since the last right one.
    #[must_use]
    pub fn wrong_passwords(&self, user: &str) -> usize {
        self.shared.look().side.uaa.failures(user)
    }

    /// Locks a user out, as if somebody had shown wrong passwords for it just now.
    pub fn lock(&self, user: &str) {
        self.shared.change(|inner| inner.side.uaa.lock(user));
    }

    /// Every access token and refresh token that was handed out so far, oldest first, to look for where none should
    /// be.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.shared.look().side.uaa.handed_out()
    }

    /// Hands out an access token of a login without anybody asking over the wire.
    #[must_use]
    pub fn issue_token(&self, login: &str) -> String {
        self.shared.change(|inner| inner.side.uaa.issue(login))
    }

    /// Makes an assertion of another identity provider that stands for a user, for [`Grant::JwtBearer`].
    #[must_use]
    pub fn issue_assertion(&self, user: &str) -> String {
        self.shared.change(|inner| inner.side.uaa.assert(user))
    }

    /// Lets no access token be good any more that was handed out so far, which clients can't know.
    pub fn revoke_tokens(&self) {
        self.shared.change(|inner| inner.side.uaa.revoke_access());
    }

    /// Lets no refresh token be good any more that was handed out so far.
    pub fn revoke_refresh_tokens(&self) {
        self.shared.change(|inner| inner.side.uaa.revoke_refresh());
    }

    /// From now on access tokens are handed out for this time.
    pub fn change_token_lifetime(&self, lifetime: Duration) {
        self.shared.change(|inner| inner.side.uaa.lifetime = lifetime);
    }

    /// From now on this becomes of refresh tokens.
    pub fn change_refresh_tokens(&self, refresh_tokens: RefreshTokens) {
        self.shared.change(|inner| inner.side.uaa.refresh_tokens = refresh_tokens);
    }

    /// From now on a login needs another password or secret. Its refresh tokens end with the old one; its access
    /// tokens are good until they expire.
    pub fn change_secret(&self, login: &str, secret: impl Into<String>) {
        self.shared.change(|inner| inner.side.uaa.change_secret(login, secret.into()));
    }

    /// From now on a login has another role in its spaces.
    pub fn change_role(&self, login: &str, role: Role) {
        self.shared.change(|inner| inner.side.uaa.change_role(login, role));
    }
}
