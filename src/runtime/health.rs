//! Whether the operator lives, and whether it is ready, in words for who looks at a pod that is begun anew.

use std::time::Duration;

use super::{Heartbeat, Metrics, Watches};

/// How long what is alive may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthThresholds {
    /// The loop that everything runs in.
    pub heart: Duration,
    /// A watch: the API server ends each request after some five minutes, and a new one may take a minute.
    pub watch: Duration,
}

impl Default for HealthThresholds {
    fn default() -> Self {
        Self { heart: Duration::from_secs(30), watch: Duration::from_secs(600) }
    }
}

/// What probes are told.
#[derive(Clone, Debug)]
pub struct Health {
    heart: Heartbeat,
    watches: Watches,
    patience: HealthThresholds,
}

impl Health {
    /// The health of the operator that counts here.
    #[must_use]
    pub fn new(metrics: &Metrics, patience: HealthThresholds) -> Self {
        Self { heart: metrics.heartbeat().clone(), watches: metrics.watches().clone(), patience }
    }

    /// What shows that the process is beyond help and has to begin anew. That the API server or a remote side is out of
    /// reach does not: it would be no better then.
    #[must_use]
    pub fn liveness_failures(&self) -> Vec<String> {
        let HealthThresholds { heart, watch } = self.patience;
        let stuck = self.heart.elapsed().filter(|silence| *silence > heart).map(|silence| {
            format!("the operator's loop has stood still for {} s; something blocks it", silence.as_secs())
        });
        let dead = self.watches.elapsed().into_iter().filter(|(_, silence)| *silence > watch);
        let dead = dead.map(|(path, silence)| {
            format!("the watch of `{path}` has given no sign of life for {} s", silence.as_secs())
        });
        stuck.into_iter().chain(dead).collect()
    }

    /// What keeps it from being ready: the caches that are not filled yet.
    #[must_use]
    pub fn unready_reasons(&self) -> Vec<String> {
        match self.watches.unfilled() {
            None => vec!["nothing is watched yet".to_owned()],
            Some(unfilled) => unfilled
                .into_iter()
                .map(|path| {
                    format!(
                        "the objects at `{path}` are not all known yet; the log tells whether the API server refuses \
                         to list them"
                    )
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    const IMPATIENT: HealthThresholds =
        HealthThresholds { heart: Duration::from_millis(20), watch: Duration::from_millis(20) };

    #[tokio::test]
    async fn a_loop_that_stands_still_is_an_ailment_until_it_turns_or_ends() {
        let metrics = Metrics::default();
        let health = Health::new(&metrics, IMPATIENT);
        assert_eq!(health.liveness_failures(), [""; 0], "nothing is to turn yet");
        let mut beats = Box::pin(metrics.heartbeat().ticks());
        std::thread::sleep(2 * IMPATIENT.heart);
        assert!(
            health.liveness_failures().concat().starts_with("the operator's loop has stood still for 0 s")
        );
        assert_eq!(beats.next().await, Some(()));
        assert_eq!(health.liveness_failures(), [""; 0]);
        std::thread::sleep(2 * IMPATIENT.heart);
        drop(beats);
        assert_eq!(health.liveness_failures(), [""; 0], "nothing is to turn any more");
    }

    #[test]
    fn a_silent_watch_is_an_ailment_with_a_name() {
        let metrics = Metrics::default();
        let health = Health::new(&metrics, IMPATIENT);
        let _watch = metrics.watches().begin("/api/v1/secrets");
        assert_eq!(health.liveness_failures(), [""; 0]);
        std::thread::sleep(2 * IMPATIENT.watch);
        assert_eq!(
            health.liveness_failures(),
            ["the watch of `/api/v1/secrets` has given no sign of life for 0 s"]
        );
    }

    #[test]
    fn it_is_ready_when_all_caches_are_filled() {
        let metrics = Metrics::default();
        let health = Health::new(&metrics, HealthThresholds::default());
        assert_eq!(health.unready_reasons(), ["nothing is watched yet"]);
        let watch = metrics.watches().begin("/api/v1/secrets");
        assert!(health.unready_reasons().concat().contains("`/api/v1/secrets`"));
        watch.filled();
        assert_eq!(health.unready_reasons(), [""; 0]);
    }
}
