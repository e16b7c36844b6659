//! What the status of a ServiceKey records of its remote keys. It survives a restart of the operator.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Inputs, Observed, Operation, OperationStage, Sequence, full_second};

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
    /// The key, where it was found to be gone.
    pub gone: Option<LostKey>,
    /// The UID of the ServiceKey that this one was restored from, whose keys these are.
    pub former: Option<Uuid>,
}

/// A key whose credentials are in the Secret, and which the remote side has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LostKey {
    /// Its number within the ServiceKey.
    pub sequence: Sequence,
    /// When that was found out.
    pub since: Timestamp,
    /// How it went away.
    pub why: LossCause,
}

impl LostKey {
    /// The operator finds now that this key is gone.
    pub(super) fn found(observed: &Observed, key: &KeyRecord, why: LossCause) -> Self {
        Self { sequence: key.sequence, since: full_second(observed.now), why }
    }
}

/// How a key went away before another one took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossCause {
    /// Nobody here had it revoked.
    Lost,
    /// It made room for the next one.
    Revoked,
}

impl Recorded {
    /// The current key, if it has this number.
    #[must_use]
    pub fn current(&self, sequence: Sequence) -> Option<&KeyRecord> {
        self.key.as_ref().filter(|key| key.sequence == sequence)
    }

    /// What is known of the departure of this key.
    #[must_use]
    pub fn departure(&self, sequence: Sequence) -> Option<LostKey> {
        self.gone.filter(|gone| gone.sequence == sequence)
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
