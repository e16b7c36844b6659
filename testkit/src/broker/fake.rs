//! The handle on a running broker that a test holds.

use std::{fmt, sync::Arc, thread};

use tokio::time::timeout;
use uuid::Uuid;

use super::{
    builder::Builder,
    catalog::Catalog,
    faults::Injection,
    last_operation::UnderWay,
    login::Login,
    pace::Pace,
    record::{Binding, Call, Rule, Violation},
    route::Route,
    shared::{Inner, Shared},
};
use crate::{
    gate::{Gate, Moment},
    remote::TlsIdentity,
    server::Server,
    wait::{PATIENCE, WaitError},
};

/// A running broker.
///
/// Dropping it stops it, and panics, as a failed assertion does, where a client broke a rule of the
/// specification, a fault was injected that no call met, or a late call was never
/// [released](Self::release_late).
pub struct FakeBroker {
    shared: Arc<Shared>,
    server: Server,
    catalog: Catalog,
    tls: Option<TlsIdentity>,
}

impl FakeBroker {
    /// A broker with the [training catalog](Catalog::training), an instance `training-app-db` of its plan
    /// `postgresql`/`small`, [`CredentialsRecipe::postgresql`](super::CredentialsRecipe::postgresql),
    /// everything done [at once](Pace::at_once), plain http, and the login `operator` with `broker-password`.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(super) const fn new(
        shared: Arc<Shared>,
        server: Server,
        catalog: Catalog,
        tls: Option<TlsIdentity>,
    ) -> Self {
        Self { shared, server, catalog, tls }
    }

    /// Where the broker listens, without a path and without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.server.addr)
    }

    /// The bundle that clients are to trust; nothing for plain http.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.tls.as_ref().map(TlsIdentity::ca_pem)
    }

    /// What is offered.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The bindings that live now, oldest first, those included that a failed bind left as
    /// [orphans](Binding::orphan). One that is being made is not among them, and one that is being deleted still
    /// is.
    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        self.shared.look().state.bindings()
    }

    /// The living binding of this id.
    #[must_use]
    pub fn binding(&self, id: Uuid) -> Option<Binding> {
        self.shared.look().state.binding(id).cloned()
    }

    /// Every call so far, in the order of arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.look().calls.clone()
    }

    /// How many calls of this route there were so far.
    #[must_use]
    pub fn count(&self, route: Route) -> usize {
        self.shared.look().calls.iter().filter(|call| call.route == route).count()
    }

    /// What clients did against the specification so far, in order, without what is
    /// [tolerated](Self::tolerate).
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

    /// From now on callers have to show another login.
    pub fn change_login(&self, login: Login) {
        self.shared.change(|inner| inner.login = login);
    }

    /// From now on work takes this long; what is under way keeps its pace.
    pub fn change_pace(&self, pace: Pace) {
        self.shared.change(|inner| inner.state.change_pace(pace));
    }

    /// Renames a plan in the catalog and keeps its id; returns whether the plan was there.
    #[must_use = "it says whether there was such a plan"]
    pub fn rename_plan(&self, offering: &str, plan: &str, name: &str) -> bool {
        self.shared.change(|inner| inner.state.rename_plan(offering, plan, name))
    }

    /// Takes a plan out of the catalog; says whether it was there. Its bindings stay, and can be deleted by the ids that
    /// they were made with. Its instances take no new ones.
    #[must_use = "it says whether there was such a plan"]
    pub fn withdraw_plan(&self, offering: &str, plan: &str) -> bool {
        self.shared.change(|inner| inner.state.withdraw_plan(offering, plan))
    }

    /// Gives a plan another id; says whether it was there. Bindings are known by the id that they were made with.
    #[must_use = "it says whether there was such a plan"]
    pub fn change_plan_id(&self, offering: &str, plan: &str, id: &str) -> bool {
        self.shared.change(|inner| inner.state.change_plan_id(offering, plan, id))
    }

    /// Moves an instance to another plan of its offering; says whether both are there. Its bindings are known by the plan
    /// that they were made with, unless the broker [goes by instances](Self::go_by_instances).
    #[must_use = "it says whether there was such an instance and plan"]
    pub fn move_instance(&self, instance: &str, plan: &str) -> bool {
        self.shared.change(|inner| inner.state.move_instance(instance, plan))
    }

    /// Accepts only calls about bindings that name the present plan of the instance.
    pub fn go_by_instances(&self) {
        self.shared.change(|inner| inner.state.go_by_instances());
    }

    /// The operations that are under way, oldest first.
    #[must_use]
    pub fn under_way(&self) -> Vec<UnderWay> {
        self.shared.look().state.under_way()
    }

    /// Lets everything that is under way succeed; says how much that was.
    #[must_use = "it says how much there was to finish"]
    pub fn finish_all(&self) -> usize {
        self.shared.change(|inner| {
            let open = inner.state.under_way();
            open.iter().filter(|open| inner.state.finish(open.binding)).count()
        })
    }

    /// Lets what is under way for this binding succeed; says whether something was. A bind whose instance is
    /// gone fails instead.
    #[must_use = "it says whether there was something to finish"]
    pub fn finish(&self, binding: Uuid) -> bool {
        self.shared.change(|inner| inner.state.finish(binding))
    }

    /// Lets what is under way for this binding fail, for a reason that polls are told; says whether something
    /// was. Nothing has changed then: there is no binding after a bind, and there still is one after an unbind.
    #[must_use = "it says whether there was something to fail"]
    pub fn fail(&self, binding: Uuid, description: impl Into<String>) -> bool {
        self.shared.change(|inner| inner.state.fail(binding, description.into()))
    }

    /// Lets the bind that is under way fail, as [`fail`](Self::fail) does, but leaves an
    /// [orphan](Binding::orphan); says whether one was.
    #[must_use = "it says whether there was a bind to fail"]
    pub fn fail_with_orphan(&self, binding: Uuid, description: impl Into<String>) -> bool {
        self.shared.change(|inner| inner.state.fail_with_orphan(binding, description.into()))
    }

    /// Lets calls go wrong. Of several injections that a call could meet, it meets the oldest.
    pub fn inject(&self, injection: Injection) {
        self.shared.change(|inner| inner.script.add(injection));
    }

    /// Lets everything go right again.
    pub fn clear_faults(&self) {
        self.shared.change(|inner| inner.script.clear());
    }

    /// Carries out what met [`Fault::Late`](super::Fault::Late) so far, in the order in which it came in; says how
    /// many calls that were. What is impossible by now, because its instance is gone, is left out.
    #[must_use = "it says how many calls were late"]
    pub fn release_late(&self) -> usize {
        self.shared.change(Inner::release_late)
    }

    /// Holds the calls of a route, from now on, before or after they take effect.
    ///
    /// A held call goes on when it is let through, also where its client is gone by then, as at a real broker.
    pub fn gate(&self, route: Route, moment: Moment) -> Gate {
        self.shared.change(|inner| inner.gates.add(route, moment))
    }

    /// Deletes a binding behind the clients' backs; says whether it was there.
    pub fn forget(&self, binding: Uuid) -> bool {
        self.shared.change(|inner| inner.state.forget(binding))
    }

    /// Deletes an instance with all its bindings behind the clients' backs; says whether it was there.
    pub fn forget_instance(&self, instance: &str) -> bool {
        self.shared.change(|inner| inner.state.forget_instance(instance))
    }

    /// Waits until the living bindings are as they should be, and gives them.
    ///
    /// # Errors
    /// They were not within 30 seconds.
    pub async fn wait_until(&self, met: impl Fn(&[Binding]) -> bool) -> Result<Vec<Binding>, WaitError> {
        self.wait(|inner| inner.state.bindings(), |bindings| met(bindings)).await
    }

    /// Waits until the operations that are under way are as they should be, and gives them.
    ///
    /// # Errors
    /// They were not within 30 seconds.
    pub async fn wait_for_work(&self, met: impl Fn(&[UnderWay]) -> bool) -> Result<Vec<UnderWay>, WaitError> {
        self.wait(|inner| inner.state.under_way(), |open| met(open)).await
    }

    /// Waits until this many calls have met [`Fault::Late`](super::Fault::Late) and wait for their release.
    ///
    /// # Errors
    /// Fewer did within 30 seconds.
    pub async fn wait_for_late(&self, count: usize) -> Result<(), WaitError> {
        self.wait(|inner| inner.late.clone(), |late| late.len() >= count).await.map(drop)
    }

    /// Waits until the calls are as they should be, and gives them.
    ///
    /// # Errors
    /// They were not within 30 seconds.
    pub async fn wait_for_calls(&self, met: impl Fn(&[Call]) -> bool) -> Result<Vec<Call>, WaitError> {
        self.wait(|inner| inner.calls.clone(), |calls| met(calls)).await
    }

    async fn wait<T: fmt::Debug>(
        &self,
        read: impl Fn(&Inner) -> Vec<T>,
        met: impl Fn(&[T]) -> bool,
    ) -> Result<Vec<T>, WaitError> {
        let mut changes = self.shared.changes();
        let look = || read(&self.shared.look());
        let fulfilled = timeout(PATIENCE, async {
            loop {
                let seen = look();
                // The sender lives as long as `self`, so an error can't come up here.
                if met(&seen) || changes.changed().await.is_err() {
                    return seen;
                }
            }
        });
        fulfilled.await.map_err(|_| WaitError::new(format!("at the fake broker there is {:#?}", look())))
    }

    /// Fails where a client broke a rule of the specification, and where a fault was injected that no call
    /// met, because such a test does not test what it says.
    ///
    /// # Panics
    /// That is how it fails.
    #[track_caller]
    #[expect(clippy::panic, reason = "an assertion, for tests: they fail by panicking")]
    pub fn assert_clean(&self) {
        let complaints = self.shared.look().complaints();
        if !complaints.is_empty() {
            panic!("the fake broker complains:\n  {}", complaints.join("\n  "));
        }
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.server.stop();
        if !thread::panicking() {
            self.assert_clean();
        }
    }
}

impl fmt::Debug for FakeBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeBroker").field("url", &self.url()).finish_non_exhaustive()
    }
}
