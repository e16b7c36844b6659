//! Requests to reconcile objects. A queue contains each object once. So it is never longer than the number of
//! objects that exist, however often they change.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
    sync::{Arc, Weak},
};

use futures::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Sends requests to all subscribers.
#[derive(Debug)]
pub(super) struct Requeues<T>(Mutex<Vec<Weak<RequeueQueue<T>>>>);

/// The requests that one subscriber has not received yet.
#[derive(Debug)]
struct RequeueQueue<T> {
    pending: Mutex<(VecDeque<T>, HashSet<T>)>,
    notify: Notify,
}

impl<T> Default for Requeues<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Eq + Hash> Requeues<T> {
    /// Returns every request that is sent later. The stream does not end.
    pub(super) fn subscribe(&self) -> impl Stream<Item = T> + Send + Unpin + use<T>
    where
        T: Send,
    {
        let queue = Arc::new(RequeueQueue { pending: Mutex::default(), notify: Notify::new() });
        self.0.lock().push(Arc::downgrade(&queue));
        Box::pin(stream::unfold(queue, |queue| async move {
            loop {
                if let Some(next) = queue.take() {
                    return Some((next, queue));
                }
                queue.notify.notified().await;
            }
        }))
    }

    /// Requests a reconcile of an object from all subscribers.
    pub(super) fn send(&self, object: &T) {
        self.0.lock().retain(|queue| {
            let queue = queue.upgrade();
            if let Some(queue) = &queue {
                queue.insert(object);
            }
            queue.is_some()
        });
    }
}

impl<T: Clone + Eq + Hash> RequeueQueue<T> {
    fn insert(&self, object: &T) {
        let (order, known) = &mut *self.pending.lock();
        if known.insert(object.clone()) {
            order.push_back(object.clone());
        }
        self.notify.notify_one();
    }

    fn take(&self) -> Option<T> {
        let (order, known) = &mut *self.pending.lock();
        let next = order.pop_front()?;
        known.remove(&next);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn an_object_waits_once_in_each_queue() {
        let wakes = Requeues::default();
        let (mut first, second) = (wakes.subscribe(), wakes.subscribe());
        let mut next = || first.next().now_or_never().flatten();
        for object in ["a", "b", "a"] {
            wakes.send(&object);
        }
        drop(second);
        wakes.send(&"b");
        assert_eq!([next(), next(), next()], [Some("a"), Some("b"), None]);
        wakes.send(&"a");
        assert_eq!(next(), Some("a"));
        assert_eq!(wakes.0.lock().len(), 1, "a subscriber that is gone has no queue");
    }

    #[tokio::test]
    async fn a_wake_up_reaches_a_subscriber_that_waits() {
        let wakes = Arc::new(Requeues::default());
        let mut woken = wakes.subscribe();
        let waiting = tokio::spawn(async move { woken.next().await });
        tokio::task::yield_now().await;
        wakes.send(&7);
        assert_eq!(waiting.await.unwrap(), Some(7));
    }
}
