//! Reads whole Secrets. A tenant chooses their size, so the operator reads only a few at the same time.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::{
    controller::error::{Error, bounded},
    fair::{FairSemaphore, Lane},
    wipe::HeldSecret,
};

/// Whole Secrets that are read at the same time. Each takes at most about 5 MiB: its JSON as it arrives and
/// as it is passed on, and its entries.
const READS: usize = 8;

/// Slots for reads of whole Secrets. A namespace may use at most as many as stay free.
pub(crate) fn places() -> FairSemaphore {
    FairSemaphore::leaving_room(READS)
}

/// Reads whole Secrets of one namespace.
#[derive(Clone)]
pub(crate) struct SecretReader {
    api: Api<Secret>,
    lane: Lane,
    places: FairSemaphore,
}

impl SecretReader {
    /// Reads in this lane, with one of these slots.
    pub(crate) const fn new(api: Api<Secret>, lane: Lane, places: FairSemaphore) -> Self {
        Self { api, lane, places }
    }

    /// Reads a Secret; `None`: it does not exist.
    ///
    /// # Errors
    /// When the Kubernetes API fails or times out. In the message, `attempt` names the read.
    pub(crate) async fn read(&self, attempt: &'static str, name: &str) -> Result<Option<HeldSecret>, Error> {
        let _place = self.places.acquire(&self.lane).await;
        Ok(bounded(attempt, self.api.get_opt(name)).await?.map(HeldSecret::from))
    }
}
