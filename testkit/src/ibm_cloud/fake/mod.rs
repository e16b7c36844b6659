//! The handle on a running IBM Cloud that a test holds.

mod estate;
mod logins;

use std::{fmt, sync::Arc, thread};

use super::{
    builder::Builder,
    record::{Call, Rule, Violation},
    route::Route,
    side::IbmCloud,
};
use crate::{
    broker::TlsIdentity,
    gate::{Gate, Moment},
    remote::{Injection, Inner, Shared},
    server::Server,
    wait::WaitError,
};

/// A running IBM Cloud.
///
/// Dropping it stops it, and panics, as a failed assertion does, where a client broke a rule, a fault was injected
/// that no call met, or a late call was never [released](Self::release_late).
pub struct FakeIbmCloud {
    shared: Arc<Shared<IbmCloud>>,
    controller: Server,
    iam: Server,
    tls: Option<TlsIdentity>,
}

impl FakeIbmCloud {
    /// An IBM Cloud with an account that has the instance `training-app-db`; with the login `alice` (API key
    /// `ibm-api-key`) and the trusted profile `operator` (for the compute resource token `service-account-token`), both
    /// with full access; with tokens for an hour, [`CredentialsRecipe::postgresql`](super::CredentialsRecipe::postgresql),
    /// no [quirks](super::Quirks), as many service IDs as anybody wants, and plain http.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(super) const fn new(
        shared: Arc<Shared<IbmCloud>>,
        controller: Server,
        iam: Server,
        tls: Option<TlsIdentity>,
    ) -> Self {
        Self { shared, controller, iam, tls }
    }

    /// Where the Resource Controller listens, without a path and without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(&self.controller)
    }

    /// Where IAM listens, without a path and without a slash at the end.
    #[must_use]
    pub fn iam_url(&self) -> String {
        self.url_of(&self.iam)
    }

    fn url_of(&self, server: &Server) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", server.addr)
    }

    /// The bundle that clients are to trust; nothing for plain http.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.tls.as_ref().map(TlsIdentity::ca_pem)
    }

    /// Every call so far, at both hosts, in the order of arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.look().calls.clone()
    }

    /// How many calls of this route there were so far.
    #[must_use]
    pub fn count(&self, route: Route) -> usize {
        self.shared.look().calls.iter().filter(|call| call.route == route).count()
    }

    /// What clients did against the rules so far, in order, without what is [tolerated](Self::tolerate).
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.look().violations.clone()
    }

    /// The violations so far, which are then no longer held against anybody.
    #[must_use]
    pub fn take_violations(&self) -> Vec<Violation> {
        self.shared.change(|inner| std::mem::take(&mut inner.violations))
    }

    /// From now on does not hold breaches of this rule against clients; they are answered all the same.
    pub fn tolerate(&self, rule: Rule) {
        self.shared.change(|inner| inner.tolerated.push(rule));
    }

    /// Lets calls go wrong. Of several injections that a call could meet, it meets the oldest.
    pub fn inject(&self, injection: Injection<Route>) {
        self.shared.change(|inner| inner.script.add(injection));
    }

    /// Lets everything go right again.
    pub fn clear_faults(&self) {
        self.shared.change(|inner| inner.script.clear());
    }

    /// Carries out what met [`Fault::Late`](super::Fault::Late) so far, in the order in which it came in; says how
    /// many of these calls had an effect.
    #[must_use = "it says how many late calls had an effect"]
    pub fn release_late(&self) -> usize {
        self.shared.change(Inner::release_late)
    }

    /// Holds the calls of a route, from now on, before or after they take effect.
    ///
    /// A held call goes on when it is let through, also where its client is gone by then, as in the field.
    pub fn gate(&self, route: Route, moment: Moment) -> Gate {
        self.shared.change(|inner| inner.gates.add(route, moment))
    }

    /// Waits until the calls are as they should be, and gives them.
    ///
    /// # Errors
    /// They were not within 30 seconds.
    pub async fn wait_for_calls(&self, met: impl Fn(&[Call]) -> bool) -> Result<Vec<Call>, WaitError> {
        self.shared.wait(|inner| inner.calls.clone(), met).await
    }

    /// Waits until this many calls have met [`Fault::Late`](super::Fault::Late) and wait for their release.
    ///
    /// # Errors
    /// Fewer did within 30 seconds.
    pub async fn wait_for_late(&self, count: usize) -> Result<(), WaitError> {
        self.shared.wait_for_late(count).await
    }

    /// Fails where a client broke a rule, and where a fault was injected that no call met, because such a test does
    /// not test what it says.
    ///
    /// # Panics
    /// That is how it fails.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.shared.assert_clean();
    }
}

impl Drop for FakeIbmCloud {
    fn drop(&mut self) {
        self.controller.stop();
        self.iam.stop();
        if !thread::panicking() {
            self.assert_clean();
        }
    }
}

impl fmt::Debug for FakeIbmCloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeIbmCloud").field("url", &self.url()).finish_non_exhaustive()
    }
}
