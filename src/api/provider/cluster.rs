//! The cluster-wide provider, and the namespaces that may use it.

#![expect(clippy::duplicated_attributes, reason = "the columns of a table repeat their type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{NamespaceRule, ProviderSpec, ProviderStatus};
use crate::api::schema;

/// A provider, and the namespaces that may use it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "servicekeys.dev",
    version = "v1alpha1",
    kind = "ClusterKeyProvider",
    plural = "clusterkeyproviders",
    shortname = "ckp",
    category = "servicekeys",
    status = "ProviderStatus",
    derive = "PartialEq",
    doc = "The remote side that creates the keys of ServiceKeys in all allowed namespaces, and the login to it.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the remote side can be reached with the login"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "The reason of the condition Ready"
    ),
    printcolumn(
        name = "URL",
        type_ = "string",
        json_path = ".spec['openServiceBroker','cloudFoundry','ibmCloud']['url','apiUrl','resourceControllerUrl']",
        description = "The remote side"
    ),
    printcolumn(
        name = "Orphans",
        type_ = "integer",
        json_path = ".status.orphans.count",
        priority = 1,
        description = "Keys with this operator's mark but without a ServiceKey"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = of_this_backend("cloudFoundry", "a Cloud Foundry"),
    validation = of_this_backend("ibmCloud", "IBM Cloud")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterKeyProviderSpec {
    /// The remote side.
    #[serde(flatten)]
    pub provider: ProviderSpec,

    /// The namespaces whose ServiceKeys may use this provider: those in `names`, and those that `selector` matches;
    /// `{}` allows all. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,

    /// Limits for the ServiceKeys of each namespace. Only the first rule whose `namespaces` match applies: put the
    /// specific rules first, and the general one last. A namespace that no rule matches may do everything except
    /// `adoption` and `restore`. A rule that becomes stricter revokes nothing: existing keys stay, and no further ones
    /// are created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rules: Vec<NamespaceRule>,
}

/// A limit for another kind of remote side would have no effect.
fn of_this_backend(field: &str, backend: &str) -> kube::core::Rule {
    kube::core::Rule::new(format!(
        "!has(self.rules) || has(self.{field}) || self.rules.all(rule, !has(rule.{field}))"
    ))
    .message(
        format!("`rules[].{field}` limits keys of {backend}, and this provider creates others: remove it")
            .as_str(),
    )
    .field_path(".rules")
}

/// A choice of namespaces. Without names and selector, all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// Names of namespaces. An empty list is refused, so that a list that a template left empty does not allow all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 63)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(name, !format.dns1123Label().validate(name).hasValue())").message(
            "write names of namespaces: at most 63 lower-case letters, digits and `-`, beginning and ending with a \
             letter or digit; patterns are not supported, use `selector`"
        )
    )]
    pub names: Vec<String>,

    /// Labels of namespaces. The empty selector matches all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,
}
