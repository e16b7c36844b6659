//! What a decision is made from: the wish, the memory, and everything that was observed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use uuid::Uuid;

use super::{Attempted, Effect, ErrorClass, Failure, Operation, OperationKind, Sequence, PendingOperation, RemoteOperation};
use crate::api::Reason;

/// Everything that [`super::decide`] may look at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The UID that the ids of the ServiceKey's keys follow from: its own, or that of the one that it was restored from.
    pub owner: Uuid,
    /// What the user asks for.
    pub desired: Desired,
    /// What the ServiceKey's status remembers.
    pub memory: Recorded,
    /// The Secret, as far as it was looked at and is [believed](SecretView::believed).
    pub secret: SecretView,
    /// Whether the remote side can be asked at all.
    pub provider: ProviderView,
    /// Whether it admits the ServiceKey's namespace.
    pub admitted: bool,
    /// The ids of the plan that the next key would have.
    pub plan: PlanView,
    /// The ids of the first key's plan, as the ServiceKey itself notes them before the key is created.
    pub noted_first: Option<PlanIds>,
    /// Whether its keys bear a mark by which they are found, also once their ServiceKey is gone.
    pub marks_keys: bool,
    /// Until when the remote side wants to be left alone by everybody.
    pub pause: Option<Timestamp>,
    /// What was learned since this reconcile began.
    pub round: RunState,
    /// A key that a list of all keys at the remote side did not show.
    pub missed: Option<Sequence>,
    /// How long answers may be late.
    pub late: GracePeriod,
    /// Whether the remote side refused every request for a key: this process made all of them, and each was refused
    /// before it had an effect.
    pub all_refused: bool,
    /// The earliest time of the next repair of the Secret. Another writer that undoes each repair at once must not cause
    /// one without end.
    pub repair_from: Option<Timestamp>,
    /// Who else owns fields of the Secret, in words, where the Secret is not right and the API server names them.
    pub other_writers: Option<String>,
    /// What the status says about what the user asks for now.
    pub told: Option<PublishedReady>,
    /// The time.
    pub now: Timestamp,
}

impl Observed {
    /// The ids that the key of this number was, or is about to be, created with, where no key is known yet.
    #[must_use]
    pub fn noted(&self, sequence: Sequence) -> Option<PlanIds> {
        let operation = self.memory.operation.as_ref().filter(|operation| operation.sequence == sequence);
        let first = || self.noted_first.clone().filter(|_| sequence == Sequence::FIRST);
        operation.and_then(|operation| operation.plan_ids.clone()).or_else(first)
    }

    /// Whether this effect repairs the Secret of a key that is known, with the same credentials or with those of the next
    /// key. The requests that come before the write are no repair: a failure of theirs has its own backoff.
    #[must_use]
    pub const fn repairs(&self, effect: &Effect) -> bool {
        let is_right = matches!(self.secret, SecretView::Intact { flaw: None, .. });
        let writes = matches!(effect, Effect::WriteSecret { .. } | Effect::RestoreSecret);
        self.memory.key.is_some() && !is_right && writes
    }
}

/// The ids of an offering and a plan in a broker's catalog. A broker wants both when it revokes a key, and catalogs change. So
/// the operator notes them before it creates the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanIds {
    /// The id of the offering.
    pub service_id: String,
    /// The id of the plan.
    pub plan_id: String,
}

/// What is known of the plan that the next key would be of, without a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PlanView {
    /// The remote side does not need it.
    NotNeeded,
    /// The catalog, or the instance, has to be read first.
    Unknown,
    /// These are its ids.
    Known(PlanIds),
}

impl PlanView {
    /// The ids, where they are known.
    #[must_use]
    pub const fn ids(&self) -> Option<&PlanIds> {
        match self {
            Self::Known(ids) => Some(ids),
            Self::NotNeeded | Self::Unknown => None,
        }
    }
}

/// What the condition `Ready` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublishedReady {
    /// Its status.
    pub ready: bool,
    /// Its reason.
    pub reason: Reason,
}

/// How long a request that was given up may still take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GracePeriod {
    /// How long after it was given up.
    pub patience: Duration,
    /// Until when one may that this process knows nothing of: one from before it was started.
    pub unknown_until: Option<Timestamp>,
}

/// What the user asks for, in the ServiceKey's metadata and spec.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Desired {
    /// Whether the operator's finalizer is stored.
    pub finalizer: bool,
    /// Whether the ServiceKey is being deleted.
    pub deleting: bool,
    /// Whether the user lets go of the remote keys, whatever becomes of them.
    pub abandon: bool,
    /// The limit of the provider that forbids that, in words.
    pub abandon_denied: Option<String>,
    /// Whether remote keys stay when the ServiceKey is deleted.
    pub retain: bool,
    /// Whether the Secret stays with them.
    pub retains_secret: bool,
    /// Whether the user stopped all action.
    pub suspended: bool,
    /// Digest of the fields that a remote key is made from; another digest asks for another key.
    pub inputs: String,
    /// When to rotate without being asked.
    pub rotation: RotationPolicy,
    /// Whether a key that was replaced stays in the Secret, besides the current one, as long as it is valid.
    pub keeps_previous: bool,
    /// Whether the first key may be one that somebody else made.
    pub adopts: bool,
    /// What keeps this wish from ever being fulfilled as it is written.
    pub problem: Option<Problem>,
}

impl Desired {
    /// Whether remote keys outlive the ServiceKey.
    #[must_use]
    pub const fn keeps_keys(&self) -> bool {
        self.abandon || self.retain
    }
}

/// How often the key is replaced, and how long the replaced one goes on working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RotationPolicy {
    /// The age that no key outlives; `None`: only the remote side or a changed field asks for another one.
    pub every: Option<Duration>,
    /// How long the replaced key stays valid.
    pub overlap: Duration,
    /// Whether a key is revoked before the next one is made.
    pub makes_room: bool,
}

/// One remote key, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRecord {
    /// Its number within the ServiceKey.
    pub sequence: Sequence,
    /// The remote side's id of it: derived, or confirmed by the mark that the remote side shows. `None` where it is still to
    /// be found.
    pub id: Option<String>,
    /// The remote side's name of it, where it has names.
    pub name: Option<String>,
    /// Its role, where keys have roles.
    pub role: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it, where the remote side says.
    pub created_by: Option<String>,
    /// When it stops working by itself.
    pub expires_at: Option<Timestamp>,
    /// By when the remote side wants it to be rotated.
    pub renew_before: Option<Timestamp>,
    /// Until when an earlier request for it, whose answer was lost, may still take effect: revoked before, it might
    /// come back.
    pub late_until: Option<Timestamp>,
    /// Digest of the fields that it was made from.
    pub inputs: String,
    /// The ids of its plan when it was created, where the operator noted them.
    pub plan_ids: Option<PlanIds>,
    /// Whether its credentials are those of the key that it replaced.
    pub same_credentials: bool,
}

/// A key that was replaced and is still to be revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PreviousKey {
    /// Its number within the ServiceKey.
    pub sequence: Sequence,
    /// The remote side's id of it, where it was ever told.
    pub id: Option<String>,
    /// The remote side's name of it, where it has names.
    pub name: Option<String>,
    /// When it is to be revoked; `None`: no time, because a revocation could end the same credentials of the current key.
    pub revoke_at: Option<Timestamp>,
    /// As of the key when it was current.
    pub late_until: Option<Timestamp>,
    /// As of the key when it was current.
    pub plan_ids: Option<PlanIds>,
}

/// What the ServiceKey's status remembers of its remote keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recorded {
    /// The key whose credentials are in the Secret.
    pub key: Option<KeyRecord>,
    /// Keys before it that still exist.
    pub previous: Vec<PreviousKey>,
    /// A key after it that may exist already.
    pub operation: Option<Operation>,
    /// The key, where it was found to be gone.
    pub gone: Option<LostKey>,
    /// The UID of the ServiceKey that this one was restored from, whose keys these are.
    pub former: Option<Uuid>,
}

/// A key whose credentials are in the Secret, and which the remote side has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LostKey {
    /// Its number within the ServiceKey.
    pub sequence: Sequence,
    /// When that was found out.
    pub since: Timestamp,
    /// How it went away.
    pub why: LossCause,
}

/// How a key went away before another one took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossCause {
    /// Nobody here had it revoked.
    Lost,
    /// It made room for the next one.
    Revoked,
}

impl Recorded {
    /// What is known of the departure of this key.
    #[must_use]
    pub fn departure(&self, sequence: Sequence) -> Option<LostKey> {
        self.gone.filter(|gone| gone.sequence == sequence)
    }

    /// Whether the current key is being revoked to make room for the next one.
    #[must_use]
    pub fn makes_room(&self) -> bool {
        self.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::RevokeFirst)
    }

    /// The key after the current one that may exist already.
    #[must_use]
    pub fn attempt(&self) -> Option<Sequence> {
        self.operation.as_ref().map(|operation| operation.sequence)
    }
}

/// What is known of the Secret that the ServiceKey names, and of the key in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretView<K = KeyRecord> {
    /// The cache shows none of ours; nobody looked by name yet.
    Unknown,
    /// There is no Secret of that name.
    Absent,
    /// Somebody else's Secret has that name, or another ServiceKey is about to write it.
    Foreign {
        /// Whose it is, in words.
        holder: String,
    },
    /// The Secret of a ServiceKey that is gone, from a backup.
    Former {
        /// The UID of the ServiceKey that its key was created for.
        uid: Uuid,
        /// The number of that key, where the Secret tells it.
        sequence: Option<Sequence>,
        /// Why the ServiceKey at hand can't go on with that key.
        obstacle: Option<Problem>,
    },
    /// Ours, but without the entries that were written.
    Damaged {
        /// The key whose credentials it was written with, where that can still be read.
        key: Option<K>,
        /// The key before it that it was written with besides.
        previous: Option<Sequence>,
    },
    /// Ours, with the entries that were written.
    Intact {
        /// The key whose credentials it holds.
        key: K,
        /// The key before it whose credentials it holds besides.
        previous: Option<Sequence>,
        /// What is to be put right apart from those entries.
        flaw: Option<Flaw>,
    },
}

/// What is wrong with a Secret whose entries are those that were written. Its credentials work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// Another writer changed its metadata or added entries, or the user wants other labels or annotations: the Secret is
    /// written again with the entries that it has.
    Edited,
    /// The user wants other templates: the credentials have to be read again.
    Outdated,
}

impl<K> SecretView<K> {
    /// The key that the Secret was written with, where there is one and it says so.
    #[must_use]
    pub const fn key(&self) -> Option<&K> {
        match self {
            Self::Intact { key, .. } | Self::Damaged { key: Some(key), .. } => Some(key),
            Self::Unknown
            | Self::Absent
            | Self::Foreign { .. }
            | Self::Former { .. }
            | Self::Damaged { key: None, .. } => None,
        }
    }

    /// The key before it that the Secret was written with besides.
    #[must_use]
    pub const fn previous(&self) -> Option<Sequence> {
        match self {
            Self::Intact { previous, .. } | Self::Damaged { previous, .. } => *previous,
            Self::Unknown | Self::Absent | Self::Foreign { .. } | Self::Former { .. } => None,
        }
    }

    /// What is wrong with it apart from its entries.
    #[must_use]
    pub const fn flaw(&self) -> Option<Flaw> {
        match self {
            Self::Intact { flaw, .. } => *flaw,
            Self::Unknown
            | Self::Absent
            | Self::Foreign { .. }
            | Self::Former { .. }
            | Self::Damaged { .. } => None,
        }
    }
}

/// Whether the provider that the ServiceKey names can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProviderView {
    /// It can.
    Available,
    /// It can, but not on behalf of this ServiceKey any more, for this reason: only to revoke what it has.
    Closed(Problem),
    /// It can't, for this reason.
    Unavailable(Problem),
}

impl ProviderView {
    /// What keeps keys from being made and read.
    #[must_use]
    pub const fn obstacle(&self) -> Option<&Problem> {
        match self {
            Self::Available => None,
            Self::Closed(problem) | Self::Unavailable(problem) => Some(problem),
        }
    }
}

/// Something that stands in the way, in the words of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// The condition's reason.
    pub reason: Reason,
    /// What is wrong, and what to do about it.
    pub message: String,
}

impl Problem {
    /// Whether nothing more will happen until a person changes something.
    #[must_use]
    pub const fn needs_the_user(&self) -> bool {
        matches!(
            self.reason,
            Reason::InvalidSpec
                | Reason::SecretConflict
                | Reason::SecretRejected
                | Reason::CredentialsUnusable
                | Reason::ProviderNotAllowed
                | Reason::NotPermitted
                | Reason::LimitExceeded
                | Reason::InstanceNotFound
                | Reason::BindRejected
                | Reason::KeyConflict
                | Reason::Unauthorized
                | Reason::CredentialsRedacted
                | Reason::TlsFailed
        )
    }
}

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

/// What was learned since this reconcile began, and what is under way; lost in a crash, and nothing is lost with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RunState {
    /// Whether keys can be made for the instance, as far as that is known without making one.
    pub instance_checked: bool,
    /// Whether the API server would store the Secret.
    pub rehearsed: bool,
    /// The key for which the status was written with the ids of a plan.
    pub recorded: Option<Sequence>,
    /// The key whose credentials are in hand and not yet in the Secret.
    pub in_hand: Option<KeyRecord>,
    /// The key whose credentials this process wrote into the Secret, until the status tells of it.
    pub stored: Option<KeyRecord>,
    /// Keys that the remote side confirmed to be gone, and when it did.
    pub revoked: BTreeMap<Sequence, Timestamp>,
    /// Keys that stay for good, and bear our mark no more.
    pub released: BTreeSet<Sequence>,
    /// Work that the remote side does by itself.
    pub under_way: Option<PendingOperation>,
    /// A key that the remote side says to have made, whose credentials are still to be read.
    pub completed: Option<PendingOperation>,
    /// A key that may have been made by a call whose answer was lost, and when that was.
    pub lost: Option<(Sequence, Timestamp)>,
    /// The last such call of all rounds.
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
    /// It still is.
    Running {
        /// What it says about it.
        said: Option<String>,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// It did not say how far it is.
    Unheard {
        /// What that means.
        class: ErrorClass,
        /// What failed.
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
    /// It did not work.
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
        let Self { in_hand, stored, under_way, given_up, .. } = self;
        in_hand.is_some() || stored.is_some() || under_way.is_some() || given_up.is_some()
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
                self.under_way = self.under_way.take().filter(|work| work.sequence != key.sequence);
                self.unusable = self.unusable.take().filter(|unusable| unusable.sequence != key.sequence);
                self.in_hand = Some(key);
            }
            Answer::Accepted(work) => {
                if work.work == RemoteOperation::Bind {
                    self.revoked.remove(&work.sequence);
                    self.lost = None;
                }
                self.under_way = Some(work);
            }
            Answer::Running { said, retry_after } => {
                if let Some(work) = &mut self.under_way {
                    (work.next_poll, work.retry_after) = (None, retry_after);
                    (work.said, work.is_refused) = (said, false);
                }
            }
            Answer::Unheard { class, message, retry_after } => {
                if let Some(work) = &mut self.under_way {
                    (work.next_poll, work.retry_after) = (None, retry_after);
                    (work.said, work.is_refused) = (Some(message), class.is_refusal());
                }
            }
            Answer::Completed(work) => {
                self.under_way = None;
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
                // Revoked and made again, and still in the way: nothing that this round could mend.
                if self.revoked.remove(&sequence).is_some() {
                    self.fail(failure);
                } else {
                    self.conflicting = Some(sequence);
                }
            }
            Answer::Unusable(failure, sequence) => {
                self.revoked.remove(&sequence);
                (self.in_hand, self.completed, self.lost) = (None, None, None);
                self.under_way = self.under_way.take().filter(|work| work.sequence != sequence);
                self.unusable = Some(Unusable { sequence, failure, revoked: None });
            }
            Answer::Lost(failure, sequence, since) => {
                self.revoked.remove(&sequence);
                (self.under_way, self.completed) = (None, None);
                self.lost = Some((sequence, since));
                self.given_up = self.lost;
                self.fail(failure);
            }
            Answer::Unsure(failure, sequence, since) => {
                self.revoked.remove(&sequence);
                (self.under_way, self.completed) = (None, None);
                self.given_up = Some((sequence, since));
                self.fail(failure);
            }
            Answer::GivenUp(sequence, since) => self.given_up = Some((sequence, since)),
            Answer::Revoked(sequence, at) => {
                self.revoked.insert(sequence, at);
                // Written down before anything was revoked because of it.
                self.lost = self.lost.filter(|(lost, _)| *lost != sequence);
                self.under_way = self.under_way.take().filter(|work| work.sequence != sequence);
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
                    self.under_way = self.under_way.take().filter(|work| work.work != RemoteOperation::Unbind);
                }
                self.fail(failure);
            }
        }
    }
}
