//! What a test may look at afterwards: calls, breaches of the rules, and what exists.

use std::fmt;

use serde_json::{Map, Value};

use super::{iam::Grant, route::Route};
use crate::remote::{self, Caller, FieldNames};

/// A rule that a client can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Call only what is there.
    KnownRoute,
    /// Show a token that IAM handed out, as `Authorization: Bearer`.
    Authorization,
    /// Show no token whose `expires_in` is over.
    FreshToken,
    /// Ask for no more than the [limit](super::Builder::limit) allows.
    RateLimit,
    /// Send known query parameters, once each, with values that they can have.
    Query,
    /// Ask for pages of 1 to 100, and for the next page only with the token of the one before.
    Page,
    /// Declare a body as what it is.
    ContentType,
    /// Send a body of the documented fields, within their limits.
    Body,
    /// Ask IAM for a token by a form of known parameters, once each.
    TokenForm,
    /// Ask for a token by API key, or by a compute resource's token with a profile.
    GrantType,
    /// Show an API key, or a compute resource's token, that is known.
    Secret,
    /// Name the account's own id.
    Account,
    /// Name roles that the service has, the base roles by name and all others by CRN. Leave the role out only where the service
    /// has none: what it is then is not documented.
    Role,
    /// Name a service ID that exists.
    ServiceId,
    /// Make no keys for an instance that is not active.
    ActiveInstance,
    /// Delete no service ID that keys are still bound to, because they stop working then.
    SafeOrder,
}

/// One breach of the rules.
pub type Violation = remote::Violation<Rule>;

/// One call, from its arrival on.
pub type Call = remote::Call<Route, Caller<Grant>>;

/// One resource key. `Debug` shows the names of parameters and credentials only.
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
    /// 1 for the first key that was ever made, 2 for the next one.
    pub number: u64,
    /// The CRN of its role, where it has one.
    pub role: Option<String>,
    /// The parameters of the request.
    pub parameters: Map<String, Value>,
    /// What was handed out.
    pub credentials: Map<String, Value>,
    /// Whether it was deleted.
    pub removed: bool,
}

impl Key {
    /// The CRN of the service ID that it was bound to on request.
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
    /// By which policies call it: `iam-` and the id.
    pub iam_id: String,
    /// By which keys call it.
    pub crn: String,
    /// Its name, which other service IDs may have too.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// 1 for the first one that was ever made, 2 for the next one.
    pub number: u64,
}

/// One access policy.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Policy {
    /// A UUID.
    pub id: String,
    /// The service ID that it is for.
    pub iam_id: String,
    /// The CRNs of the roles that it gives.
    pub roles: Vec<String>,
    /// Where: name, operator and value of each attribute.
    pub resource: Vec<(String, String, String)>,
    /// What it is for.
    pub description: String,
    /// 1 for the first one that was ever made, 2 for the next one.
    pub number: u64,
}

impl Policy {
    /// The value of an attribute of the resource.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.resource.iter().find(|(found, ..)| found == name).map(|(.., value)| value.as_str())
    }
}
