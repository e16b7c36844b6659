//! Reads and changes instances, keys, service IDs and policies without a client.

use super::{
    super::{
        quirks::Quirks,
        record::{Key, Policy, ServiceId},
    },
    FakeIbmCloud,
};
use crate::wait::WaitError;

/// Instances, keys, service IDs and policies. Tests name an instance by its name.
impl FakeIbmCloud {
    /// The id of the account.
    #[must_use]
    pub fn account_id(&self) -> String {
        self.read(|side| side.state.account.clone())
    }

    /// The GUID of an instance.
    #[must_use]
    pub fn instance_guid(&self, instance: &str) -> Option<String> {
        self.read(|side| side.state.instance_named(instance).map(|instance| instance.guid.clone()))
    }

    /// The CRN of an instance.
    #[must_use]
    pub fn instance_crn(&self, instance: &str) -> Option<String> {
        self.read(|side| {
            let state = &side.state;
            state.instance_named(instance).map(|instance| instance.crn(&state.account))
        })
    }

    /// All keys, oldest first, also deleted ones.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.read(|side| side.state.keys())
    }

    /// The keys that are not deleted, oldest first.
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
        self.read(|side| side.state.service_key(instance))
    }

    /// The service IDs, oldest first.
    #[must_use]
    pub fn service_ids(&self) -> Vec<ServiceId> {
        self.read(|side| side.state.service_ids())
    }

    /// The policies, oldest first.
    #[must_use]
    pub fn policies(&self) -> Vec<Policy> {
        self.read(|side| side.state.policies())
    }

    /// Changes the quirks.
    pub fn change_quirks(&self, change: impl FnOnce(&mut Quirks)) {
        self.change(|side| change(&mut side.state.quirks));
    }

    /// Limits the service IDs of the account; nothing removes the limit.
    pub fn change_service_id_limit(&self, service_ids: Option<usize>) {
        self.change(|side| side.state.service_id_limit = service_ids);
    }

    /// Creates a key as `ibmcloud resource service-key-create` does; nothing if the instance does not exist or has no
    /// role Writer.
    pub fn add_key(&self, instance: &str, name: &str) -> Option<Key> {
        self.change(|side| side.state.add_key(instance, name, None))
    }

    /// Creates a key with this role; nothing if the instance or the role does not exist.
    pub fn add_key_of_role(&self, instance: &str, name: &str, role: &str) -> Option<Key> {
        self.change(|side| side.state.add_key(instance, name, Some(role)))
    }

    /// Creates a service ID.
    pub fn add_service_id(&self, name: &str) -> ServiceId {
        self.change(|side| side.state.add_service_id(name))
    }

    /// Deletes the key of this GUID without a call; returns whether it existed.
    pub fn forget(&self, key: &str) -> bool {
        self.change(|side| side.state.forget_key(key))
    }

    /// Deletes the service ID of this id without a call; returns whether it existed.
    pub fn forget_service_id(&self, id: &str) -> bool {
        self.change(|side| side.state.forget_service_id(id))
    }

    /// Deletes the policy of this id without a call; returns whether it existed.
    pub fn forget_policy(&self, id: &str) -> bool {
        self.change(|side| side.state.forget_policy(id))
    }

    /// Deletes an instance and its keys without a call; returns whether it existed.
    pub fn remove_instance(&self, instance: &str) -> bool {
        self.change(|side| side.state.remove_instance(instance))
    }

    /// Removes every trace of an instance and its keys, as if it was deleted long ago; returns whether it existed.
    pub fn forget_instance(&self, instance: &str) -> bool {
        self.change(|side| side.state.forget_instance(instance))
    }

    /// Waits until the keys, also deleted ones, meet the condition, and returns them.
    ///
    /// # Errors
    /// They did not within 30 seconds.
    pub async fn wait_until(&self, met: impl Fn(&[Key]) -> bool) -> Result<Vec<Key>, WaitError> {
        self.wait(|side| side.state.keys(), met).await
    }

    /// Waits until the service IDs meet the condition, and returns them.
    ///
    /// # Errors
    /// They did not within 30 seconds.
    pub async fn wait_for_service_ids(
        &self,
        met: impl Fn(&[ServiceId]) -> bool,
    ) -> Result<Vec<ServiceId>, WaitError> {
        self.wait(|side| side.state.service_ids(), met).await
    }
}
