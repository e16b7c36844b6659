//! What a test may look at afterwards: calls, breaches of the rules, keys.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use super::{estate::OperationState, pace::Work, route::Route, uaa::Grant};
use crate::remote::{self, Caller, FieldNames};

/// A rule that a client can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Call only what is there.
    KnownRoute,
    /// Show a token that the UAA handed out, as `Authorization: bearer`.
    Authorization,
    /// Show no token whose `expires_in` is over.
    FreshToken,
    /// Ask for no more than the [limit](super::Builder::limit) allows.
    RateLimit,
    /// Look no more keys and jobs up one by one than [allowed](super::Builder::look_ups): a list shows many.
    OneByOne,
    /// Keep request lines within what routers pass on: 8,000 bytes.
    UrlLength,
    /// Send known query parameters, once each, with values that they can have.
    Query,
    /// Ask for pages of 1 to 5,000, and count them from 1.
    PerPage,
    /// Declare a body as `application/json`.
    ContentType,
    /// Send a body of the documented fields, within their limits.
    Body,
    /// Send labels and annotations that the API accepts.
    Metadata,
    /// Make service keys, not bindings of apps.
    KeyType,
    /// Send the UAA a form of known parameters, once each, and secrets nowhere but in its body and in `Authorization`.
    TokenForm,
    /// Log in to the UAA as a client in exactly one way, with the right secret.
    Client,
    /// Ask for a grant that the client may have.
    GrantType,
    /// Show the UAA a user's right password.
    Password,
}

/// One breach of the rules.
pub type Violation = remote::Violation<Rule>;

/// One call, from its arrival on.
pub type Call = remote::Call<Route, Caller<Grant>>;

/// One service key that is there: made, being made, being deleted, or left where one of these failed. `Debug` shows
/// the names of parameters and credentials only.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Key {
    /// Its GUID.
    pub guid: String,
    /// Its name, unique among the keys of its instance.
    pub name: String,
    /// The GUID of its instance.
    pub instance: String,
    /// 1 for the first key that was ever asked for, 2 for the next one.
    pub number: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The parameters of the request.
    pub parameters: Map<String, Value>,
    /// What the broker handed out; nothing before that.
    pub credentials: Option<Map<String, Value>>,
    /// What was, or is, done to it last.
    pub last_operation: LastOperation,
}

/// `last_operation` of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastOperation {
    /// What it is.
    pub work: Work,
    /// How far it is.
    pub state: OperationState,
    /// What the broker said of it.
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
    /// Whether it was made with success, and nobody has begun to delete it.
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
    /// What is being done.
    pub work: Work,
    /// The GUID of the key.
    pub key: String,
    /// The name of the key.
    pub name: String,
    /// The GUID of its job; of the first one, where a deletion was asked for several times.
    pub job: String,
    /// How often anybody looked so far.
    pub looks: usize,
}
