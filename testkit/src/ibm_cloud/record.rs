//! The record that a test reads afterwards: calls, violations of the rules, keys, service IDs and policies.

use std::fmt;

use serde_json::{Map, Value};

use super::{iam::Grant, route::Route};
use crate::remote::{self, Caller, FieldNames};

/// A rule that a client can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Call only known endpoints.
    KnownRoute,
    /// Send a token of IAM as `Authorization: Bearer`.
    Authorization,
    /// Send no expired token.
    FreshToken,
    /// Send no more requests than the [limit](super::Builder::limit) allows.
    RateLimit,
    /// Send only known query parameters, once each, with valid values.
    Query,
    /// Request pages of 1 to 100 objects, and the next page by the token of the previous one.
    Page,
    /// Declare the type of a body.
    ContentType,
    /// Send a body with the documented fields, within their limits.
    Body,
    /// Send IAM a form with known parameters, once each.
    TokenForm,
    /// Request a token with an API key, or with a compute resource's token and a profile.
    GrantType,
    /// Send a known API key, or a known token of a compute resource.
    Secret,
    /// Name the id of this account.
    Account,
    /// Name roles of the service, the base roles by name and all others by CRN. Name no role only if the service has
    /// none, because IBM does not document a default.
    Role,
    /// Name a service ID that exists.
    ServiceId,
    /// Create keys only for active instances.
    ActiveInstance,
    /// Delete a service ID after the keys that use it, because they stop working without it.
    SafeOrder,
}

/// One violation of a rule.
pub type Violation = remote::Violation<Rule>;

/// One call, recorded on its arrival.
pub type Call = remote::Call<Route, Caller<Grant>>;

/// One resource key. `Debug` shows only the names of parameters and credentials.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Key {
    /// Its GUID.
    pub guid: String,
    /// Its CRN, which is its `id` too.
    pub crn: String,
    /// Its name, which other keys may have too.
    pub name: String,
    /// The GUID of its instance.
    pub instance: String,
    /// 1 for the first key of the account, 2 for the next one.
    pub number: u64,
    /// The CRN of its role, if it has one.
    pub role: Option<String>,
    /// The parameters of the request.
    pub parameters: Map<String, Value>,
    /// Its credentials.
    pub credentials: Map<String, Value>,
    /// Whether it was deleted.
    pub removed: bool,
}

impl Key {
    /// The CRN of the service ID that the request named.
    #[must_use]
    pub fn service_id(&self) -> Option<&str> {
        self.parameters.get("serviceid_crn").and_then(Value::as_str)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guid, crn: _, name, instance, number, role, parameters, credentials, removed } = self;
        f.debug_struct("Key")
            .field("guid", guid)
            .field("name", name)
            .field("instance", instance)
            .field("number", number)
            .field("role", role)
            .field("parameters", &FieldNames(parameters))
            .field("credentials", &FieldNames(credentials))
            .field("removed", removed)
            .finish_non_exhaustive()
    }
}

/// One service ID.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceId {
    /// `ServiceId-` and a UUID.
    pub id: String,
    /// The name for it in policies: `iam-` and the id.
    pub iam_id: String,
    /// The name for it in keys.
    pub crn: String,
    /// Its name, which other service IDs may have too.
    pub name: String,
    /// Its description.
    pub description: String,
    /// 1 for the first one of the account, 2 for the next one.
    pub number: u64,
}

/// One access policy.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Policy {
    /// A UUID.
    pub id: String,
    /// The service ID that gets access.
    pub iam_id: String,
    /// The CRNs of the roles that it grants.
    pub roles: Vec<String>,
    /// The attributes of the resource: name, operator and value.
    pub resource: Vec<(String, String, String)>,
    /// Its description.
    pub description: String,
    /// 1 for the first one of the account, 2 for the next one.
    pub number: u64,
}

impl Policy {
    /// The value of an attribute of the resource.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.resource.iter().find(|(found, ..)| found == name).map(|(.., value)| value.as_str())
    }
}
