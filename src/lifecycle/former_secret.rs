//! The Secret is from a backup, and names a former ServiceKey.

use uuid::Uuid;

use super::{
    Observed, Problem, Step,
    former_keys::{self, FormerKeys},
    order::decisions,
    report,
};
use crate::api::Reason;

decisions! {
    /// The Secret is from a backup, and names a former ServiceKey.
    "Judge a former Secret", FormerSecret<'_> => Step:

    /// Another ServiceKey has the key, or the namespace is not permitted to continue with it.
    refuse_key_of_another,
    /// A ServiceKey with keys of its own never continues with those of another one.
    refuse_second_set_of_keys,
    /// No evidence contradicts the claim in the Secret.
    accept_former_keys,
    /// A namespace that is not admitted gets no information about the key.
    wait_for_provider,
    /// The remote side has no key with the namespace, name and cluster of the ServiceKey.
    refuse_unproved_key,
    else
    /// The provider could be called, but it does not admit the namespace.
    refuse_secret
}

pub(super) struct FormerSecret<'a> {
    pub keys: FormerKeys<'a>,
    /// Why the ServiceKey can't continue with the key in the Secret.
    pub obstacle: Option<&'a Problem>,
}

fn refuse_key_of_another(FormerSecret { keys, obstacle }: &FormerSecret<'_>) -> Option<Step> {
    obstacle.map(|problem| Step::Wait(report::not_inherited(keys.observed, problem)))
}

fn refuse_second_set_of_keys(secret: &FormerSecret<'_>) -> Option<Step> {
    former_keys::has_own_keys(secret.keys.observed).then(|| refuse_secret(secret))
}

fn accept_former_keys(FormerSecret { keys, .. }: &FormerSecret<'_>) -> Option<Step> {
    keys.may_be_accepted().then(|| former_keys::decide(keys))
}

fn wait_for_provider(FormerSecret { keys, .. }: &FormerSecret<'_>) -> Option<Step> {
    let Observed { provider, .. } = keys.observed;
    provider.obstacle().map(|problem| Step::Wait(report::waiting(keys.observed, problem)))
}

fn refuse_unproved_key(FormerSecret { keys, .. }: &FormerSecret<'_>) -> Option<Step> {
    let is_denied = keys.observed.run.is_proved == Some(false);
    is_denied.then(|| Step::Wait(report::not_inherited(keys.observed, &unproved(keys.former))))
}

fn refuse_secret(FormerSecret { keys, .. }: &FormerSecret<'_>) -> Step {
    Step::Wait(report::secret_conflict(keys.observed, "another ServiceKey"))
}

fn unproved(former: Uuid) -> Problem {
    Problem {
        reason: Reason::SecretConflict,
        message: format!(
            "the Secret is from a backup and names the former ServiceKey {former}, but no key of it at the remote side \
             has the namespace, name and cluster of this ServiceKey; if the former cluster is lost, add it to the \
             provider's `adoptFromClusters`; otherwise delete the Secret to get a new key"
        ),
    }
}
