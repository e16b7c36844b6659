//! The entries of a Secret, and the layout without a template: one entry for each top-level credential.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    fmt,
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use secrecy::SecretString;
use serde_json::{Map, Number, Value};
use uuid::Uuid;
use zeroize::Zeroize;

use super::{Digest, RenderError, entry_name};

/// Limit of all values of a Secret together, in bytes: `MaxSecretSize` of the API server.
pub(crate) const MAX_SIZE: usize = 1024 * 1024;

/// The entries of a Secret. `Debug` shows their names, never their values. The values are overwritten on
/// drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Entries(pub(super) BTreeMap<String, Vec<u8>>);

impl Entries {
    /// Creates entries from names that are known to be valid.
    ///
    /// # Errors
    /// [`RenderError::NoCredentials`] without entries, [`RenderError::TooLarge`] beyond [`MAX_SIZE`].
    pub(super) fn new(entries: BTreeMap<String, Vec<u8>>) -> Result<Self, RenderError> {
        if entries.is_empty() {
            return Err(RenderError::NoCredentials);
        }
        let size = entries.values().map(Vec::len).sum();
        if size > MAX_SIZE {
            return Err(RenderError::TooLarge { size });
        }
        Ok(Self(entries))
    }

    /// Creates one entry for each top-level credential: strings byte for byte, numbers and booleans as text,
    /// objects and arrays as compact JSON. A null is not a credential, and gets no entry.
    ///
    /// # Errors
    /// When there are no entries or too many bytes, or a name or number can't be written.
    pub(super) fn from_credentials(credentials: &Map<String, Value>) -> Result<Self, RenderError> {
        let mut entries = BTreeMap::new();
        let mut origins = BTreeMap::new();
        for (name, value) in credentials {
            let Some(bytes) = text(name, value)? else { continue };
            match origins.entry(entry_name::from_credential(name)?) {
                btree_map::Entry::Vacant(origin) => {
                    entries.insert(origin.key().clone(), bytes);
                    origin.insert(name);
                }
                btree_map::Entry::Occupied(origin) => {
                    return Err(RenderError::Collision {
                        entry: origin.key().clone(),
                        first: (*origin.get()).clone(),
                        second: name.clone(),
                    });
                }
            }
        }
        Self::new(entries)
    }

    /// The current entries of a Secret, of any origin.
    #[must_use]
    pub fn from_secret(secret: &Secret) -> Self {
        let data = secret.data.iter().flatten();
        Self(data.map(|(name, ByteString(bytes))| (name.clone(), bytes.clone())).collect())
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The entries with these names.
    #[must_use]
    pub fn only(&self, names: &BTreeSet<String>) -> Self {
        let kept = self.0.iter().filter(|(name, _)| names.contains(*name));
        Self(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The value of one entry. It may be written into the Secret and nowhere else.
    #[must_use]
    pub fn expose(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// The values that are text and longer than three characters. Texts that repeat them must hide them.
    /// Hiding shorter values would only garble the texts.
    pub fn texts(&self) -> Vec<SecretString> {
        let texts = self.0.values().filter_map(|value| std::str::from_utf8(value).ok());
        let texts = texts.filter(|text| text.chars().count() > 3);
        texts.map(SecretString::from).collect()
    }

    /// A digest of names and values that shows whether another writer edited them.
    ///
    /// The salt is the owner's UID, so that equal credentials of two ServiceKeys have different digests. It
    /// does not protect a guessable password from a user who may read the Secret's metadata. But a user who
    /// may read the metadata may read the whole Secret.
    #[must_use]
    pub fn digest(&self, salt: &Uuid) -> String {
        Digest::new("servicekeys.dev/content/1").field(salt).pairs(self.0.iter()).finish()
    }

    /// The entries as `data` of a Secret. `Debug` of a `ByteString` shows its bytes, so never print the
    /// result.
    pub(super) fn to_data(&self) -> BTreeMap<String, ByteString> {
        self.0.iter().map(|(name, value)| (name.clone(), ByteString(value.clone()))).collect()
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        self.0.values_mut().for_each(Zeroize::zeroize);
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entries")?;
        f.debug_set().entries(self.names()).finish()
    }
}

/// The bytes of one credential, `None` for a null.
fn text(name: &str, value: &Value) -> Result<Option<Vec<u8>>, RenderError> {
    if holds_inexact_number(value) {
        return Err(RenderError::InexactNumber { name: name.to_owned() });
    }
    Ok(match value {
        Value::Null => None,
        Value::String(string) => Some(string.clone().into_bytes()),
        other => Some(other.to_string().into_bytes()),
    })
}

fn holds_inexact_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => !is_exact(number),
        Value::Array(items) => items.iter().any(holds_inexact_number),
        Value::Object(members) => members.values().any(holds_inexact_number),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// Whether the text of this number is the value that the remote side sent.
///
/// Integers of up to 64 bits are exact. Longer ones were rounded to a float by the parser, and a rounded
/// account number is wrong. (`arbitrary_precision` of `serde_json` would keep them. But it applies to the
/// whole program and breaks numbers in flattened and untagged types, of which the Kubernetes API has many.)
/// Fractions keep their value to 17 digits; `1.0` stays `1.0`, `1e3` becomes `1000.0`.
pub(super) fn is_exact(number: &Number) -> bool {
    const TWO_TO_THE_63: f64 = 9_223_372_036_854_775_808.0;
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|float| float.abs() < TWO_TO_THE_63)
}

#[cfg(test)]
mod tests;
