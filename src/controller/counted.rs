//! What is counted of decisions and answers, in the few words that metrics have.

use crate::{
    lifecycle::{Answer, Attempted, Rest, Wake},
    runtime::metrics::{KeyOutcome, Outcome},
};

/// How a reconcile ended that came to a rest.
pub fn outcome(rest: &Rest) -> Outcome {
    let report = &rest.report;
    match rest.wake {
        Wake::Retry { .. } => Outcome::Failed,
        Wake::PauseEnds(_) => Outcome::Paused,
        Wake::Poll => Outcome::UnderWay,
        Wake::OnChange | Wake::At(_) if report.stalled.is_some() => Outcome::Stalled,
        Wake::OnChange | Wake::At(_) if report.ready.ready => Outcome::Settled,
        Wake::At(_) => Outcome::UnderWay,
        Wake::OnChange => Outcome::Waiting,
    }
}

/// What came of something that was wanted of a remote side.
pub const fn key_outcome(answer: &Answer) -> KeyOutcome {
    match answer {
        Answer::InstanceChecked
        | Answer::Issued(_)
        | Answer::Completed(_)
        | Answer::Present(_)
        | Answer::Revoked(..)
        | Answer::Released(_)
        | Answer::Stored => KeyOutcome::Done,
        Answer::Accepted(_) | Answer::Running { .. } => KeyOutcome::UnderWay,
        Answer::Unreadable(_) => KeyOutcome::Unreadable,
        Answer::Absent(_) => KeyOutcome::Absent,
        Answer::Conflict(..) => KeyOutcome::Conflict,
        Answer::Lost(..) | Answer::Unsure(..) => KeyOutcome::Lost,
        Answer::Failed(_) => KeyOutcome::Failed,
    }
}

/// Whether the answer is that a key could not be made.
pub fn is_no_key(answer: &Answer) -> bool {
    match answer {
        Answer::Lost(..) | Answer::Unsure(..) => true,
        Answer::Failed(failure) => {
            matches!(failure.attempted, Attempted::Provision | Attempted::Parameters)
        }
        _ => false,
    }
}
