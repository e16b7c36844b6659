//! What a test sees of keys and instances, and does to them behind the clients' backs.

use super::{
    super::{
        estate::{InstanceOperation, OperationState},
        pace::Pace,
        record::{Key, UnderWay},
    },
    FakeCloudFoundry, WaitError,
};

/// Keys and instances. Where an instance is named, it is the first one of this name, or that of this GUID.
impl FakeCloudFoundry {
    /// The GUID of an instance.
    #[must_use]
    pub fn instance_guid(&self, instance: &str) -> Option<String> {
        self.shared.look().side.state.instance_guid(instance)
    }

    /// Every key that is there, oldest first, those included that are being made or deleted and those that failed.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.shared.look().side.state.keys()
    }

    /// The keys that [live](Key::is_live), oldest first.
    #[must_use]
    pub fn live_keys(&self) -> Vec<Key> {
        self.keys().into_iter().filter(Key::is_live).collect()
    }

    /// The key of this GUID.
    #[must_use]
    pub fn key(&self, guid: &str) -> Option<Key> {
        self.shared.look().side.state.key(guid).cloned()
    }

    /// The key of this name at an instance.
    #[must_use]
    pub fn key_named(&self, instance: &str, name: &str) -> Option<Key> {
        let inner = self.shared.look();
        let instance = inner.side.state.instance_guid(instance)?;
        inner.side.state.named(&instance, name).cloned()
    }

    /// From now on work takes this long; what is under way keeps its pace.
    pub fn change_pace(&self, pace: Pace) {
        self.shared.change(|inner| inner.side.state.pace = pace);
    }

    /// The work that is under way, oldest first.
    #[must_use]
    pub fn under_way(&self) -> Vec<UnderWay> {
        self.shared.look().side.state.under_way()
    }

    /// Lets everything that is under way succeed; says how much that was.
    #[must_use = "it says how much there was to finish"]
    pub fn finish_all(&self) -> usize {
        self.shared.change(|inner| {
            let open = inner.side.state.under_way();
            open.iter().filter(|open| inner.side.state.finish(&open.key)).count()
        })
    }

    /// Lets what is under way for the key of this GUID succeed; says whether something was.
    #[must_use = "it says whether there was something to finish"]
    pub fn finish(&self, key: &str) -> bool {
        self.shared.change(|inner| inner.side.state.finish(key))
    }

    /// Lets what is under way for the key of this GUID fail, for a reason that its job and its last operation tell;
    /// says whether something was. The key stays, as one whose creation or deletion failed.
    #[must_use = "it says whether there was something to fail"]
    pub fn fail(&self, key: &str, detail: &str) -> bool {
        self.shared.change(|inner| inner.side.state.fail(key, detail))
    }

    /// Lets the job of what is under way for the key of this GUID fail, and leaves the key as it is; says whether
    /// something was under way.
    #[must_use = "it says whether there was something to fail"]
    pub fn fail_job(&self, key: &str, detail: &str) -> bool {
        self.shared.change(|inner| inner.side.state.fail_job(key, detail))
    }

    /// Forgets what is under way for the key of this GUID and its job, and leaves the key as it is; says whether something
    /// was under way.
    #[must_use = "it says whether there was something to lose"]
    pub fn lose_job(&self, key: &str) -> bool {
        self.shared.change(|inner| {
            let state = &mut inner.side.state;
            let lost = state.abandon(key);
            lost.map(|(_, jobs)| state.forget_jobs(&jobs)).is_some()
        })
    }

    /// Lets the worker of what is under way for the key of this GUID die: neither the key nor its job changes any more.
    /// Says whether something was under way.
    #[must_use = "it says whether there was something to kill"]
    pub fn kill_worker(&self, key: &str) -> bool {
        self.shared.change(|inner| inner.side.state.abandon(key)).is_some()
    }

    /// Makes a key without labels by hand, as `cf create-service-key` does; nothing where there is no such instance.
    pub fn add_key(&self, instance: &str, name: &str) -> Option<Key> {
        self.add_labelled_key(instance, name, [])
    }

    /// Makes a key with these labels by hand, as an operator did that has forgotten it; nothing where there is no such
    /// instance.
    pub fn add_labelled_key<'a>(
        &self,
        instance: &str,
        name: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Option<Key> {
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        self.shared.change(|inner| inner.side.state.add_key(instance, name, labels))
    }

    /// Writes annotations on the key of this GUID behind the clients' backs; says whether it is there.
    pub fn annotate<'a>(&self, key: &str, annotations: impl IntoIterator<Item = (&'a str, &'a str)>) -> bool {
        let annotations = annotations.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.shared.change(|inner| inner.side.state.annotate(key, annotations))
    }

    /// Deletes the key of this GUID behind the clients' backs; says whether it was there.
    pub fn forget(&self, key: &str) -> bool {
        self.shared.change(|inner| inner.side.state.forget(key))
    }

    /// Deletes an instance with all its keys behind the clients' backs; says whether it was there.
    pub fn forget_instance(&self, instance: &str) -> bool {
        self.shared.change(|inner| inner.side.state.forget_instance(instance))
    }

    /// Begins an operation on an instance, `update` or `delete`, during which keys are neither made nor deleted; says
    /// whether the instance is there.
    pub fn begin_operation(&self, instance: &str, kind: &'static str) -> bool {
        self.set_operation(instance, InstanceOperation { kind, state: OperationState::InProgress })
    }

    /// Sets the last operation on an instance; says whether the instance is there.
    pub fn set_operation(&self, instance: &str, operation: InstanceOperation) -> bool {
        self.shared.change(|inner| inner.side.state.set_operation(instance, operation))
    }

    /// Waits until the keys are as they should be, and gives them.
    ///
    /// # Errors
    /// They were not within 30 seconds.
    pub async fn wait_until(&self, met: impl Fn(&[Key]) -> bool) -> Result<Vec<Key>, WaitError> {
        self.wait(|inner| inner.side.state.keys(), |keys| met(keys)).await
    }

    /// Waits until the work that is under way is as it should be, and gives it.
    ///
    /// # Errors
    /// It was not within 30 seconds.
    pub async fn wait_for_work(&self, met: impl Fn(&[UnderWay]) -> bool) -> Result<Vec<UnderWay>, WaitError> {
        self.wait(|inner| inner.side.state.under_way(), |open| met(open)).await
    }
}
