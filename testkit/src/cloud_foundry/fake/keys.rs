//! Reads and changes keys and instances without a client.

use super::{
    super::{
        estate::{InstanceOperation, OperationState},
        pace::Pace,
        record::{Key, UnderWay},
    },
    FakeCloudFoundry,
};
use crate::wait::WaitError;

/// Keys and instances. Tests name an instance by its GUID or its name; of several instances of a name, the first
/// counts.
impl FakeCloudFoundry {
    /// The GUID of an instance.
    #[must_use]
    pub fn instance_guid(&self, instance: &str) -> Option<String> {
        self.read(|side| side.state.instance_guid(instance))
    }

    /// The GUID of the first space of this name.
    #[must_use]
    pub fn space_guid(&self, name: &str) -> Option<String> {
        self.read(|side| side.state.space_guid(name))
    }

    /// All keys, oldest first, also keys that are being created or deleted, and keys that failed.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.read(|side| side.state.keys())
    }

    /// The keys that [live](Key::is_live), oldest first.
    #[must_use]
    pub fn live_keys(&self) -> Vec<Key> {
        self.keys().into_iter().filter(Key::is_live).collect()
    }

    /// The key of this GUID.
    #[must_use]
    pub fn key(&self, guid: &str) -> Option<Key> {
        self.read(|side| side.state.key(guid).cloned())
    }

    /// The key of this name at an instance.
    #[must_use]
    pub fn key_named(&self, instance: &str, name: &str) -> Option<Key> {
        self.read(|side| {
            let instance = side.state.instance_guid(instance)?;
            side.state.named(&instance, name).cloned()
        })
    }

    /// Changes the pace of later work.
    pub fn change_pace(&self, pace: Pace) {
        self.change(|side| side.state.pace = pace);
    }

    /// Lets brokers refuse an operation while another one is under way at the same instance, or accept it.
    pub fn change_one_at_a_time(&self, one_at_a_time: bool) {
        self.change(|side| side.state.one_at_a_time = one_at_a_time);
    }

    /// Lets brokers work on operations of another client, so that they refuse all others, or end these operations.
    pub fn occupy(&self, occupied: bool) {
        self.change(|side| side.state.is_occupied = occupied);
    }

    /// The work that is under way, oldest first.
    #[must_use]
    pub fn under_way(&self) -> Vec<UnderWay> {
        self.read(|side| side.state.under_way())
    }

    /// Lets all work that is under way succeed; returns how much there was.
    #[must_use = "it returns how much there was to finish"]
    pub fn finish_all(&self) -> usize {
        self.change(|side| {
            let open = side.state.under_way();
            open.iter().filter(|open| side.state.finish(&open.key)).count()
        })
    }

    /// Lets the work on the key of this GUID succeed; returns whether there was any.
    #[must_use = "it returns whether there was something to finish"]
    pub fn finish(&self, key: &str) -> bool {
        self.change(|side| side.state.finish(key))
    }

    /// Lets the work on the key of this GUID fail for a reason that its job and its last operation report; returns
    /// whether there was any. The key stays, with a failed creation or deletion.
    #[must_use = "it returns whether there was something to fail"]
    pub fn fail(&self, key: &str, detail: &str) -> bool {
        self.change(|side| side.state.fail(key, detail))
    }

    /// Lets only the job of the work on the key of this GUID fail; returns whether there was one. The key does not
    /// change.
    #[must_use = "it returns whether there was something to fail"]
    pub fn fail_job(&self, key: &str, detail: &str) -> bool {
        self.change(|side| side.state.fail_job(key, detail))
    }

    /// Forgets the work on the key of this GUID, and its job; returns whether there was any. The key does not change.
    #[must_use = "it returns whether there was something to lose"]
    pub fn lose_job(&self, key: &str) -> bool {
        self.change(|side| {
            let state = &mut side.state;
            let lost = state.abandon(key);
            lost.map(|(_, jobs)| state.forget_jobs(&jobs)).is_some()
        })
    }

    /// Kills the worker of the key of this GUID: neither the key nor its job changes any more. Returns whether there
    /// was one.
    #[must_use = "it returns whether there was something to kill"]
    pub fn kill_worker(&self, key: &str) -> bool {
        self.change(|side| side.state.abandon(key)).is_some()
    }

    /// Creates a key without labels, as `cf create-service-key` does; nothing if the instance does not exist.
    pub fn add_key(&self, instance: &str, name: &str) -> Option<Key> {
        self.add_labelled_key(instance, name, [])
    }

    /// Creates a key with these labels, like an operator that has lost its records; nothing if the instance does not
    /// exist.
    pub fn add_labelled_key<'a>(
        &self,
        instance: &str,
        name: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Option<Key> {
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        self.change(|side| side.state.add_key(instance, name, labels))
    }

    /// Adds annotations to the key of this GUID without a call; returns whether it exists.
    pub fn annotate<'a>(&self, key: &str, annotations: impl IntoIterator<Item = (&'a str, &'a str)>) -> bool {
        let annotations = annotations.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.change(|side| side.state.annotate(key, annotations))
    }

    /// Deletes the key of this GUID without a call; returns whether it existed.
    pub fn forget(&self, key: &str) -> bool {
        self.change(|side| side.state.forget(key))
    }

    /// Deletes an instance and its keys without a call; returns whether it existed.
    pub fn forget_instance(&self, instance: &str) -> bool {
        self.change(|side| side.state.forget_instance(instance))
    }

    /// Begins an operation on an instance, `update` or `delete`, which blocks the creation and deletion of keys;
    /// returns whether the instance exists.
    pub fn begin_operation(&self, instance: &str, kind: &'static str) -> bool {
        self.set_operation(instance, InstanceOperation { kind, state: OperationState::InProgress })
    }

    /// Sets the last operation on an instance; returns whether the instance exists.
    pub fn set_operation(&self, instance: &str, operation: InstanceOperation) -> bool {
        self.change(|side| side.state.set_operation(instance, operation))
    }

    /// Waits until the keys meet the condition, and returns them.
    ///
    /// # Errors
    /// They did not within 30 seconds.
    pub async fn wait_until(&self, met: impl Fn(&[Key]) -> bool) -> Result<Vec<Key>, WaitError> {
        self.wait(|side| side.state.keys(), met).await
    }

    /// Waits until the work that is under way meets the condition, and returns it.
    ///
    /// # Errors
    /// It did not within 30 seconds.
    pub async fn wait_for_work(&self, met: impl Fn(&[UnderWay]) -> bool) -> Result<Vec<UnderWay>, WaitError> {
        self.wait(|side| side.state.under_way(), met).await
    }
}
