//! Whether to look at the Lease, to claim it, to wait, or to end: decided from what was seen, without I/O or clock.
//!
//! Nobody's clock is compared with anybody else's. A Lease that others hold is up when it was not renewed for its
//! duration *since it was first seen so*; a leader ends when it has not renewed for two thirds of that *since it
//! asked*, which was earlier. So a leader is over before the next one begins, as long as clocks run equally fast.

use std::{cmp::max, fmt, time::Duration};

use jiff::Timestamp;

/// A time by both clocks of a machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// By the clock that does not leap, since some moment of the past. It stands still while the machine is suspended.
    pub(super) steady: Duration,
    /// By the clock on the wall, which goes on then.
    pub(super) wall: Timestamp,
}

impl Moment {
    /// How much time has passed since an earlier moment, by whichever clock says more.
    fn since(self, earlier: Self) -> Duration {
        let by_the_wall = Duration::try_from(self.wall.duration_since(earlier.wall)).unwrap_or_default();
        max(self.steady.saturating_sub(earlier.steady), by_the_wall)
    }
}

/// How long a lead lasts without being renewed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// For how long a Lease is respected that is not renewed.
    pub(super) lease: Duration,
}

impl Timing {
    /// After how long without a renewal a leader ends.
    fn deadline(self) -> Duration {
        self.lease * 2 / 3
    }

    /// How often a leader renews, and others look.
    fn retry(self) -> Duration {
        self.lease * 2 / 15
    }

    /// How long one request may take.
    fn request(self) -> Duration {
        self.lease / 3
    }
}

/// What the Lease was seen to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenLease {
    /// Another one at each write.
    pub(super) version: String,
    /// Who holds it; `None` where the last holder resigned.
    pub(super) holder: Option<String>,
    /// For how long the holder wants it to be respected, if it says so.
    pub(super) duration: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ElectionStep {
    /// Read the Lease.
    Look,
    /// Write the Lease, in the version last seen, as held by us: taking it, or renewing it.
    Claim,
    Wait(Duration),
    /// End: the lead is lost.
    End(Loss),
}

/// Why a leader is none any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Loss {
    /// It could not renew in time.
    #[error("the Lease could not be renewed for {} s: is the API server in reach?", .0.as_secs_f32())]
    Overdue(Duration),
    /// Somebody else holds the Lease.
    #[error("the Lease is held by `{0}`")]
    Superseded(String),
}

/// One who wants to lead, or leads.
pub(super) struct Candidate {
    name: String,
    timing: Timing,
    /// The Lease as last seen, and until when it is to be respected by the steady clock.
    seen: Option<(SeenLease, Duration)>,
    /// Whether the Lease may be written as last seen.
    fresh: bool,
    /// When the last renewal that succeeded was asked for; `None` for one who does not lead.
    renewed: Option<Moment>,
    /// Nothing is to be done before, by the steady clock.
    due: Duration,
}

impl Candidate {
    pub(super) fn new(name: String, timing: Timing) -> Self {
        Self { name, timing, seen: None, fresh: false, renewed: None, due: Duration::ZERO }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a Lease that says this is ours.
    pub(super) fn holds(&self, lease: &SeenLease) -> bool {
        lease.holder.as_deref() == Some(&self.name)
    }

    /// Whether it leads at this moment.
    pub(super) fn leads(&self, now: Moment) -> bool {
        self.renewed.is_some_and(|renewed| now.since(renewed) < self.timing.deadline())
    }

    /// What to do.
    pub(super) fn next(&self, now: Moment) -> ElectionStep {
        if self.renewed.is_some() && !self.leads(now) {
            return ElectionStep::End(Loss::Overdue(self.timing.deadline()));
        }
        if now.steady < self.due {
            return ElectionStep::Wait(self.due - now.steady);
        }
        match self.successor() {
            _ if !self.fresh => ElectionStep::Look,
            Some(successor) => ElectionStep::End(Loss::Superseded(successor.to_owned())),
            None => ElectionStep::Claim,
        }
    }

    /// How long the next request may take: what is answered later is of no use.
    pub(super) fn patience(&self, now: Moment) -> Duration {
        let left = self.renewed.map(|renewed| self.timing.deadline().saturating_sub(now.since(renewed)));
        left.unwrap_or(Duration::MAX).min(self.timing.request())
    }

    /// The Lease was read; `None`: there is none.
    pub(super) fn looked(&mut self, lease: Option<SeenLease>, now: Moment) {
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

    /// The Lease was written as held by us; this is how it stands. `asked`: before the request was sent.
    pub(super) fn claimed(&mut self, lease: SeenLease, asked: Moment) {
        self.renewed = Some(asked);
        self.due = asked.steady + self.timing.retry();
        self.seen = Some((lease, asked.steady + self.timing.lease));
        self.fresh = true;
    }

    /// The Lease was not written, because it is another than was seen.
    pub(super) fn refused(&mut self, now: Moment) {
        (self.fresh, self.due) = (false, now.steady);
    }

    /// Nothing is known of what became of the request.
    pub(super) fn failed(&mut self, now: Moment) {
        (self.fresh, self.due) = (false, now.steady + self.timing.retry());
    }

    /// Whether nobody holds the Lease, or nobody who is still to be respected.
    fn may_be_claimed(&self, now: Moment) -> bool {
        self.holder().is_none_or(|(holder, until)| holder == self.name || now.steady >= until)
    }

    /// Who leads instead of us, who lead.
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
