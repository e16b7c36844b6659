//! Placeholders for credentials, for a template that runs only to find out what is wrong with it.

use std::sync::Arc;

use minijinja::{
    Error, State,
    value::{Enumerator, Object, ObjectRepr, Value},
};
use serde_json::Map;

use super::engine;

/// The credentials' names and shapes, with placeholders for all values.
pub(super) fn for_credentials(credentials: &Map<String, serde_json::Value>) -> Value {
    let masked = credentials.iter().map(|(name, value)| (name.clone(), mask(value))).collect();
    engine::context(&masked)
}

fn mask(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Null => serde_json::Value::Null,
        serde_json::Value::Bool(_) => true.into(),
        serde_json::Value::Number(_) => 1.into(),
        serde_json::Value::String(_) => "placeholder".into(),
        serde_json::Value::Array(items) => items.iter().map(mask).collect(),
        serde_json::Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), mask(value))).collect()
        }
    }
}

/// A value with every possible member, each of which is such a value again. It is for templates whose
/// credentials are not known yet.
pub(super) fn anything() -> Value {
    Anything { depth: 8 }.into()
}

/// It ends in plain text after some levels, because the engine walks through values to print and to compare
/// them.
#[derive(Debug)]
struct Anything {
    depth: u8,
}

impl Anything {
    fn below(&self) -> Value {
        match self.depth.checked_sub(1) {
            Some(depth) => Self { depth }.into(),
            None => "placeholder".into(),
        }
    }
}

impl From<Anything> for Value {
    fn from(anything: Anything) -> Self {
        Self::from_object(anything)
    }
}

impl Object for Anything {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(self.below())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["placeholder"])
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        Ok(self.below())
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, _: &str, _: &[Value]) -> Result<Value, Error> {
        Ok(self.below())
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("placeholder")
    }
}
