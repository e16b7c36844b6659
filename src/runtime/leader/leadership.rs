//! Leadership of this process. Work that only the leader may do waits for it.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use tokio::sync::watch::{self, Receiver, Sender};

/// Whether this process leads, and since when. A process that loses the leadership ends.
#[derive(Clone, Debug)]
pub struct Leadership {
    leads: Receiver<bool>,
    acquired_at: Arc<OnceLock<Timestamp>>,
}

impl Leadership {
    /// The leadership of a process without replicas, which leads from its start.
    #[must_use]
    pub fn sole() -> Self {
        // A receiver keeps the last value after its sender was dropped.
        Self { leads: watch::channel(true).1, acquired_at: Arc::default() }
    }

    /// A leadership that the sender announces later.
    pub(super) fn pending() -> (Sender<bool>, Self) {
        let (sender, leads) = watch::channel(false);
        (sender, Self { leads, acquired_at: Arc::default() })
    }

    /// Waits until this process leads. The first caller that sees it records the time.
    pub async fn wait(&self, clock: &(dyn Fn() -> Timestamp + Send + Sync)) {
        if self.leads.clone().wait_for(|leads| *leads).await.is_err() {
            // The election ended without a win for this process, so the process is about to end.
            std::future::pending::<()>().await;
        }
        self.acquired_at.get_or_init(clock);
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

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[test]
    fn a_process_that_is_alone_leads_at_once() {
        assert!(Leadership::sole().wait(&now).now_or_never().is_some());
    }

    #[tokio::test]
    async fn everybody_waits_until_the_lead_is_taken() {
        let (sender, leadership) = Leadership::pending();
        assert!(leadership.wait(&now).now_or_never().is_none());
        let waiting = tokio::spawn({
            let leadership = leadership.clone();
            async move { leadership.wait(&now).await }
        });
        sender.send_replace(true);
        waiting.await.unwrap();
        drop(sender);
        assert!(leadership.wait(&now).now_or_never().is_some());
    }

    #[test]
    fn an_election_that_ends_unwon_lets_nobody_work() {
        let (sender, leadership) = Leadership::pending();
        drop(sender);
        assert!(leadership.wait(&now).now_or_never().is_none());
    }
}
