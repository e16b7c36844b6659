//! A decision: one effect to carry out, or a wait with the status to publish meanwhile.

use std::time::Duration;

use jiff::Timestamp;
use strum::{IntoStaticStr, VariantNames};
use uuid::Uuid;

use super::{KeyChange, KeyRecord, PendingOperation, Problem, Recorded, Sequence, WorkloadRestart};
use crate::api::Reason;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An effect at the Kubernetes API, followed by another decision.
    Apply(KubernetesEffect),
    /// An effect at the remote side, followed by another decision.
    Execute(RemoteEffect),
    /// An attempt to use the staged credentials of the key of this number at the service, followed by another decision.
    Verify(Sequence),
    /// A status to publish, and a wait.
    Wait(Wait),
}

impl Step {
    /// Records this status before any other step.
    pub(super) fn record(report: Report) -> Self {
        Self::Apply(KubernetesEffect::Record(Box::new(report)))
    }
}

/// One effect at the Kubernetes API. Its text for logs and traces is the name of its variant.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
pub enum KubernetesEffect {
    /// Store the finalizer on the ServiceKey.
    AddFinalizer,
    /// Read the metadata of the Secret by name.
    LookUpSecret,
    /// Send a dry run of the Secret to the API server. If a Secret that was not read yet has that name, read its
    /// metadata.
    RehearseSecret,
    /// Write the status before any other step.
    Record(Box<Report>),
    /// Write the credentials of this key, which are in hand, into the staging Secret.
    StageCredentials(Box<KeyRecord>),
    /// Read the credentials in the staging Secret.
    ReadStaged(Sequence),
    /// Delete the staging Secret.
    DiscardStaged,
    /// Write the credentials in hand into the Secret.
    WriteSecret {
        /// The key that the marks name.
        key: Box<KeyRecord>,
        /// The key before it, whose credentials also stay in the Secret unless they were edited.
        previous: Option<Sequence>,
    },
    /// Restart the workloads that the spec names, so that they read the current key.
    RestartWorkloads {
        restart: WorkloadRestart,
        /// Other ServiceKeys that name some of these workloads. The same patch restarts the workloads for them.
        companions: Vec<Uuid>,
    },
    /// Look for pods that may use a replaced key.
    LookForConsumers(KeyChange),
    /// Read the content of `parametersFrom`, because another content requires another key.
    ReadParameters,
    /// Write the Secret again, with the operator's entries that it contains.
    RestoreSecret,
    /// Remove the credentials of the key before the current one from the Secret.
    OmitPrevious,
    /// Delete the Secret, if it belongs to the operator.
    DeleteSecret,
    /// Remove the operator's marks from the Secret, which stays.
    ReleaseSecret,
    /// Remove the finalizer from the ServiceKey.
    RemoveFinalizer {
        /// Remote keys that stay, because the user chose so.
        left_behind: Vec<Sequence>,
    },
}

/// One effect at the remote side. Its text for logs and traces is the name of its variant.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
pub enum RemoteEffect {
    /// Check whether the instance can have keys, before one is created.
    CheckInstance,
    /// Check whether the key still exists.
    Confirm(Sequence),
    /// Find this key of a former ServiceKey, with a mark that shows that it is for the ServiceKey at hand.
    Prove {
        /// The UID of the former ServiceKey.
        former: Uuid,
        /// The number of the key.
        sequence: Sequence,
    },
    /// Read the key's credentials again.
    Fetch(Sequence),
    /// Repeat the request that created the key: some remote sides return its credentials only in the answer to that
    /// request.
    Repeat(Sequence),
    /// Create the key, or read it if it exists.
    Bind {
        /// The number of the key.
        sequence: Sequence,
        /// The working key that it replaces.
        predecessor: Option<Sequence>,
    },
    /// Poll the state of an operation.
    Poll(PendingOperation),
    /// Revoke the key.
    Unbind(Sequence),
    /// Remove the operator's mark from the key, which stays.
    Release(Sequence),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// The event that ends the wait, in addition to a change of a watched object.
    pub requeue: Requeue,
    /// The time that ends the wait in any case.
    pub not_after: Option<Timestamp>,
    /// The status to publish meanwhile.
    pub report: Box<Report>,
    /// Whether the published status may stay, because the new one would soon be out of date.
    pub quiet: bool,
}

impl Wait {
    /// A wait whose status is always published.
    pub(crate) fn new(wake: Requeue, report: Report) -> Self {
        Self { requeue: wake, not_after: None, report: Box::new(report), quiet: false }
    }
}

/// The event that ends a wait, in addition to a change of a watched object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requeue {
    OnChange,
    At(Timestamp),
    /// The end of the pause that the remote side asked for. An earlier failure counts again afterwards.
    PauseEnds(Timestamp),
    /// The next attempt, by the object's backoff but not before the end of the pause that the remote side asked for.
    Retry {
        /// The pause that the remote side asked for.
        not_before: Option<Duration>,
    },
    /// The next poll of a pending operation, when the remote side asked for it, or by a backoff.
    Poll,
}

/// The status to publish: the record for later decisions, and the conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The record for later decisions.
    pub recorded: Recorded,
    /// Whether a requested change is not complete yet: a first key, a repair of the Secret, or another key.
    pub pending: bool,
    /// Whether the Secret contains credentials that work.
    pub ready: Verdict,
    /// The state of a rotation, while there is one.
    pub rotating: Option<Problem>,
    /// The problem that only the user can correct.
    pub stalled: Option<Problem>,
    pub next_rotation: Option<Timestamp>,
    /// A key that the remote side has been revoking for a while.
    pub revoking: Option<PendingOperation>,
}

impl Report {
    /// The state of the [pending](Self::pending) change, unless only the user can continue it.
    #[must_use]
    pub fn reconciling(&self) -> Option<Problem> {
        let Verdict { ready, reason, message } = &self.ready;
        let asked_for = || Problem {
            reason: Reason::Rotating,
            message: "the user requested another key, which will replace this one".to_owned(),
        };
        let why = if *ready {
            // Neither a key that is still valid nor the last rotation delays the next key.
            let delays_nothing = [Reason::Overlapping, Reason::RotationIneffective];
            let rotating = self.rotating.clone().filter(|why| !delays_nothing.contains(&why.reason));
            rotating.unwrap_or_else(asked_for)
        } else {
            Problem { reason: *reason, message: message.clone() }
        };
        (self.pending && self.stalled.is_none()).then_some(why)
    }

    /// The problems, at most one for each reason: why the ServiceKey is not ready, why a rotation is blocked, and what
    /// only the user can correct.
    #[must_use]
    pub fn troubles(&self) -> Vec<Problem> {
        let Verdict { ready, reason, message } = &self.ready;
        let unready = (!ready).then(|| Problem { reason: *reason, message: message.clone() });
        let rotation = self.rotating.clone().filter(|why| !why.reason.is_progress_of_a_rotation());
        let mut troubles: Vec<Problem> = Vec::new();
        for trouble in [unready, rotation, self.stalled.clone()].into_iter().flatten() {
            if trouble.reason != Reason::Deleting && troubles.iter().all(|told| told.reason != trouble.reason)
            {
                troubles.push(trouble);
            }
        }
        troubles
    }
}

/// The condition `Ready`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub ready: bool,
    pub reason: Reason,
    pub message: String,
}
