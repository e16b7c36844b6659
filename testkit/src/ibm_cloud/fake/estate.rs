//! What a test sees of instances, keys, service IDs and policies, and does to them.

use super::{
    super::{
        quirks::Quirks,
        record::{Key, Policy, ServiceId},
    },
    FakeIbmCloud,
};
use crate::wait::WaitError;

/// What exists. An instance is called by its name.
impl FakeIbmCloud {
    /// The id of the account.
    #[must_use]
    pub fn account_id(&self) -> String {
        self.shared.look().side.state.account.clone()
    }

    /// The GUID of an instance.
    #[must_use]
    pub fn instance_guid(&self, instance: &str) -> Option<String> {
        self.shared.look().side.state.instance_named(instance).map(|instance| instance.guid().to_owned())
    }

    /// The CRN of an instance.
    #[must_use]
    pub fn instance_crn(&self, instance: &str) -> Option<String> {
        let inner = self.shared.look();
        let state = &inner.side.state;
        state.instance_named(instance).map(|instance| instance.crn(&state.account))
    }

    /// Every key, oldest first, those included that were deleted.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.shared.look().side.state.keys()
    }

    /// The keys that were not deleted, oldest first.
    #[must_use]
    pub fn live_keys(&self) -> Vec<Key> {
        self.keys().into_iter().filter(|key| !key.removed).collect()
    }

    /// The key of this GUID.
    #[must_use]
    pub fn key(&self, guid: &str) -> Option<Key> {
        self.keys().into_iter().find(|key| key.guid == guid)
    }

    /// The live keys of this name, oldest first.
    #[must_use]
    pub fn keys_named(&self, name: &str) -> Vec<Key> {
        self.live_keys().into_iter().filter(|key| key.name == name).collect()
    }

    /// The `service_key` of an auditing instance, which outlives its keys; nothing before the first key.
    #[must_use]
    pub fn service_key(&self, instance: &str) -> Option<String> {
        self.shared.look().side.state.service_key(instance)
    }

    /// The service IDs, oldest first.
    #[must_use]
    pub fn service_ids(&self) -> Vec<ServiceId> {
        self.shared.look().side.state.service_ids()
    }

    /// The policies, oldest first.
    #[must_use]
    pub fn policies(&self) -> Vec<Policy> {
        self.shared.look().side.state.policies()
    }

    /// Changes what is odd from now on.
    pub fn change_quirks(&self, change: impl FnOnce(&mut Quirks)) {
        self.shared.change(|inner| change(&mut inner.side.state.quirks));
    }

    /// From now on allows the account so many service IDs; nothing: as many as anybody wants.
    pub fn change_service_id_limit(&self, service_ids: Option<usize>) {
        self.shared.change(|inner| inner.side.state.service_id_limit = service_ids);
    }

    /// Makes a key by hand, as `ibmcloud resource service-key-create` does; nothing where there is no such instance, or
    /// it has no role Writer.
    pub fn add_key(&self, instance: &str, name: &str) -> Option<Key> {
        self.shared.change(|inner| inner.side.state.add_key(instance, name, None))
    }

    /// Makes a key of this role by hand; nothing where there is no such instance, or no such role.
    pub fn add_key_of_role(&self, instance: &str, name: &str, role: &str) -> Option<Key> {
        self.shared.change(|inner| inner.side.state.add_key(instance, name, Some(role)))
    }

    /// Makes a service ID by hand.
    pub fn add_service_id(&self, name: &str) -> ServiceId {
        self.shared.change(|inner| inner.side.state.add_service_id(name))
    }

    /// Deletes the key of this GUID behind the clients' backs; says whether it lived.
    pub fn forget(&self, key: &str) -> bool {
        self.shared.change(|inner| inner.side.state.forget_key(key))
    }

    /// Deletes the service ID of this id behind the clients' backs; says whether it was there.
    pub fn forget_service_id(&self, id: &str) -> bool {
        self.shared.change(|inner| inner.side.state.forget_service_id(id))
    }

    /// Deletes the policy of this id behind the clients' backs; says whether it was there.
    pub fn forget_policy(&self, id: &str) -> bool {
        self.shared.change(|inner| inner.side.state.forget_policy(id))
    }

    /// Deletes an instance with all its keys behind the clients' backs; says whether it was there.
    pub fn remove_instance(&self, instance: &str) -> bool {
        self.shared.change(|inner| inner.side.state.remove_instance(instance))
    }

    /// Removes every trace of an instance and its keys, as of one that was deleted long ago; says whether it was there.
    pub fn forget_instance(&self, instance: &str) -> bool {
        self.shared.change(|inner| inner.side.state.forget_instance(instance))
    }

    /// Waits until the keys, those included that were deleted, are as they should be, and gives them.
    ///
    /// # Errors
    /// They were not within 30 seconds.
    pub async fn wait_until(&self, met: impl Fn(&[Key]) -> bool) -> Result<Vec<Key>, WaitError> {
        self.shared.wait(|inner| inner.side.state.keys(), met).await
    }

    /// Waits until the service IDs are as they should be, and gives them.
    ///
    /// # Errors
    /// They were not within 30 seconds.
    pub async fn wait_for_service_ids(
        &self,
        met: impl Fn(&[ServiceId]) -> bool,
    ) -> Result<Vec<ServiceId>, WaitError> {
        self.shared.wait(|inner| inner.side.state.service_ids(), met).await
    }
}
