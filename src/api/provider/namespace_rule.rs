//! Limits of a ClusterKeyProvider for the namespaces that it allows.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AllowedNamespaces;

/// Limits for the ServiceKeys of some namespaces that use a ClusterKeyProvider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceRule {
    /// The namespaces that the rule applies to: those in `names`, and those that `selector` matches; `{}` means all.
    /// The rule does not allow them to use the provider; `allowedNamespaces` does. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<AllowedNamespaces>,

    /// The service instances that keys may be created for. Default: all that the login sees; for a Cloud Foundry,
    /// within the limits of `cloudFoundry.instancesById`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<InstancePatterns>,

    /// The number of ServiceKeys that each namespace may have with this provider, from 0 to 10000. The oldest ones
    /// count first. The others wait and report that in a condition. During a rotation each ServiceKey has up to three
    /// keys. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_keys: Option<u32>,

    /// Whether ServiceKeys may adopt existing keys at the remote side (`adoption: IfExists`). Default: `Deny`.
    #[serde(default = "deny")]
    pub adoption: Permission,

    /// Whether ServiceKeys may leave their keys at the remote side when they are deleted (`deletionPolicy: Retain`).
    /// With `Deny` the operator revokes the keys anyway. Default: `Allow`.
    #[serde(default = "allow")]
    pub retain: Permission,

    /// Whether the annotation `servicekeys.dev/abandon` abandons keys that can't be revoked. With `Deny` the operator
    /// ignores the annotation: such a ServiceKey, and its namespace, stay until the keys are revoked. Default: `Allow`.
    #[serde(default = "allow")]
    pub abandon: Permission,

    /// Whether ServiceKeys that were restored from a backup with new UIDs may continue with the keys that their Secrets
    /// name. This applies to an Open Service Broker and to IBM Cloud, where no mark of a key shows the namespace and
    /// the name of its ServiceKey. A user who may edit such a Secret can then read and revoke keys of ServiceKeys that
    /// no longer exist. Default: `Deny`.
    #[serde(default = "deny")]
    pub restore: Permission,

    /// Limits for keys of a Cloud Foundry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_foundry: Option<CloudFoundryRule>,

    /// Limits for keys of IBM Cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ibm_cloud: Option<IbmCloudRule>,
}

const fn allow() -> Permission {
    Permission::Allow
}

const fn deny() -> Permission {
    Permission::Deny
}

/// Whether an action is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Permission {
    /// The action is permitted.
    Allow,
    /// The action is not permitted.
    Deny,
}

/// Patterns for the fields of a ServiceKey's `instance`. An instance that is named by a field without patterns is
/// refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.names) || has(self.ids) || has(self.crns)").message(
    "write at least one of `names`, `ids` and `crns`, or leave `instances` out to permit all"
))]
#[serde(rename_all = "camelCase")]
pub struct InstancePatterns {
    /// Patterns for `instance.name`. A `*` matches any text; every other character matches itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<String>,

    /// Patterns for `instance.id`, as for `names`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub ids: Vec<String>,

    /// Patterns for `instance.crn`, as for `names`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub crns: Vec<String>,
}

/// Limits for keys of a Cloud Foundry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudFoundryRule {
    /// GUIDs of the spaces whose instances keys may be created for, as `cf space NAME --guid` shows them. They replace
    /// the limits of `cloudFoundry.instancesById`, and also apply to instances that are named by `name`.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub spaces: Vec<String>,
}

/// Limits for keys of IBM Cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.roles) || has(self.serviceIds)").message(
        "write at least one of `roles` and `serviceIds`, or leave `ibmCloud` out to permit all"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct IbmCloudRule {
    /// The roles that keys, and service IDs that are created for them, may have: names or CRNs, compared with the text
    /// in the ServiceKey. A key without `role` and `access` has the role `Reader`. `NONE` stands for keys without a
    /// role: those that request none, and those of services without service roles. Such services give each key all
    /// permissions. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = Rule::new("self.all(role, role != '*')")
        .message("patterns are not supported here: list the roles, or leave `roles` out to permit all"))]
    pub roles: Vec<String>,

    /// Patterns for the CRNs of existing service IDs that keys may act as, whether they are named in `ibmCloud.access`
    /// or in a parameter. A `*` matches any text. Default: all, or none if `roles` is given, because an existing
    /// service ID has roles of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub service_ids: Vec<String>,
}
