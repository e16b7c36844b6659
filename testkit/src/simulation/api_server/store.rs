//! The stored objects, their versions, and the history of their changes.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use jiff::Timestamp;
use serde_json::Value;

use super::kinds::{Definitions, Kind};

/// A version of an object, with its texts as they are sent.
pub(super) struct Stored {
    /// The object without `apiVersion` and `kind`.
    pub(super) value: Value,
    pub(super) written: Timestamp,
    /// Whether the stored bytes lack a default that reads add. The next update then always writes.
    pub(super) lacks_defaults: bool,
    full: OnceLock<String>,
    metadata: OnceLock<String>,
}

impl Stored {
    pub(super) fn new(value: Value, written: Timestamp) -> Self {
        Self { value, written, lacks_defaults: false, full: OnceLock::new(), metadata: OnceLock::new() }
    }

    pub(super) fn lacking_defaults(mut self, lacks_defaults: bool) -> Self {
        self.lacks_defaults = lacks_defaults;
        self
    }

    /// The object as JSON.
    pub(super) fn text(&self, form: Form, types: Types<'_>) -> String {
        let (body, types) = match form {
            Form::Full => (self.full.get_or_init(|| self.value.to_string()), types),
            Form::Metadata => {
                let text = || format!(r#"{{"metadata":{}}}"#, self.value["metadata"]);
                (self.metadata.get_or_init(text), types.of_metadata())
            }
        };
        types.add_to(body)
    }

    pub(super) fn metadata(&self) -> &Value {
        &self.value["metadata"]
    }

    pub(super) fn uid(&self) -> &str {
        self.metadata()["uid"].as_str().unwrap_or_default()
    }

    pub(super) fn version(&self) -> &str {
        self.metadata()["resourceVersion"].as_str().unwrap_or_default()
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.metadata().get("deletionTimestamp").is_some()
    }
}

/// The form of an object in an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    Full,
    Metadata,
}

/// The type fields of an object in an answer.
#[derive(Clone, Copy)]
pub(super) enum Types<'a> {
    Of(&'a Kind),
    Metadata,
    /// Items of a list of a built-in resource have no type.
    None,
}

impl Types<'_> {
    const fn of_metadata(self) -> Self {
        Self::Metadata
    }

    fn add_to(self, body: &str) -> String {
        let (api_version, kind) = match self {
            Self::Of(kind) => (kind.api_version(), kind.kind.as_str()),
            Self::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata"),
            Self::None => return body.to_owned(),
        };
        format!(r#"{{"apiVersion":"{api_version}","kind":"{kind}",{}"#, &body[1..])
    }
}

/// A change of one object.
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) kind: usize,
    pub(super) key: String,
    pub(super) before: Option<Arc<Stored>>,
    pub(super) after: Option<Arc<Stored>>,
}

/// All objects of all resources.
pub(super) struct Store {
    objects: Vec<BTreeMap<String, Arc<Stored>>>,
    history: Vec<Change>,
    revision: u64,
    /// The history begins after this revision.
    compacted: u64,
}

/// The key of an object. The order of the keys is the order of lists.
pub(super) fn key(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

impl Store {
    pub(super) fn new(definitions: &Definitions) -> Self {
        Self {
            objects: definitions.kinds().iter().map(|_| BTreeMap::new()).collect(),
            history: Vec::new(),
            revision: 1,
            compacted: 0,
        }
    }

    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) const fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(super) fn get(&self, kind: &Kind, key: &str) -> Option<&Arc<Stored>> {
        self.objects.get(kind.index)?.get(key)
    }

    pub(super) fn all(&self, kind: &Kind) -> impl Iterator<Item = (&String, &Arc<Stored>)> {
        self.objects.get(kind.index).into_iter().flatten()
    }

    /// The objects of a namespace, or of all.
    pub(super) fn within<'a>(
        &'a self,
        kind: &Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a String, &'a Arc<Stored>)> {
        self.objects.get(kind.index).into_iter().flatten().filter(move |(key, _)| is_within(key, namespace))
    }

    /// Stores an object in its next version.
    pub(super) fn put(&mut self, kind: &Kind, key: &str, mut stored: Stored) -> Arc<Stored> {
        self.revision += 1;
        stored.value["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let after = Arc::new(stored);
        let before = self.objects[kind.index].insert(key.to_owned(), Arc::clone(&after));
        self.record(kind, key, before, Some(Arc::clone(&after)));
        after
    }

    pub(super) fn delete(&mut self, kind: &Kind, key: &str) {
        if let Some(before) = self.objects[kind.index].remove(key) {
            self.revision += 1;
            self.record(kind, key, Some(before), None);
        }
    }

    fn record(&mut self, kind: &Kind, key: &str, before: Option<Arc<Stored>>, after: Option<Arc<Stored>>) {
        let (revision, kind, key) = (self.revision, kind.index, key.to_owned());
        self.history.push(Change { revision, kind, key, before, after });
    }

    /// The changes after a revision.
    pub(super) fn changes_after(&self, revision: u64) -> &[Change] {
        let start = self.history.partition_point(|change| change.revision <= revision);
        &self.history[start..]
    }

    /// The objects of a resource as they were at a revision that the history still covers.
    pub(super) fn at_revision(&self, kind: &Kind, revision: u64) -> BTreeMap<String, Arc<Stored>> {
        let mut objects = self.objects[kind.index].clone();
        for change in self.changes_after(revision).iter().rev().filter(|change| change.kind == kind.index) {
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), Arc::clone(before)),
                None => objects.remove(&change.key),
            };
        }
        objects
    }

    /// Forgets the history up to the current revision.
    pub(super) fn compact(&mut self) {
        self.compacted = self.revision;
        self.history.clear();
    }
}

pub(super) fn is_within(key: &str, namespace: Option<&str>) -> bool {
    namespace.is_none_or(|namespace| key.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/')))
}
