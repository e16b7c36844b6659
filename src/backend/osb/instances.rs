//! Which plan an instance is of, where the user does not say: brokers tell that for offerings that are
//! `instances_retrievable` (spec: "Fetching a Service Instance").

use std::time::Duration;

use crate::backend::{
    BackendError,
    memory::Weight,
    single_flight::{CachedAnswer, SingleFlightMap},
};

/// How long it is believed what an instance is of: it may be moved to another plan.
const BOUNDED_AGE: Duration = Duration::from_secs(300);
/// How long it is believed that there is no such instance.
const AGE_OF_DOUBT: Duration = Duration::from_secs(10);

/// What an instance is of: an offering and a plan of it, by name or id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlanRef {
    pub(super) offering: String,
    pub(super) plan: String,
}

impl Weight for Option<PlanRef> {
    fn weight(&self) -> usize {
        self.as_ref().map_or(0, |PlanRef { offering, plan }| offering.capacity() + plan.capacity())
    }
}

/// What is known of instances, by id: `None` in an answer means that there is no such instance.
pub(super) struct InstanceCache(SingleFlightMap<String, Option<PlanRef>>);

impl InstanceCache {
    /// Instances that take so many bytes.
    pub(super) fn in_bytes(largest: usize) -> Self {
        Self(SingleFlightMap::in_bytes(largest))
    }

    /// What an instance is of. One caller asks for all who need the same.
    ///
    /// # Errors
    /// Those of `ask`.
    pub(super) async fn place<F>(
        &self,
        id: &str,
        ask: impl FnOnce() -> F,
    ) -> Result<Option<PlanRef>, BackendError>
    where
        F: Future<Output = Result<Option<PlanRef>, BackendError>>,
    {
        let known = self.0.get(&id.to_owned(), is_believed, ask).await?;
        Ok(known.value.as_ref().clone())
    }

    /// What an instance is of, by an answer that is good enough or by a new one.
    ///
    /// # Errors
    /// Those of `ask`.
    pub(super) async fn present<F>(
        &self,
        id: &str,
        good_enough: fn(&CachedAnswer<Option<PlanRef>>) -> bool,
        ask: impl FnOnce() -> F,
    ) -> Result<Option<PlanRef>, BackendError>
    where
        F: Future<Output = Result<Option<PlanRef>, BackendError>>,
    {
        let known = self.0.get(&id.to_owned(), good_enough, ask).await?;
        Ok(known.value.as_ref().clone())
    }

    /// What an instance is of, where that is known without asking.
    pub(super) fn believed(&self, id: &str) -> Option<PlanRef> {
        self.0.latest(&id.to_owned()).filter(is_believed)?.value.as_ref().clone()
    }

    /// What an instance was of when that was last told, however long ago.
    pub(super) fn latest(&self, id: &str) -> Option<PlanRef> {
        self.0.latest(&id.to_owned())?.value.as_ref().clone()
    }
}

pub(super) fn is_believed(known: &CachedAnswer<Option<PlanRef>>) -> bool {
    known.since.elapsed() < if known.value.is_some() { BOUNDED_AGE } else { AGE_OF_DOUBT }
}
