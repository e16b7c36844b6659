//! Faults with the answers of a broker.

use serde_json::{Value, json};

use super::route::Route;
use crate::remote::{self, Fault};

/// A fault with the calls that meet it.
pub type Injection = remote::Injection<Route>;

/// Errors that brokers answer with.
impl Fault {
    /// Success with credentials of another type than an object.
    #[must_use]
    pub fn credentials(credentials: &Value) -> Self {
        Self::Body(json!({ "credentials": credentials }))
    }
}
