//! What a decision can be: one effect to carry out, or a rest with the status to show meanwhile.

use std::time::Duration;

use jiff::Timestamp;
use strum::IntoStaticStr;
use uuid::Uuid;

use super::{KeyRecord, PendingOperation, Problem, Recorded, Sequence};
use crate::api::Reason;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Carry this out, and decide again with what came of it.
    Act(Effect),
    /// Show this status and wait.
    Wait(Wait),
}

impl Step {
    /// Write this status before anything else happens.
    pub(super) fn record(report: Report) -> Self {
        Self::Act(Effect::Record(Box::new(report)))
    }
}

/// One thing to do. The shell carries out exactly one between two decisions. As text it is the name of its kind, for
/// logs and traces.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum Effect {
    /// Ask whether keys can be made for the instance at all, before anything is made.
    CheckInstance,
    /// Store the finalizer on the ServiceKey.
    AddFinalizer,
    /// Read the metadata of whatever Secret has the name.
    LookUpSecret,
    /// Find out whether the API server would store the Secret, without storing it. Where the name is taken by a Secret that
    /// was not looked up, read the metadata of that one.
    RehearseSecret,
    /// Write the status before anything else happens.
    Record(Box<Report>),
    /// Ask whether the key is still there.
    Confirm(Sequence),
    /// Ask whether the remote side has this key of a former ServiceKey, with a mark that shows that it is for the ServiceKey
    /// at hand.
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
    /// Make the key, or get it again if it exists.
    Bind {
        /// Which one.
        sequence: Sequence,
        /// The working key that it replaces.
        predecessor: Option<Sequence>,
    },
    /// Ask the remote side how far it is.
    Poll(PendingOperation),
    /// Write the credentials in hand into the Secret.
    WriteSecret {
        /// The key that they are marked as.
        key: Box<KeyRecord>,
        /// The key before it, whose credentials stay in the Secret besides, if nobody edited them.
        previous: Option<Sequence>,
    },
    /// Write the Secret again, with the entries of ours that it holds.
    RestoreSecret,
    /// Take the credentials of the key before the current one out of the Secret.
    OmitPrevious,
    /// Revoke the key.
    Unbind(Sequence),
    /// Take our mark off the key, which stays for good.
    Release(Sequence),
    /// Delete the Secret, if it is ours.
    DeleteSecret,
    /// Take all that makes the Secret ours off it: it stays for good.
    ReleaseSecret,
    /// Let the ServiceKey go.
    RemoveFinalizer {
        /// Remote keys that are left behind, because the user said so.
        left_behind: Vec<Sequence>,
    },
}

impl Effect {
    /// Whether it is a call to the remote side.
    pub const fn asks_the_remote_side(&self) -> bool {
        match self {
            Self::CheckInstance
            | Self::Confirm(_)
            | Self::Prove { .. }
            | Self::Fetch(_)
            | Self::Repeat(_)
            | Self::Bind { .. }
            | Self::Poll(_)
            | Self::Unbind(_)
            | Self::Release(_) => true,
            Self::AddFinalizer
            | Self::LookUpSecret
            | Self::RehearseSecret
            | Self::Record(_)
            | Self::WriteSecret { .. }
            | Self::RestoreSecret
            | Self::OmitPrevious
            | Self::DeleteSecret
            | Self::ReleaseSecret
            | Self::RemoveFinalizer { .. } => false,
        }
    }
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
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
pub enum Requeue {
    /// Nothing.
    OnChange,
    /// A time.
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
            message: "another key was asked for, and takes the place of this one".to_owned(),
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
