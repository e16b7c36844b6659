//! Selects the list of checks that decides about a ServiceKey.

use super::{
    Observed, SecretView, Step,
    deletion::{self, Deletion},
    former_keys::FormerKeys,
    former_secret::{self, FormerSecret},
    maintain::{self, Intact},
    operation::lost,
    order::decisions,
    report, restore,
};

decisions! {
    /// These checks come first for every ServiceKey. If the remote side has asked for a pause, a step that calls it
    /// waits.
    "Every ServiceKey", Observed => Step:

    /// The outcome of a request for a key is unknown. After a crash, only the status would show that the key may exist.
    record_lost_request,
    /// The user suspended the ServiceKey. That also stops its deletion.
    wait_while_suspended,
    /// The operator revokes every key that may exist, and deletes the Secret.
    delete,
    /// The Secret is from a backup, and its key was created for a ServiceKey that is gone.
    judge_former_secret,
    /// The Secret contains the credentials of the current key.
    maintain,
    else
    /// The Secret is missing or wrong.
    restore
}

fn record_lost_request(observed: &Observed) -> Option<Step> {
    let (sequence, since) = lost(observed)?;
    let current = observed.current_key().filter(|_| !observed.desired.deleting);
    let is_replaced = current.is_some_and(|key| key.sequence >= sequence);
    (observed.desired.finalizer && !is_replaced)
        .then(|| Step::record(report::cleaning_up(observed, sequence, since)))
}

fn wait_while_suspended(observed: &Observed) -> Option<Step> {
    observed.desired.suspended.then(|| Step::Wait(report::suspended(observed)))
}

fn delete(observed: &Observed) -> Option<Step> {
    observed.desired.deleting.then(|| deletion::decide(&Deletion::new(observed)))
}

fn judge_former_secret(observed: &Observed) -> Option<Step> {
    let SecretView::Former { uid, sequence, looked_up, obstacle } = &observed.secret else { return None };
    let keys = FormerKeys { observed, former: *uid, sequence: *sequence, looked_up: *looked_up };
    Some(former_secret::decide(&FormerSecret { keys, obstacle: obstacle.as_ref() }))
}

fn maintain(observed: &Observed) -> Option<Step> {
    observed.current_key().map(|key| maintain::decide(&Intact { observed, key }))
}

fn restore(observed: &Observed) -> Step {
    restore::decide(observed)
}
