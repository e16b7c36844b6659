//! IBM Cloud, and the login to it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::OrphanPolicy;
use crate::api::{reference::SecretLogin, rules};

/// An account of IBM Cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IbmCloudSpec {
    /// The login: exactly one of `apiKey` and `trustedProfile`.
    pub auth: IbmCloudAuth,

    /// URL of Identity and Access Management. Default: `https://iam.cloud.ibm.com`.
    #[serde(default = "iam_url")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::base_url())]
    pub iam_url: String,

    /// URL of the Resource Controller. Default: `https://resource-controller.cloud.ibm.com`.
    #[serde(default = "resource_controller_url")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::base_url())]
    pub resource_controller_url: String,

    /// The treatment of keys that carry this operator's mark but have no ServiceKey: `Report` them in status, metric
    /// and event, or `Delete` them. Default: `Report`.
    #[serde(default)]
    pub orphans: OrphanPolicy,

    /// Clusters that no longer exist, and whose keys may be adopted (`adoption: IfExists`) by ServiceKeys in namespaces
    /// of the same names. Each is the UID of the cluster's namespace `kube-system`, or its first eight digits, as the
    /// keys' names show them. Keys of other clusters are not adopted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 8, max = 36)))]
    #[x_kube(validation = rules::clusters())]
    pub adopt_from_clusters: Vec<String>,
}

fn iam_url() -> String {
    "https://iam.cloud.ibm.com".to_owned()
}

fn resource_controller_url() -> String {
    "https://resource-controller.cloud.ibm.com".to_owned()
}

/// The login to IBM Cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::exactly_one(
    &["apiKey", "trustedProfile"],
    "write exactly one of `apiKey` and `trustedProfile`"
))]
#[serde(rename_all = "camelCase")]
pub struct IbmCloudAuth {
    /// An API key. The Secret has the entry `apikey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretLogin>,

    /// A trusted profile, assumed with the service-account token of the operator's pod. Only a ClusterKeyProvider may
    /// use one, at IBM Cloud's own hosts or at those that the operator's `--ibm-cloud-host` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_profile: Option<TrustedProfile>,
}

/// A trusted profile, by its name or its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::exactly_one(
    &["name", "id"],
    "name the trusted profile by exactly one of `name` and `id`"
))]
#[serde(rename_all = "camelCase")]
pub struct TrustedProfile {
    /// Name of the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::one_line())]
    pub name: Option<String>,

    /// Id of the profile, such as `Profile-1a2b…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::one_line())]
    pub id: Option<String>,
}
