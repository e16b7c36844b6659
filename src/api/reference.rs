//! References to other objects. None has a namespace: a namespaced object references objects in its own namespace, and
//! a cluster-wide one those in the operator's namespace.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// A Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub name: String,
}

/// A login that needs only the entries of one Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretLogin {
    /// The Secret that contains the login. For a KeyProvider it is in the same namespace; for a ClusterKeyProvider in
    /// the operator's (`--cluster-resource-namespace`).
    pub secret_ref: SecretRef,
}

/// One entry of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret, in the ServiceKey's namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub name: String,
    /// Name of the entry in the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("write the name of an entry of a Secret: letters, digits, `-`, `_` and `.`"))]
    pub key: String,
}

/// The provider of a ServiceKey's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderRef {
    /// `KeyProvider`, which is in the ServiceKey's namespace, or `ClusterKeyProvider`, which must list that namespace
    /// in its `allowedNamespaces`. Default: `KeyProvider`.
    #[serde(default)]
    pub kind: ProviderKind,
    /// Name of the provider.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub name: String,
}

/// The two kinds of provider.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ProviderKind {
    /// A provider in the ServiceKey's own namespace.
    #[default]
    KeyProvider,
    /// A provider for all namespaces that it allows.
    ClusterKeyProvider,
}

impl ProviderKind {
    /// The kind as it is written in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyProvider => "KeyProvider",
            Self::ClusterKeyProvider => "ClusterKeyProvider",
        }
    }
}
