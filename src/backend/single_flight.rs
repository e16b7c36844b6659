//! Shares one request among many callers that need its answer.
//!
//! A caller that finds a good enough answer never waits for those that request a newer one. A caller that waits for
//! another caller's request gets its result, even a failure, and does not repeat the request. If the requesting caller
//! is dropped, the next one sends the request.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Mutex as TurnMutex, watch},
    time::Instant,
};

use super::{
    BackendError,
    memory::{AllocatedMemory, Weight},
};

/// The last answer, and the lock for requesting another.
pub(super) struct SingleFlight<T> {
    latest: Arc<watch::Sender<Option<CachedAnswer<T>>>>,
    turn: TurnMutex<Option<CachedFailure>>,
    /// How long a failure is also returned to later callers.
    kept: fn(&BackendError) -> Duration,
    /// The memory of an answer, if it counts.
    held: fn(&T) -> Option<&AllocatedMemory>,
}

/// An answer and its time of arrival.
pub(super) struct CachedAnswer<T> {
    pub(super) since: Instant,
    pub(super) value: Arc<T>,
}

impl<T> Clone for CachedAnswer<T> {
    fn clone(&self) -> Self {
        Self { since: self.since, value: Arc::clone(&self.value) }
    }
}

/// Answers to the same request about many objects. Only the callers that waited for a failure get it.
pub(super) struct SingleFlightMap<K, T> {
    answers: Mutex<HashMap<K, Arc<SingleFlight<T>>>>,
    /// The most bytes of all answers together.
    largest: usize,
}

/// Bytes of one answer in addition to its own and its key's text: its part of the map, locks, allocations.
const ENTRY: usize = 512;

impl<K, T> SingleFlightMap<K, T>
where
    K: Clone + Eq + Hash + Weight,
    T: Weight + Send + Sync + 'static,
{
    /// Creates a map that keeps this many bytes of answers. It forgets the oldest ones for a new one.
    pub(super) fn in_bytes(largest: usize) -> Self {
        Self { answers: Mutex::default(), largest }
    }

    /// Like [`SingleFlight::get`], for one of the objects.
    ///
    /// # Errors
    /// Those of `ask`, also if another caller called it.
    pub(super) async fn get<F>(
        &self,
        key: &K,
        good_enough: impl Fn(&CachedAnswer<T>) -> bool,
        ask: impl FnOnce() -> F,
    ) -> Result<CachedAnswer<T>, BackendError>
    where
        F: Future<Output = Result<T, BackendError>>,
    {
        let ask = move || async move {
            let answer = ask().await?;
            self.make_room(answer.weight());
            Ok(answer)
        };
        self.about(key).get(good_enough, ask).await
    }

    fn about(&self, key: &K) -> Arc<SingleFlight<T>> {
        if let Some(known) = self.answers.lock().get(key) {
            return Arc::clone(known);
        }
        self.make_room(ENTRY + key.weight());
        let unknown = || Arc::new(SingleFlight::kept(|_| Duration::ZERO));
        Arc::clone(self.answers.lock().entry(key.clone()).or_insert_with(unknown))
    }

    /// Forgets the oldest answers until this many bytes are free.
    fn make_room(&self, bytes: usize) {
        let mut answers = self.answers.lock();
        let weigh = |key: &K, answer: &SingleFlight<T>| {
            let latest = answer.latest.borrow();
            ENTRY + key.weight() + latest.as_ref().map_or(0, |known| known.value.weight())
        };
        let mut total: usize = answers.iter().map(|(key, answer)| weigh(key, answer)).sum();
        if total + bytes <= self.largest {
            return;
        }
        // An answer that a caller still needs stays.
        let unused = answers.iter().filter(|(_, answer)| Arc::strong_count(answer) == 1);
        let since = |answer: &SingleFlight<T>| answer.latest.borrow().as_ref().map(|known| known.since);
        let mut unused: Vec<_> =
            unused.map(|(key, answer)| (since(answer), weigh(key, answer), key.clone())).collect();
        unused.sort_unstable_by_key(|(since, ..)| *since);
        for (_, weight, key) in unused {
            if total + bytes <= self.largest {
                break;
            }
            total -= weight;
            answers.remove(&key);
        }
    }

    /// The last answer about one of the objects, of any age.
    pub(super) fn latest(&self, key: &K) -> Option<CachedAnswer<T>> {
        self.answers.lock().get(key)?.latest()
    }

    /// Forgets the answer about one of the objects, because it is wrong.
    pub(super) fn forget(&self, key: &K) {
        self.answers.lock().remove(key);
    }
}

struct CachedFailure {
    at: Instant,
    error: BackendError,
}

impl<T: Send + Sync + 'static> SingleFlight<T> {
    /// Starts without an answer. All callers that waited for a failure get it, and so do those that come later, for as
    /// long as `kept` returns.
    pub(super) fn kept(kept: fn(&BackendError) -> Duration) -> Self {
        let latest = Arc::new(watch::Sender::new(None));
        Self { latest, turn: TurnMutex::default(), kept, held: |_| None }
    }

    /// Starts with this failure of an earlier request.
    pub(super) fn failed(self, error: BackendError) -> Self {
        Self { turn: TurnMutex::new(Some(CachedFailure { at: Instant::now(), error })), ..self }
    }

    /// Counts the memory of the answers. They are forgotten if others need the memory.
    pub(super) fn counted(self, held: fn(&T) -> Option<&AllocatedMemory>) -> Self {
        Self { held, ..self }
    }

    /// The last answer, of any age.
    pub(super) fn latest(&self) -> Option<CachedAnswer<T>> {
        self.latest.borrow().clone()
    }

    /// Returns an answer that is good enough, or that arrived while this call waited for its turn.
    ///
    /// # Errors
    /// Those of `ask`, also if another caller called it.
    pub(super) async fn get<F>(
        &self,
        good_enough: impl Fn(&CachedAnswer<T>) -> bool,
        ask: impl FnOnce() -> F,
    ) -> Result<CachedAnswer<T>, BackendError>
    where
        F: Future<Output = Result<T, BackendError>>,
    {
        let began = Instant::now();
        let known = || self.latest().filter(|known| known.since >= began || good_enough(known));
        if let Some(known) = known() {
            return Ok(known);
        }
        let mut turn = self.turn.lock().await;
        if let Some(known) = known() {
            return Ok(known);
        }
        match self.failure_for(turn.as_ref(), began) {
            Some(error) => Err(error),
            None => self.ask(&mut turn, ask).await,
        }
    }

    /// Requests a newer answer if the last one is due. Returns `None` if it is not due, if another caller requests one
    /// already, or if a request has just failed.
    pub(super) async fn renew<F>(
        &self,
        due: impl Fn(&CachedAnswer<T>) -> bool,
        ask: impl FnOnce() -> F,
    ) -> Option<Result<CachedAnswer<T>, BackendError>>
    where
        F: Future<Output = Result<T, BackendError>>,
    {
        let mut turn = self.turn.try_lock().ok()?;
        let due = self.latest().is_some_and(|known| due(&known));
        if !due || self.failure_for(turn.as_ref(), Instant::now()).is_some() {
            return None;
        }
        Some(self.ask(&mut turn, ask).await)
    }

    pub(super) fn clear(&self) {
        self.latest.send_replace(None);
    }

    /// Forgets the last answer if it is this one.
    pub(super) fn forget(&self, value: &Arc<T>) {
        forget(&self.latest, value);
    }

    /// Lets others have this answer forgotten when they need its memory, even before it is stored.
    fn give_way(&self, value: &Arc<T>) {
        if let Some(held) = (self.held)(value) {
            let (latest, value) = (Arc::downgrade(&self.latest), Arc::downgrade(value));
            held.when_asked(move || {
                if let (Some(latest), Some(value)) = (latest.upgrade(), value.upgrade()) {
                    forget(&latest, &value);
                }
            });
        }
    }

    async fn ask<F>(
        &self,
        turn: &mut Option<CachedFailure>,
        ask: impl FnOnce() -> F,
    ) -> Result<CachedAnswer<T>, BackendError>
    where
        F: Future<Output = Result<T, BackendError>>,
    {
        match ask().await {
            Ok(value) => {
                let known = CachedAnswer { since: Instant::now(), value: Arc::new(value) };
                self.latest.send_replace(Some(known.clone()));
                self.give_way(&known.value);
                *turn = None;
                Ok(known)
            }
            Err(error) => {
                *turn = Some(CachedFailure { at: Instant::now(), error: error.clone() });
                Err(error)
            }
        }
    }

    /// The failure for a caller that came at this time.
    fn failure_for(&self, failed: Option<&CachedFailure>, came: Instant) -> Option<BackendError> {
        let CachedFailure { at, error } = failed?;
        let retry_after = error.retry_after.map(|wait| wait.saturating_sub(at.elapsed()));
        (came <= *at + (self.kept)(error)).then(|| BackendError { retry_after, ..error.clone() })
    }
}

fn forget<T>(latest: &watch::Sender<Option<CachedAnswer<T>>>, value: &Arc<T>) {
    latest.send_if_modified(|latest| {
        let is_known = latest.as_ref().is_some_and(|known| Arc::ptr_eq(&known.value, value));
        if is_known {
            *latest = None;
        }
        is_known
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{MemoryBudget, MemoryShare};

    async fn answered(value: u8) -> Result<u8, BackendError> {
        Ok(value)
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_answers_make_room_for_a_new_one() {
        let answers = SingleFlightMap::in_bytes(2 * ENTRY + 100);
        let text = |length| async move { Ok("x".repeat(length)) };
        let keys = ["a", "b", "c"].map(str::to_owned);
        for (key, length) in keys.iter().zip([10, 20, 90]) {
            answers.get(key, |_| true, || text(length)).await.unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let known = || keys.each_ref().map(|key| answers.latest(key).is_some());
        assert_eq!(known(), [false, false, true], "`b` and `c` together take too much");
        answers.get(&keys[0], |_| true, || text(1)).await.unwrap();
        assert_eq!(known(), [true, false, true]);
    }

    #[tokio::test]
    async fn answers_that_do_not_come_take_no_room_for_long() {
        let answers = SingleFlightMap::<String, String>::in_bytes(4 * ENTRY);
        for number in 0..100 {
            let down = || async { Err(BackendError::new(crate::backend::ErrorClass::Transient, "down")) };
            answers.get(&number.to_string(), |_| true, down).await.map(drop).unwrap_err();
        }
        assert!(answers.answers.lock().len() <= 4);
    }

    struct HeldAnswer(AllocatedMemory);

    fn held(share: &MemoryShare, bytes: usize) -> HeldAnswer {
        let mut holding = share.hold(|| {});
        holding.grow_now(bytes).unwrap();
        HeldAnswer(holding)
    }

    /// Another share may need the memory of an answer just before it is stored, or long after.
    #[tokio::test]
    async fn an_answer_goes_where_others_need_its_room() {
        let budget = MemoryBudget::new(100, 100);
        let (a, b) = (budget.share("a"), budget.share("b"));
        let shared = SingleFlight::kept(|_| Duration::ZERO).counted(|answer: &HeldAnswer| Some(&answer.0));
        let late = shared.get(
            |_| true,
            || async {
                let answer = held(&a, 90);
                assert!(b.keep(20, ()).is_err(), "it is not stored yet");
                Ok(answer)
            },
        );
        drop(late.await.unwrap());
        assert_eq!((shared.latest().is_some(), budget.held()), (false, 0));

        drop(shared.get(|_| true, || async { Ok(held(&a, 90)) }).await.unwrap());
        assert_eq!((shared.latest().is_some(), budget.held()), (true, 90));
        let kept = b.keep(20, ()).unwrap();
        assert_eq!((shared.latest().is_some(), budget.held()), (false, 20));

        drop(shared.get(|_| true, || async { Ok(held(&a, 50)) }).await.unwrap());
        drop((shared, kept));
        assert_eq!(budget.held(), 0, "nothing is kept of a provider that went away");
    }

    /// Another caller may finish between the first check for an answer and the lock.
    #[tokio::test(start_paused = true)]
    async fn what_others_have_changed_meanwhile_stays() {
        let shared = SingleFlight::kept(|_| Duration::ZERO);
        let first = shared.get(|_| true, || answered(1)).await.unwrap();
        let renewed = shared.renew(|_| true, || answered(2)).await.unwrap().unwrap();
        assert_eq!((*first.value, *renewed.value), (1, 2));

        shared.forget(&first.value);
        assert!(shared.renew(|known| *known.value == 1, || answered(3)).await.is_none());
        assert_eq!(shared.latest().map(|known| *known.value), Some(2));
        shared.forget(&renewed.value);
        assert!(shared.latest().is_none());
    }
}
