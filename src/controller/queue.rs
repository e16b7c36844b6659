//! Queues in front of remote sides: who waits there holds up nobody who asks elsewhere.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};
use uuid::Uuid;

use crate::{backend::Backend, runtime::metrics::QueueMetrics};

/// The queue in front of one remote side, first come, first served.
#[derive(Clone, Debug)]
pub struct Queue {
    places: Arc<Semaphore>,
    metrics: QueueMetrics,
}

/// A place at the remote side. It is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// What came of an attempt to get a place without waiting.
#[derive(Debug)]
pub enum Entry {
    /// There was one.
    Free(Place),
    /// It has to be waited for.
    Taken,
    /// The remote side is not asked any more.
    Closed,
}

impl Queue {
    /// As many places as calls to the remote side may be under way.
    pub fn before(backend: &Backend, metrics: QueueMetrics) -> Self {
        let places = backend.concurrency().get().min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), metrics }
    }

    /// Takes a place if one is free and nobody waits for it.
    pub fn enter_now(&self) -> Entry {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => Entry::Free(Place { _permit: permit }),
            Err(TryAcquireError::NoPermits) => Entry::Taken,
            Err(TryAcquireError::Closed) => Entry::Closed,
        }
    }

    /// Waits for a place; `None`: the remote side is not asked any more.
    pub async fn enter(self) -> Option<Place> {
        let permit = self.metrics.during(self.places.acquire_owned()).await;
        permit.ok().map(|permit| Place { _permit: permit })
    }

    /// Sends all who wait away: another queue takes the place of this one, or none.
    pub fn close(&self) {
        self.places.close();
    }
}

/// The ServiceKeys that wait in queues. They are told when they change, and may then want something else.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<HashMap<Uuid, Arc<Notify>>>);

/// One that waits, until this is dropped.
pub struct Ticket<'a> {
    waiting: &'a Waiting,
    uid: Uuid,
    changed: Arc<Notify>,
}

impl Waiting {
    /// A ServiceKey begins to wait.
    pub fn ticket(&self, uid: Uuid) -> Ticket<'_> {
        let changed = Arc::<Notify>::default();
        self.lock().insert(uid, Arc::clone(&changed));
        Ticket { waiting: self, uid, changed }
    }

    /// A ServiceKey changed, or is gone.
    pub fn tell(&self, uid: Uuid) {
        if let Some(changed) = self.lock().get(&uid) {
            changed.notify_one();
        }
    }

    /// ServiceKeys may have changed, nobody knows which.
    pub fn tell_all(&self) {
        self.lock().values().for_each(|changed| changed.notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// Waits for the next change; one that came since the last wait counts.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.uid);
    }
}
