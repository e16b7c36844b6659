//! What the broker hands out for a binding.

use std::{fmt, sync::Arc};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::catalog::Instance;

type Recipe = dyn Fn(&Instance, u64) -> Map<String, Value> + Send + Sync;

/// Makes the credentials of a binding from its instance and its number (1 for the first one of the broker).
#[derive(Clone)]
pub struct CredentialsRecipe(Arc<Recipe>);

impl CredentialsRecipe {
    /// A recipe of one's own. It has to make new secrets for each number.
    pub fn new(recipe: impl Fn(&Instance, u64) -> Map<String, Value> + Send + Sync + 'static) -> Self {
        Self(Arc::new(recipe))
    }

    /// What a PostgreSQL service hands out: `hostname`, `port` (a number), `username`, `password` (with
    /// characters that a URI must escape), `uri`, and `ca` (a PEM of several lines).
    #[must_use]
    pub fn postgresql() -> Self {
        Self::new(|instance, number| {
            let hostname = format!("{}.db.example.com", instance.name);
            let username = format!("user-{number}");
            let password = format!("p@ss/{number}:{}", Uuid::new_v4().simple());
            let escaped = utf8_percent_encode(&password, NON_ALPHANUMERIC);
            let uri = format!("postgresql://{username}:{escaped}@{hostname}:5432/app");
            let credentials = [
                ("hostname", json!(hostname)),
                ("port", json!(5432)),
                ("username", json!(username)),
                ("password", json!(password)),
                ("uri", json!(uri)),
                ("ca", json!(include_str!("training-ca.pem"))),
            ];
            credentials.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
        })
    }

    pub(super) fn make(&self, instance: &Instance, number: u64) -> Map<String, Value> {
        (self.0)(instance, number)
    }
}

impl Default for CredentialsRecipe {
    fn default() -> Self {
        Self::postgresql()
    }
}

impl fmt::Debug for CredentialsRecipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsRecipe")
    }
}
