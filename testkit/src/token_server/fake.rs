//! The handle on a running token server that a test holds.

use std::{fmt, sync::Arc, thread};

use tokio::time::timeout;

use super::{
    builder::Builder,
    desk::Desk,
    faults::TokenFault,
    request::{GrantRule, GrantViolation, PATH},
    tokens::IssuedTokens,
};
use crate::{
    gate::{Gate, Moment},
    remote::TlsIdentity,
    server::Server,
    wait::{PATIENCE, WaitError},
};

/// A running token server.
///
/// Dropping it stops it, and panics, as a failed assertion does, where a client broke a rule of the
/// specification or a fault was injected that no request met. What it handed out stays valid at the broker.
pub struct TokenServer {
    desk: Arc<Desk>,
    server: Server,
    tls: Option<TlsIdentity>,
}

impl TokenServer {
    /// A server on plain http that gives the client `operator` with the secret `client-secret` tokens for an
    /// hour, and expects no scopes.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(super) const fn new(desk: Arc<Desk>, server: Server, tls: Option<TlsIdentity>) -> Self {
        Self { desk, server, tls }
    }

    /// The URL of the token endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{PATH}", self.server.addr)
    }

    /// The bundle that clients are to trust; nothing for plain http.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.tls.as_ref().map(TlsIdentity::ca_pem)
    }

    /// The tokens that were handed out, for a broker that is to know them:
    /// [`Login::oauth`](crate::broker::Login::oauth).
    #[must_use]
    pub fn issued(&self) -> IssuedTokens {
        self.desk.tokens.clone()
    }

    /// Every token that was handed out so far, oldest first, to look for where none should be.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.desk.tokens.list()
    }

    /// How many requests came in so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.desk.open().requests
    }

    /// How many tokens were handed out so far.
    #[must_use]
    pub fn grants(&self) -> usize {
        *self.desk.granted.borrow()
    }

    /// Waits until this many tokens were handed out.
    ///
    /// # Errors
    /// Fewer were within 30 seconds.
    pub async fn wait_for_grants(&self, count: usize) -> Result<(), WaitError> {
        let mut granted = self.desk.granted.subscribe();
        let enough = timeout(PATIENCE, granted.wait_for(|granted| *granted >= count)).await;
        match enough {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                let seen = format!("{} of {count} tokens were handed out", self.grants());
                Err(WaitError::new(seen))
            }
        }
    }

    /// Lets no token be valid any more that was handed out so far.
    pub fn revoke_all(&self) {
        self.desk.tokens.revoke_all();
    }

    /// From now on the client has to show another secret.
    pub fn change_secret(&self, secret: impl Into<String>) {
        self.desk.open().terms.client_secret = secret.into();
    }

    /// From now on tokens live this many seconds.
    pub fn change_expires_in(&self, seconds: u64) {
        self.desk.open().expires_in = Some(seconds);
    }

    /// Lets one request go wrong: the next one for which no other fault was injected before.
    pub fn inject(&self, fault: TokenFault) {
        self.desk.open().script.add(fault);
    }

    /// Lets every request go wrong for which nothing else was injected.
    pub fn inject_forever(&self, fault: TokenFault) {
        self.desk.open().script.add_forever(fault);
    }

    /// Lets everything go right again.
    pub fn clear_faults(&self) {
        self.desk.open().script.clear();
    }

    /// Holds requests, from now on, before or after a token is handed out.
    pub fn gate(&self, moment: Moment) -> Gate {
        self.desk.open().gates.add((), moment)
    }

    /// What clients did against the specification so far, in order, without what is
    /// [tolerated](Self::tolerate).
    #[must_use]
    pub fn violations(&self) -> Vec<GrantViolation> {
        self.desk.open().violations.clone()
    }

    /// The violations so far, which are then no longer held against anybody.
    #[must_use]
    pub fn take_violations(&self) -> Vec<GrantViolation> {
        std::mem::take(&mut self.desk.open().violations)
    }

    /// From now on does not hold breaches of this rule against clients; they are refused all the same.
    pub fn tolerate(&self, rule: GrantRule) {
        self.desk.open().tolerated.push(rule);
    }

    /// Fails where a client broke a rule of the specification, and where a fault was injected that no request
    /// met.
    ///
    /// # Panics
    /// That is how it fails.
    #[track_caller]
    #[expect(clippy::panic, reason = "an assertion, for tests: they fail by panicking")]
    pub fn assert_clean(&self) {
        let complaints: Vec<_> = {
            let inner = self.desk.open();
            let unmet = inner.script.unmet().map(|fault| format!("no request met the fault {fault:?}"));
            inner.violations.iter().map(ToString::to_string).chain(unmet).collect()
        };
        if !complaints.is_empty() {
            panic!("the token server complains:\n  {}", complaints.join("\n  "));
        }
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.server.stop();
        if !thread::panicking() {
            self.assert_clean();
        }
    }
}

impl fmt::Debug for TokenServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenServer").field("url", &self.url()).finish_non_exhaustive()
    }
}
