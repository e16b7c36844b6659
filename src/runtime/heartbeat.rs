//! The operator's heartbeat. It ticks in the operator's main loop, so it stops when that loop is stuck.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, stream};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{MissedTickBehavior, interval};

/// The interval of the ticks. It is much shorter than the time after which a silent operator counts as stuck.
const BEAT: Duration = Duration::from_secs(5);

/// The heartbeat of a process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat(Arc<Mutex<Option<Instant>>>);

/// Marks the loop as running until this is dropped.
struct Turning(Heartbeat);

impl Drop for Turning {
    fn drop(&mut self) {
        *self.0.last_beat() = None;
    }
}

impl Heartbeat {
    /// A stream that ticks every five seconds. The heartbeat counts as running until the stream is dropped.
    pub fn ticks(&self) -> impl Stream<Item = ()> + Send + use<> {
        *self.last_beat() = Some(Instant::now());
        let mut ticks = interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        stream::unfold((Turning(self.clone()), ticks), |(turning, mut ticks)| async move {
            ticks.tick().await;
            *turning.0.last_beat() = Some(Instant::now());
            Some(((), (turning, ticks)))
        })
    }

    /// The time since the last tick. `None` if the loop is not running.
    #[must_use]
    pub fn elapsed(&self) -> Option<Duration> {
        self.last_beat().map(|beat| beat.elapsed())
    }

    fn last_beat(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock()
    }
}
