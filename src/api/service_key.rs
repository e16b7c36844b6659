//! `ServiceKey`: the desired state of one set of credentials.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    duration::Duration, ibm_access::IbmCloudKey, reference::ProviderRef, reference::SecretKeyRef, rules,
    schema, secret::SecretSpec, status::ServiceKeyStatus, verification::Verification,
};

/// The desired state: a key for one service instance, with its credentials in one Secret.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "servicekeys.dev",
    version = "v1alpha1",
    kind = "ServiceKey",
    plural = "servicekeys",
    shortname = "skey",
    category = "servicekeys",
    namespaced,
    status = "ServiceKeyStatus",
    derive = "PartialEq",
    doc = "One set of credentials for a service instance: the operator creates one key at the remote side, stores \
           its credentials in one Secret, and revokes the key when the ServiceKey is deleted.",
    selectable = ".spec.providerRef.kind",
    selectable = ".spec.providerRef.name",
    selectable = ".spec.secret.name",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the Secret contains credentials that work"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "The reason of the condition Ready"
    ),
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = ".spec.providerRef.name",
        description = "The provider of the key"
    ),
    printcolumn(
        name = "Instance",
        type_ = "string",
        json_path = ".spec.instance['name','id','crn']",
        description = "The service instance that the key is for"
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".status.binding.name",
        description = "The Secret that contains the credentials"
    ),
    printcolumn(
        name = "Rotates",
        type_ = "string",
        json_path = ".status.nextRotation",
        description = "When the next key replaces this one"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Key",
        type_ = "string",
        json_path = ".status.key['name','id']",
        description = "The name or id of the key at the remote side",
        priority = 1
    ),
    validation = secret_name_stays()
)]
#[x_kube(
    validation = rules::immutable("providerRef"),
    validation = rules::immutable("instance"),
    validation = rules::immutable_optional("keyName"),
    validation = rules::immutable_optional("ibmCloud"),
    validation = Rule::new("self.adoption != 'IfExists' || has(self.keyName)")
        .message("`adoption: IfExists` adopts the key that `keyName` names: write `keyName`")
        .field_path(".adoption"),
    validation = Rule::new("self.secret.deletionPolicy != 'Retain' || self.deletionPolicy == 'Retain'")
        .message("a Secret is useful only while its key works: also write `spec.deletionPolicy: Retain`, or leave \
                  `secret.deletionPolicy` out")
        .field_path(".secret.deletionPolicy"),
    validation = Rule::new("self.secret.type == oldSelf.secret.type")
        .message(rules::immutable_message("secret.type"))
        .field_path(".secret.type")
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceKeySpec {
    /// The provider that creates the key. Can't be changed.
    pub provider_ref: ProviderRef,

    /// The service instance that the key is for. Can't be changed.
    pub instance: Instance,

    /// The key's name at the remote side, if keys have names there. From the second key on, after a rotation, the key's
    /// number is appended. IBM Cloud allows many keys of one name. There the operator's mark is appended from the first
    /// key on: `-sk`, the cluster, the ServiceKey's UID and the key's number. Characters that are not allowed in names
    /// become `-`. Can't be changed. Default: a name built from the ServiceKey's namespace, name and UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::one_line())]
    pub key_name: Option<String>,

    /// Parameters for the remote side, passed on unchanged. If they change, the operator creates a new key. All users
    /// who may read the ServiceKey can read them: put secret values into `parametersFrom`. At most 32 levels, 64 KiB
    /// and 2,000 values as JSON.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "schema::free_form")]
    pub parameters: Map<String, Value>,

    /// Further parameters, each a JSON object in an entry of a Secret. Later ones override earlier ones, and
    /// `parameters`, field by field at the top level. All together at most 32 levels, 64 KiB and 2,000 values as JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub parameters_from: Vec<ParametersSource>,

    /// The Secret that receives the credentials.
    #[serde(default)]
    pub secret: SecretSpec,

    /// The schedule and the method of replacing the key with a new one. Default: never, unless a key expires: the
    /// remote side says so, or a certificate in the credentials ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,

    /// Whether to adopt an existing key of this name at the remote side, created by hand or by another cluster. `Never`
    /// reports a conflict; `IfExists` adopts the key, and requires `keyName`. The operator rotates and revokes an
    /// adopted key like any other. It adopts a key that was created for a ServiceKey only if that ServiceKey was in the
    /// same namespace and is gone. Supported for Cloud Foundry and IBM Cloud. At IBM Cloud, the operator appends its
    /// mark to the name of an adopted key. With `Never` it creates another key of the same name there. Names at IBM
    /// Cloud do not contain a namespace, so a key that was created for a ServiceKey is adopted only through a
    /// KeyProvider. Default: `Never`.
    #[serde(default)]
    pub adoption: Adoption,

    /// The fate of the remote key when the ServiceKey is deleted: `Delete` revokes it, `Retain` leaves it at the remote
    /// side. May still be changed while the ServiceKey is being deleted. Default: `Delete`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// `true` stops all work on this ServiceKey, including deletion, until it is `false` again. The Secret and the
    /// remote key stay as they are. Default: `false`.
    #[serde(default)]
    pub suspend: bool,

    /// Options for keys of IBM Cloud only: role and access. With another provider the operator creates no key, and
    /// reports that in a condition. Can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ibm_cloud: Option<IbmCloudKey>,
}

/// The Secret's name is immutable, both in the spec and as the default from the `ServiceKey`'s own name.
fn secret_name_stays() -> kube::core::Rule {
    let name =
        |of: &str| format!("(has({of}.spec.secret.name) ? {of}.spec.secret.name : {of}.metadata.name)");
    kube::core::Rule::new(format!("{} == {}", name("self"), name("oldSelf")))
        .message(rules::immutable_message("secret.name"))
        .field_path(".spec.secret.name")
}

/// A service instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = rules::exactly_one(
        &["name", "id", "crn"],
        "name the service instance by exactly one of `name`, `id` and `crn`"
    ),
    validation = rules::together("offering", "plan"),
    validation = Rule::new("!has(self.offering) || has(self.id)").message(
        "`offering` and `plan` belong to an instance named by `id`: write `id`, or leave them out"
    ),
    validation = Rule::new("!has(self.annotations) || has(self.id)").message(
        "`annotations` belong to an instance named by `id`: write `id`, or leave them out"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// The instance's name, for Cloud Foundry (looked up in the provider's organization and space) and IBM Cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::one_line())]
    pub name: Option<String>,

    /// The instance's id (GUID). An Open Service Broker identifies instances only by id. With such a provider the
    /// operator creates no key without `id`, and reports that in the condition `Ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::one_line())]
    pub id: Option<String>,

    /// The instance's Cloud Resource Name, for IBM Cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^crn:[^[:space:]]+$')")
        .message("write a Cloud Resource Name, as `ibmcloud resource service-instance NAME` shows it: `crn:v1:…`"))]
    pub crn: Option<String>,

    /// Name or id of the instance's service offering in the broker's catalog; requires `plan`. For an Open Service
    /// Broker only. Default: the operator queries the broker for the instance, which not every broker supports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::one_line())]
    pub offering: Option<String>,

    /// Name or id of the instance's plan in the broker's catalog; requires `offering`. For an Open Service Broker only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::one_line())]
    pub plan: Option<String>,

    /// Further data about the instance for the broker, sent with each bind: `instance_annotations` in the `context`.
    /// For an Open Service Broker only. At most 32, each of at most 4096 characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    #[x_kube(validation = rules::qualified_keys("annotation"))]
    pub annotations: BTreeMap<String, String>,
}

impl ServiceKey {
    /// The UID, which every stored object has; `None` if it is missing or malformed.
    #[must_use]
    pub fn parsed_uid(&self) -> Option<Uuid> {
        Uuid::try_parse(self.metadata.uid.as_deref()?).ok()
    }

    /// The name of the Secret: `spec.secret.name`, or the name of the ServiceKey.
    #[must_use]
    pub fn secret_name(&self) -> String {
        self.spec.secret.name.clone().unwrap_or_else(|| self.name_any())
    }

    /// The workloads that restart after each rotation.
    #[must_use]
    pub fn restart_targets(&self) -> &[RestartTarget] {
        self.spec.rotation.as_ref().map_or(&[], |rotation| &rotation.restart)
    }
}

impl ServiceKeySpec {
    /// Whether another content of `parametersFrom` requires another key.
    #[must_use]
    pub fn follows_parameters(&self) -> bool {
        self.parameters_from.iter().any(|source| source.on_change == Some(OnChange::Rotate))
    }
}

/// A source of further parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParametersSource {
    /// An entry of a Secret in the ServiceKey's namespace that contains a JSON object.
    pub secret_key_ref: SecretKeyRef,

    /// See [`OnChange`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_change: Option<OnChange>,
}

/// Whether the operator creates the next key when the content of the entry has changed. With `Rotate`, it compares the
/// content every ten minutes. Default: `Ignore`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnChange {
    /// The present key stays. The next key gets the new content.
    Ignore,
    /// The operator creates the next key.
    Rotate,
}

/// The schedule and the method of replacing a key with a new one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = rules::duration_between("every", "1m", None),
    validation = overlap_ends_before_next(),
    validation = Rule::new("self.strategy != 'Replace' || !has(self.overlap)")
        .message("`strategy: Replace` revokes the previous key before it creates the next: leave `overlap` out, or \
                  write `strategy: Overlap`")
        .field_path(".overlap"),
    validation = rules::duration_between("maxOverlap", "1m", None),
    validation = max_overlap_is_longer(),
    validation = Rule::new("!has(self.maxOverlap) || (has(self.revokeWhen) && self.revokeWhen == 'ConsumersMoved')")
        .message("`maxOverlap` limits how long the previous key stays for its consumers: write `revokeWhen: \
                  ConsumersMoved`, or leave it out")
        .field_path(".maxOverlap"),
    validation = Rule::new("!has(self.revokeWhen) || self.revokeWhen != 'ConsumersMoved' || self.strategy != 'Replace'")
        .message("`strategy: Replace` revokes the previous key before it creates the next, so it can't wait for \
                  consumers: write `revokeWhen: OverlapEnds`, or leave it out")
        .field_path(".revokeWhen")
)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// The longest time for which a key is used before the next one replaces it, such as `720h`; at least `1m`. Each
    /// key is replaced up to a tenth of that earlier, but at most a day, so that keys that were created together are
    /// not replaced together. `status.nextRotation` shows the time. Default: no limit, or until the remote side's
    /// expiry of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,

    /// How long the previous key stays valid after a rotation, so that consumers can switch to the new one; shorter
    /// than `every`. `0s` revokes it as soon as the Secret contains the new one. Default: a tenth of `every`, or `1h`
    /// without `every`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Duration>,

    /// See [`RevokeWhen`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_when: Option<RevokeWhen>,

    /// How long the previous key stays valid at most after a rotation, even if pods use it; at least as long as
    /// `overlap`. Only with `revokeWhen: ConsumersMoved`. Default: four times the overlap, but at least `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_overlap: Option<Duration>,

    /// `Overlap` creates the next key before it revokes the previous one: consumers see no gap. `Replace` revokes
    /// first, for services that allow only one key. Consumers then have no working key until they have read the new
    /// one. Default: `Overlap`.
    #[serde(default)]
    pub strategy: RotationStrategy,

    /// The parts of the credentials that limit the life of a key, in addition to the expiry that the remote side
    /// reports. The operator replaces the key before the first of them ends. A change applies to the next key. Default:
    /// certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<ExpiryDetection>,

    /// The times in which scheduled rotations begin, such as those of a maintenance. A rotation that is due waits until
    /// one of them is open. It does not wait if the key would expire, if the user requests another key, or if the key is
    /// gone. Default: at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub windows: Vec<RotationWindow>,

    /// The check of new credentials before the Secret contains them, also of the first ones. Default: none. If the service
    /// does not accept a key in time, the operator revokes it, keeps the Secret as it is, and creates another key later.
    /// The administrator admits the networks of the services (`--verify-cidr`). Users who write this field need the right
    /// to `get` the ServiceKey's Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verification>,

    /// The workloads that read the credentials only when their pods start, such as from environment variables. The
    /// operator restarts each of them once after each rotation: half a minute after the Secret contains the next key, it
    /// sets an annotation in their pod template. Users who write this list need the right to `patch` the workloads.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub restart: Vec<RestartTarget>,
}

/// One workload in the ServiceKey's namespace, or several of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::exactly_one(&["name", "selector"], "write either `name` or `selector`"))]
#[serde(rename_all = "camelCase")]
pub struct RestartTarget {
    /// The kind of the workload, in the API group `apps`.
    pub kind: WorkloadKind,

    /// The name of the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub name: Option<String>,

    /// Selects workloads by their own labels. All targets together may select 100 workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,
}

/// The kinds of workloads that the operator can restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
}

/// A recurring time in which rotations begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::duration_between("duration", "1m", Some("168h")))]
#[serde(rename_all = "camelCase")]
pub struct RotationWindow {
    /// When the window opens, as a cron expression of five fields: minute, hour, day of the month, month, day of the
    /// week. `0 2 * * SAT` is each Saturday at 2 o'clock. If both days are given, either of them counts.
    #[schemars(length(min = 9, max = 100))]
    #[x_kube(validation = rules::cron())]
    pub schedule: String,

    /// How long the window is open, such as `4h`; from `1m` to `168h`.
    pub duration: Duration,

    /// The time zone of `schedule`, by its name in the IANA database, such as `Europe/Berlin`. Default: `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = rules::one_line())]
    pub time_zone: Option<String>,
}

/// The parts of credentials whose end is the end of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExpiryDetection {
    /// `Detect`: the ends of X.509 certificates in PEM count, if they are no authorities, and if their private key is in
    /// the credentials too. `Ignore`: they do not. Default: `Detect`.
    #[serde(default)]
    pub certificates: CertificateExpiry,

    /// JSON Pointers (RFC 6901) to JSON Web Tokens in the credentials, such as `/access_token` or `/uaa/token`. Their
    /// claim `exp` counts. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = rules::json_pointers())]
    pub tokens: Vec<String>,
}

/// Whether the ends of certificates count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CertificateExpiry {
    /// The earliest end limits the key.
    #[default]
    Detect,
    /// The ends do not count.
    Ignore,
}

fn overlap_ends_before_next() -> kube::core::Rule {
    let (every, overlap) = (rules::is_duration("self.every"), rules::is_duration("self.overlap"));
    kube::core::Rule::new(format!(
        "!has(self.every) || !has(self.overlap) || !{every} || !{overlap} \
         || duration(self.overlap) < duration(self.every)"
    ))
    .message("`overlap` must be shorter than `every`, or previous keys would pile up")
    .field_path(".overlap")
}

fn max_overlap_is_longer() -> kube::core::Rule {
    let (most, overlap) = (rules::is_duration("self.maxOverlap"), rules::is_duration("self.overlap"));
    kube::core::Rule::new(format!(
        "!has(self.maxOverlap) || !has(self.overlap) || !{most} || !{overlap} \
         || duration(self.maxOverlap) >= duration(self.overlap)"
    ))
    .message("`maxOverlap` must be at least as long as `overlap`")
    .field_path(".maxOverlap")
}

impl Rotation {
    /// How long the previous key stays at most while pods may use it: the value in the spec, or the default that
    /// `maxOverlap` documents. `None` if the operator does not look at pods.
    #[must_use]
    pub fn max_overlap(&self) -> Option<std::time::Duration> {
        const SHORTEST_DEFAULT: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
        let looks = self.revoke_when == Some(RevokeWhen::ConsumersMoved)
            && self.strategy != RotationStrategy::Replace;
        let default = || self.overlap().saturating_mul(4).max(SHORTEST_DEFAULT);
        looks.then(|| self.max_overlap.map_or_else(default, Duration::get).max(self.overlap()))
    }

    /// How long the previous key stays valid: the value in the spec, or the default that `overlap` documents.
    #[must_use]
    pub fn overlap(&self) -> std::time::Duration {
        if self.strategy == RotationStrategy::Replace {
            return std::time::Duration::ZERO;
        }
        match (self.overlap, self.every) {
            (Some(overlap), _) => overlap.get(),
            (None, Some(every)) => every.get() / 10,
            (None, None) => std::time::Duration::from_secs(3600),
        }
    }
}

/// When the previous key is revoked. `OverlapEnds`: at the end of `overlap`. `ConsumersMoved`: then the operator looks at
/// the pods of the namespace, and revokes the key only when no pod may use it. A pod uses the Secret in its environment
/// or in a volume, and started before the rotation. This needs the chart's value `consumers.enabled`. Default:
/// `OverlapEnds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RevokeWhen {
    /// At the end of the overlap.
    OverlapEnds,
    /// At the end of the overlap, if no pod may use it.
    ConsumersMoved,
}

/// The order of creating the next key and revoking the previous one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RotationStrategy {
    /// Create the next key, then revoke the previous one.
    #[default]
    Overlap,
    /// Revoke the previous key, then create the next one.
    Replace,
}

/// The treatment of an existing remote key of this name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    /// Report a conflict and do not change the key.
    #[default]
    Never,
    /// Adopt the key.
    IfExists,
}

/// The fate of the remote key, or of the Secret, when the `ServiceKey` is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The key is revoked, or the Secret deleted.
    #[default]
    Delete,
    /// The key or the Secret stays.
    Retain,
}
