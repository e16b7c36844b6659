//! A Cloud Foundry, and the login to it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OrphanPolicy;
use crate::api::{
    reference::{SecretLogin, SecretRef},
    rules,
};

/// A Cloud Foundry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::together("organization", "space"))]
#[serde(rename_all = "camelCase")]
pub struct CloudFoundrySpec {
    /// URL of the Cloud Foundry API, as `cf target` shows it, without `/v3`.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::base_url())]
    pub api_url: String,

    /// URL of the UAA, required if the API names none, or one that is not below the API's own domain. The login is sent
    /// there. Default: the UAA that the API names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::base_url())]
    pub uaa_url: Option<String>,

    /// The login: exactly one of `password`, `clientCredentials` and `bearer`.
    pub auth: CloudFoundryAuth,

    /// Name of the organization in which service instances are looked up by name; requires `space`. Without both,
    /// ServiceKeys name their instances by `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::one_line())]
    pub organization: Option<String>,

    /// Name of the space in which service instances are looked up by name; requires `organization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::one_line())]
    pub space: Option<String>,

    /// The instances that ServiceKeys may name by `id`: those that belong to `space` (`InSpace`), or all that the login
    /// sees (`Anywhere`). Without `space`, all. Default: `InSpace`.
    #[serde(default)]
    pub instances_by_id: InstancesById,

    /// The treatment of keys that carry this operator's mark but have no ServiceKey: `Report` them in status, metric
    /// and event, or `Delete` them. Default: `Report`.
    #[serde(default)]
    pub orphans: OrphanPolicy,

    /// Clusters that no longer exist, and whose keys may be adopted (`adoption: IfExists`) by ServiceKeys in namespaces
    /// of the same names. Each is the UID of the cluster's namespace `kube-system`, or its first eight digits, as the
    /// keys' labels show them. Keys of other clusters are not adopted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 8, max = 36)))]
    #[x_kube(validation = rules::clusters())]
    pub adopt_from_clusters: Vec<String>,
}

/// The instances of a Cloud Foundry that may be named by their GUIDs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum InstancesById {
    /// Instances that belong to the provider's space.
    #[default]
    InSpace,
    /// All instances that the login sees.
    Anywhere,
}

/// The login to a Cloud Foundry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::exactly_one(
    &["password", "clientCredentials", "bearer"],
    "write exactly one of `password`, `clientCredentials` and `bearer`"
))]
#[serde(rename_all = "camelCase")]
pub struct CloudFoundryAuth {
    /// A user's name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<CloudFoundryPassword>,

    /// A UAA client. The Secret has the entries `clientId` and `clientSecret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_credentials: Option<SecretLogin>,

    /// An access token, sent unchanged. The Secret has the entry `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretLogin>,
}

/// A user of a Cloud Foundry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudFoundryPassword {
    /// The Secret with the entries `username` and `password`. For a KeyProvider it is in the same namespace; for a
    /// ClusterKeyProvider in the operator's (`--cluster-resource-namespace`).
    pub secret_ref: SecretRef,

    /// The identity provider that knows the user, as in `cf login --origin`. Default: UAA chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::one_line())]
    pub origin: Option<String>,
}
