//! The pure heart: what to do next for one ServiceKey, given what was observed. It does no I/O, reads no clock,
//! and knows neither a Kubernetes client nor HTTP.
//!
//! [`decide`] is a function of the [`World`] alone, as [`hold`] is for what a provider holds back from deletion.
//! Identities of remote keys are derived ([`Identity`]), so an intent needs no write of its own: the keys that may
//! exist at the remote side can be computed from what is stored, after any crash.

mod claim;
mod deletion;
mod failure;
mod protection;
mod identity;
mod inheritance;
mod inventory;
mod limits;
mod operation;
mod provision;
mod report;
mod rotation;
mod step;
mod world;

#[cfg(test)]
mod model;
#[cfg(test)]
pub(crate) mod tests;

pub use claim::{Claim, Evidence};
pub use failure::{Attempted, ErrorClass, Failure};
pub use protection::{ProtectionStep, LONGEST_UNEXPLAINED_HOLD, ProtectionView, ProtectedSecret, next_protection_step};
pub(crate) use identity::first_bytes;
pub use identity::{Identity, Sequence};
pub use inheritance::{Heir, Inheritance};
pub use inventory::{Findings, Inventory, MarkedKey, Orphan};
pub use limits::{Allowance, SpaceLimit, SeatRank, Wish, has_place};
pub use operation::{LONGEST_OPERATION, Operation, OperationKind, PendingOperation, RemoteOperation};
pub use rotation::{created_at, full_second, inputs};
pub use step::{Effect, Report, Rest, Step, Verdict, Requeue};
pub use world::{
    Answer, LossCause, Desired, Flaw, Found, LostKey, KeyRecord, GracePeriod, Recorded, PlanIds, PlanView,
    PreviousKey, Problem, ProviderView, RotationPolicy, RunState, SecretView, PublishedReady, Unusable, Observed,
};

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
pub fn decide(world: &Observed) -> Step {
    let pause = world.pause.filter(|until| *until > world.now);
    match (next_step(world), pause) {
        (Step::Act(effect), Some(until)) if effect.asks_the_remote_side() => {
            Step::Wait(report::paused(world, until))
        }
        (step, _) => step,
    }
}

/// Decides what to do next for a ServiceKey that is gone although the operator did not let it go: somebody removed its
/// finalizer. `world` shows it as it last was, as one that is being deleted.
///
/// Only its status, or the process itself, can know of a key. Where neither does, the first key is not looked for: it may
/// never have been asked for. No user can end a suspension any more, so a suspended ServiceKey leaves its keys behind.
#[must_use]
pub fn wind_up(world: &Observed) -> Step {
    deletion::wind_up(world)
}

fn next_step(world: &Observed) -> Step {
    if let Some(unrecorded) = provision::record_loss(world) {
        unrecorded
    } else if world.desired.suspended {
        Step::Wait(report::suspended(world))
    } else if world.desired.deleting {
        deletion::decide(world)
    } else {
        provision::decide(world)
    }
}
