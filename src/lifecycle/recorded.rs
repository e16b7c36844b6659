//! What the status of a ServiceKey records of its remote keys. It survives a restart of the operator.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Inputs, Observed, Operation, OperationStage, Sequence, full_second,
    operation::late_until,
    rotation::{after, overlap_of},
};

/// The ids of an offering and a plan in a broker's catalog. A broker wants both when it revokes a key, and catalogs change. So
/// the operator notes them before it creates the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanIds {
    /// The id of the offering.
    pub service_id: String,
    /// The id of the plan.
    pub plan_id: String,
}

/// One remote key, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRecord {
    /// Its number within the ServiceKey.
    pub sequence: Sequence,
    /// The remote side's id of it: derived, or confirmed by the mark that the remote side shows. `None` where it is still to
    /// be found.
    pub id: Option<String>,
    /// The remote side's name of it, where it has names.
    pub name: Option<String>,
    /// Its role, where keys have roles.
    pub role: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it, where the remote side says.
    pub created_by: Option<String>,
    /// When it stops working by itself.
    pub expires_at: Option<Timestamp>,
    /// By when the remote side wants it to be rotated.
    pub renew_before: Option<Timestamp>,
    /// Until when an earlier request for it, whose answer was lost, may still take effect: revoked before, it might
    /// come back.
    pub late_until: Option<Timestamp>,
    /// Digest of the fields that it was made from.
    pub inputs: Inputs,
    /// The ids of its plan when it was created, where the operator noted them.
    pub plan_ids: Option<PlanIds>,
    /// Whether its credentials are those of the key that it replaced.
    pub same_credentials: bool,
}

/// A key that was replaced and is still to be revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PreviousKey {
    /// Its number within the ServiceKey.
    pub sequence: Sequence,
    /// The remote side's id of it, where it was ever told.
    pub id: Option<String>,
    /// The remote side's name of it, where it has names.
    pub name: Option<String>,
    /// When it is to be revoked; `None`: no time, because a revocation could end the same credentials of the current key.
    pub revoke_at: Option<Timestamp>,
    /// As of the key when it was current.
    pub late_until: Option<Timestamp>,
    /// As of the key when it was current.
    pub plan_ids: Option<PlanIds>,
}

/// What the ServiceKey's status remembers of its remote keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recorded {
    /// The key whose credentials are in the Secret.
    pub key: Option<KeyRecord>,
    /// Keys before it that still exist.
    pub previous: Vec<PreviousKey>,
    /// A key after it that may exist already.
    pub operation: Option<Operation>,
    /// The loss of `key`.
    pub loss: Option<Loss>,
    /// The UID of the ServiceKey that this one was restored from, whose keys these are.
    pub former: Option<Uuid>,
}

/// The end of the current key at the remote side, while the Secret still holds its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// When the operator found it out.
    pub since: Timestamp,
    /// Why the key is gone.
    pub cause: LossCause,
}

impl Loss {
    /// The operator finds now that the current key is gone.
    pub(super) fn found(observed: &Observed, cause: LossCause) -> Self {
        Self { since: full_second(observed.now), cause }
    }
}

/// Why a key is gone before another one took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossCause {
    /// The remote side lost it, or another tool revoked it.
    Lost,
    /// The operator revoked it to make room for the next one.
    Revoked,
}

impl Recorded {
    /// The current key, if it has this number.
    #[must_use]
    pub fn current(&self, sequence: Sequence) -> Option<&KeyRecord> {
        self.key.as_ref().filter(|key| key.sequence == sequence)
    }

    /// The loss of this key, if it is the current one.
    #[must_use]
    pub fn loss_of(&self, sequence: Sequence) -> Option<Loss> {
        self.current(sequence).and(self.loss)
    }

    /// Whether the current key is being revoked to make room for the next one.
    #[must_use]
    pub fn makes_room(&self) -> bool {
        self.operation.as_ref().is_some_and(|operation| operation.stage == OperationStage::RevokeFirst)
    }

    /// The key after the current one that may exist already.
    #[must_use]
    pub fn attempt(&self) -> Option<Sequence> {
        self.operation.as_ref().map(|operation| operation.sequence)
    }
}

/// Keys that were replaced and may still exist: before another one is made, the oldest goes.
const MOST_REPLACED: u32 = 2;

impl Recorded {
    /// The record once the Secret holds the credentials of `key`. The key before it stays valid for the overlap. A key that
    /// was replaced even earlier is revoked at once, so that there are never more than the previous, the current and the
    /// next. A key that is gone has no overlap; the operator confirms its end as it does after a revocation.
    ///
    /// A record that is older than the Secret lacks the keys in between. They count as replaced as well, and a request for
    /// them may still take effect until `late_until`.
    #[must_use]
    pub fn advanced_to(&self, key: &KeyRecord, observed: &Observed) -> Self {
        let Observed { desired, now, grace, .. } = observed;
        let plan_ids = key.plan_ids.clone().or_else(|| observed.noted(key.sequence));
        let mut recorded = Self {
            key: Some(KeyRecord { plan_ids, ..key.clone() }),
            previous: self.previous.clone(),
            operation: self.operation.clone().filter(|operation| operation.sequence > key.sequence),
            loss: self.loss_of(key.sequence),
            former: self.former,
        };
        // The last key before this one, whose credentials may be the same.
        let mut shared = None;
        if let Some(replaced) = self.key.as_ref().filter(|known| known.sequence < key.sequence) {
            let is_gone = self.loss_of(replaced.sequence).is_some();
            let overlap = if is_gone { Duration::ZERO } else { overlap_of(observed, replaced, key) };
            // The id of one that is gone is of no more use: nothing else is to be looked at by it.
            let known = Some(replaced).filter(|_| !is_gone);
            recorded.end_overlaps(key, *now, overlap);
            // A request for it may have been given up since it was stored.
            let late_until = late_until(observed, replaced.sequence).map(full_second);
            recorded.replace(replaced.sequence, known, late_until, *now, overlap).plan_ids =
                replaced.plan_ids.clone();
            shared = Some(replaced.sequence).filter(|_| !is_gone);
        }
        for skipped in self.skipped(key.sequence) {
            shared = Some(skipped);
            recorded.end_overlaps(key, *now, desired.rotation.overlap);
            let late_until = grace.unknown_until.map(full_second);
            recorded.replace(skipped, None, late_until, *now, desired.rotation.overlap);
        }
        if key.same_credentials
            && let Some(twin) =
                recorded.previous.iter_mut().find(|previous| Some(previous.sequence) == shared)
        {
            twin.revoke_at = None;
        }
        recorded
    }

    /// The keys before the one of this number that an older record lacks. There were never more than two.
    #[must_use]
    pub fn skipped(&self, current: Sequence) -> Vec<Sequence> {
        let previous = self.previous.iter().map(|key| key.sequence);
        let newest = previous.chain(self.key.as_ref().map(|key| key.sequence)).max();
        let unknown = newest.map_or(Sequence::FIRST, Sequence::next).number();
        let oldest = current.number().saturating_sub(MOST_REPLACED).max(unknown);
        (oldest..current.number()).filter_map(Sequence::new).collect()
    }

    /// Ends the overlap of what was replaced so far. A key with the same credentials as the one that is replaced now stays
    /// with it, and goes with it when the next key has others.
    fn end_overlaps(&mut self, next: &KeyRecord, now: Timestamp, overlap: Duration) {
        for replaced in &mut self.previous {
            replaced.revoke_at = match replaced.revoke_at {
                Some(time) => Some(time.min(full_second(now))),
                None if next.same_credentials => None,
                None => Some(after(now, overlap)),
            };
        }
    }

    /// Notes a key as replaced: it is revoked when the overlap is over. Returns what is noted of it.
    pub fn replace(
        &mut self,
        sequence: Sequence,
        key: Option<&KeyRecord>,
        late_until: Option<Timestamp>,
        now: Timestamp,
        overlap: Duration,
    ) -> &mut PreviousKey {
        let place = self.previous.len();
        self.previous.push(PreviousKey {
            sequence,
            id: key.and_then(|key| key.id.clone()),
            name: key.and_then(|key| key.name.clone()),
            plan_ids: None,
            late_until,
            revoke_at: Some(after(now, overlap)),
        });
        &mut self.previous[place]
    }
}
