//! Leadership of this process. Work that only the leader may do waits for it.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use tokio::sync::SetOnce;

use crate::clock::Clock;

/// Whether this process leads, and since when. A process that loses the leadership ends.
#[derive(Clone, Debug, Default)]
pub struct Leadership {
    leads: Arc<SetOnce<()>>,
    acquired_at: Arc<OnceLock<Timestamp>>,
}

impl Leadership {
    /// The leadership of a process without replicas, which leads from its start.
    #[must_use]
    pub fn sole() -> Self {
        Self { leads: Arc::new(SetOnce::new_with(Some(()))), acquired_at: Arc::default() }
    }

    /// Announces that this process leads. Returns whether it did not lead before.
    pub(super) fn acquire(&self) -> bool {
        self.leads.set(()).is_ok()
    }

    /// Waits until this process leads. The first caller that sees it records the time.
    pub async fn wait(&self, clock: &Clock) {
        self.leads.wait().await;
        self.acquired_at.get_or_init(|| clock.now());
    }

    /// When the work of this process first saw that the process leads; `None` before. Another process may have sent
    /// requests until then.
    #[must_use]
    pub fn acquired_at(&self) -> Option<Timestamp> {
        self.acquired_at.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn clock() -> Clock {
        Clock::new(|| Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_process_that_is_alone_leads_at_once() {
        assert!(Leadership::sole().wait(&clock()).now_or_never().is_some());
    }

    #[tokio::test]
    async fn everybody_waits_until_the_lead_is_taken() {
        let leadership = Leadership::default();
        assert!(leadership.wait(&clock()).now_or_never().is_none());
        let waiting = tokio::spawn({
            let leadership = leadership.clone();
            async move { leadership.wait(&clock()).await }
        });
        assert!(leadership.acquire());
        assert!(!leadership.acquire(), "it leads already");
        waiting.await.unwrap();
        assert!(leadership.wait(&clock()).now_or_never().is_some());
    }
}
