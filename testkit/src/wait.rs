//! How long a test waits for what should happen, and what it is told when that was in vain.

use std::time::Duration;

/// How long a test waits for something that should happen.
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
