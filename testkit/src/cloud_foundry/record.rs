//! The record that a test reads afterwards: calls, violations of the rules, keys.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use super::{estate::OperationState, pace::Work, route::Route, uaa::Grant};
use crate::remote::{self, Caller, FieldNames};

/// A rule that a client can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Call only known endpoints.
    KnownRoute,
    /// Send a token of the UAA as `Authorization: bearer`.
    Authorization,
    /// Send no expired token.
    FreshToken,
    /// Send no more requests than the [limit](super::Builder::limit) allows.
    RateLimit,
    /// Send no more look-ups of single keys and jobs than [allowed](super::Builder::look_ups), because lists show many.
    OneByOne,
    /// Send no request line of more than 8,000 bytes, because routers refuse longer ones.
    UrlLength,
    /// Send only known query parameters, once each, with valid values.
    Query,
    /// Request pages of 1 to 5,000 resources, from page 1.
    PerPage,
    /// Declare a body as `application/json`.
    ContentType,
    /// Send a body with the documented fields, within their limits.
    Body,
    /// Send labels and annotations that the API accepts.
    Metadata,
    /// Create service keys only, not bindings of apps.
    KeyType,
    /// Send the UAA a form with known parameters, once each, and secrets only in its body and in `Authorization`.
    TokenForm,
    /// Log in to the UAA as a client in exactly one way, with the right secret.
    Client,
    /// Use a grant that the client may use.
    GrantType,
    /// Send the UAA a user's right password.
    Password,
}

/// One violation of a rule.
pub type Violation = remote::Violation<Rule>;

/// One call, recorded on its arrival.
pub type Call = remote::Call<Route, Caller<Grant>>;

/// One service key that exists, also if its creation or deletion is under way or has failed. `Debug` shows only the
/// names of parameters and credentials.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Key {
    /// Its GUID.
    pub guid: String,
    /// Its name, unique among the keys of its instance.
    pub name: String,
    /// The GUID of its instance.
    pub instance: String,
    /// 1 for the first key that clients requested, 2 for the next one.
    pub number: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The parameters of the request.
    pub parameters: Map<String, Value>,
    /// The credentials that the broker returned; nothing before that.
    pub credentials: Option<Map<String, Value>>,
    /// The last operation on it.
    pub last_operation: LastOperation,
}

/// `last_operation` of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastOperation {
    /// The kind of the operation.
    pub work: Work,
    /// Its progress.
    pub state: OperationState,
    /// The broker's description.
    pub description: String,
}

impl LastOperation {
    pub(super) fn new(work: Work, state: OperationState) -> Self {
        Self { work, state, description: String::new() }
    }

    pub(super) fn is(&self, work: Work, state: OperationState) -> bool {
        (self.work, self.state) == (work, state)
    }
}

impl Key {
    /// Whether its creation succeeded and no deletion has begun.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.last_operation.is(Work::Create, OperationState::Succeeded)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            guid,
            name,
            instance,
            number,
            labels,
            annotations,
            parameters,
            credentials,
            last_operation,
        } = self;
        f.debug_struct("Key")
            .field("guid", guid)
            .field("name", name)
            .field("instance", instance)
            .field("number", number)
            .field("labels", labels)
            .field("annotations", annotations)
            .field("parameters", &FieldNames(parameters))
            .field("credentials", &credentials.as_ref().map(FieldNames))
            .field("last_operation", last_operation)
            .finish()
    }
}

/// One piece of work that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnderWay {
    /// The kind of the work.
    pub work: Work,
    /// The GUID of the key.
    pub key: String,
    /// The name of the key.
    pub name: String,
    /// The GUID of its job; the first one, if clients requested the deletion several times.
    pub job: String,
    /// The number of looks at it so far.
    pub looks: usize,
}
