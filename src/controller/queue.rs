//! Queues in front of remote sides. A ServiceKey that waits for one remote side does not delay those of
//! another.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    backend::Backend,
    fair::{FairPermit, FairSemaphore, Lane, NoPermit},
    runtime::metrics::QueueMetrics,
};

/// The queue in front of one remote side. The namespaces whose keys wait there take turns. The keys of one
/// namespace are served in order of arrival.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    places: FairSemaphore,
    metrics: QueueMetrics,
}

/// A slot at the remote side. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct QueueSlot {
    _permit: FairPermit,
}

/// The result of an attempt to get a slot without waiting.
#[derive(Debug)]
pub(super) enum QueueEntry {
    Free(QueueSlot),
    /// All slots are in use.
    Full,
    /// The provider was replaced or removed, so its remote side gets no more calls.
    Closed,
}

impl Queue {
    /// A queue with one slot for each call that the remote side may get at the same time.
    pub(super) fn new(backend: &Backend, metrics: QueueMetrics) -> Self {
        Self { places: FairSemaphore::new(backend.concurrency().get()), metrics }
    }

    /// Takes a slot for a key of this namespace if one is free and no other key waits for it.
    pub(super) fn enter_now(&self, lane: &Lane) -> QueueEntry {
        match self.places.try_acquire(lane) {
            Ok(permit) => QueueEntry::Free(QueueSlot { _permit: permit }),
            Err(NoPermit::Busy) => QueueEntry::Full,
            Err(NoPermit::Closed) => QueueEntry::Closed,
        }
    }

    /// Waits for a slot for a key of this namespace; `None`: the queue was closed.
    pub(super) async fn enter(self, lane: Lane) -> Option<QueueSlot> {
        let permit = self.metrics.during(self.places.acquire(&lane)).await;
        permit.map(|permit| QueueSlot { _permit: permit })
    }

    /// Closes the queue. The waiting keys look up the provider again.
    pub(super) fn close(&self) {
        self.places.close();
    }
}

/// Objects that wait for a shared resource. A change notifies them, because they may then need something
/// else.
#[derive(Debug)]
pub(super) struct Waiters<T>(Mutex<HashMap<T, Arc<Notify>>>);

/// The registration of a waiting object, until it is dropped.
pub(super) struct Ticket<'a, T: Eq + Hash> {
    waiting: &'a Waiters<T>,
    id: T,
    changed: Arc<Notify>,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Eq + Hash> Waiters<T> {
    /// Registers a waiting object.
    pub(super) fn ticket(&self, id: &T) -> Ticket<'_, T> {
        let changed = Arc::<Notify>::default();
        self.0.lock().insert(id.clone(), Arc::clone(&changed));
        Ticket { waiting: self, id: id.clone(), changed }
    }
}

impl<T: Eq + Hash> Waiters<T> {
    /// The number of waiting objects.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Notifies an object that changed or is gone.
    pub(super) fn notify(&self, id: &T) {
        if let Some(changed) = self.0.lock().get(id) {
            changed.notify_one();
        }
    }

    /// Notifies all objects, because any of them may have changed.
    pub(super) fn notify_all(&self) {
        self.0.lock().values().for_each(|changed| changed.notify_one());
    }
}

impl<T: Eq + Hash> Ticket<'_, T> {
    /// Waits for the next change. A change since the last wait counts.
    pub(super) async fn wait(&self) {
        self.changed.notified().await;
    }
}

impl<T: Eq + Hash> Drop for Ticket<'_, T> {
    fn drop(&mut self) {
        self.waiting.0.lock().remove(&self.id);
    }
}
