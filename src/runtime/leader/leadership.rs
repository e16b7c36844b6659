//! Whether this process leads, for those who may work only then.

use tokio::sync::watch::{self, Receiver, Sender};

/// Whether this process leads, or when it will. It is never given back: who loses the lead ends.
#[derive(Clone, Debug)]
pub struct Leadership(Receiver<bool>);

impl Leadership {
    /// That of a process which is alone, and so leads from its start.
    #[must_use]
    pub fn sole() -> Self {
        // What is known already stays known without its sender.
        Self(watch::channel(true).1)
    }

    /// Nobody leads yet; whoever has the sender says when.
    pub(super) fn pending() -> (Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits until this process leads, however long that takes.
    pub async fn wait(&self) {
        if self.0.clone().wait_for(|leads| *leads).await.is_err() {
            // The election is over, and was not won: the process is about to end.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_process_that_is_alone_leads_at_once() {
        assert!(Leadership::sole().wait().now_or_never().is_some());
    }

    #[tokio::test]
    async fn everybody_waits_until_the_lead_is_taken() {
        let (sender, leadership) = Leadership::pending();
        assert!(leadership.wait().now_or_never().is_none());
        let waiting = tokio::spawn({
            let leadership = leadership.clone();
            async move { leadership.wait().await }
        });
        sender.send_replace(true);
        waiting.await.unwrap();
        drop(sender);
        assert!(leadership.wait().now_or_never().is_some());
    }

    #[test]
    fn an_election_that_ends_unwon_lets_nobody_work() {
        let (sender, leadership) = Leadership::pending();
        drop(sender);
        assert!(leadership.wait().now_or_never().is_none());
    }
}
