//! The methods of the handle that only a broker has.

use uuid::Uuid;

use super::{
    builder::{BrokerSetup, Builder},
    catalog::Catalog,
    last_operation::UnderWay,
    login::Login,
    pace::Pace,
    record::Binding,
    side::ServiceBroker,
};
use crate::{remote::Fake, wait::WaitError};

/// A running broker.
pub type FakeBroker = Fake<ServiceBroker>;

impl FakeBroker {
    /// A broker on plain http, with
    ///
    /// - the [training catalog](Catalog::training), and an instance `training-app-db` of its plan `postgresql`/`small`;
    /// - [`CredentialsRecipe::postgresql`](super::CredentialsRecipe::postgresql);
    /// - binds and unbinds that are done [at once](Pace::at_once);
    /// - the login `operator` with `broker-password`.
    pub fn builder() -> Builder {
        Builder::new(BrokerSetup::default())
    }

    /// The present catalog.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        self.read(|side| side.state.catalog().clone())
    }

    /// The bindings that exist, oldest first, also the [orphans](Binding::orphan) of failed binds. A binding that is
    /// being created does not exist yet, and one that is being deleted still exists.
    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        self.read(|side| side.state.bindings())
    }

    /// The binding of this id.
    #[must_use]
    pub fn binding(&self, id: Uuid) -> Option<Binding> {
        self.read(|side| side.state.binding(id).cloned())
    }

    /// Changes the login that callers must send.
    pub fn change_login(&self, login: Login) {
        self.change(|side| side.login = login);
    }

    /// Changes the pace of later work.
    pub fn change_pace(&self, pace: Pace) {
        self.change(|side| side.state.change_pace(pace));
    }

    /// Renames a plan in the catalog and keeps its id; returns whether the plan existed.
    #[must_use = "it returns whether the plan existed"]
    pub fn rename_plan(&self, offering: &str, plan: &str, name: &str) -> bool {
        self.change(|side| side.state.rename_plan(offering, plan, name))
    }

    /// Removes a plan from the catalog; returns whether it existed. Clients can still delete its bindings by the ids of
    /// their bind, but its instances refuse new bindings.
    #[must_use = "it returns whether the plan existed"]
    pub fn withdraw_plan(&self, offering: &str, plan: &str) -> bool {
        self.change(|side| side.state.withdraw_plan(offering, plan))
    }

    /// Gives a plan another id; returns whether it existed. Its bindings keep the id of their bind.
    #[must_use = "it returns whether the plan existed"]
    pub fn change_plan_id(&self, offering: &str, plan: &str, id: &str) -> bool {
        self.change(|side| side.state.change_plan_id(offering, plan, id))
    }

    /// Moves an instance to another plan of its offering; returns whether both exist. Its bindings keep the plan of
    /// their bind, unless the broker [goes by instances](Self::go_by_instances).
    #[must_use = "it returns whether the instance and the plan exist"]
    pub fn move_instance(&self, instance: &str, plan: &str) -> bool {
        self.change(|side| side.state.move_instance(instance, plan))
    }

    /// Accepts a call about a binding only if it names the present plan of the instance.
    pub fn go_by_instances(&self) {
        self.change(|side| side.state.go_by_instances());
    }

    /// The operations that are under way, oldest first.
    #[must_use]
    pub fn under_way(&self) -> Vec<UnderWay> {
        self.read(|side| side.state.under_way())
    }

    /// Lets all operations that are under way succeed; returns how many there were.
    #[must_use = "it returns how much there was to finish"]
    pub fn finish_all(&self) -> usize {
        self.change(|side| {
            let open = side.state.under_way();
            open.iter().filter(|open| side.state.finish(open.binding)).count()
        })
    }

    /// Lets the operation on this binding succeed; returns whether there was one. A bind fails if its instance is gone.
    #[must_use = "it returns whether there was something to finish"]
    pub fn finish(&self, binding: Uuid) -> bool {
        self.change(|side| side.state.finish(binding))
    }

    /// Lets the operation on this binding fail for a reason that polls report; returns whether there was one. It
    /// changes nothing: a failed bind leaves no binding, and a failed unbind deletes none.
    #[must_use = "it returns whether there was something to fail"]
    pub fn fail(&self, binding: Uuid, description: impl Into<String>) -> bool {
        self.change(|side| side.state.fail(binding, description.into()))
    }

    /// Lets the bind that is under way fail, as [`fail`](Self::fail) does, but leaves an [orphan](Binding::orphan);
    /// returns whether there was a bind.
    #[must_use = "it returns whether there was a bind to fail"]
    pub fn fail_with_orphan(&self, binding: Uuid, description: impl Into<String>) -> bool {
        self.change(|side| side.state.fail_with_orphan(binding, description.into()))
    }

    /// Deletes a binding without a call; returns whether it existed.
    pub fn forget(&self, binding: Uuid) -> bool {
        self.change(|side| side.state.forget(binding))
    }

    /// Deletes an instance and its bindings without a call; returns whether it existed.
    pub fn forget_instance(&self, instance: &str) -> bool {
        self.change(|side| side.state.forget_instance(instance))
    }

    /// Waits until the bindings meet the condition, and returns them.
    ///
    /// # Errors
    /// They did not within 30 seconds.
    pub async fn wait_until(&self, met: impl Fn(&[Binding]) -> bool) -> Result<Vec<Binding>, WaitError> {
        self.wait(|side| side.state.bindings(), met).await
    }

    /// Waits until the operations that are under way meet the condition, and returns them.
    ///
    /// # Errors
    /// They did not within 30 seconds.
    pub async fn wait_for_work(&self, met: impl Fn(&[UnderWay]) -> bool) -> Result<Vec<UnderWay>, WaitError> {
        self.wait(|side| side.state.under_way(), met).await
    }
}
