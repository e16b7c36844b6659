//! The pure decisions: what to do next for one ServiceKey, given what was observed. They do no I/O, read no clock, and
//! know neither a Kubernetes client nor HTTP.
//!
//! [`decide`] is a function of the [`Observed`] alone, as [`next_protection_step`] is of a [`ProtectionView`]. Both evaluate
//! lists of named checks, whose order is in `docs/design.md`.
//! Identities of remote keys are derived ([`Identity`]), so an intent needs no write of its own: the keys that may
//! exist at the remote side can be computed from what is stored, after any crash.

mod access;
mod claim;
mod create;
mod deletion;
mod failure;
mod former_keys;
mod former_secret;
mod identity;
mod inheritance;
mod inputs;
mod inventory;
mod limits;
mod maintain;
mod observed;
mod operation;
mod order;
mod protection;
mod recorded;
mod report;
mod restore;
mod revoke;
mod revoke_first;
mod rotation;
mod run_state;
mod situation;
mod step;
mod unusable;
mod vanished;

#[cfg(test)]
mod model;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use access::KeyAccess;
pub(crate) use claim::{Claim, Evidence};
pub(crate) use failure::{Attempted, ErrorClass, Failure};
pub(crate) use identity::first_bytes;
pub use identity::{Identity, Sequence};
pub(crate) use inheritance::{Heir, Inheritance};
pub(crate) use inputs::Inputs;
pub(crate) use inventory::{Findings, Inventory, MarkedKey, Orphan};
pub(crate) use limits::{Allowance, SeatRank, SpaceLimit, Wish, has_place};
pub(crate) use observed::{
    Desired, Flaw, GracePeriod, Observed, PlanView, Problem, ProviderView, PublishedReady, RotationPolicy,
    SecretView,
};
pub(crate) use operation::{LONGEST_OPERATION, Operation, OperationStage, PendingOperation, RemoteOperation};
pub use order::DecisionList;
pub(crate) use protection::{
    LONGEST_UNEXPLAINED_HOLD, ProtectedSecret, ProtectionStep, ProtectionView, next_protection_step,
};
pub(crate) use recorded::{KeyRecord, Loss, LossCause, PlanIds, PreviousKey, Recorded};
pub(crate) use rotation::{created_at, full_second};
pub(crate) use run_state::{Answer, Found, RunState, Unusable};
pub(crate) use step::{KubernetesEffect, RemoteEffect, Report, Requeue, Step, Verdict, Wait};

/// Decides what to do next.
///
/// These hold for every sequence of decisions, whatever crashes, lies or is lost in between:
///
/// 1. nothing that can create a key is done before the finalizer is stored;
/// 2. no key is revoked while its credentials are the current ones in the Secret, unless the ServiceKey is
///    being deleted, or its user chose to make room for the next key so;
/// 3. the finalizer leaves only after every key that may exist was confirmed gone, or the user said so;
/// 4. a Secret that is not ours is never written or deleted, and is looked for before a key is made;
/// 5. credentials in hand are stored before anything else is asked of the remote side;
/// 6. `Ready` stays true while the current key works, whatever a rotation is doing;
/// 7. what a Secret's metadata claims never decides what happens at the remote side: an id that was not derived is found
///    by its mark there first, and a namespace that was never admitted causes no call.
#[must_use]
pub(crate) fn decide(observed: &Observed) -> Step {
    let pause = observed.pause.filter(|until| *until > observed.now);
    match (situation::decide(observed), pause) {
        (Step::Execute(_), Some(until)) => Step::Wait(report::paused(observed, until)),
        (step, _) => step,
    }
}

/// Decides what to do next for a ServiceKey that is gone although the operator did not remove its finalizer. `observed` shows
/// it as it last was, as one that is being deleted.
#[must_use]
pub(crate) fn wind_up(observed: &Observed) -> Step {
    vanished::decide(observed)
}

/// The lists of checks that `decide`, `wind_up` and `next_protection_step` evaluate.
#[must_use]
pub fn order_of_decisions() -> Vec<DecisionList> {
    vec![
        situation::order(),
        restore::order(),
        maintain::order(),
        create::order(),
        revoke::order(),
        revoke_first::order(),
        former_secret::order(),
        former_keys::order(),
        deletion::order(),
        vanished::order(),
        protection::order(),
    ]
}
