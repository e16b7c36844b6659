//! Admission: hooks of a test that change or refuse what clients write, as webhooks do.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{request::Verb, status::Refusal};

/// A write, as a hook sees it.
#[derive(Debug)]
pub struct Review<'a> {
    /// [`Verb::Create`], [`Verb::Update`] (also for patches) or [`Verb::Delete`].
    pub verb: Verb,
    /// The resource, such as `secrets`.
    pub resource: &'a str,
    /// Whether the write is for the subresource `status`.
    pub of_status: bool,
    /// The namespace; empty for an object of the cluster.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
    /// The stored object before an update or a delete.
    pub old: Option<&'a Value>,
    /// Whether nothing will be stored.
    pub is_dry_run: bool,
    /// The client.
    pub caller: &'a str,
}

/// A hook that may change an object before it is validated. It must not call the server.
pub type Mutate = Arc<dyn Fn(&Review<'_>, &mut Value) + Send + Sync>;

/// A hook that may refuse a write after the object was validated, with a code and a text. It must not call the server.
/// The object is null for a delete.
pub type Validate = Arc<dyn Fn(&Review<'_>, &Value) -> Result<(), (u16, String)> + Send + Sync>;

#[derive(Clone)]
enum Hook {
    Mutate(Mutate),
    Validate(Validate),
}

/// The registered hooks, by their names.
#[derive(Default)]
pub(super) struct Hooks(BTreeMap<String, Hook>);

impl Hooks {
    pub(super) fn add_mutating(&mut self, name: &str, hook: Mutate) {
        self.0.insert(name.to_owned(), Hook::Mutate(hook));
    }

    pub(super) fn add_validating(&mut self, name: &str, hook: Validate) {
        self.0.insert(name.to_owned(), Hook::Validate(hook));
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// Whether a hook has changed the object.
    pub(super) fn mutate(&self, review: &Review<'_>, object: &mut Value) -> bool {
        let before = object.clone();
        for hook in self.0.values() {
            if let Hook::Mutate(mutate) = hook {
                mutate(review, object);
            }
        }
        *object != before
    }

    pub(super) fn has_mutating(&self) -> bool {
        self.0.values().any(|hook| matches!(hook, Hook::Mutate(_)))
    }

    pub(super) fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Refusal> {
        for (name, hook) in &self.0 {
            if let Hook::Validate(validate) = hook
                && let Err((code, words)) = validate(review, object)
            {
                let message = format!("admission webhook {name:?} denied the request: {words}");
                return Err(Refusal::new(code, reason_of(code), message));
            }
        }
        Ok(())
    }
}

const fn reason_of(code: u16) -> &'static str {
    match code {
        400 => "BadRequest",
        403 => "Forbidden",
        409 => "Conflict",
        422 => "Invalid",
        500 => "InternalError",
        _ => "",
    }
}
