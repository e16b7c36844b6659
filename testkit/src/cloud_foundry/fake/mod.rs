//! The handle on a running Cloud Foundry that a test holds.

mod keys;
mod logins;

use std::{fmt, sync::Arc, thread};

use serde_json::Value;

use super::{
    builder::Builder,
    limit::RateLimit,
    record::{Call, Rule, Violation},
    route::Route,
    side::CloudFoundry,
};
use crate::{
    broker::TlsIdentity,
    gate::{Gate, Moment},
    remote::{Injection, Inner, Shared},
    server::Server,
    wait::WaitError,
};

/// A running Cloud Foundry.
///
/// Dropping it stops it, and panics, as a failed assertion does, where a client broke a rule, a fault was injected
/// that no call met, or a late call was never [released](Self::release_late).
pub struct FakeCloudFoundry {
    shared: Arc<Shared<CloudFoundry>>,
    api: Server,
    uaa: Server,
    tls: Option<TlsIdentity>,
}

impl FakeCloudFoundry {
    /// A Cloud Foundry with the organization `acme`, its space `dev`, and the managed instance `training-app-db` in
    /// it; with the user `alice` (password `cf-password`) and the client `operator` (secret `client-secret`), both
    /// space developers; with tokens for an hour, refresh tokens that last,
    /// [`CredentialsRecipe::postgresql`](super::CredentialsRecipe::postgresql), everything done
    /// [at once](super::Pace::at_once), pages as large as clients want them, and plain http.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(super) const fn new(
        shared: Arc<Shared<CloudFoundry>>,
        api: Server,
        uaa: Server,
        tls: Option<TlsIdentity>,
    ) -> Self {
        Self { shared, api, uaa, tls }
    }

    /// Where the Cloud Controller listens, without a path and without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(&self.api)
    }

    /// Where the UAA listens, without a path and without a slash at the end.
    #[must_use]
    pub fn uaa_url(&self) -> String {
        self.url_of(&self.uaa)
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

    /// What `GET /` answers; to change it, [inject](Self::inject) a [`Fault::edit`](crate::remote::Fault::edit).
    #[must_use]
    pub fn root(&self) -> Value {
        self.shared.look().side.state.root()
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

    /// From now on does not hold breaches of this rule against clients; they are refused all the same.
    pub fn tolerate(&self, rule: Rule) {
        self.shared.change(|inner| inner.tolerated.push(rule));
    }

    /// From now on allows so many look-ups of single keys and jobs more, as [`Builder::look_ups`] does.
    pub fn allow_look_ups(&self, count: usize) {
        self.shared.change(|inner| inner.side.look_ups = Some(count));
    }

    /// From now on puts so many resources on a page at most; nothing: as many as clients want.
    pub fn change_page_limit(&self, resources: Option<usize>) {
        self.shared.change(|inner| inner.side.state.page_limit = resources);
    }

    /// From now on answers 429 to more requests than this, or no more.
    pub fn limit_rate(&self, limit: Option<RateLimit>) {
        self.shared.change(|inner| inner.side.meter.change(limit));
    }

    /// Lets calls go wrong. Of several injections that a call could meet, it meets the oldest.
    pub fn inject(&self, injection: Injection<Route>) {
        self.shared.change(|inner| inner.script.add(injection));
    }

    /// Lets everything go right again.
    pub fn clear_faults(&self) {
        self.shared.change(|inner| inner.script.clear());
    }

    /// Carries out what met [`Fault::Late`](crate::remote::Fault::Late) so far, in the order in which it came in; says how
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
        self.wait(|inner| inner.calls.clone(), |calls| met(calls)).await
    }

    /// Waits until this many calls have met [`Fault::Late`](crate::remote::Fault::Late) and wait for their release.
    ///
    /// # Errors
    /// Fewer did within 30 seconds.
    pub async fn wait_for_late(&self, count: usize) -> Result<(), WaitError> {
        self.shared.wait_for_late(count).await
    }

    async fn wait<T: fmt::Debug>(
        &self,
        read: impl Fn(&Inner<CloudFoundry>) -> Vec<T>,
        met: impl Fn(&[T]) -> bool,
    ) -> Result<Vec<T>, WaitError> {
        self.shared.wait(read, met).await
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

impl Drop for FakeCloudFoundry {
    fn drop(&mut self) {
        self.api.stop();
        self.uaa.stop();
        if !thread::panicking() {
            self.assert_clean();
        }
    }
}

impl fmt::Debug for FakeCloudFoundry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeCloudFoundry").field("url", &self.url()).finish_non_exhaustive()
    }
}
