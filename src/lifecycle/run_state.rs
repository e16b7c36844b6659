//! The results of one reconcile so far, and those of earlier ones that are still in memory. A crash loses them, but no
//! key.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Attempted, Consumers, ErrorClass, Failure, KeyChange, KeyRecord, PendingOperation, RemoteOperation,
    Sequence, Verified, WorkloadRestart,
};

/// How many refuted numbers are kept. A tenant can forge any number of them.
const MOST_REFUTED: usize = 16;

/// A key that the remote side has shown, with its mark.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// The key's number within the ServiceKey.
    pub sequence: Sequence,
    /// The key's id at the remote side.
    pub id: String,
    /// The key's name at the remote side, if keys have names there.
    pub name: Option<String>,
}

/// The results of this reconcile, and those of earlier ones that are still in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RunState {
    /// Whether keys can be created for the instance, as far as that is known without creating one.
    pub instance_checked: bool,
    /// Whether the API server would store the Secret.
    pub rehearsed: bool,
    /// The key whose plan ids were last written to the status.
    pub plan_recorded: Option<Sequence>,
    /// The key whose credentials are in hand and not yet in the Secret.
    pub in_hand: Option<KeyRecord>,
    /// The key whose credentials this process wrote into the Secret, until the status records it.
    pub stored: Option<KeyRecord>,
    /// Keys that are gone as the remote side confirmed, with the time.
    pub revoked: BTreeMap<Sequence, Timestamp>,
    /// Keys that stay at the remote side without the operator's mark.
    pub released: BTreeSet<Sequence>,
    /// An operation that the remote side has accepted and works on.
    pub pending: Option<PendingOperation>,
    /// A key that the remote side reports as created, and whose credentials the operator still has to read.
    pub completed: Option<PendingOperation>,
    /// A key that a call with an unknown outcome may have created, with the time at which the outcome became unknown.
    pub lost: Option<(Sequence, Timestamp)>,
    /// The last request for a key that may still take effect, also from earlier reconciles.
    pub given_up: Option<(Sequence, Timestamp)>,
    /// The last request to revoke a key whose outcome is unknown, with the time when it became unknown, also from
    /// earlier reconciles.
    pub unsure_revocation: Option<(Sequence, Timestamp)>,
    /// A key whose credentials can't be read again.
    pub unreadable: Option<Sequence>,
    /// A key whose credentials a repeated request does not return either.
    pub unrepeatable: Option<Sequence>,
    /// Keys that the remote side does not have.
    pub absent: BTreeSet<Sequence>,
    /// The numbers that the remote side did not have when this process asked for them, until this process stores a key of
    /// that number. A Secret that named such a number before is not believed when the operator plans that key.
    pub refuted: BTreeSet<Sequence>,
    /// A key that the remote side has, as a lookup showed.
    pub present: Option<Found>,
    /// Whether the remote side has the key that the Secret of a former ServiceKey names. Its mark must show that the
    /// key is for the ServiceKey at hand.
    pub is_proved: Option<bool>,
    /// A key that exists and was created from other fields than the current ones.
    pub conflicting: Option<Sequence>,
    /// A key whose credentials fit no Secret with the current spec.
    pub unusable: Option<Unusable>,
    /// The restart of workloads that this reconcile attempted, and why that failed for some of them.
    pub restarted: Option<(WorkloadRestart, Option<String>)>,
    /// Whether this reconcile has read the content of `parametersFrom`; `None` if it did not try.
    pub parameters_read: Option<bool>,
    /// The pods that may use a replaced key.
    pub consumers: Option<(KeyChange, Consumers)>,
    /// Whether this reconcile has read the staging Secret.
    pub staging_read: bool,
    /// The last attempt to use new credentials, also from earlier reconciles.
    pub verified: Option<Verified>,
    pub failure: Option<Failure>,
    /// Until when the failed step is not attempted again. It failed in an earlier reconcile, and nothing has changed
    /// since.
    pub retry_not_before: Option<Timestamp>,
}

/// A key whose credentials fit no Secret, until the ServiceKey or its provider changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unusable {
    /// The key's number within the ServiceKey.
    pub sequence: Sequence,
    pub failure: Failure,
    /// When the remote side last confirmed that the key is gone.
    pub revoked: Option<Timestamp>,
}

impl Unusable {
    /// How long after the revocation of a key without usable credentials the operator requests another one.
    const REST: Duration = Duration::from_secs(6 * 3600);

    /// When the operator creates another key without a change. If the remote side is the cause, no watch reports when
    /// it is corrected.
    #[must_use]
    pub fn retry_at(&self) -> Option<Timestamp> {
        let Failure { attempted, retry_after, .. } = &self.failure;
        let rest = retry_after.unwrap_or_default().max(Self::REST);
        self.revoked.filter(|_| *attempted == Attempted::Provision)?.checked_add(rest).ok()
    }
}

/// The result of an effect at the remote side, or of a write or a dry run of the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Keys can be created for the instance, as far as that is known without creating one.
    InstanceChecked,
    /// The API server would store the Secret.
    Rehearsed,
    /// The remote side returned the key, and its credentials are in hand.
    Issued(KeyRecord),
    /// The remote side accepted the request and works on it.
    Accepted(PendingOperation),
    Running {
        /// The remote side's message about the operation.
        said: Option<String>,
        /// The pause that the remote side asked for.
        retry_after: Option<Duration>,
    },
    /// The remote side did not report the state of the operation.
    PollFailed {
        class: ErrorClass,
        message: String,
        /// The pause that the remote side asked for.
        retry_after: Option<Duration>,
    },
    /// The remote side completed the creation of the key.
    Completed(PendingOperation),
    /// The remote side does not return the key's credentials again.
    Unreadable(Sequence),
    /// A repeated request does not return them either. It may still take effect, like any other request that was sent
    /// then.
    Unrepeatable(Sequence, Timestamp),
    /// The remote side has no such key.
    Absent(Sequence),
    /// The remote side has this key.
    Present(Found),
    /// Whether the remote side has a key of a former ServiceKey, with a mark that shows that it is for the ServiceKey
    /// at hand.
    Proved(bool),
    /// A key of this sequence exists, and is of no use. It was created from other fields, belongs to another owner, or
    /// its credentials are not returned again.
    Conflict(Failure, Sequence),
    /// The key exists, and its credentials fit no Secret. They are no longer in hand.
    Unusable(Failure, Sequence),
    /// The key may have been created. Since this time, the outcome of the request is unknown.
    Lost(Failure, Sequence, Timestamp),
    /// Like `Lost`, but a repeated request finds the key if it was created.
    Unsure(Failure, Sequence, Timestamp),
    /// The operator gave up one of two requests for the key then, and that request may still take effect. The answer to
    /// the other one follows.
    GivenUp(Sequence, Timestamp),
    /// The key may have been revoked. Since this time, the outcome of the request is unknown.
    UnsureRevocation(Failure, Sequence, Timestamp),
    /// The remote side confirmed at that time that the key is gone.
    Revoked(Sequence, Timestamp),
    /// The key no longer has the operator's mark.
    Released(Sequence),
    /// The credentials in hand are in the Secret, with these marks.
    Stored(KeyRecord),
    /// The operator told the workloads to restart, except for those that the problem names.
    Restarted(WorkloadRestart, Option<String>),
    /// The operator looked for the pods that may use a replaced key.
    Consumers(KeyChange, Consumers),
    /// The key whose credentials the operator took from the staging Secret; `None`: they can't be used.
    StagingRead(Option<KeyRecord>),
    /// The result of an attempt to use new credentials.
    Verified(Verified),
    Failed(Failure),
}

impl Answer {
    /// Whether a bind with this result had no effect.
    #[must_use]
    pub const fn had_no_effect(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl RunState {
    /// Whether the remote side reports that it created this key.
    #[must_use]
    pub fn has_completed(&self, sequence: Sequence) -> bool {
        self.completed.as_ref().is_some_and(|work| work.sequence == sequence)
    }

    /// Whether a lookup has shown that the remote side has this key.
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
        (self.failure, self.retry_not_before) = (Some(failure), None);
    }

    /// Records the result of an effect.
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
                self.verified = self.verified.take().filter(|verified| verified.sequence != key.sequence);
                self.in_hand = Some(key);
            }
            Answer::StagingRead(read) => {
                // The last attempt was made with the same credentials.
                let verified = self.verified.take();
                if let Some(key) = read {
                    self.learn(Answer::Issued(key));
                }
                (self.staging_read, self.verified) = (true, verified);
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
            Answer::PollFailed { class, message, retry_after } => {
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
            Answer::Absent(sequence) => {
                self.absent.insert(sequence);
                self.refuted.insert(sequence);
                if self.refuted.len() > MOST_REFUTED {
                    self.refuted.pop_first();
                }
            }
            Answer::Present(found) => {
                self.refuted.remove(&found.sequence);
                self.present = Some(found);
            }
            Answer::Proved(is_proved) => self.is_proved = Some(is_proved),
            Answer::Conflict(failure, sequence) => {
                // The key was revoked and created again, and still conflicts. This reconcile can't correct that.
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
                self.in_hand = self.in_hand.take().filter(|key| key.sequence != sequence);
                self.verified = self.verified.take().filter(|verified| verified.sequence != sequence);
                // The status recorded this request before the operator revoked the key because of it.
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
                self.refuted.remove(&key.sequence);
                (self.in_hand, self.staging_read) = (None, false);
                self.stored = Some(key);
            }
            Answer::Restarted(restart, problem) => self.restarted = Some((restart, problem)),
            Answer::Consumers(change, consumers) => self.consumers = Some((change, consumers)),
            Answer::Verified(verified) => self.verified = Some(verified),
            Answer::UnsureRevocation(failure, sequence, since) => {
                self.unsure_revocation = Some((sequence, since));
                self.learn(Answer::Failed(failure));
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
