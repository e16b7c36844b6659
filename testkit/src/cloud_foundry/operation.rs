//! The operation of a well-formed call. Values of these types have passed every check that needs no state.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{metadata::Metadata, query::ListQuery, uaa::GrantRequest};

/// The requested operation.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Root,
    ApiRoot,
    Organizations(ListQuery),
    Spaces(ListQuery),
    Instances(ListQuery),
    Instance { guid: String },
    Keys(ListQuery),
    Key { guid: String, query: ListQuery },
    Details { guid: String },
    Parameters { guid: String },
    Create(Box<Wish>),
    Update { guid: String, metadata: Metadata },
    Delete { guid: String },
    Job { guid: String },
    Token(GrantRequest),
}

impl Operation {
    /// The query, if this is a list.
    pub(super) const fn list(&self) -> Option<&ListQuery> {
        match self {
            Self::Organizations(query) | Self::Spaces(query) | Self::Instances(query) | Self::Keys(query) => {
                Some(query)
            }
            _ => None,
        }
    }
}

/// The body of a request for a key, with the documented fields and no others.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub relationships: Relationships,
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
    #[serde(default)]
    pub metadata: Option<Metadata>,
}

impl fmt::Debug for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wish")
            .field("name", &self.name)
            .field("relationships", &self.relationships)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// The object that the key belongs to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Relationships {
    pub service_instance: ToOne,
}

/// A relationship to one resource.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToOne {
    pub data: Reference,
}

/// A resource by its GUID.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reference {
    pub guid: String,
}

/// The body of a change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    pub metadata: Metadata,
}
