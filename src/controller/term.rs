//! Since when this process works: since its start, or, as one of several replicas, since it took the lead.

use std::sync::OnceLock;

use jiff::Timestamp;

use super::Clock;
use crate::runtime::Leadership;

/// The time in which this process may work. Watches and caches do not wait for it.
pub struct Term {
    leadership: Leadership,
    clock: Clock,
    began: OnceLock<Timestamp>,
}

impl Term {
    pub fn new(leadership: Leadership, clock: Clock) -> Self {
        Self { leadership, clock, began: OnceLock::new() }
    }

    /// Waits until this process may work.
    pub async fn begins(&self) {
        self.leadership.wait().await;
        self.began();
    }

    /// Whether it may.
    pub fn has_begun(&self) -> bool {
        self.began.get().is_some()
    }

    /// When it could. What was asked for before, another process may have asked for.
    pub fn began(&self) -> Timestamp {
        *self.began.get_or_init(|| (self.clock)())
    }
}
