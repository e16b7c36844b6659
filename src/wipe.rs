//! Types that overwrite their secrets when they are dropped, so that freed memory contains none.
//!
//! They cover the values that the operator keeps: credentials, parameters, entries and Secrets. They can't cover
//! buffers within other crates, such as those of TLS and of the Kubernetes client.

use std::{fmt, ops::Deref};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Map, Value};
use zeroize::Zeroize;

/// A JSON object whose strings are overwritten when it is dropped. `Debug` shows only the number of members.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct SecretMap(Map<String, Value>);

impl SecretMap {
    #[must_use]
    pub(crate) const fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// The object itself, to send or store it. Never show it.
    #[must_use]
    pub(crate) const fn expose(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Adds members, which replace those of the same names.
    pub(crate) fn extend(&mut self, members: impl IntoIterator<Item = (String, Value)>) {
        for (name, value) in members {
            overwrite(self.0.insert(name, value));
        }
    }
}

impl Drop for SecretMap {
    fn drop(&mut self) {
        overwrite(std::mem::take(&mut self.0).into_iter().map(|(_, value)| value));
    }
}

impl fmt::Debug for SecretMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretMap({} members)", self.0.len())
    }
}

/// JSON values whose strings are overwritten when they are dropped. `Debug` shows only their number.
#[derive(Default)]
pub(crate) struct SecretValues(Vec<Value>);

impl SecretValues {
    #[must_use]
    pub(crate) const fn new(values: Vec<Value>) -> Self {
        Self(values)
    }

    /// The values themselves, to redact them. Never show them.
    #[must_use]
    pub(crate) fn expose(&self) -> &[Value] {
        &self.0
    }
}

impl Extend<Value> for SecretValues {
    fn extend<T: IntoIterator<Item = Value>>(&mut self, values: T) {
        self.0.extend(values);
    }
}

impl Drop for SecretValues {
    fn drop(&mut self) {
        overwrite(std::mem::take(&mut self.0));
    }
}

impl fmt::Debug for SecretValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValues({})", self.0.len())
    }
}

/// Overwrites all strings, without recursion: a remote side chooses the depth.
fn overwrite(values: impl IntoIterator<Item = Value>) {
    let mut pending: Vec<Value> = values.into_iter().collect();
    while let Some(value) = pending.pop() {
        match value {
            Value::String(mut text) => text.zeroize(),
            Value::Array(items) => pending.extend(items),
            Value::Object(members) => pending.extend(members.into_iter().map(|(_, value)| value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// A Secret whose values are overwritten when it is dropped. `Debug` shows only its metadata.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct HeldSecret(Secret);

impl From<Secret> for HeldSecret {
    fn from(secret: Secret) -> Self {
        Self(secret)
    }
}

impl Deref for HeldSecret {
    type Target = Secret;

    fn deref(&self) -> &Secret {
        &self.0
    }
}

impl Drop for HeldSecret {
    fn drop(&mut self) {
        self.0.data.iter_mut().flatten().for_each(|(_, ByteString(bytes))| bytes.zeroize());
        self.0.string_data.iter_mut().flatten().for_each(|(_, text)| text.zeroize());
    }
}

impl fmt::Debug for HeldSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HeldSecret").field(&self.0.metadata).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> SecretMap {
        let Value::Object(members) = value else { panic!("{value}") };
        SecretMap::new(members)
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = Secret {
            data: Some([("password".to_owned(), ByteString(b"hunter2".to_vec()))].into()),
            ..Secret::default()
        };
        let map = map(json!({"password": "hunter2"}));
        let values = SecretValues::new(vec!["hunter2".into()]);
        let shown = format!("{map:?} {values:?} {:?}", HeldSecret::from(secret));
        assert!(shown.starts_with("SecretMap(1 members) SecretValues(1) HeldSecret("), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
    }

    #[test]
    fn later_members_win() {
        let mut map = map(json!({"a": {"b": ["hunter2"]}, "c": 1}));
        map.extend([("a".to_owned(), json!(2))]);
        assert_eq!(Value::Object(map.expose().clone()), json!({"a": 2, "c": 1}));
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = (0..200_000).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        drop(SecretValues::new(vec![deep]));
    }
}
