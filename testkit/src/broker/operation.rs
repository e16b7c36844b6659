//! The operation of a well-formed call. Values of these types have passed every check that needs no state.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// The operation of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Catalog,
    FetchInstance {
        instance: String,
    },
    Bind {
        key: Key,
        wish: Wish,
        accepts_incomplete: bool,
    },
    Fetch {
        key: Key,
        hints: Hints,
    },
    Unbind {
        key: Key,
        hints: Hints,
        accepts_incomplete: bool,
    },
    /// `token` is `operation` in the query.
    Poll {
        key: Key,
        hints: Hints,
        token: Option<String>,
    },
}

/// The binding that a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub instance: String,
    pub id: Uuid,
}

/// Offering and plan in a query. An unbind has both; a fetch or a poll may have either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hints {
    pub service_id: Option<String>,
    pub plan_id: Option<String>,
}

/// The body of a bind, with the fields of the specification.
///
/// A repeated bind must be identical in every field. The specification speaks of "the requested parameters", and a
/// client that derives its request must repeat it to the letter.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    pub service_id: String,
    pub plan_id: String,
    pub context: Map<String, Value>,
    pub app_guid: Option<String>,
    pub bind_resource: Option<Map<String, Value>>,
    #[serde(default)]
    pub parameters: Map<String, Value>,
    pub predecessor_binding_id: Option<Uuid>,
}

impl fmt::Debug for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wish")
            .field("service_id", &self.service_id)
            .field("plan_id", &self.plan_id)
            .field("context", &self.context)
            .field("predecessor_binding_id", &self.predecessor_binding_id)
            .finish_non_exhaustive()
    }
}

/// The user who caused a call: `X-Broker-API-Originating-Identity`, with the properties of the specification's profile
/// for the platform `kubernetes`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OriginatingIdentity {
    /// The user's name.
    pub username: String,
    /// The user's UID.
    pub uid: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// The extra values of the authenticator.
    pub extra: BTreeMap<String, Vec<String>>,
}
