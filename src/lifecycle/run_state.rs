//! What one reconcile has learned so far, and what the last one left in memory. It is lost in a crash, and no key is lost
//! with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{Attempted, ErrorClass, Failure, KeyRecord, PendingOperation, RemoteOperation, Sequence};

/// A key that the remote side has shown, with its mark.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Its number within the ServiceKey.
    pub sequence: Sequence,
    /// The remote side's id of it.
    pub id: String,
    /// The remote side's name of it, where it has names.
    pub name: Option<String>,
}

/// Everything that this reconcile has learned, and that the last one left in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RunState {
    /// Whether keys can be made for the instance, as far as that is known without making one.
    pub instance_checked: bool,
    /// Whether the API server would store the Secret.
    pub rehearsed: bool,
    /// The key for which the status was written with the ids of a plan.
    pub plan_recorded: Option<Sequence>,
    /// The key whose credentials are in hand and not yet in the Secret.
    pub in_hand: Option<KeyRecord>,
    /// The key whose credentials this process wrote into the Secret, until the status records it.
    pub stored: Option<KeyRecord>,
    /// Keys whose end the remote side confirmed, with the time.
    pub revoked: BTreeMap<Sequence, Timestamp>,
    /// Keys that stay at the remote side without the operator's mark.
    pub released: BTreeSet<Sequence>,
    /// An operation that the remote side has accepted and works on.
    pub pending: Option<PendingOperation>,
    /// A key that the remote side reports as created, whose credentials are still to be read.
    pub completed: Option<PendingOperation>,
    /// A key that a call with a lost answer may have created, with the time of the call.
    pub lost: Option<(Sequence, Timestamp)>,
    /// The last request for a key that may still take effect, also of earlier reconciles.
    pub given_up: Option<(Sequence, Timestamp)>,
    /// A key whose credentials can't be read back.
    pub unreadable: Option<Sequence>,
    /// A key whose credentials do not come with a repeated request either.
    pub unrepeatable: Option<Sequence>,
    /// Keys that the remote side does not have.
    pub absent: BTreeSet<Sequence>,
    /// A key that the remote side has, as a look at it showed.
    pub present: Option<Found>,
    /// Whether the remote side has the key that the Secret of a former ServiceKey tells of, and its mark shows that it is for
    /// the ServiceKey at hand.
    pub is_proved: Option<bool>,
    /// A key that exists, made from other fields than those of now.
    pub conflicting: Option<Sequence>,
    /// A key whose credentials no Secret can hold as things are.
    pub unusable: Option<Unusable>,
    /// What failed last.
    pub failure: Option<Failure>,
    /// Until when that is not attempted again: it failed in an earlier round, and nothing has changed since.
    pub held_back: Option<Timestamp>,
}

/// A key whose credentials no Secret can hold, until the ServiceKey or its provider changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unusable {
    /// Its number within the ServiceKey.
    pub sequence: Sequence,
    /// Why.
    pub failure: Failure,
    /// When the remote side last confirmed that it is gone.
    pub revoked: Option<Timestamp>,
}

impl Unusable {
    /// How long after the revocation of a key without usable credentials the remote side is asked for another one.
    const REST: Duration = Duration::from_secs(6 * 3600);

    /// When the operator creates another key by itself: where the remote side is the cause, no watch tells when it is
    /// corrected.
    #[must_use]
    pub fn again(&self) -> Option<Timestamp> {
        let Failure { attempted, retry_after, .. } = &self.failure;
        let rest = retry_after.unwrap_or_default().max(Self::REST);
        self.revoked.filter(|_| *attempted == Attempted::Provision)?.checked_add(rest).ok()
    }
}

/// What came of an effect that asked a remote side or wrote the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Keys can be made for the instance, as far as that is known without making one.
    InstanceChecked,
    /// The API server would store the Secret.
    Rehearsed,
    /// The remote side gave the key; its credentials are in hand.
    Issued(KeyRecord),
    /// The remote side is at work.
    Accepted(PendingOperation),
    Running {
        /// What it says about it.
        said: Option<String>,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// It did not say how far it is.
    Unheard {
        class: ErrorClass,
        message: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The remote side made the key that it was working on.
    Completed(PendingOperation),
    /// The key's credentials are not shown again.
    Unreadable(Sequence),
    /// They do not come with a repeated request either, which may still take effect, as may any that was sent then.
    Unrepeatable(Sequence, Timestamp),
    /// There is no such key.
    Absent(Sequence),
    /// There is such a key.
    Present(Found),
    /// Whether there is a key of a former ServiceKey, whose mark shows that it is for the ServiceKey at hand.
    Proved(bool),
    /// A key of this sequence exists, and is of no use: made from other fields, belonging to somebody else, or with
    /// credentials that are not shown again.
    Conflict(Failure, Sequence),
    /// The key exists, and no Secret can hold its credentials, which are not in hand any more.
    Unusable(Failure, Sequence),
    /// The key may have been made; nobody knows since then.
    Lost(Failure, Sequence, Timestamp),
    /// As with a lost one, but asking for the same key again finds it if it was made.
    Unsure(Failure, Sequence, Timestamp),
    /// Of two requests for the key one was given up then, and may still take effect. The answer to the other follows.
    GivenUp(Sequence, Timestamp),
    /// The remote side confirmed that the key is gone, then.
    Revoked(Sequence, Timestamp),
    /// The key bears our mark no more.
    Released(Sequence),
    /// The credentials in hand are in the Secret, marked so.
    Stored(KeyRecord),
    Failed(Failure),
}

impl Answer {
    /// Whether a bind that was answered so had no effect.
    #[must_use]
    pub const fn had_no_effect(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl RunState {
    /// Whether the remote side says to have made this key.
    #[must_use]
    pub fn has_completed(&self, sequence: Sequence) -> bool {
        self.completed.as_ref().is_some_and(|work| work.sequence == sequence)
    }

    /// Whether a look has shown that the remote side has this key.
    #[must_use]
    pub fn has_seen(&self, sequence: Sequence) -> bool {
        self.present.as_ref().is_some_and(|found| found.sequence == sequence)
    }

    /// Whether this process knows of a key that exists or may exist.
    #[must_use]
    pub const fn knows_of_a_key(&self) -> bool {
        let Self { in_hand, stored, pending, given_up, .. } = self;
        in_hand.is_some() || stored.is_some() || pending.is_some() || given_up.is_some()
    }

    fn fail(&mut self, failure: Failure) {
        (self.failure, self.held_back) = (Some(failure), None);
    }

    /// Takes in what came of an effect.
    pub fn learn(&mut self, answer: Answer) {
        match answer {
            Answer::InstanceChecked => self.instance_checked = true,
            Answer::Rehearsed => self.rehearsed = true,
            Answer::Issued(key) => {
                self.revoked.remove(&key.sequence);
                (self.completed, self.lost) = (None, None);
                self.absent.remove(&key.sequence);
                self.pending = self.pending.take().filter(|work| work.sequence != key.sequence);
                self.unusable = self.unusable.take().filter(|unusable| unusable.sequence != key.sequence);
                self.in_hand = Some(key);
            }
            Answer::Accepted(work) => {
                if work.operation == RemoteOperation::Bind {
                    self.revoked.remove(&work.sequence);
                    self.lost = None;
                }
                self.pending = Some(work);
            }
            Answer::Running { said, retry_after } => {
                if let Some(work) = &mut self.pending {
                    (work.next_poll, work.retry_after) = (None, retry_after);
                    (work.said, work.is_refused) = (said, false);
                }
            }
            Answer::Unheard { class, message, retry_after } => {
                if let Some(work) = &mut self.pending {
                    (work.next_poll, work.retry_after) = (None, retry_after);
                    (work.said, work.is_refused) = (Some(message), class.is_refusal());
                }
            }
            Answer::Completed(work) => {
                self.pending = None;
                self.completed = Some(work);
            }
            Answer::Unreadable(sequence) => self.unreadable = Some(sequence),
            Answer::Unrepeatable(sequence, since) => {
                self.unrepeatable = Some(sequence);
                self.given_up = Some((sequence, since));
            }
            Answer::Absent(sequence) => drop(self.absent.insert(sequence)),
            Answer::Present(found) => self.present = Some(found),
            Answer::Proved(is_proved) => self.is_proved = Some(is_proved),
            Answer::Conflict(failure, sequence) => {
                // Revoked and made again, and still in the way: nothing that this reconcile could mend.
                if self.revoked.remove(&sequence).is_some() {
                    self.fail(failure);
                } else {
                    self.conflicting = Some(sequence);
                }
            }
            Answer::Unusable(failure, sequence) => {
                self.revoked.remove(&sequence);
                (self.in_hand, self.completed, self.lost) = (None, None, None);
                self.pending = self.pending.take().filter(|work| work.sequence != sequence);
                self.unusable = Some(Unusable { sequence, failure, revoked: None });
            }
            Answer::Lost(failure, sequence, since) => {
                self.revoked.remove(&sequence);
                (self.pending, self.completed) = (None, None);
                self.lost = Some((sequence, since));
                self.given_up = self.lost;
                self.fail(failure);
            }
            Answer::Unsure(failure, sequence, since) => {
                self.revoked.remove(&sequence);
                (self.pending, self.completed) = (None, None);
                self.given_up = Some((sequence, since));
                self.fail(failure);
            }
            Answer::GivenUp(sequence, since) => self.given_up = Some((sequence, since)),
            Answer::Revoked(sequence, at) => {
                self.revoked.insert(sequence, at);
                // Written down before anything was revoked because of it.
                self.lost = self.lost.filter(|(lost, _)| *lost != sequence);
                self.pending = self.pending.take().filter(|work| work.sequence != sequence);
                self.conflicting = self.conflicting.filter(|conflicting| *conflicting != sequence);
                if let Some(unusable) =
                    self.unusable.as_mut().filter(|unusable| unusable.sequence == sequence)
                {
                    unusable.revoked = Some(at);
                }
            }
            Answer::Released(sequence) => drop(self.released.insert(sequence)),
            Answer::Stored(key) => {
                self.in_hand = None;
                self.stored = Some(key);
            }
            Answer::Failed(failure) => {
                if failure.attempted == Attempted::Revoke {
                    self.pending =
                        self.pending.take().filter(|work| work.operation != RemoteOperation::Unbind);
                }
                self.fail(failure);
            }
        }
    }
}
