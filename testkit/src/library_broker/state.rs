//! The state that a broker reports to the test.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{broker::Work, remote::FieldNames};

/// The state of a broker.
#[derive(Clone, Debug, Deserialize)]
pub struct State {
    /// The bindings by id, also if their creation or deletion is under way.
    pub bindings: BTreeMap<String, Binding>,
    /// The number of bindings that the broker has created.
    pub made: usize,
    /// The number of binds that the broker has received.
    pub binds: usize,
}

/// One binding. `Debug` shows only the names of its credentials.
#[derive(Clone, Deserialize)]
pub struct Binding {
    /// Its credentials.
    pub credentials: Map<String, Value>,
    /// The current operation.
    pub work: Option<Work>,
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { credentials, work } = self;
        f.debug_struct("Binding").field("credentials", &FieldNames(credentials)).field("work", work).finish()
    }
}
