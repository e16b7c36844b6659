//! The record of a ServiceKey's remote keys in its status. It survives a restart of the operator.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Inputs, Lifetime, Observed, Operation, OperationStage, Sequence, Verification, WorkloadRestart,
    full_second,
    operation::late_until,
    rotation::{after, overlap_of},
};

/// The ids of an offering and a plan in a broker's catalog. A broker requires both when it revokes a key, and catalogs
/// change. So the operator records them before it creates the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanIds {
    pub service_id: String,
    pub plan_id: String,
}

/// The record of one remote key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRecord {
    /// The key's number within the ServiceKey.
    pub sequence: Sequence,
    /// The key's id at the remote side: derived, or confirmed by the mark that the remote side shows. `None` if the
    /// operator has not found it yet.
    pub id: Option<String>,
    /// The key's name at the remote side, if keys have names there.
    pub name: Option<String>,
    /// The key's role, if keys have roles.
    pub role: Option<String>,
    pub created_at: Timestamp,
    /// The creator of the key, if the remote side names one.
    pub created_by: Option<String>,
    pub lifetime: Lifetime,
    /// Until when an earlier request for this key, whose outcome is unknown, may still take effect. If the key is
    /// revoked before this time, the request might create it again.
    pub late_until: Option<Timestamp>,
    /// Digest of the fields that the key was created from.
    pub inputs: Inputs,
    /// The ids of the key's plan when it was created, if the operator recorded them.
    pub plan_ids: Option<PlanIds>,
    /// Whether its credentials are those of the key that it replaced.
    pub same_credentials: bool,
}

/// A key that was replaced and has to be revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PreviousKey {
    /// The key's number within the ServiceKey.
    pub sequence: Sequence,
    /// The key's id at the remote side, if the operator knows it.
    pub id: Option<String>,
    /// The key's name at the remote side, if keys have names there.
    pub name: Option<String>,
    /// When the operator revokes the key; `None` if a revocation could invalidate the same credentials of the current
    /// key.
    pub revoke_at: Option<Timestamp>,
    /// When the Secret got the next key, if the status has the time.
    pub replaced_at: Option<Timestamp>,
    /// The pods that may use the key although its overlap is over, in words.
    pub consumers: Option<String>,
    /// Until when the key stays at most for these pods.
    pub kept_until: Option<Timestamp>,
    /// The value of [`KeyRecord::late_until`] when this key was the current one.
    pub late_until: Option<Timestamp>,
    /// The value of [`KeyRecord::plan_ids`] when this key was the current one.
    pub plan_ids: Option<PlanIds>,
}

impl PreviousKey {
    /// Whether this key has to be gone before the operator creates the next key after `current`.
    ///
    /// Overlaps may end in any order, because users change them, and a key may be lost before older ones are revoked.
    /// So it is not enough to count the keys: only the three newest ones may exist. A record that was lost, or is older
    /// than the Secret, can then derive them from the number of the current key ([`Recorded::skipped`]).
    pub(super) fn is_in_the_way(&self, current: Sequence) -> bool {
        self.sequence.next() != current
    }
}

/// The part of the ServiceKey's status that later decisions depend on.
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
    /// The restart of workloads that has to follow the last rotation.
    pub restart: Option<WorkloadRestart>,
    /// The verification of a key after it, or its last failure.
    pub verification: Option<Verification>,
    /// The UID of the former ServiceKey that these keys were created for, if this one was restored from it.
    pub former: Option<Uuid>,
}

/// The loss of the current key at the remote side while the Secret still contains its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// When the operator noticed it.
    pub since: Timestamp,
    pub cause: LossCause,
}

impl Loss {
    /// A loss that the operator notices now.
    pub(super) fn found(observed: &Observed, cause: LossCause) -> Self {
        Self { since: full_second(observed.now), cause }
    }
}

/// Why a key is gone before another one replaced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossCause {
    /// The operator did not revoke it: the remote side lost it, or another tool revoked it.
    Lost,
    /// The operator revoked it before it creates the next one.
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

    /// Whether the operator revokes the current key before it creates the next one.
    #[must_use]
    pub fn revokes_first(&self) -> bool {
        self.operation.as_ref().is_some_and(|operation| operation.stage == OperationStage::RevokeFirst)
    }

    /// The recorded operation, if it is on the key of this number.
    #[must_use]
    pub(crate) fn operation_on(&self, sequence: Sequence) -> Option<&Operation> {
        self.operation.as_ref().filter(|operation| operation.sequence == sequence)
    }

    /// The key after the current one that may exist already: not as long as the current one has to be revoked first.
    #[must_use]
    pub(super) fn attempted_bind(&self) -> Option<Sequence> {
        self.attempt().filter(|_| !self.revokes_first())
    }

    /// The number of the next key, which the operator creates or is about to create.
    #[must_use]
    pub fn attempt(&self) -> Option<Sequence> {
        self.operation.as_ref().map(|operation| operation.sequence)
    }
}

/// The number of replaced keys that may still exist: the ones right before the current key.
const MOST_REPLACED: u32 = 2;

impl Recorded {
    /// The record after the Secret contains the credentials of `key`. The key before it stays valid for the overlap. A
    /// key that was replaced even earlier stays until its own overlap is over, so that at most two previous keys and the
    /// key exist. A key that is gone has no overlap; the operator confirms its loss as it does after a revocation.
    ///
    /// A record that is older than the Secret lacks the keys in between. They count as replaced as well, and a request
    /// for them may still take effect until `late_until`.
    #[must_use]
    pub fn advanced_to(&self, key: &KeyRecord, observed: &Observed) -> Self {
        let Observed { desired, now, grace, .. } = observed;
        let plan_ids = key.plan_ids.clone().or_else(|| observed.noted(key.sequence));
        let mut recorded = Self {
            key: Some(KeyRecord { plan_ids, ..key.clone() }),
            previous: self.previous.clone(),
            operation: self.operation.clone().filter(|operation| operation.sequence > key.sequence),
            loss: self.loss_of(key.sequence),
            restart: self.restart_with(key, observed),
            verification: self
                .verification
                .clone()
                .filter(|verification| verification.sequence > key.sequence),
            former: self.former,
        };
        // The last key before this one, which may have the same credentials.
        let mut shared = None;
        if let Some(replaced) = self.key.as_ref().filter(|known| known.sequence < key.sequence) {
            let is_gone = self.loss_of(replaced.sequence).is_some();
            let overlap = if is_gone { Duration::ZERO } else { overlap_of(observed, replaced, key) };
            // The id of a key that is gone is useless, because no other key may be found by it.
            let known = Some(replaced).filter(|_| !is_gone);
            recorded.end_overlaps(key, overlap, observed);
            // The operator may have given up a request for it since it was stored.
            let late_until = late_until(observed, replaced.sequence).map(full_second);
            recorded.replace(replaced.sequence, known, late_until, *now, overlap).plan_ids =
                replaced.plan_ids.clone();
            // No pod can use a key that is gone.
            let gone = recorded.previous.last_mut().filter(|_| is_gone);
            gone.into_iter().for_each(|gone| gone.replaced_at = None);
            shared = Some(replaced.sequence).filter(|_| !is_gone);
        }
        for skipped in self.skipped(key.sequence) {
            shared = Some(skipped);
            recorded.end_overlaps(key, desired.rotation.overlap, observed);
            let late_until = grace.unknown_until.map(full_second);
            recorded.replace(skipped, None, late_until, *now, desired.rotation.overlap);
        }
        if key.same_credentials
            && let Some(twin) =
                recorded.previous.iter_mut().find(|previous| Some(previous.sequence) == shared)
        {
            twin.revoke_at = None;
        }
        // The operator revokes older keys before it creates another one, so these are gone already.
        let surplus = recorded.previous.len().saturating_sub(MOST_REPLACED as usize);
        for gone in &mut recorded.previous[..surplus] {
            gone.revoke_at = gone.revoke_at.map(|time| time.min(full_second(*now)));
        }
        recorded
    }

    /// The restart of workloads after the Secret contains this key. Nothing is restarted for the first key, for one that
    /// has the credentials of the key before it, or if the status does not know what the Secret contained before.
    fn restart_with(&self, key: &KeyRecord, observed: &Observed) -> Option<WorkloadRestart> {
        let known = self.key.as_ref().filter(|_| observed.desired.restarts)?;
        let is_next = known.sequence < key.sequence && !key.same_credentials;
        let begun =
            || self.restart.clone().filter(|_| known.sequence == key.sequence || key.same_credentials);
        if is_next { Some(WorkloadRestart::begin(key.sequence, observed.now)) } else { begun() }
    }

    /// The keys before the one of this number that an older record lacks. All keys before these two were gone when the
    /// current key was created ([`PreviousKey::is_in_the_way`]).
    #[must_use]
    pub fn skipped(&self, current: Sequence) -> Vec<Sequence> {
        let previous = self.previous.iter().map(|key| key.sequence);
        let newest = previous.chain(self.key.as_ref().map(|key| key.sequence)).max();
        let unknown = newest.map_or(Sequence::FIRST, Sequence::next).number();
        let oldest = current.number().saturating_sub(MOST_REPLACED).max(unknown);
        (oldest..current.number()).filter_map(Sequence::new).collect()
    }

    /// Ends the overlap of the keys that were replaced so far, if the user wants none. A key with the same credentials as
    /// the key that is replaced now stays with it, and is revoked with it when the next key has others.
    fn end_overlaps(&mut self, next: &KeyRecord, overlap: Duration, observed: &Observed) {
        let now = observed.now;
        let ends_now = observed.desired.rotation.overlap.is_zero();
        for replaced in &mut self.previous {
            replaced.revoke_at = match replaced.revoke_at {
                Some(time) if ends_now => Some(time.min(full_second(now))),
                Some(time) => Some(time),
                None if next.same_credentials => None,
                None => {
                    // The Secret had its credentials until now.
                    replaced.replaced_at = Some(full_second(now));
                    Some(after(now, overlap))
                }
            };
        }
    }

    /// Records a key as replaced, to be revoked when the overlap is over. Returns its record.
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
            replaced_at: Some(full_second(now)),
            consumers: None,
            kept_until: None,
        });
        &mut self.previous[place]
    }
}
