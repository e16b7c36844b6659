//! What the operator reports about a `ServiceKey`. It never holds credentials.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator did, found, and will do next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceKeyStatus {
    /// The `metadata.generation` that this status is about; -1 before the operator has seen the ServiceKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: the Secret holds credentials that work. `Rotating`: a new key is replacing the current one.
    /// `Stalled`: nothing more will happen until a person changes something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The Secret with the credentials, as servicebinding.io's Provisioned Service names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,

    /// The Secret as the operator last wrote it, or found it to be as it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretStatus>,

    /// The key whose credentials are in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyStatus>,

    /// Keys that were replaced and are not yet revoked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["sequence".into()]))]
    pub previous_keys: Vec<PreviousKeyStatus>,

    /// Where the instance is: its account at IBM Cloud, the GUID of its space at a Cloud Foundry. As long as the login sees
    /// that, an instance that it does not see is gone, and so are its keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub instance_place: Option<String>,

    /// When the next key replaces the current one: before the age of `rotation.every`, when the remote side wants it,
    /// or in good time before it expires there, whichever comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Time>,

    /// What is under way at the remote side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationStatus>,

    /// The UID of the ServiceKey that this one was restored from. This one goes on with the keys of the former ServiceKey:
    /// the ids and names of all its keys follow from this UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub former_uid: Option<String>,
}

/// A Secret that holds credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// Name of the Secret.
    pub name: String,
}

/// A Secret in one of its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// Name of the Secret.
    pub name: String,
    /// Its `metadata.resourceVersion` then. As long as it is the same, the Secret need not be read.
    pub resource_version: String,
}

/// A key at the remote side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// The key's number within this ServiceKey: 1 for the first, one more after each rotation.
    #[schemars(range(min = 1))]
    pub sequence: u32,
    /// The key's id at the remote side; empty until the operator has found the key there by its mark.
    pub id: String,
    /// The key's name at the remote side, where keys have names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The Cloud Resource Name of the key's role, for IBM Cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// When the key was made.
    pub created_at: Time,
    /// Who made the key, as the remote side calls them, where it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When the key stops working, where the remote side says. A time that is not after `createdAt` is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When the key should be replaced at the latest, where the remote side says. A time that is not after `createdAt` is
    /// ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<Time>,
    /// Until when an earlier request for this key, whose answer was lost, may still take effect. Revoked before, the
    /// key might come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_until: Option<Time>,
    /// Digest of the fields of the spec that the key was made from. When they change, so does the key.
    pub inputs: String,
    /// The ids of the key's offering and plan in the broker's catalog when the key was created. The operator revokes the key by
    /// these ids, also when the catalog has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_ids: Option<PlanIdsStatus>,
    /// Whether the key has the credentials of the key that it replaced. Such a key is not rotated by age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_credentials: Option<bool>,
    /// Set where the remote side has the key no more. The next one is about to take its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<KeyGone>,
}

/// That a key is gone whose credentials are still in the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyGone {
    /// When that was found out, or done.
    pub since: Time,
    /// `Lost`: it went away, and nobody had it revoked here. `Revoked`: it made room for the next one.
    pub why: GoneCause,
}

/// How a key went away before another one took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GoneCause {
    /// Nobody had it revoked here.
    Lost,
    /// It made room for the next one.
    Revoked,
}

/// A key that was replaced and is not yet revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousKeyStatus {
    /// The key's number within this ServiceKey.
    #[schemars(range(min = 1))]
    pub sequence: u32,
    /// The key's id at the remote side, where the operator was ever told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The key's name at the remote side, where keys have names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When the key will be revoked. Missing where the current key has the same credentials, which a revocation could end:
    /// the key is then revoked with the ServiceKey, or some time after a rotation that brings others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_at: Option<Time>,
    /// As of the key when it was current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_until: Option<Time>,
    /// As of the key when it was current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_ids: Option<PlanIdsStatus>,
}

/// The ids of an offering and a plan in the catalog of an Open Service Broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanIdsStatus {
    /// The id of the offering.
    #[schemars(length(max = 1024))]
    pub service_id: String,
    /// The id of the plan.
    #[schemars(length(max = 1024))]
    pub plan_id: String,
}

/// What is under way at the remote side. It is written down before it begins, whenever it could not be computed
/// after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus {
    /// `Bind` makes the key, `Unbind` revokes it; `CleanUp` revokes what a bind may have made whose answer was lost;
    /// `RevokeFirst` revokes the current key before this one is made.
    pub kind: OperationStatusKind,
    /// Number of the key that it is about.
    #[schemars(range(min = 1))]
    pub sequence: u32,
    /// What the remote side calls the operation; sent back to it when asking how far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10000))]
    pub token: Option<String>,
    /// When the remote side accepted it, where it works on it by itself; of a `CleanUp`, when the answer was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Digest of the fields of the spec that the key is made from, where the remote side works on it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<String>,
    /// The ids of the offering and the plan that the operator creates the key with, at an Open Service Broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_ids: Option<PlanIdsStatus>,
}

/// What can be under way at a remote side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OperationStatusKind {
    /// A key is being made.
    Bind,
    /// A key is being revoked.
    Unbind,
    /// The answer to a bind was lost: what it may have made is revoked.
    CleanUp,
    /// The current key is revoked before the next one is made.
    RevokeFirst,
}
