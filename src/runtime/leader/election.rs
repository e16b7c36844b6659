//! The requests of an election: reading and writing one Lease.

use std::{panic, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, Error, api::PostParams};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Leadership, Loss,
    candidate::{Candidate, ElectionStep, Moment, Timing},
    lease,
};
use crate::{
    clock::Clock,
    runtime::{Metrics, words},
};

pub(crate) const LEASE: &str = "servicekey-operator";
/// The time limit for releasing the Lease at the end of the process.
const FAREWELL: Duration = Duration::from_secs(2);

/// Takes part in the leader election.
#[derive(Debug)]
pub struct Election {
    leases: Api<Lease>,
    candidate: Candidate,
    duration: Duration,
    /// The Lease as last read.
    lease: Option<Lease>,
    metrics: Metrics,
    leadership: Leadership,
    clock: Clock,
    begun: Instant,
}

/// The outcome of a request to write the Lease.
enum LeaseWrite {
    Yes(Box<Lease>),
    /// The Lease has another version than the one last read.
    Outdated,
    /// The request failed, or no answer arrived.
    Unknown,
}

impl Election {
    /// Creates an election for the Lease `servicekey-operator` of this namespace. `name` must be unique. `duration` is
    /// the time in whole seconds for which other replicas respect a Lease that is not renewed.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        name: String,
        duration: Duration,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            candidate: Candidate::new(name, Timing { lease: duration }),
            duration,
            lease: None,
            metrics,
            leadership: Leadership::default(),
            clock,
            begun: Instant::now(),
        }
    }

    /// Runs this work until it ends. The work itself waits for the [`Leadership`] that it receives.
    ///
    /// # Errors
    /// If this replica loses the Lease. The work is then aborted. The process should end, because another replica may
    /// already lead.
    pub async fn govern<W>(mut self, work: impl FnOnce(Leadership) -> W) -> Result<(), Loss>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        // The work has its own task, so that no renewal waits for it.
        let mut work = AbortOnDropHandle::new(tokio::spawn(work(self.leadership.clone())));
        tokio::select! {
            biased;
            ended = &mut work => if let Err(error) = ended && error.is_panic() {
                panic::resume_unwind(error.into_panic());
            },
            loss = self.stand() => return Err(loss),
        }
        self.resign().await;
        Ok(())
    }

    /// Tries to acquire the Lease and renews it. Returns when it is lost.
    async fn stand(&mut self) -> Loss {
        loop {
            let now = self.now();
            match self.candidate.next(now) {
                ElectionStep::Wait(time) => sleep(time).await,
                ElectionStep::Read => self.look(now).await,
                ElectionStep::Claim => self.claim(now).await,
                ElectionStep::End(loss) => return loss,
            }
        }
    }

    /// Releases the Lease if this replica holds it, so that another replica need not wait until it expires.
    async fn resign(mut self) {
        match timeout(FAREWELL, self.give_up()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    error = words(&error),
                    "can't release the Lease; other replicas wait until it expires"
                );
            }
            Err(_) => tracing::warn!("can't release the Lease in time; other replicas wait until it expires"),
        }
    }

    async fn give_up(&mut self) -> Result<(), Error> {
        // Read it again, because a renewal may have been in flight.
        let lease = self.leases.get_opt(LEASE).await?;
        let Some(lease) = lease.filter(|lease| self.candidate.holds(&lease::seen(lease))) else {
            return Ok(());
        };
        let resigned = lease::resigned(&lease, self.clock.now());
        self.leases.replace(LEASE, &PostParams::default(), &resigned).await?;
        tracing::info!(name = self.candidate.name(), "released the Lease");
        Ok(())
    }

    async fn look(&mut self, now: Moment) {
        match timeout(self.candidate.patience(now), self.leases.get_opt(LEASE)).await {
            Ok(Ok(lease)) => {
                let now = self.now();
                self.candidate.record_read(lease.as_ref().map(lease::seen), now);
                self.lease = lease;
            }
            Ok(Err(error)) => self.failed(&words(&error)),
            Err(_) => self.failed("timed out"),
        }
    }

    async fn claim(&mut self, asked: Moment) {
        match self.write(asked).await {
            LeaseWrite::Yes(lease) => {
                self.candidate.claimed(lease::seen(&lease), asked);
                self.lease = Some(*lease);
                if self.leadership.acquire() {
                    self.metrics.set_leader(true);
                    tracing::info!(
                        name = self.candidate.name(),
                        "acquired the Lease; this replica is now the leader"
                    );
                }
            }
            LeaseWrite::Outdated => {
                let now = self.now();
                self.candidate.refused(now);
            }
            LeaseWrite::Unknown => {}
        }
    }

    async fn write(&mut self, asked: Moment) -> LeaseWrite {
        let (patience, parameters) = (self.candidate.patience(asked), PostParams::default());
        let held = |lease: &Lease| lease::held(lease, self.candidate.name(), self.duration, asked.wall);
        let answer = match &self.lease {
            Some(lease) => timeout(patience, self.leases.replace(LEASE, &parameters, &held(lease))).await,
            None => timeout(patience, self.leases.create(&parameters, &held(&lease::new(LEASE)))).await,
        };
        match answer {
            Ok(Ok(lease)) => LeaseWrite::Yes(Box::new(lease)),
            // The Lease has another version, was created meanwhile, or was deleted.
            Ok(Err(Error::Api(status)))
                if status.code == 409 || (status.code == 404 && self.lease.is_some()) =>
            {
                LeaseWrite::Outdated
            }
            Ok(Err(error)) => {
                self.failed(&words(&error));
                LeaseWrite::Unknown
            }
            Err(_) => {
                self.failed("timed out");
                LeaseWrite::Unknown
            }
        }
    }

    fn failed(&mut self, error: &str) {
        tracing::warn!(error, "can't read or write the Lease; retrying");
        let now = self.now();
        self.candidate.failed(now);
    }

    fn now(&self) -> Moment {
        Moment { steady: self.begun.elapsed(), wall: self.clock.now() }
    }
}
