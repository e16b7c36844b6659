//! The issued tokens, and whether they are valid.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::remote::Environment;

/// All tokens of a token server; clones share them. `Debug` shows only their number.
#[derive(Clone, Default)]
pub struct IssuedTokens(Arc<Mutex<Vec<Issued>>>);

struct Issued {
    token: String,
    /// Its expiry; nothing for a token that is valid until it is revoked.
    until: Option<Instant>,
    revoked: bool,
}

impl Issued {
    fn is_valid(&self) -> bool {
        !self.revoked && self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl IssuedTokens {
    /// Whether this token was issued and has neither expired nor been revoked.
    #[must_use]
    pub fn admit(&self, token: &str) -> bool {
        self.all().iter().any(|issued| issued.token == token && issued.is_valid())
    }

    pub(super) fn issue(&self, lifetime: Option<Duration>, environment: &Environment) -> String {
        let token = format!("token-{}", environment.secret());
        let until = lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime));
        self.all().push(Issued { token: token.clone(), until, revoked: false });
        token
    }

    pub(super) fn revoke_all(&self) {
        self.all().iter_mut().for_each(|issued| issued.revoked = true);
    }

    /// All tokens, oldest first, also invalid ones.
    pub(super) fn list(&self) -> Vec<String> {
        self.all().iter().map(|issued| issued.token.clone()).collect()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Issued>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for IssuedTokens {
    /// The tokens of the same server.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for IssuedTokens {}

impl fmt::Debug for IssuedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuedTokens({})", self.all().len())
    }
}
