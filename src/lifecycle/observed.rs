//! What a decision is made from: the user's wish, the recorded state, and everything that was observed.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Inputs, KeyRecord, KubernetesEffect, PlanIds, Recorded, RunState, Sequence};
use crate::api::Reason;

/// Everything that [`super::decide`] may look at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The UID that the ids of the ServiceKey's keys follow from: its own, or that of the one that it was restored from.
    pub owner: Uuid,
    /// What the user asks for.
    pub desired: Desired,
    /// What the ServiceKey's status remembers.
    pub recorded: Recorded,
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
    /// The end of the pause that the remote side asked for.
    pub pause: Option<Timestamp>,
    /// Everything that this reconcile has learned, and that the last one left in memory.
    pub run: RunState,
    /// A key that a list of all keys at the remote side did not show.
    pub missed: Option<Sequence>,
    /// How long answers may be late.
    pub grace: GracePeriod,
    /// Whether the remote side refused every request for a key: this process made all of them, and each was refused
    /// before it had an effect.
    pub all_refused: bool,
    /// The earliest time of the next repair of the Secret. Another writer that undoes each repair at once must not cause
    /// one without end.
    pub repair_from: Option<Timestamp>,
    /// Who else owns fields of the Secret, in words, where the Secret is not right and the API server names them.
    pub other_writers: Option<String>,
    /// What the status says about what the user asks for now.
    pub published: Option<PublishedReady>,
    /// The time.
    pub now: Timestamp,
}

impl Observed {
    /// The ids that the key of this number was, or is about to be, created with, where no key is known yet.
    #[must_use]
    pub fn noted(&self, sequence: Sequence) -> Option<PlanIds> {
        let operation = self.recorded.operation.as_ref().filter(|operation| operation.sequence == sequence);
        let first = || self.noted_first.clone().filter(|_| sequence == Sequence::FIRST);
        operation.and_then(|operation| operation.plan_ids.clone()).or_else(first)
    }

    /// The key in an intact Secret, unless the Secret is older than the status.
    pub(super) fn current_key(&self) -> Option<&KeyRecord> {
        let is_newest =
            |key: &&KeyRecord| self.recorded.key.as_ref().is_none_or(|known| known.sequence <= key.sequence);
        match &self.secret {
            SecretView::Intact { key, .. } => Some(key).filter(is_newest),
            SecretView::Unknown
            | SecretView::Absent
            | SecretView::Foreign { .. }
            | SecretView::Former { .. }
            | SecretView::Damaged { .. } => None,
        }
    }

    /// Whether this effect repairs the Secret of a key that is known, with the same credentials or with those of the next
    /// key. The requests that come before the write are no repair: a failure of theirs has its own backoff.
    #[must_use]
    pub const fn repairs(&self, effect: &KubernetesEffect) -> bool {
        let is_right = matches!(self.secret, SecretView::Intact { flaw: None, .. });
        let writes = matches!(effect, KubernetesEffect::WriteSecret { .. } | KubernetesEffect::RestoreSecret);
        self.recorded.key.is_some() && !is_right && writes
    }
}

/// What is known of the plan that the next key would be of, without a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PlanView {
    /// The remote side does not need it.
    NotNeeded,
    /// The catalog, or the instance, has to be read first.
    Unknown,
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
    pub inputs: Inputs,
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
