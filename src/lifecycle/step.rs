//! A decision: one effect to carry out, or a wait with the status to publish meanwhile.

use std::time::Duration;

use jiff::Timestamp;
use strum::{IntoStaticStr, VariantNames};
use uuid::Uuid;

use super::{KeyRecord, PendingOperation, Problem, Recorded, Sequence};
use crate::api::Reason;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Carry this out at the Kubernetes API, and decide again.
    Apply(KubernetesEffect),
    /// Carry this out at the remote side, and decide again.
    Execute(RemoteEffect),
    /// Publish this status and wait.
    Wait(Wait),
}

impl Step {
    /// Write this status before anything else happens.
    pub(super) fn record(report: Report) -> Self {
        Self::Apply(KubernetesEffect::Record(Box::new(report)))
    }
}

/// One effect at the Kubernetes API. As text it is the name of its variant, for logs and traces.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
pub enum KubernetesEffect {
    /// Store the finalizer on the ServiceKey.
    AddFinalizer,
    /// Read the metadata of the Secret by name.
    LookUpSecret,
    /// Ask the API server whether it would store the Secret, without storing it. If the name is taken by a Secret that was
    /// not looked up, read the metadata of that one.
    RehearseSecret,
    /// Write the status before anything else happens.
    Record(Box<Report>),
    /// Write the credentials in hand into the Secret.
    WriteSecret {
        /// The key that the marks name.
        key: Box<KeyRecord>,
        /// The key before it, whose credentials also stay in the Secret unless they were edited.
        previous: Option<Sequence>,
    },
    /// Write the Secret again, with the operator's entries that it holds.
    RestoreSecret,
    /// Remove the credentials of the key before the current one from the Secret.
    OmitPrevious,
    /// Delete the Secret, if it is the operator's.
    DeleteSecret,
    /// Remove the operator's marks from the Secret, which stays.
    ReleaseSecret,
    /// Remove the finalizer from the ServiceKey.
    RemoveFinalizer {
        /// Remote keys that stay, because the user said so.
        left_behind: Vec<Sequence>,
    },
}

/// One effect at the remote side. As text it is the name of its variant, for logs and traces.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
pub enum RemoteEffect {
    /// Check whether the instance can have keys, before one is created.
    CheckInstance,
    /// Look whether the key still exists.
    Confirm(Sequence),
    /// Look for this key of a former ServiceKey, with a mark that shows that it is for the ServiceKey at hand.
    Prove {
        /// The UID of the former ServiceKey.
        former: Uuid,
        /// The number of the key.
        sequence: Sequence,
    },
    /// Read the key's credentials again.
    Fetch(Sequence),
    /// Repeat the request that created the key: some remote sides show its credentials only in the answer to that.
    Repeat(Sequence),
    /// Create the key, or read it if it exists.
    Bind {
        /// The number of the key.
        sequence: Sequence,
        /// The working key that it replaces.
        predecessor: Option<Sequence>,
    },
    /// Ask for the state of an operation.
    Poll(PendingOperation),
    /// Revoke the key.
    Unbind(Sequence),
    /// Remove the operator's mark from the key, which stays.
    Release(Sequence),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// What ends it, besides a change of anything that is watched.
    pub requeue: Requeue,
    /// The status to show meanwhile.
    pub report: Box<Report>,
    /// Whether the status may stay as it is: it would soon be out of date.
    pub quiet: bool,
}

impl Wait {
    /// A pause that people are told of.
    pub(super) fn new(wake: Requeue, report: Report) -> Self {
        Self { requeue: wake, report: Box::new(report), quiet: false }
    }
}

/// What ends a rest, besides a change of anything that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requeue {
    OnChange,
    At(Timestamp),
    /// The end of the pause that the remote side asked for; what failed before it counts as failed again.
    PauseEnds(Timestamp),
    /// The next attempt, by the object's backoff but not before what the remote side asked for.
    Retry {
        /// How long the remote side asked to be left alone.
        not_before: Option<Duration>,
    },
    /// The next look at what is under way: when the remote side asked for it, or by a backoff.
    Poll,
}

/// The status to show: what is to be remembered, and how things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What is to be remembered.
    pub recorded: Recorded,
    /// Whether what the user asks for is still to be done: a first key, a Secret that is right, another key.
    pub pending: bool,
    /// Whether the Secret holds credentials that work.
    pub ready: Verdict,
    /// What a rotation is doing, while there is one.
    pub rotating: Option<Problem>,
    /// What only a change by the user can mend.
    pub stalled: Option<Problem>,
    /// When the key is to be replaced.
    pub next_rotation: Option<Timestamp>,
    /// A key that the remote side has been revoking for a while.
    pub revoking: Option<PendingOperation>,
}

impl Report {
    /// What the operator is doing about what is [pending](Self::pending), unless only the user can.
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

    /// What does not go as it should, one of each reason: why it is not ready, why a rotation does not go on, and what
    /// only the user can mend.
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
    /// Its status.
    pub ready: bool,
    /// Its reason.
    pub reason: Reason,
    /// Its message.
    pub message: String,
}
