//! A key whose credentials fit no Secret: the operator revokes it, unless its credentials may be in use.

use super::{Observed, SecretView, Sequence, Unusable, operation::late_until};

/// The key whose credentials fit no Secret, until it is time to try again.
pub(super) fn known(observed: &Observed) -> Option<&Unusable> {
    let is_over = |unusable: &&Unusable| unusable.retry_at().is_some_and(|again| again <= observed.now);
    observed.run.unusable.as_ref().filter(|unusable| !is_over(unusable))
}

/// The same, if it has this number.
pub(super) fn of(observed: &Observed, sequence: Sequence) -> Option<&Unusable> {
    known(observed).filter(|unusable| unusable.sequence == sequence)
}

/// Whether the remote side has not confirmed that the key is gone, or did so when a request could still create it
/// again.
pub(super) fn is_to_be_revoked(observed: &Observed, unusable: &Unusable) -> bool {
    let late = late_until(observed, unusable.sequence);
    unusable.revoked.is_none_or(|revoked| late.is_some_and(|late| revoked < late && late <= observed.now))
}

/// Whether a workload may use the credentials of this key, or a user may have created it.
pub(super) fn may_be_in_use(observed: &Observed, sequence: Sequence) -> bool {
    let is_recorded = observed.recorded.key.as_ref().is_some_and(|key| key.sequence == sequence);
    let may_be_in_secret = match &observed.secret {
        SecretView::Absent => false,
        SecretView::Intact { key, .. } | SecretView::Damaged { key: Some(key), .. } => {
            key.sequence == sequence
        }
        SecretView::Damaged { key: None, .. }
        | SecretView::Unknown
        | SecretView::Foreign { .. }
        | SecretView::Former { .. } => true,
    };
    is_recorded || may_be_in_secret || observed.desired.adopts
}
