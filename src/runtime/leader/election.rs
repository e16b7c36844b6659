//! The requests that an election takes: reading and writing one Lease.

use std::{panic, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, Error, api::PostParams};
use tokio::{
    sync::watch::Sender,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Leadership, Loss,
    candidate::{Candidate, ElectionStep, Moment, Timing},
    lease,
};
use crate::runtime::{Metrics, words};

/// The name of the Lease.
pub(crate) const LEASE: &str = "servicekey-operator";
/// How long giving up the lead may hold up the end of the process.
const FAREWELL: Duration = Duration::from_secs(2);

/// Takes part in the election of the replica that works.
#[derive(Debug)]
pub(crate) struct Election {
    leases: Api<Lease>,
    candidate: Candidate,
    duration: Duration,
    /// The Lease as last seen.
    lease: Option<Lease>,
    leads: Sender<bool>,
    metrics: Metrics,
    leadership: Leadership,
    begun: Instant,
}

/// What became of a request that was to write the Lease.
enum LeaseWrite {
    Yes(Box<Lease>),
    /// It is another than was seen.
    Outdated,
    Unknown,
}

impl Election {
    /// For the Lease `servicekey-operator` of this namespace, under a name that nobody else has. A lead that is not
    /// renewed lasts for `duration`, in full seconds.
    #[must_use]
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        name: String,
        duration: Duration,
        metrics: Metrics,
    ) -> Self {
        let (leads, leadership) = Leadership::pending();
        Self {
            leases: Api::namespaced(client, namespace),
            candidate: Candidate::new(name, Timing { lease: duration }),
            duration,
            lease: None,
            leads,
            metrics,
            leadership,
            begun: Instant::now(),
        }
    }

    /// Has this work done, which waits for the [`Leadership`] that it is given, until it ends by itself.
    ///
    /// # Errors
    /// The lead was lost, and so the work given up. The process should end: others may be at work already.
    pub(crate) async fn govern<W>(mut self, work: impl FnOnce(Leadership) -> W) -> Result<(), Loss>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        // In a task of its own, so that no renewal waits for the work.
        let mut work = AbortOnDropHandle::new(tokio::spawn(work(self.leadership.clone())));
        tokio::select! {
            ended = &mut work => if let Err(error) = ended && error.is_panic() {
                panic::resume_unwind(error.into_panic());
            },
            loss = self.stand() => return Err(loss),
        }
        self.resign().await;
        Ok(())
    }

    /// Stands for the lead, and keeps it, until it is lost.
    async fn stand(&mut self) -> Loss {
        loop {
            let now = self.now();
            match self.candidate.next(now) {
                ElectionStep::Wait(time) => sleep(time).await,
                ElectionStep::Look => self.look(now).await,
                ElectionStep::Claim => self.claim(now).await,
                ElectionStep::End(loss) => return loss,
            }
        }
    }

    /// Gives up the lead, if it is ours, so that another replica need not wait for it to run out.
    async fn resign(mut self) {
        match timeout(FAREWELL, self.give_up()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = words(&error), "the lead could not be given up: it has to run out");
            }
            Err(_) => tracing::warn!("the lead could not be given up in time: it has to run out"),
        }
    }

    async fn give_up(&mut self) -> Result<(), Error> {
        // Read once more: a renewal may have been under way.
        let lease = self.leases.get_opt(LEASE).await?;
        let Some(lease) = lease.filter(|lease| self.candidate.holds(&lease::seen(lease))) else {
            return Ok(());
        };
        let resigned = lease::resigned(&lease, Timestamp::now());
        self.leases.replace(LEASE, &PostParams::default(), &resigned).await?;
        tracing::info!(name = self.candidate.name(), "gave up the lead");
        Ok(())
    }

    async fn look(&mut self, now: Moment) {
        match timeout(self.candidate.patience(now), self.leases.get_opt(LEASE)).await {
            Ok(Ok(lease)) => {
                let now = self.now();
                self.candidate.looked(lease.as_ref().map(lease::seen), now);
                self.lease = lease;
            }
            Ok(Err(error)) => self.failed(&words(&error)),
            Err(_) => self.failed("no answer in time"),
        }
    }

    async fn claim(&mut self, asked: Moment) {
        match self.write(asked).await {
            LeaseWrite::Yes(lease) => {
                self.candidate.claimed(lease::seen(&lease), asked);
                self.lease = Some(*lease);
                if !self.leads.send_replace(true) {
                    self.metrics.set_leader(true);
                    tracing::info!(name = self.candidate.name(), "took the lead");
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
            // Another version, another one of this name, or none any more.
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
                self.failed("no answer in time");
                LeaseWrite::Unknown
            }
        }
    }

    fn failed(&mut self, error: &str) {
        tracing::warn!(error, "the Lease could not be read or written, and is tried again");
        let now = self.now();
        self.candidate.failed(now);
    }

    fn now(&self) -> Moment {
        Moment { steady: self.begun.elapsed(), wall: Timestamp::now() }
    }
}
