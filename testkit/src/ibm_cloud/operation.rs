//! The operation of a well-formed call. Values of these types have passed every check that needs no state.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::iam::GrantRequest;
use crate::remote::reading::Parameters;

/// The requested operation. The query of a list contains known parameters only.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Token(GrantRequest),
    ServiceIds(Parameters),
    ServiceId { id: String },
    CreateServiceId(ServiceIdWish),
    DeleteServiceId { id: String },
    Policies(Parameters),
    Policy { id: String },
    CreatePolicy(PolicyWish),
    DeletePolicy { id: String },
    Roles(Parameters),
    Instances(Parameters),
    Instance { id: String },
    KeysOfInstance { id: String, query: Parameters },
    Keys(Parameters),
    Key { id: String },
    CreateKey(KeyWish),
    RenameKey { id: String, name: String },
    DeleteKey { id: String },
}

/// The body of a request for a key, with the documented fields and no others.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyWish {
    pub name: String,
    /// The GUID or CRN of the instance.
    pub source: String,
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// The name of a base role, the CRN of a role, or `NONE`.
    #[serde(default)]
    pub role: Option<String>,
}

impl fmt::Debug for KeyWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyWish")
            .field("name", &self.name)
            .field("source", &self.source)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// The body of a change of a key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyName {
    pub name: String,
}

/// The body of a request for a service ID. IAM can also create an API key for it on request, which the fake can't.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceIdWish {
    pub account_id: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
}

/// The body of a request for a policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyWish {
    #[serde(rename = "type")]
    pub kind: String,
    pub subjects: Vec<Subject>,
    pub roles: Vec<PolicyRole>,
    pub resources: Vec<Resource>,
    #[serde(default)]
    pub description: String,
}

/// The subject of a policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subject {
    pub attributes: Vec<SubjectAttribute>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubjectAttribute {
    pub name: String,
    pub value: String,
}

/// A role by its CRN.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyRole {
    pub role_id: String,
}

/// The resource of a policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resource {
    pub attributes: Vec<ResourceAttribute>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResourceAttribute {
    pub name: String,
    pub value: String,
    #[serde(default = "string_equals")]
    pub operator: String,
}

fn string_equals() -> String {
    "stringEquals".into()
}
