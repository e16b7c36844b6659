//! Reads and changes logins and tokens without a client.

use std::time::Duration;

use super::{
    super::iam::{Access, Grant},
    FakeIbmCloud,
};

/// Logins and tokens. Tests name a login by its name.
impl FakeIbmCloud {
    /// IAM's id of a login, which objects name as their creator; nothing if the login does not exist.
    #[must_use]
    pub fn iam_id(&self, login: &str) -> Option<String> {
        self.read(|side| side.iam.iam_id(login))
    }

    /// The id of a trusted profile; nothing if the login does not exist or is not a profile.
    #[must_use]
    pub fn profile_id(&self, login: &str) -> Option<String> {
        self.read(|side| side.iam.profile_id(login))
    }

    /// The number of tokens that IAM has issued for this grant.
    #[must_use]
    pub fn granted(&self, grant: Grant) -> usize {
        self.read(|side| side.iam.granted(grant))
    }

    /// All tokens that IAM has issued, oldest first; tests search logs and objects for them.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.read(|side| side.iam.handed_out())
    }

    /// Issues a token for a login without a call.
    #[must_use]
    pub fn issue_token(&self, login: &str) -> String {
        self.change(|side| side.iam.issue(login))
    }

    /// Revokes all tokens, which clients can't know.
    pub fn revoke_tokens(&self) {
        self.change(|side| side.iam.revoke());
    }

    /// Sets the lifetime of new tokens.
    pub fn change_token_lifetime(&self, lifetime: Duration) {
        self.change(|side| side.iam.lifetime = lifetime);
    }

    /// Changes the API key of a login, or the token of its compute resource. Its IAM tokens stay valid until they
    /// expire.
    pub fn change_secret(&self, login: &str, secret: impl Into<String>) {
        self.change(|side| side.iam.change_secret(login, secret.into()));
    }

    /// Changes the access of a login.
    pub fn change_access(&self, login: &str, access: Access) {
        self.change(|side| side.iam.change_access(login, access));
    }
}
