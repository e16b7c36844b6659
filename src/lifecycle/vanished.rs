//! A ServiceKey that is gone although the operator did not remove its finalizer.

use super::{
    KubernetesEffect, Observed, Sequence, Step,
    deletion::{knows_of_a_key, remaining},
    order::decisions,
};

decisions! {
    /// A user removed the finalizer, and the ServiceKey is gone.
    "Clean up a vanished ServiceKey", Observed => Step:

    /// No user can end the suspension any more, so the keys stay.
    leave_keys_of_suspended,
    /// The first key may never have been requested, so the operator does not look for a key that no source names.
    leave_unknown_keys,
    else
    /// The status, or the process itself, knows of a key. The operator revokes it as in any deletion.
    revoke_known_keys
}

fn leave_keys_of_suspended(observed: &Observed) -> Option<Step> {
    observed.desired.suspended.then(|| leave(remaining(observed).into_iter().collect()))
}

fn leave_unknown_keys(observed: &Observed) -> Option<Step> {
    (!knows_of_a_key(observed)).then(|| leave(Vec::new()))
}

fn leave(left_behind: Vec<Sequence>) -> Step {
    Step::Apply(KubernetesEffect::RemoveFinalizer { left_behind })
}

fn revoke_known_keys(observed: &Observed) -> Step {
    super::decide(observed)
}
