//! The budget of requests of one provider: how many at once, and how many a second.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Limits;

/// Shared by all calls to one remote side.
pub(super) struct Budget {
    places: Semaphore,
    rate: DefaultDirectRateLimiter,
}

impl Budget {
    pub(super) fn new(limits: &Limits) -> Self {
        let places = limits.concurrency.get().min(Semaphore::MAX_PERMITS);
        Self { places: Semaphore::new(places), rate: rate_limiter(limits.requests_per_second) }
    }

    /// Waits for a place, first come, first served; the place is free again when the permit is dropped.
    ///
    /// The place comes before the rate, so that at most `concurrency` callers are woken by the rate's clock.
    pub(super) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        // An error would mean that the semaphore was closed, which nobody does; without a permit the rate still holds.
        let permit = self.places.acquire().await.ok();
        self.rate.until_ready().await;
        permit
    }
}

fn rate_limiter(requests_per_second: NonZeroU32) -> DefaultDirectRateLimiter {
    DefaultDirectRateLimiter::direct(Quota::per_second(requests_per_second))
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, time::Duration};

    use super::*;

    fn limits(requests_per_second: u32, concurrency: usize) -> Limits {
        Limits {
            requests_per_second: NonZeroU32::new(requests_per_second).unwrap(),
            concurrency: NonZeroUsize::new(concurrency).unwrap(),
            timeout: Duration::from_secs(1),
        }
    }

    #[tokio::test]
    async fn no_more_than_concurrency_hold_a_place() {
        let budget = Budget::new(&limits(1000, 2));
        let _first = budget.take().await;
        let second = budget.take().await;
        assert!(tokio::time::timeout(Duration::from_millis(50), budget.take()).await.is_err());
        drop(second);
        assert!(tokio::time::timeout(Duration::from_secs(5), budget.take()).await.is_ok());
    }

    #[tokio::test]
    async fn the_rate_holds_after_the_burst() {
        let budget = Budget::new(&limits(5, 100));
        let began = std::time::Instant::now();
        for _ in 0..7 {
            drop(budget.take().await);
        }
        // 5 at once, then one every 200 ms.
        assert!(began.elapsed() >= Duration::from_millis(350), "took {:?}", began.elapsed());
    }
}
