//! The status of a `ServiceKey`. It never contains credentials.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The results of the operator's work on the ServiceKey, and its next steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceKeyStatus {
    /// The `metadata.generation` that this status describes; -1 before the operator has seen the ServiceKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: the Secret contains credentials that work. `Rotating`: a new key is replacing the current one.
    /// `Stalled`: the operator makes no progress until a person changes something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The Secret with the credentials, in the format of a Provisioned Service of servicebinding.io.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,

    /// The version of the Secret that the operator last wrote, or found to be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretStatus>,

    /// The key whose credentials are in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyStatus>,

    /// Keys that were replaced and are not yet revoked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["sequence".into()]))]
    pub previous_keys: Vec<PreviousKeyStatus>,

    /// The location of the instance: its account at IBM Cloud, the GUID of its space at a Cloud Foundry. While the
    /// login sees that location, an instance that it does not see is gone, and so are its keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub instance_place: Option<String>,

    /// When the next key replaces the current one. This is before the age of `rotation.every`, at the time that the
    /// remote side requires, or well before the key expires, whichever comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Time>,

    /// The restart of workloads that follows the last rotation, until it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartStatus>,

    /// The check of a new key that has begun, or has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,

    /// The operation in progress at the remote side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationStatus>,

    /// The UID of the ServiceKey that this one was restored from. This one continues with the keys of the former
    /// ServiceKey: the ids and names of all its keys are derived from this UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub former_uid: Option<String>,
}

/// A Secret that contains credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// Name of the Secret.
    pub name: String,
}

/// One version of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// Name of the Secret.
    pub name: String,
    /// The Secret's `metadata.resourceVersion` in that version. While it is unchanged, the operator need not read the
    /// Secret.
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
    /// The key's name at the remote side, if keys have names there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The Cloud Resource Name of the key's role, for IBM Cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// When the key was created.
    pub created_at: Time,
    /// The creator of the key, as the remote side names it, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When the key stops working: the earliest of the time that the remote side says, and the ends of certificates and
    /// tokens in the credentials. A time that is not after `createdAt`, or a hundred years after it, is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The source of `expiresAt`. Missing if the remote side says the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_from: Option<ExpiryOrigin>,
    /// A further time that was ignored, or could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored_expiry: Option<IgnoredExpiry>,
    /// The latest time for replacing the key, if the remote side gives one. A time that is not after `createdAt`, or a
    /// hundred years after it, is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<Time>,
    /// Until when an earlier request for this key, whose outcome is unknown, may still take effect. If the key is
    /// revoked before this time, the request might create it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_until: Option<Time>,
    /// Digest of the fields of the spec that the key was created from. When they change, the operator creates another
    /// key.
    pub inputs: String,
    /// The ids of the key's offering and plan in the broker's catalog when the key was created. The operator revokes
    /// the key with these ids, even if the catalog has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_ids: Option<PlanIdsStatus>,
    /// Whether the key has the credentials of the key that it replaced. Such a key is not rotated by age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_credentials: Option<bool>,
    /// Set if the remote side no longer has the key. The next key is about to replace it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<KeyGone>,
}

/// The source of the time at which a key expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExpiryOrigin {
    /// `RemoteSide`: the remote side says the time. `Certificate`, `Token`: the end of a certificate or token in the
    /// credentials.
    pub source: ExpiryOriginKind,
    /// The JSON Pointer (RFC 6901) of the certificate or token in the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
}

/// The kinds of sources of an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ExpiryOriginKind {
    /// The remote side says the time.
    RemoteSide,
    /// A certificate in the credentials.
    Certificate,
    /// A token in the credentials.
    Token,
}

/// A time of expiry that does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IgnoredExpiry {
    /// The time; missing if it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// The source of the time.
    pub from: ExpiryOrigin,
}

/// The loss of a key whose credentials are still in the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyGone {
    /// When the operator noticed the loss, or revoked the key.
    pub since: Time,
    /// `Lost`: the key disappeared, and the operator did not revoke it. `Revoked`: the operator revoked it before it
    /// creates the next one.
    pub why: GoneCause,
}

/// Why the remote side no longer has a key that was not replaced yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GoneCause {
    /// The operator did not revoke it.
    Lost,
    /// The operator revoked it before it creates the next one.
    Revoked,
}

/// A key that was replaced and is not yet revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousKeyStatus {
    /// The key's number within this ServiceKey.
    #[schemars(range(min = 1))]
    pub sequence: u32,
    /// The key's id at the remote side, if the operator knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The key's name at the remote side, if keys have names there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When the operator will revoke the key. Missing if the current key has the same credentials, which a revocation
    /// could invalidate. The key is then revoked with the ServiceKey, or some time after a rotation that returns other
    /// credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_at: Option<Time>,
    /// When the Secret got the next key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_at: Option<Time>,
    /// The pods that may use the key although its overlap is over, in words. The operator looks at them again at
    /// `revokeAt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers: Option<String>,
    /// Until when the key stays at most for these pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<Time>,
    /// The value of `key.lateUntil` when this key was the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_until: Option<Time>,
    /// The value of `key.planIds` when this key was the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_ids: Option<PlanIdsStatus>,
}

/// A restart of the workloads in `spec.rotation.restart`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartStatus {
    /// The number of the key that the workloads have to read.
    #[schemars(range(min = 1))]
    pub sequence: u32,
    /// When the operator restarts the workloads, or tries again.
    pub due_at: Time,
    /// The number of attempts that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_attempts: Option<u32>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub problem: Option<String>,
}

/// The check of a new key, by `spec.rotation.verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// The number of the key.
    #[schemars(range(min = 1))]
    pub sequence: u32,
    /// When the first attempt with this probe began.
    pub since: Time,
    /// A digest of the probe.
    #[schemars(length(max = 64))]
    pub probe: String,
    /// How many keys of this number the service did not accept in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// When the operator creates another key. Missing while the check goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// Why the service did not accept the last key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub problem: Option<String>,
    /// Whether the remote side has confirmed that the last key is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<bool>,
    /// The value of `key.inputs` of the last key that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub inputs: Option<String>,
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

/// The operation in progress at the remote side. The operator records it before it begins, unless it can be derived
/// after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus {
    /// `Bind` creates the key, `Unbind` revokes it. `CleanUp` revokes a key before it is created again, because the
    /// outcome of a bind is unknown, or the key is of no use. `RevokeFirst` revokes the current key before this one is
    /// created.
    pub kind: OperationStatusKind,
    /// Number of the key that the operation is for.
    #[schemars(range(min = 1))]
    pub sequence: u32,
    /// The remote side's name for the operation, which the operator sends when it polls the state of the operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10000))]
    pub token: Option<String>,
    /// When the remote side accepted the operation, if it completes it asynchronously. For a `CleanUp`, when the
    /// outcome of the bind became unknown, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Digest of the fields of the spec that the key is created from, if the remote side completes the operation
    /// asynchronously.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<String>,
    /// The ids of the offering and the plan that the operator creates the key with, at an Open Service Broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_ids: Option<PlanIdsStatus>,
}

/// The kinds of operations at a remote side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OperationStatusKind {
    /// A key is being created.
    Bind,
    /// A key is being revoked.
    Unbind,
    /// A key is revoked before it is created again.
    CleanUp,
    /// The current key is revoked before the next one is created.
    RevokeFirst,
}
