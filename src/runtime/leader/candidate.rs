//! Decides the next step of a candidate: read the Lease, claim it, wait, or end. It has no I/O and no clock.
//!
//! The clocks of two replicas are never compared. A candidate takes over a Lease that has not changed for the duration
//! of the Lease *since this candidate first saw that version*. A leader ends if it has not renewed for two thirds of
//! the duration *since it sent the last successful request*, which is earlier. So a leader ends before the next one
//! begins, as long as their clocks run at the same speed.

use std::{cmp::max, fmt, time::Duration};

use jiff::Timestamp;

/// A point in time by both clocks of a machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// By the monotonic clock, since some point in the past. It stops while the machine is suspended.
    pub(super) steady: Duration,
    /// By the wall clock, which continues while the machine is suspended.
    pub(super) wall: Timestamp,
}

impl Moment {
    /// The time since an earlier moment, by the clock that shows more.
    fn since(self, earlier: Self) -> Duration {
        let by_the_wall = Duration::try_from(self.wall.duration_since(earlier.wall)).unwrap_or_default();
        max(self.steady.saturating_sub(earlier.steady), by_the_wall)
    }
}

/// The times of an election. All follow from the duration of the Lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// The time for which other candidates respect a Lease that is not renewed.
    pub(super) lease: Duration,
}

impl Timing {
    /// The time after which a leader without a renewal ends.
    fn deadline(self) -> Duration {
        self.lease * 2 / 3
    }

    /// The interval at which a leader renews the Lease, and the others read it.
    fn retry(self) -> Duration {
        self.lease * 2 / 15
    }

    /// The time limit of one request.
    fn request(self) -> Duration {
        self.lease / 3
    }
}

/// The fields of the Lease that the election needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenLease {
    /// Changes with each write.
    pub(super) version: String,
    /// `None` if the last holder released it.
    pub(super) holder: Option<String>,
    /// The time for which others respect the Lease, if the holder has set it.
    pub(super) duration: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ElectionStep {
    /// Read the Lease.
    Read,
    /// Acquire or renew the Lease: write it with this candidate as holder, based on the version last seen.
    Claim,
    Wait(Duration),
    /// End, because the leadership is lost.
    End(Loss),
}

/// The reason why a leader lost the leadership.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// It did not renew the Lease in time.
    #[error("the Lease could not be renewed for {} s; check that the API server is reachable", .0.as_secs_f32())]
    Overdue(Duration),
    /// Another replica holds the Lease.
    #[error("the Lease is held by `{0}`")]
    Superseded(String),
}

/// A replica that leads or wants to lead.
pub(super) struct Candidate {
    name: String,
    timing: Timing,
    /// The Lease as last seen, and the time until which to respect it, by the steady clock.
    seen: Option<(SeenLease, Duration)>,
    /// Whether the candidate may write the Lease based on the version last seen.
    fresh: bool,
    /// The time at which the last successful renewal was sent; `None` for a candidate that does not lead.
    renewed: Option<Moment>,
    /// The time of the next step, by the steady clock.
    due: Duration,
}

impl Candidate {
    pub(super) fn new(name: String, timing: Timing) -> Self {
        Self { name, timing, seen: None, fresh: false, renewed: None, due: Duration::ZERO }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether this candidate holds the Lease.
    pub(super) fn holds(&self, lease: &SeenLease) -> bool {
        lease.holder.as_deref() == Some(&self.name)
    }

    pub(super) fn leads(&self, now: Moment) -> bool {
        self.renewed.is_some_and(|renewed| now.since(renewed) < self.timing.deadline())
    }

    /// The next step.
    pub(super) fn next(&self, now: Moment) -> ElectionStep {
        if self.renewed.is_some() && !self.leads(now) {
            return ElectionStep::End(Loss::Overdue(self.timing.deadline()));
        }
        if now.steady < self.due {
            return ElectionStep::Wait(self.due - now.steady);
        }
        match self.successor() {
            _ if !self.fresh => ElectionStep::Read,
            Some(successor) => ElectionStep::End(Loss::Superseded(successor.to_owned())),
            None => ElectionStep::Claim,
        }
    }

    /// The time limit of the next request. A later answer is of no use.
    pub(super) fn patience(&self, now: Moment) -> Duration {
        let left = self.renewed.map(|renewed| self.timing.deadline().saturating_sub(now.since(renewed)));
        left.unwrap_or(Duration::MAX).min(self.timing.request())
    }

    /// Records that the Lease was read. `None` if there is no Lease.
    pub(super) fn record_read(&mut self, lease: Option<SeenLease>, now: Moment) {
        let before = self.seen.take();
        self.seen = lease.map(|lease| match before {
            Some((known, until)) if known.version == lease.version => (lease, until),
            _ => {
                let respected = lease.duration.unwrap_or(self.timing.lease);
                (lease, now.steady.saturating_add(respected))
            }
        });
        self.fresh = self.renewed.is_some() || self.may_be_claimed(now);
        self.due = match self.holder() {
            Some((_, until)) if !self.fresh => until.min(now.steady + self.timing.retry()),
            _ => now.steady,
        };
    }

    /// Records that this candidate wrote the Lease. `asked` is a time before the request was sent.
    pub(super) fn claimed(&mut self, lease: SeenLease, asked: Moment) {
        self.renewed = Some(asked);
        self.due = asked.steady + self.timing.retry();
        self.seen = Some((lease, asked.steady + self.timing.lease));
        self.fresh = true;
    }

    /// Records that the API server refused the write, because the Lease has another version.
    pub(super) fn refused(&mut self, now: Moment) {
        (self.fresh, self.due) = (false, now.steady);
    }

    /// Records that the outcome of a request is unknown.
    pub(super) fn failed(&mut self, now: Moment) {
        (self.fresh, self.due) = (false, now.steady + self.timing.retry());
    }

    /// Whether the Lease has no holder, or only one whose time is over.
    fn may_be_claimed(&self, now: Moment) -> bool {
        self.holder().is_none_or(|(holder, until)| holder == self.name || now.steady >= until)
    }

    /// The other holder of the Lease, if this candidate believes to lead.
    fn successor(&self) -> Option<&str> {
        let (holder, _) = self.holder()?;
        (self.renewed.is_some() && holder != self.name).then_some(holder)
    }

    fn holder(&self) -> Option<(&str, Duration)> {
        let (lease, until) = self.seen.as_ref()?;
        Some((lease.holder.as_deref()?, *until))
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("name", &self.name)
            .field("renewed", &self.renewed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
