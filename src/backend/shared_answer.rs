//! An answer that many callers need: one of them asks, for all.
//!
//! Who finds an answer that is good enough never waits for those who ask for a newer one. Who waits while another asks
//! takes what comes, also a failure, and does not ask the same again. A caller that is dropped while it asks leaves
//! its turn to the next one.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use super::BackendError;

/// The last answer, and whose turn it is to ask for another.
pub(super) struct SharedAnswer<T> {
    latest: watch::Sender<Option<Known<T>>>,
    turn: Mutex<Option<Failed>>,
    /// How long a failure is also told to those who come after it.
    kept: fn(&BackendError) -> Duration,
}

/// An answer, and when it came.
pub(super) struct Known<T> {
    pub(super) since: Instant,
    pub(super) value: Arc<T>,
}

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        Self { since: self.since, value: Arc::clone(&self.value) }
    }
}

/// Answers to the same question about many things. A failure is told to those only who waited for it.
pub(super) struct SharedAnswers<K, T> {
    answers: SyncMutex<HashMap<K, Arc<SharedAnswer<T>>>>,
    most: usize,
}

/// As many things as answers are kept about, unless they are large.
const MOST_ANSWERS: usize = 4096;

impl<K, T> Default for SharedAnswers<K, T> {
    fn default() -> Self {
        Self::about_at_most(MOST_ANSWERS)
    }
}

impl<K, T> SharedAnswers<K, T> {
    /// Answers about so many things: the oldest one is forgotten for a new one.
    pub(super) fn about_at_most(most: usize) -> Self {
        Self { answers: SyncMutex::default(), most }
    }
}

impl<K: Clone + Eq + Hash, T> SharedAnswers<K, T> {
    /// The answer about one of them.
    pub(super) fn about(&self, key: &K) -> Arc<SharedAnswer<T>> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= self.most && !answers.contains_key(key) {
            let age = |answer: &SharedAnswer<T>| answer.latest.borrow().as_ref().map(|known| known.since);
            let unused = answers.iter().filter(|(_, answer)| Arc::strong_count(answer) == 1);
            let oldest = unused.min_by_key(|(_, answer)| age(answer)).map(|(key, _)| key.clone());
            oldest.map(|oldest| answers.remove(&oldest));
        }
        let unknown = || Arc::new(SharedAnswer::kept(|_| Duration::ZERO));
        Arc::clone(answers.entry(key.clone()).or_insert_with(unknown))
    }

    /// The last answer about one of them, however old.
    pub(super) fn latest(&self, key: &K) -> Option<Known<T>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(key)?.latest()
    }

    /// What is known of it is wrong.
    pub(super) fn forget(&self, key: &K) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// How the last one to ask failed.
struct Failed {
    at: Instant,
    error: BackendError,
}

impl<T> SharedAnswer<T> {
    /// Nothing is known yet. A failure is told to everybody who waited for it, and for as long as `kept` says to those
    /// who come later.
    pub(super) fn kept(kept: fn(&BackendError) -> Duration) -> Self {
        Self { latest: watch::Sender::new(None), turn: Mutex::default(), kept }
    }

    /// The last answer, however old.
    pub(super) fn latest(&self) -> Option<Known<T>> {
        self.latest.borrow().clone()
    }

    /// An answer that is good enough, or that came while this call waited for its turn to ask.
    ///
    /// # Errors
    /// Those of `ask`, whoever asked.
    pub(super) async fn get<F>(
        &self,
        good_enough: impl Fn(&Known<T>) -> bool,
        ask: impl FnOnce() -> F,
    ) -> Result<Known<T>, BackendError>
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

    /// Asks for a newer answer where the last one is due for it. Nothing, where it is not, where somebody asks already,
    /// and where asking has just failed.
    pub(super) async fn renew<F>(
        &self,
        due: impl Fn(&Known<T>) -> bool,
        ask: impl FnOnce() -> F,
    ) -> Option<Result<Known<T>, BackendError>>
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

    /// Forgets the last answer, whoever keeps this.
    pub(super) fn forgetter(&self) -> impl Fn() + Send + Sync + 'static
    where
        T: Send + Sync + 'static,
    {
        let latest = self.latest.clone();
        move || drop(latest.send_replace(None))
    }

    /// Forgets the last answer, if it is this one.
    pub(super) fn forget(&self, value: &Arc<T>) {
        self.latest.send_if_modified(|latest| {
            let known = latest.as_ref().is_some_and(|known| Arc::ptr_eq(&known.value, value));
            if known {
                *latest = None;
            }
            known
        });
    }

    async fn ask<F>(
        &self,
        turn: &mut Option<Failed>,
        ask: impl FnOnce() -> F,
    ) -> Result<Known<T>, BackendError>
    where
        F: Future<Output = Result<T, BackendError>>,
    {
        match ask().await {
            Ok(value) => {
                let known = Known { since: Instant::now(), value: Arc::new(value) };
                self.latest.send_replace(Some(known.clone()));
                *turn = None;
                Ok(known)
            }
            Err(error) => {
                *turn = Some(Failed { at: Instant::now(), error: error.clone() });
                Err(error)
            }
        }
    }

    /// The failure that a caller is told who came at this time.
    fn failure_for(&self, failed: Option<&Failed>, came: Instant) -> Option<BackendError> {
        let Failed { at, error } = failed?;
        let retry_after = error.retry_after.map(|wait| wait.saturating_sub(at.elapsed()));
        (came <= *at + (self.kept)(error)).then(|| BackendError { retry_after, ..error.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(value: u8) -> Result<u8, BackendError> {
        Ok(value)
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_answer_makes_room_for_a_new_one() {
        let answers = SharedAnswers::about_at_most(2);
        for thing in ["a", "b", "c"] {
            answers.about(&thing).get(|_| true, || answered(1)).await.unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let known = ["b", "c", "a"].map(|thing| answers.about(&thing).latest().is_some());
        assert_eq!(known, [true, true, false]);
    }

    /// Another caller may be done between a look at what is known and the turn to ask.
    #[tokio::test(start_paused = true)]
    async fn what_others_have_changed_meanwhile_stays() {
        let shared = SharedAnswer::kept(|_| Duration::ZERO);
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
