//! The handle that a test keeps on a running fake.

use std::{fmt, sync::Arc, thread};

use axum::{
    body::{Body, Bytes},
    http::{Request, Response, Uri, uri::PathAndQuery},
};

use super::{
    builder::Hosts,
    call::{Host, NoAnswer},
    faults::Injection,
    record::{Call, Violation},
    shared::{Inner, Shared},
    side::Side,
};
use crate::{
    gate::{Gate, Moment},
    server::Server,
    wait::WaitError,
};

/// A running fake.
///
/// Dropping it stops it, and panics as [`assert_clean`](Self::assert_clean) does. To drop it in any state, first use
/// [`clear_faults`](Self::clear_faults), [`release_late`](Self::release_late) and
/// [`take_violations`](Self::take_violations).
pub struct Fake<S: Side> {
    shared: Arc<Shared<S>>,
    /// One for each door; none if the fake is in this process.
    servers: Vec<Server>,
    hosts: Hosts<S::Door>,
    ca_pem: Option<String>,
}

impl<S: Side> Fake<S> {
    pub(super) const fn new(
        shared: Arc<Shared<S>>,
        servers: Vec<Server>,
        hosts: Hosts<S::Door>,
        ca_pem: Option<String>,
    ) -> Self {
        Self { shared, servers, hosts, ca_pem }
    }

    /// The URL for clients, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}{}", self.hosts.first(), S::PATH)
    }

    /// The URL of one of the hosts, without a path.
    pub(crate) fn url_of(&self, door: S::Door) -> String {
        self.hosts.url(door)
    }

    /// The CA bundle that clients must trust; nothing for plain http.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Whether one of the hosts has the scheme and the authority of this URI.
    #[must_use]
    pub fn serves(&self, uri: &Uri) -> bool {
        self.hosts.door(uri).is_some()
    }

    /// Calls the fake without a connection. The URI must be absolute; it selects the host.
    ///
    /// The call passes the same stages as one over a connection, on the runtime of the caller. It takes effect even if
    /// this future is dropped after its first poll.
    ///
    /// # Errors
    /// The connection was cut, or the fake has no such host.
    pub async fn call(&self, request: Request<Bytes>) -> Result<Response<Body>, NoAnswer> {
        let door = self.hosts.door(request.uri());
        let door = door.ok_or_else(|| NoAnswer::UnknownHost(request.uri().clone()))?;
        let mut request = request.map(Body::from);
        // A client sends only this part to a server.
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
        Ok(Host { door, shared: Arc::clone(&self.shared) }.answer(request).await?)
    }

    /// All calls so far, at all hosts, in the order of their arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<Call<S::Route, S::Details>> {
        self.shared.look().calls.clone()
    }

    /// The number of calls of this route so far.
    #[must_use]
    pub fn count(&self, route: S::Route) -> usize {
        self.shared.look().calls.iter().filter(|call| call.route == route).count()
    }

    /// The rules that clients have broken so far, in order, without those that are [tolerated](Self::tolerate).
    #[must_use]
    pub fn violations(&self) -> Vec<Violation<S::Rule>> {
        self.shared.look().violations.clone()
    }

    /// Returns the violations so far, and forgets them.
    #[must_use]
    pub fn take_violations(&self) -> Vec<Violation<S::Rule>> {
        self.shared.change(|inner| std::mem::take(&mut inner.violations))
    }

    /// Stops recording violations of this rule. Answers to such calls stay the same.
    pub fn tolerate(&self, rule: S::Rule) {
        self.shared.change(|inner| inner.tolerated.push(rule));
    }

    /// Injects a fault. A call meets the oldest fault that matches it.
    pub fn inject(&self, injection: Injection<S::Route>) {
        self.shared.change(|inner| inner.script.add(injection));
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.shared.change(|inner| inner.script.clear());
    }

    /// Carries out the calls that met [`Fault::Late`](super::Fault::Late) so far, in the order of their arrival.
    /// Returns how many of them had an effect; one whose instance is gone has none.
    #[must_use = "it returns how many late calls had an effect"]
    pub fn release_late(&self) -> usize {
        self.shared.change(Inner::release_late)
    }

    /// Holds all later calls of a route, before or after their effect.
    ///
    /// A released call takes effect even if its client has gone, as at a real server.
    pub fn gate(&self, route: S::Route, moment: Moment) -> Gate {
        self.shared.change(|inner| inner.gates.add(route, moment))
    }

    /// Waits until the calls meet the condition, and returns them.
    ///
    /// # Errors
    /// They did not within 30 seconds.
    pub async fn wait_for_calls(
        &self,
        met: impl Fn(&[Call<S::Route, S::Details>]) -> bool,
    ) -> Result<Vec<Call<S::Route, S::Details>>, WaitError> {
        self.shared.wait(|inner| inner.calls.clone(), met).await
    }

    /// Waits until this many calls have met [`Fault::Late`](super::Fault::Late) and are not released yet.
    ///
    /// # Errors
    /// Fewer did within 30 seconds.
    pub async fn wait_for_late(&self, count: usize) -> Result<(), WaitError> {
        let late = |inner: &Inner<S>| inner.late.iter().map(|(call, _)| *call).collect();
        self.shared.wait(late, |late| late.len() >= count).await.map(drop)
    }

    /// Fails if a client broke a rule, if no call met an injected fault, or if a late call was not
    /// [released](Self::release_late): such a test does not test what it claims.
    ///
    /// # Panics
    /// In these cases.
    #[track_caller]
    #[expect(clippy::panic, reason = "an assertion, for tests: they fail by panicking")]
    pub fn assert_clean(&self) {
        let complaints = self.shared.look().complaints();
        if !complaints.is_empty() {
            panic!("the fake {} complains:\n  {}", S::NAME, complaints.join("\n  "));
        }
    }
}

/// Access to the state of a particular side.
impl<S: Side> Fake<S> {
    pub(crate) fn read<T>(&self, read: impl FnOnce(&S) -> T) -> T {
        read(&self.shared.look().side)
    }

    /// Changes the state and notifies waiting tests.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        self.shared.change(|inner| change(&mut inner.side))
    }

    /// Waits until the condition is met, and returns the values that met it.
    pub(crate) async fn wait<T: fmt::Debug>(
        &self,
        read: impl Fn(&S) -> Vec<T>,
        met: impl Fn(&[T]) -> bool,
    ) -> Result<Vec<T>, WaitError> {
        self.shared.wait(|inner| read(&inner.side), met).await
    }
}

impl<S: Side> Drop for Fake<S> {
    fn drop(&mut self) {
        self.servers.iter_mut().for_each(Server::stop);
        if !thread::panicking() {
            self.assert_clean();
        }
    }
}

impl<S: Side> fmt::Debug for Fake<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").field("side", &S::NAME).field("url", &self.url()).finish_non_exhaustive()
    }
}
