//! Options for keys of IBM Cloud only: a role, and an identity with its access policy.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Role and access of an IBM Cloud key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.role) || !has(self.access) || !has(self.access.roles)").message(
    "write either `role`, or `access.roles` for a service ID that is created for this key"
))]
#[serde(rename_all = "camelCase")]
pub struct IbmCloudKey {
    /// The key's role on the instance: a name such as `Reader`, `Writer` or `Manager`, a role's CRN, or `NONE` for a
    /// key without a role. Default: `Reader`; no role if the service has no service roles, such as a Cloud Database;
    /// `NONE` if `access` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::one_line())]
    pub role: Option<String>,

    /// The service ID that the key acts as. Default: IBM Cloud creates one for the key, with `role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<IbmCloudAccess>,
}

/// The value for a key without a role, in a ServiceKey and in a request to the Resource Controller.
pub const NO_ROLE: &str = "NONE";
/// The role of a key whose user named neither a role nor an access, if the service has this role.
pub const DEFAULT_ROLE: &str = "Reader";

/// The role that a ServiceKey requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedRole<'a> {
    /// The role with this name or CRN.
    Named(&'a str),
    /// No role.
    None,
    /// [`DEFAULT_ROLE`], or no role if the service has no service roles.
    Default,
}

impl IbmCloudKey {
    /// The role to request: the one in the spec, or the default that `role` documents.
    #[must_use]
    pub fn role(&self) -> WantedRole<'_> {
        match self.role.as_deref() {
            Some(NO_ROLE) => WantedRole::None,
            Some(role) => WantedRole::Named(role),
            None if self.access.is_some() => WantedRole::None,
            None => WantedRole::Default,
        }
    }
}

/// The identity of the key: an existing service ID, or the permissions of a new one that is created for this key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = rules::exactly_one(
        &["serviceIdCrn", "roles"],
        "write exactly one of `serviceIdCrn`, an existing service ID, and `roles`, for one that is created for this key"
    ),
    validation = Rule::new("!has(self.resourceAttributes) || has(self.roles)").message(
        "`resourceAttributes` restrict a service ID that is created for this key: write them together with `roles`"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct IbmCloudAccess {
    /// CRN of an existing service ID that the key acts as. The operator neither changes nor deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^crn:[^[:space:]]+$')")
        .message("write the CRN of a service ID, as `ibmcloud iam service-id NAME` shows it: `crn:v1:…`"))]
    pub service_id_crn: Option<String>,

    /// Roles on the instance, names or CRNs, for a service ID that is created for this key and deleted with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub roles: Vec<String>,

    /// Further attributes that a resource of the instance must have for the roles to apply, such as a bucket's
    /// `resourceType` and `resource`. The operator always adds the account, the service and the instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub resource_attributes: Vec<ResourceAttribute>,
}

/// An attribute that a resource must have for a role to apply to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAttribute {
    /// Name of the attribute.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!(self in ['accountId', 'serviceName', 'serviceInstance'])")
        .message("the operator sets `accountId`, `serviceName` and `serviceInstance` itself: leave them out"))]
    pub name: String,
    /// The value that it must have.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::one_line())]
    pub value: String,
}
