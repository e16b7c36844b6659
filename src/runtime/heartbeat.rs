//! The heart of the operator: it beats in the loop that everything else runs in, and stands still when that does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, stream};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{MissedTickBehavior, interval};

/// How often it beats.
const BEAT: Duration = Duration::from_secs(1);

/// The heart of a process.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat(Arc<Mutex<Option<Instant>>>);

/// A loop that is to turn, until this is dropped.
struct Turning(Heartbeat);

impl Drop for Turning {
    fn drop(&mut self) {
        *self.0.last_beat() = None;
    }
}

impl Heartbeat {
    /// Beats, for as long as somebody takes in the beats.
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

    /// How long ago it last beat; `None` where it is not meant to.
    #[must_use]
    pub fn elapsed(&self) -> Option<Duration> {
        self.last_beat().map(|beat| beat.elapsed())
    }

    fn last_beat(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock()
    }
}
