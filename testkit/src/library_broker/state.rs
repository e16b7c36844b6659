//! What a broker tells the test of itself.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{broker::Work, remote::FieldNames};

/// How a broker is.
#[derive(Clone, Debug, Deserialize)]
pub struct State {
    /// The bindings that exist, or are being made or deleted, by id.
    pub bindings: BTreeMap<String, Binding>,
    /// How many bindings were ever made.
    pub made: usize,
    /// How often it was asked to make one.
    pub binds: usize,
}

/// One binding. `Debug` shows the names of its credentials only.
#[derive(Clone, Deserialize)]
pub struct Binding {
    /// What the broker hands out.
    pub credentials: Map<String, Value>,
    /// What is under way.
    pub work: Option<Work>,
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { credentials, work } = self;
        f.debug_struct("Binding").field("credentials", &FieldNames(credentials)).field("work", work).finish()
    }
}
