//! What a test sees of logins and tokens, and does to them.

use std::time::Duration;

use super::{
    super::iam::{Access, Grant},
    FakeIbmCloud,
};

/// Logins and tokens. A login is called by its name.
impl FakeIbmCloud {
    /// What IAM calls a login, and whatever it makes names as its creator; nothing where there is no such login.
    #[must_use]
    pub fn iam_id(&self, login: &str) -> Option<String> {
        self.shared.look().side.iam.iam_id(login)
    }

    /// How many tokens were handed out for this grant so far.
    #[must_use]
    pub fn granted(&self, grant: Grant) -> usize {
        self.shared.look().side.iam.granted(grant)
    }

    /// Every token that was handed out so far, oldest first, to look for where none should be.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.shared.look().side.iam.handed_out()
    }

    /// Hands out a token of a login without anybody asking over the wire.
    #[must_use]
    pub fn issue_token(&self, login: &str) -> String {
        self.shared.change(|inner| inner.side.iam.issue(login))
    }

    /// Lets no token be good any more that was handed out so far, which clients can't know.
    pub fn revoke_tokens(&self) {
        self.shared.change(|inner| inner.side.iam.revoke());
    }

    /// From now on tokens are handed out for this time.
    pub fn change_token_lifetime(&self, lifetime: Duration) {
        self.shared.change(|inner| inner.side.iam.lifetime = lifetime);
    }

    /// From now on a login needs another API key, or another token of its compute resource. Tokens that it has are good
    /// until they expire.
    pub fn change_secret(&self, login: &str, secret: impl Into<String>) {
        self.shared.change(|inner| inner.side.iam.change_secret(login, secret.into()));
    }

    /// From now on a login may do this.
    pub fn change_access(&self, login: &str, access: Access) {
        self.shared.change(|inner| inner.side.iam.change_access(login, access));
    }
}
