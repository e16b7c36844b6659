//! The request budget of one provider: its concurrency, its rate, and the pauses that the remote side requires.
//! Namespaces that share a provider take turns.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock as _,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::RequestLimits;
use crate::fair::{FairPermit, FairSemaphore, Lane};

pub(super) struct CallBudget {
    places: FairSemaphore,
    rate: Rate,
    /// Admits one caller at a time to the wait for the rate.
    turn: FairSemaphore,
    /// The end of the pause that the remote side required.
    pause: Mutex<Option<Instant>>,
}

impl CallBudget {
    pub(super) fn new(limits: &RequestLimits) -> Self {
        Self {
            places: FairSemaphore::new(limits.concurrency.get()),
            rate: Rate::new(limits.requests_per_second),
            turn: FairSemaphore::new(1),
            pause: Mutex::default(),
        }
    }

    /// Waits for a slot and then for the rate, in the lane of the caller. Dropping the permit releases the slot.
    ///
    /// The slot comes first, so that the rate limiter wakes at most `concurrency` callers.
    pub(super) async fn take(&self) -> Option<FairPermit> {
        let lane = Lane::current();
        // `None` would mean a closed semaphore, and this one is never closed. The rate would apply anyway.
        let permit = self.places.acquire(&lane).await;
        let _turn = self.turn.acquire(&lane).await;
        self.rate.wait().await;
        permit
    }

    /// Starts or extends a pause.
    pub(super) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut pause = self.pause.lock();
        *pause = (*pause).max(Some(until));
    }

    /// The remaining time of the pause.
    pub(super) fn paused(&self) -> Option<Duration> {
        let until = *self.pause.lock();
        until.map(|until| until.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }
}

/// The requests that may start at once are a second's requests divided by this. The burst covers a clock's resolution
/// of milliseconds.
const BURSTS_A_SECOND: u32 = 50;

/// Spreads requests over the second: a remote side that counts per second never sees more than its limit.
struct Rate {
    limiter: RateLimiter<NotKeyed, InMemoryState, TimerClock, NoOpMiddleware<Duration>>,
    clock: TimerClock,
}

impl Rate {
    fn new(requests_per_second: NonZeroU32) -> Self {
        let burst = NonZeroU32::new(requests_per_second.get() / BURSTS_A_SECOND).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(requests_per_second).allow_burst(burst);
        let clock = TimerClock(Instant::now());
        Self { limiter: RateLimiter::direct_with_clock(quota, clock), clock }
    }

    /// Waits until one more request may start.
    async fn wait(&self) {
        while let Err(early) = self.limiter.check() {
            sleep(early.wait_time_from(self.clock.now())).await;
        }
    }
}

/// The clock of tokio's timers, as the time since an instant.
#[derive(Clone, Copy, Debug)]
struct TimerClock(Instant);

impl governor::clock::Clock for TimerClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, time::Duration};

    use futures::future::join_all;

    use super::*;

    fn limits(requests_per_second: u32, concurrency: usize) -> RequestLimits {
        RequestLimits {
            requests_per_second: NonZeroU32::new(requests_per_second).unwrap(),
            concurrency: NonZeroUsize::new(concurrency).unwrap(),
            timeout: Duration::from_secs(1),
        }
    }

    #[tokio::test]
    async fn no_more_than_concurrency_hold_a_place() {
        let budget = CallBudget::new(&limits(1000, 2));
        let _first = budget.take().await;
        let second = budget.take().await;
        assert!(tokio::time::timeout(Duration::from_millis(50), budget.take()).await.is_err());
        drop(second);
        assert!(tokio::time::timeout(Duration::from_secs(5), budget.take()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_over_the_second() {
        let budget = CallBudget::new(&limits(10, 100));
        let began = Instant::now();
        for _ in 0..5 {
            drop(budget.take().await);
        }
        assert!(began.elapsed() >= Duration::from_millis(400), "took {:?}", began.elapsed());
    }

    /// One namespace has many requests. A request of another namespace follows after those already started and one
    /// more, whether it waits for a slot or for the rate.
    #[tokio::test]
    async fn namespaces_take_turns() {
        for limits in [limits(1000, 1), limits(50, 1000)] {
            let budget = CallBudget::new(&limits);
            let first = budget.take().await;
            let served = Mutex::new(Vec::new());
            let request = |namespace: &'static str| {
                let (budget, served) = (&budget, &served);
                Lane::of_namespace(namespace).scope(async move {
                    let _permit = budget.take().await;
                    served.lock().push(namespace);
                })
            };
            let burst = join_all((0..20).map(|_| request("busy")));
            let go = async {
                tokio::task::yield_now().await;
                drop(first);
            };
            tokio::join!(burst, request("honest"), go);
            let ahead = served.lock().iter().position(|namespace| *namespace == "honest");
            assert!(ahead.is_some_and(|ahead| ahead <= 2), "{ahead:?} of the burst came first");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_pause_counts() {
        let budget = CallBudget::new(&limits(10, 100));
        assert_eq!(budget.paused(), None);
        budget.pause(Duration::from_secs(30));
        budget.pause(Duration::from_secs(5));
        assert_eq!(budget.paused(), Some(Duration::from_secs(30)));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(budget.paused(), None);
    }
}
