//! The time limit of a test's waits, and their error.

use std::time::Duration;

/// The time limit for an event that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Something did not happen in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {} s in vain: {seen}", PATIENCE.as_secs())]
pub struct WaitError {
    seen: String,
}

impl WaitError {
    pub(crate) const fn new(seen: String) -> Self {
        Self { seen }
    }
}
