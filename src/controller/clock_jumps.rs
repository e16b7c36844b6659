//! Jumps of the clock. A waiting reconcile sleeps by a monotonic clock. That clock does not jump, and
//! stands still while the machine sleeps. After a jump forward, every ServiceKey has to check the time again.

use std::time::Duration;

use futures::{Stream, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::clock::Clock;

/// Interval at which the operator compares the two clocks.
const INTERVAL: Duration = Duration::from_secs(5);
/// The smallest jump that counts. Times in statuses have full seconds.
const SMALLEST_JUMP: SignedDuration = SignedDuration::from_secs(1);

/// Reports each jump forward. A jump back needs no report: a reconcile that starts too early waits again.
pub(super) fn forward_jumps(clock: Clock) -> impl Stream<Item = ()> + Send + 'static {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let since = (clock.now(), Instant::now());
    stream::unfold((clock, ticks, since), |(clock, mut ticks, mut since)| async move {
        loop {
            ticks.tick().await;
            let now = (clock.now(), Instant::now());
            match jump(since, now) {
                jump if jump >= SMALLEST_JUMP => return Some(((), (clock, ticks, now))),
                jump if jump.is_negative() => since = now,
                // Several small jumps add up to one.
                _ => {}
            }
        }
    })
}

/// How much more time passed on the wall clock than on the monotonic clock.
fn jump(since: (Timestamp, Instant), now: (Timestamp, Instant)) -> SignedDuration {
    let slept = SignedDuration::try_from(now.1 - since.1).unwrap_or(SignedDuration::MAX);
    now.0.duration_since(since.0).saturating_sub(slept)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    use futures::{FutureExt, StreamExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn leaps_ahead_are_told_once_and_others_not_at_all() {
        let (begun, leapt) = (Instant::now(), Arc::new(AtomicI64::new(0)));
        let leap = |milliseconds| leapt.fetch_add(milliseconds, Ordering::SeqCst);
        let ahead_by = Arc::clone(&leapt);
        let mut leaps = forward_jumps(Clock::new(move || {
            let passed = begun.elapsed() + Duration::from_secs(1_000_000_000);
            Timestamp::UNIX_EPOCH + passed + SignedDuration::from_millis(ahead_by.load(Ordering::SeqCst))
        }))
        .boxed();
        let mut told = async || {
            tokio::time::sleep(3 * INTERVAL).await;
            std::iter::from_fn(|| leaps.next().now_or_never()).count()
        };
        assert_eq!(told().await, 0, "time passes");
        leap(24 * 3_600_000);
        assert_eq!(told().await, 1, "a day ahead");
        leap(-3_600_000);
        assert_eq!(told().await, 0, "an hour back");
        leap(3_600_000);
        assert_eq!(told().await, 1, "and ahead again");
        leap(600);
        assert_eq!(told().await, 0, "less than a second");
        leap(600);
        assert_eq!(told().await, 1, "and again");
    }
}
