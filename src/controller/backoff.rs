//! Growing waits after failures.

use std::{collections::HashMap, hash::Hash, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use parking_lot::Mutex;

/// The first wait after a failure.
pub(super) const SHORTEST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait between two attempts.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Waits with jitter that grow with every consecutive failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    failures: usize,
}

impl Backoff {
    /// The most failures that count. The wait has reached its maximum long before.
    const MOST_FAILURES: usize = 16;

    /// The next wait.
    pub(super) fn next_wait(&mut self) -> Duration {
        let waits = ExponentialBuilder::default()
            .with_min_delay(SHORTEST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .with_jitter()
            .without_max_times();
        let wait = waits.build().nth(self.failures).unwrap_or(LONGEST_WAIT);
        self.failures = Self::MOST_FAILURES.min(self.failures + 1);
        wait
    }
}

/// The waits of all objects of one kind whose last reconcile failed.
#[derive(Debug)]
pub(super) struct Retries<T>(Mutex<HashMap<T, Backoff>>);

impl<T> Default for Retries<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Eq + Hash> Retries<T> {
    /// The wait after one more failure.
    pub(super) fn next_wait(&self, object: T) -> Duration {
        self.0.lock().entry(object).or_default().next_wait()
    }

    /// Forgets the failures of an object: a reconcile succeeded, or the object is gone.
    pub(super) fn forget(&self, object: &T) {
        self.0.lock().remove(object);
    }

    /// The number of objects whose last reconcile failed.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_after_failures_grow_up_to_the_longest() {
        let mut backoff = Backoff::default();
        for failures in 0..40 {
            let shortest = SHORTEST_WAIT.saturating_mul(1 << failures.min(20)).min(LONGEST_WAIT);
            let wait = backoff.next_wait();
            assert!(shortest <= wait && wait <= 2 * shortest, "{wait:?} after {failures} failures");
        }
    }

    #[test]
    fn each_object_has_its_own_waits_until_it_succeeds() {
        let retries = Retries::default();
        let waits: Vec<_> = (0..8).map(|_| retries.next_wait("a")).collect();
        assert!(waits[0] <= 2 * SHORTEST_WAIT && waits[7] >= 64 * SHORTEST_WAIT, "{waits:?}");
        assert!(retries.next_wait("b") <= 2 * SHORTEST_WAIT);
        retries.forget(&"a");
        assert_eq!(retries.len(), 1);
        assert!(retries.next_wait("a") <= 2 * SHORTEST_WAIT);
    }
}
