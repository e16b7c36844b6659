//! Liveness and readiness of the operator, with reasons for an administrator who finds a restarted pod.

use std::time::Duration;

use super::{Heartbeat, Metrics, Watches};

/// The longest silence that counts as alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthThresholds {
    /// For the operator's main loop.
    pub heartbeat: Duration,
    /// For a watch. The API server ends each request after about five minutes, and the next one may take a minute.
    pub watch: Duration,
}

impl Default for HealthThresholds {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(30), watch: Duration::from_secs(600) }
    }
}

/// The answers to liveness and readiness probes.
#[derive(Clone, Debug)]
pub struct Health {
    heart: Heartbeat,
    watches: Watches,
    patience: HealthThresholds,
}

impl Health {
    /// The health of the operator that uses these metrics.
    #[must_use]
    pub fn new(metrics: &Metrics, patience: HealthThresholds) -> Self {
        Self { heart: metrics.heartbeat().clone(), watches: metrics.watches().clone(), patience }
    }

    /// The reasons to restart the process. An unreachable API server or remote side is not one: a restart would not
    /// help.
    #[must_use]
    pub fn liveness_failures(&self) -> Vec<String> {
        let HealthThresholds { heartbeat: heart, watch } = self.patience;
        let stuck = self.heart.elapsed().filter(|silence| *silence > heart).map(|silence| {
            format!(
                "the operator's main loop has been stuck for {} s; something blocks it",
                silence.as_secs()
            )
        });
        let dead = self.watches.elapsed().into_iter().filter(|(_, silence)| *silence > watch);
        let dead = dead.map(|(path, silence)| {
            format!("the watch of `{path}` has been silent for {} s", silence.as_secs())
        });
        stuck.into_iter().chain(dead).collect()
    }

    /// The reasons why the operator is not ready: the caches that are not filled yet.
    #[must_use]
    pub fn unready_reasons(&self) -> Vec<String> {
        match self.watches.unfilled() {
            None => vec!["no watch has started yet".to_owned()],
            Some(unfilled) => unfilled
                .into_iter()
                .map(|path| {
                    format!(
                        "the cache of the objects at `{path}` is not filled yet; if this lasts, check the log for a \
                         refusal of the API server to list them"
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
        HealthThresholds { heartbeat: Duration::from_millis(20), watch: Duration::from_millis(20) };

    #[tokio::test]
    async fn a_loop_that_stands_still_is_an_ailment_until_it_turns_or_ends() {
        let metrics = Metrics::default();
        let health = Health::new(&metrics, IMPATIENT);
        assert_eq!(health.liveness_failures(), [""; 0], "the loop has not started yet");
        let mut beats = Box::pin(metrics.heartbeat().ticks());
        std::thread::sleep(2 * IMPATIENT.heartbeat);
        assert!(
            health
                .liveness_failures()
                .concat()
                .starts_with("the operator's main loop has been stuck for 0 s")
        );
        assert_eq!(beats.next().await, Some(()));
        assert_eq!(health.liveness_failures(), [""; 0]);
        std::thread::sleep(2 * IMPATIENT.heartbeat);
        drop(beats);
        assert_eq!(health.liveness_failures(), [""; 0], "the loop has ended");
    }

    #[test]
    fn a_silent_watch_is_an_ailment_with_a_name() {
        let metrics = Metrics::default();
        let health = Health::new(&metrics, IMPATIENT);
        let _watch = metrics.watches().begin("/api/v1/secrets");
        assert_eq!(health.liveness_failures(), [""; 0]);
        std::thread::sleep(2 * IMPATIENT.watch);
        assert_eq!(health.liveness_failures(), ["the watch of `/api/v1/secrets` has been silent for 0 s"]);
    }

    #[test]
    fn it_is_ready_when_all_caches_are_filled() {
        let metrics = Metrics::default();
        let health = Health::new(&metrics, HealthThresholds::default());
        assert_eq!(health.unready_reasons(), ["no watch has started yet"]);
        let watch = metrics.watches().begin("/api/v1/secrets");
        assert!(health.unready_reasons().concat().contains("`/api/v1/secrets`"));
        watch.filled();
        assert_eq!(health.unready_reasons(), [""; 0]);
    }
}
