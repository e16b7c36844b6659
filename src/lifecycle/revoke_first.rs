//! `strategy: Replace`: revoke the current key before the next one is created.

use super::{
    KeyRecord, KubernetesEffect, Loss, LossCause, Observed, Operation, Recorded, Step, order::decisions,
    report, revoke::unbind,
};

decisions! {
    /// The user chose `strategy: Replace`, and another key is due.
    "Revoke the current key first", CurrentKey<'_> => Step:

    /// The operator revokes no key for a Secret that the API server refuses to write.
    rehearse_secret,
    /// The current key is of no use afterwards, even if no other key is wanted any more. So the status records the
    /// revocation first.
    record_intent,
    /// The remote side has not confirmed that the key is gone.
    revoke_key,
    else
    /// The key is gone. The next one replaces it like a missing key.
    record_loss
}

/// The key to revoke before the next one is created.
pub(super) struct CurrentKey<'a> {
    pub observed: &'a Observed,
    pub key: &'a KeyRecord,
    /// The record that is up to date with this key.
    pub recorded: Recorded,
}

impl CurrentKey<'_> {
    fn is_revoked(&self) -> bool {
        self.observed.run.revoked.contains_key(&self.key.sequence)
    }
}

fn rehearse_secret(current: &CurrentKey<'_>) -> Option<Step> {
    let is_known = current.is_revoked() || current.observed.run.rehearsed;
    (!is_known).then_some(Step::Apply(KubernetesEffect::RehearseSecret))
}

fn record_intent(CurrentKey { observed, key, recorded }: &CurrentKey<'_>) -> Option<Step> {
    let next = key.sequence.next();
    (!recorded.revokes_first()).then(|| {
        let recorded = Recorded { operation: Some(Operation::revoke_first(next)), ..recorded.clone() };
        Step::record(report::rotating(observed, recorded, next))
    })
}

fn revoke_key(current: &CurrentKey<'_>) -> Option<Step> {
    (!current.is_revoked()).then(|| unbind(current.observed, current.key.sequence))
}

fn record_loss(CurrentKey { observed, key, recorded }: &CurrentKey<'_>) -> Step {
    let operation = Operation::bind(key.sequence.next()).with_plan(observed.plan.ids().cloned());
    let loss = Loss::found(observed, LossCause::Revoked);
    let recorded = Recorded { operation: Some(operation), loss: Some(loss), ..recorded.clone() };
    Step::record(report::settled(observed, &recorded, key))
}
