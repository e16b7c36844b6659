//! Reads and changes logins and tokens without a client.

use std::time::Duration;

use super::{
    super::uaa::{Grant, RefreshTokens, Role},
    FakeCloudFoundry,
};

/// Logins and tokens. Tests name a login by the name of its user or the id of its client.
impl FakeCloudFoundry {
    /// The number of tokens that the UAA has issued for this grant.
    #[must_use]
    pub fn granted(&self, grant: Grant) -> usize {
        self.read(|side| side.uaa.granted(grant))
    }

    /// The number of wrong passwords since the last correct one of a user.
    #[must_use]
    pub fn wrong_passwords(&self, user: &str) -> usize {
        self.read(|side| side.uaa.failures(user))
    }

    /// Locks a user out, as the UAA does after several wrong passwords.
    pub fn lock(&self, user: &str) {
        self.change(|side| side.uaa.lock(user));
    }

    /// All access tokens and refresh tokens that the UAA has issued, oldest first; tests search logs and objects for
    /// them.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.read(|side| side.uaa.handed_out())
    }

    /// Issues an access token for a login without a call.
    #[must_use]
    pub fn issue_token(&self, login: &str) -> String {
        self.change(|side| side.uaa.issue(login))
    }

    /// Issues an assertion of another identity provider for a user, for [`Grant::JwtBearer`].
    #[must_use]
    pub fn issue_assertion(&self, user: &str) -> String {
        self.change(|side| side.uaa.assert(user))
    }

    /// Revokes all access tokens, which clients can't know.
    pub fn revoke_tokens(&self) {
        self.change(|side| side.uaa.revoke_access());
    }

    /// Revokes all refresh tokens.
    pub fn revoke_refresh_tokens(&self) {
        self.change(|side| side.uaa.revoke_refresh());
    }

    /// Sets the lifetime of new access tokens.
    pub fn change_token_lifetime(&self, lifetime: Duration) {
        self.change(|side| side.uaa.lifetime = lifetime);
    }

    /// Changes how the UAA treats refresh tokens.
    pub fn change_refresh_tokens(&self, refresh_tokens: RefreshTokens) {
        self.change(|side| side.uaa.refresh_tokens = refresh_tokens);
    }

    /// Changes the password or secret of a login. This revokes its refresh tokens; its access tokens stay valid until
    /// they expire.
    pub fn change_secret(&self, login: &str, secret: impl Into<String>) {
        self.change(|side| side.uaa.change_secret(login, secret.into()));
    }

    /// Changes the role of a login in its spaces.
    pub fn change_role(&self, login: &str, role: Role) {
        self.change(|side| side.uaa.change_role(login, role));
    }
}
