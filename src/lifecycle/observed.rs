//! The input of a decision: the desired state, the recorded state, and the observed state.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Companion, Inputs, KeyRecord, KubernetesEffect, ParametersView, PlanIds, Recorded, RunState, Sequence,
    VerificationPolicy, Windows,
};
use crate::api::Reason;

/// The whole input of [`super::decide`].
#[derive(Clone, Debug)]
pub struct Observed {
    /// The UID that the ids of the ServiceKey's keys are derived from: its own, or that of the ServiceKey that it was
    /// restored from.
    pub owner: Uuid,
    pub desired: Desired,
    pub recorded: Recorded,
    /// The Secret, as far as it was read and is [believed](SecretView::believed).
    pub secret: SecretView,
    /// The staging Secret.
    pub staging: StagingView,
    /// Whether the provider can be called.
    pub provider: ProviderView,
    /// Whether the provider admits the ServiceKey's namespace.
    pub admitted: bool,
    /// The ids of the next key's plan.
    pub plan: PlanView,
    /// The ids of the first key's plan, which the ServiceKey's annotation contains before the key is created.
    pub noted_first: Option<PlanIds>,
    /// Whether the provider's keys have a mark, by which the operator finds them even after their ServiceKey is gone.
    pub marks_keys: bool,
    /// The end of the pause that the remote side asked for.
    pub pause: Option<Timestamp>,
    /// The results of this reconcile, and those of earlier ones that are still in memory.
    pub run: RunState,
    /// A key that was missing in a list of all keys at the remote side.
    pub missed: Option<Sequence>,
    /// The time for which requests with an unknown outcome may still take effect.
    pub grace: GracePeriod,
    /// Whether this process made all requests for a key, and the remote side refused each of them before it had an
    /// effect.
    pub all_refused: bool,
    /// The earliest time of the next repair of the Secret. Another writer that undoes each repair at once must not
    /// cause endless repairs.
    pub repair_from: Option<Timestamp>,
    /// The other owners of fields of the Secret, for messages, if the Secret is wrong and the API server names them.
    pub other_writers: Option<String>,
    /// Other ServiceKeys that name one of the same workloads and have a restart before them, while this one has, too.
    pub companions: BTreeMap<Uuid, Companion>,
    /// The knowledge of this process about the content of `parametersFrom`.
    pub parameters: ParametersView,
    /// The published `Ready` condition, if it is about the current spec.
    pub published: Option<PublishedReady>,
    pub now: Timestamp,
}

impl Observed {
    /// The recorded ids of the plan that the key of this number was or will be created with, before the key itself is
    /// recorded.
    #[must_use]
    pub fn noted(&self, sequence: Sequence) -> Option<PlanIds> {
        let operation = self.recorded.operation_on(sequence);
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

    /// Whether only the Secret names this key of its own: neither the status nor this process explains it, and the
    /// remote side has not shown it yet.
    pub(super) fn is_only_claimed(&self, key: &KeyRecord) -> bool {
        let is_stored = self.run.stored.as_ref().is_some_and(|stored| stored.sequence == key.sequence);
        !self.recorded.explains(key.sequence) && !is_stored && !self.run.has_seen(key.sequence)
    }

    /// Whether this effect repairs the Secret of a known key, with the same credentials or with those of the next key.
    /// Requests before the write are not part of the repair: a failure of theirs has its own backoff.
    #[must_use]
    pub const fn repairs(&self, effect: &KubernetesEffect) -> bool {
        let is_right = matches!(self.secret, SecretView::Intact { flaw: None, .. });
        let writes = matches!(effect, KubernetesEffect::WriteSecret { .. } | KubernetesEffect::RestoreSecret);
        self.recorded.key.is_some() && !is_right && writes
    }
}

/// The plan of the next key, as far as it is known without a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PlanView {
    /// The remote side does not require it.
    NotNeeded,
    /// The operator has to read the catalog or the instance first.
    Unknown,
    Known(PlanIds),
}

impl PlanView {
    #[must_use]
    pub const fn ids(&self) -> Option<&PlanIds> {
        match self {
            Self::Known(ids) => Some(ids),
            Self::NotNeeded | Self::Unknown => None,
        }
    }
}

/// The published condition `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublishedReady {
    pub ready: bool,
    pub reason: Reason,
}

/// The time for which a request with an unknown outcome may still take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GracePeriod {
    /// The time after the operator gave up the request.
    pub patience: Duration,
    /// Until when a request from before the start of this process, which it does not know, may still take effect.
    pub unknown_until: Option<Timestamp>,
}

/// The desired state from the ServiceKey's metadata and spec.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Desired {
    /// Whether the operator's finalizer is stored.
    pub finalizer: bool,
    pub deleting: bool,
    /// Whether the user abandons the remote keys, whether they exist or not.
    pub abandon: bool,
    /// The limit of the provider that forbids abandoning keys, for messages.
    pub abandon_denied: Option<String>,
    /// Whether remote keys stay when the ServiceKey is deleted.
    pub retain: bool,
    /// Whether the Secret stays together with the keys.
    pub retains_secret: bool,
    pub suspended: bool,
    /// Digest of the fields that a remote key is created from. If it changes, another key is created.
    pub inputs: Inputs,
    /// Whether another content of `parametersFrom` requires another key.
    pub follows_parameters: bool,
    /// How new credentials are verified before they are published; `None`: they are not.
    pub verification: Option<VerificationPolicy>,
    pub rotation: RotationPolicy,
    /// When scheduled rotations begin.
    pub windows: Windows,
    /// Whether workloads are restarted after each rotation.
    pub restarts: bool,
    /// Whether the Secret contains the previous key in addition to the current one while it is valid.
    pub keeps_previous: bool,
    /// Whether the first key may be one that was not created for this ServiceKey.
    pub adopts: bool,
    /// The problem of the spec that only the user can correct.
    pub problem: Option<Problem>,
}

impl Desired {
    /// Whether remote keys outlive the ServiceKey.
    #[must_use]
    pub const fn keeps_keys(&self) -> bool {
        self.abandon || self.retain
    }
}

/// How often the key is replaced, and how long the replaced one keeps working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RotationPolicy {
    /// The longest lifetime of a key; `None`: only the remote side or a changed field requires another key.
    pub every: Option<Duration>,
    /// How long the replaced key stays valid.
    pub overlap: Duration,
    /// How long a replaced key stays at most while pods may use it; `None`: until the end of the overlap.
    pub max_overlap: Option<Duration>,
    /// Whether a key is revoked before the next one is created.
    pub revokes_first: bool,
}

/// The Secret with credentials that are not published yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StagingView {
    /// No Secret of that name exists, as far as the operator knows.
    Absent,
    /// The Secret of that name has another owner.
    Foreign {
        /// The name and the owner, as a clause for messages.
        holder: String,
    },
    /// The Secret belongs to the ServiceKey, and does not show which key it contains.
    Damaged,
    /// The Secret contains the credentials of the key of this number, unless another writer changed them.
    Holds(Sequence),
}

/// The Secret that the ServiceKey names, and the key in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretView<K = KeyRecord> {
    /// The cache contains no Secret of the operator, and the operator has not read it by name yet.
    Unknown,
    /// No Secret of that name exists.
    Absent,
    /// The Secret of that name has another owner, or another ServiceKey is about to write it.
    Foreign {
        /// The owner, for messages.
        holder: String,
    },
    /// The Secret of a ServiceKey that is gone, from a backup.
    Former {
        /// The UID of the ServiceKey that its key was created for.
        uid: Uuid,
        /// The number of that key, if the Secret contains it.
        sequence: Option<Sequence>,
        /// Whether the operator has read the Secret by name. The cache may show one that is gone.
        looked_up: bool,
        /// Why the ServiceKey at hand can't continue with that key.
        obstacle: Option<Problem>,
    },
    /// The Secret belongs to the ServiceKey, but its entries are not those that the operator wrote.
    Damaged {
        /// The key whose credentials the operator wrote, if the Secret still names it.
        key: Option<K>,
        /// The previous key whose credentials the operator also wrote.
        previous: Option<Sequence>,
    },
    /// The Secret belongs to the ServiceKey, with the entries that the operator wrote.
    Intact {
        key: K,
        /// The previous key whose credentials are also in the Secret.
        previous: Option<Sequence>,
        /// The part apart from those entries that has to be corrected.
        flaw: Option<Flaw>,
    },
}

/// The flaw of a Secret whose entries are those that the operator wrote. Its credentials work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// Another writer changed its metadata or added entries, or the user wants other labels or annotations. The
    /// operator writes the Secret again with its present entries.
    Edited,
    /// The user wants other templates. The operator has to read the credentials again.
    Outdated,
}

impl StagingView {
    /// Whether the Secret exists and belongs to the ServiceKey.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Damaged | Self::Holds(_))
    }
}

impl<K> SecretView<K> {
    /// The key whose credentials the operator wrote into the Secret, if it is known.
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

    /// The previous key whose credentials the operator also wrote into the Secret.
    #[must_use]
    pub const fn previous(&self) -> Option<Sequence> {
        match self {
            Self::Intact { previous, .. } | Self::Damaged { previous, .. } => *previous,
            Self::Unknown | Self::Absent | Self::Foreign { .. } | Self::Former { .. } => None,
        }
    }

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

/// Whether the provider that the ServiceKey names can be called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProviderView {
    Available,
    /// The provider can be called only to revoke the keys of this ServiceKey, for this reason.
    Closed(Problem),
    /// The provider can't be called, for this reason.
    Unavailable(Problem),
}

impl ProviderView {
    /// The problem that prevents creating and reading keys.
    #[must_use]
    pub const fn obstacle(&self) -> Option<&Problem> {
        match self {
            Self::Available => None,
            Self::Closed(problem) | Self::Unavailable(problem) => Some(problem),
        }
    }
}

/// A problem, in the words of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    pub reason: Reason,
    /// The problem, and the next step for the user.
    pub message: String,
}

impl Problem {
    /// Whether the operator makes no progress until a person changes something.
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
