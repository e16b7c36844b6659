//! The pure decisions: the next step for one ServiceKey, computed from the observed state. They do no I/O, read no
//! clock, and depend neither on a Kubernetes client nor on HTTP.
//!
//! [`decide`] is a function of [`Observed`] alone, as [`next_protection_step`] is of [`ProtectionView`]. Both evaluate
//! lists of named checks, whose order is in `docs/design.md`. Identities of remote keys are derived ([`Identity`]), so
//! the operator need not record an intent to create a key. After any crash, it computes the keys that may exist at the
//! remote side from the stored state.

mod access;
mod claim;
mod consumers;
mod create;
mod deletion;
mod failure;
mod former_keys;
mod former_secret;
mod identity;
mod inheritance;
mod inputs;
mod inventory;
mod lifetime;
mod limits;
mod maintain;
mod observed;
mod operation;
mod order;
mod parameters;
mod protection;
mod recorded;
mod report;
mod restart;
mod restore;
mod revoke;
mod revoke_first;
mod rotation;
mod run_state;
mod situation;
mod step;
mod unusable;
mod vanished;
mod verification;
mod windows;

#[cfg(test)]
mod model;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use access::KeyAccess;
pub(crate) use claim::{Claim, Evidence};
pub(crate) use consumers::{Consumers, ContainerView, KeyChange, PodView};
pub(crate) use failure::{Attempted, ErrorClass, Failure};
pub(crate) use identity::first_bytes;
pub use identity::{Identity, Sequence};
pub(crate) use inheritance::{Heir, Inheritance};
pub(crate) use inputs::{Inputs, ParametersDigest};
pub(crate) use inventory::{Findings, Inventory, MarkedKey, Orphan};
pub(crate) use lifetime::{CredentialEnd, Expiry, ExpirySource, Lifetime};
pub(crate) use limits::{Allowance, RequestedKey, SeatRank, SpaceLimit, is_within_limit};
pub(crate) use observed::{
    Desired, Flaw, GracePeriod, Observed, PlanView, Problem, ProviderView, PublishedReady, RotationPolicy,
    SecretView, StagingView,
};
pub(crate) use operation::{LONGEST_OPERATION, Operation, OperationStage, PendingOperation, RemoteOperation};
pub use order::DecisionList;
pub(crate) use parameters::ParametersView;
pub(crate) use protection::{
    LONGEST_UNEXPLAINED_PROTECTION, ProtectedSecret, ProtectionStep, ProtectionView, next_protection_step,
};
pub(crate) use recorded::{KeyRecord, Loss, LossCause, PlanIds, PreviousKey, Recorded};
pub(crate) use restart::{Companion, WorkloadRestart, as_companion};
pub(crate) use rotation::{created_at, full_second};
pub(crate) use run_state::{Answer, Found, RunState, Unusable};
pub(crate) use step::{KubernetesEffect, RemoteEffect, Report, Requeue, Step, Verdict, Wait};
pub(crate) use verification::{FailedVerification, ProbeOutcome, Verification, VerificationPolicy, Verified};
pub(crate) use windows::Windows;

/// Decides the next step.
///
/// These guarantees hold for every sequence of decisions, even if processes crash, answers are wrong or no answer
/// arrives:
///
/// 1. The operator stores the finalizer before any step that can create a key.
/// 2. It does not revoke a key whose credentials are the current ones in the Secret, unless the ServiceKey is being
///    deleted, or its user chose to revoke the current key before the next one is created. If its user chose so, it also
///    does not revoke a key that a pod may use, for as long as the user permits and the ServiceKey exists.
/// 3. It removes the finalizer only after every key that may exist was confirmed gone, or the user chose to keep or
///    abandon the keys.
/// 4. It never writes or deletes a Secret of another owner, and it looks for one before it creates a key.
/// 5. It stores credentials in hand before its next call to the remote side.
/// 6. `Ready` stays true while the current key works, in every stage of a rotation.
/// 7. The metadata of a Secret never decides about calls to the remote side: the operator first finds an id that was
///    not derived by its mark there, and makes no call for a namespace that was never admitted.
#[must_use]
pub(crate) fn decide(observed: &Observed) -> Step {
    let pause = observed.pause.filter(|until| *until > observed.now);
    let step = match (situation::decide(observed), pause) {
        (Step::Execute(_), Some(until)) => Step::Wait(report::paused(observed, until)),
        (step, _) => step,
    };
    match step {
        Step::Wait(wait) => {
            let not_after = restart::next(observed).into_iter().chain(parameters::next_read(observed)).min();
            Step::Wait(Wait { not_after, ..wait })
        }
        step => step,
    }
}

/// Decides the next step for a ServiceKey that is gone although the operator did not remove its finalizer. `observed`
/// describes its last state, as one that is being deleted.
#[must_use]
pub(crate) fn clean_up_vanished(observed: &Observed) -> Step {
    vanished::decide(observed)
}

/// The lists of checks that `decide`, `clean_up_vanished` and `next_protection_step` evaluate.
#[must_use]
pub fn order_of_decisions() -> Vec<DecisionList> {
    vec![
        situation::order(),
        restore::order(),
        maintain::order(),
        create::order(),
        revoke::order(),
        revoke_first::order(),
        verification::order(),
        former_secret::order(),
        former_keys::order(),
        deletion::order(),
        vanished::order(),
        protection::order(),
    ]
}
