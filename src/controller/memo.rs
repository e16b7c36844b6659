//! What the operator remembers of one ServiceKey between two reconciles. All of it may be lost.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use kube::runtime::controller::Action;
use uuid::Uuid;

use super::version::resource_version;
use crate::{
    api::ServiceKey,
    backend::Credentials,
    lifecycle::{KeyRecord, Problem},
};

/// The first wait after a failure.
const SHORTEST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What is remembered of one ServiceKey.
#[derive(Debug, Default)]
pub struct Memo {
    /// The object as our own last write returned it, until the cache has caught up.
    own_write: Option<Arc<ServiceKey>>,
    /// The key whose credentials could not be stored yet.
    pub in_hand: Option<(KeyRecord, Credentials)>,
    /// Whether our finalizer was removed: what the cache still shows of the object is not to be acted on. The version
    /// does not tell, for the API server answers the write that ends an object with that of the write before.
    pub let_go: bool,
    /// What is wrong with the spec of this generation.
    pub checked_spec: Option<(i64, Option<Problem>)>,
    backoff: Backoff,
}

impl Memo {
    /// The newer of the object that the cache holds and the one that our own last write returned.
    pub fn newest(&mut self, cached: Arc<ServiceKey>) -> Arc<ServiceKey> {
        match &self.own_write {
            Some(own) if resource_version(own.as_ref()) > resource_version(cached.as_ref()) => {
                Arc::clone(own)
            }
            _ => {
                self.own_write = None;
                cached
            }
        }
    }

    /// Remembers the object that a write of ours returned.
    pub fn wrote(&mut self, object: Arc<ServiceKey>) {
        self.own_write = Some(object);
    }

    /// When to try again after a failure: not before what the remote side asked for.
    pub fn retry(&mut self, not_before: Option<Duration>) -> Action {
        Action::requeue(self.backoff.next_wait().max(not_before.unwrap_or_default()))
    }

    /// All went well: the next failure starts with the shortest wait again.
    pub fn recovered(&mut self) {
        self.backoff = Backoff::default();
    }
}

/// Waits that grow with every failure in a row, with jitter.
#[derive(Debug)]
pub struct Backoff(ExponentialBackoff);

impl Backoff {
    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        self.0.next().unwrap_or(LONGEST_WAIT)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        let waits = ExponentialBuilder::default()
            .with_min_delay(SHORTEST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .with_jitter()
            .without_max_times();
        Self(waits.build())
    }
}

/// The memos of all ServiceKeys, by UID.
#[derive(Debug, Default)]
pub struct Memos(Mutex<HashMap<Uuid, Memo>>);

impl Memos {
    /// Takes a ServiceKey's memo, for the time of one reconcile; no two reconciles of one object overlap.
    pub fn take(&self, owner: Uuid) -> Memo {
        self.lock().remove(&owner).unwrap_or_default()
    }

    /// Puts a memo back.
    pub fn put(&self, owner: Uuid, memo: Memo) {
        self.lock().insert(owner, memo);
    }

    /// Forgets a ServiceKey that is gone.
    pub fn forget(&self, owner: Uuid) {
        self.lock().remove(&owner);
    }

    /// Forgets all ServiceKeys but these.
    pub fn retain(&self, owners: &HashSet<Uuid>) {
        self.lock().retain(|owner, _| owners.contains(owner));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Memo>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
