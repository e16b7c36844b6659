//! The API's JSON. The operator reads it tolerantly: it ignores unknown fields, and reports missing ones.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, value::RawValue};

use crate::backend::{
    bounded::{id, link, word},
    http::segment,
    memory::Weight,
};

/// The path of the keys.
pub(super) const KEYS: &str = "/service_credential_bindings";

/// A value of a filter that takes several values, separated by commas. It is encoded once more than the query itself.
pub(super) fn listed(value: &str) -> String {
    segment(value)
}

/// The first error of an answer. It is empty if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct CloudFoundryError {
    #[serde(default)]
    pub(super) code: u64,
    #[serde(default)]
    pub(super) detail: String,
}

impl CloudFoundryError {
    /// The error in the body of a refusal.
    pub(super) fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<CloudFoundryError>,
        }
        let errors: Option<Errors> = serde_json::from_slice(body).ok();
        errors.and_then(|found| found.errors.into_iter().next()).unwrap_or_default()
    }

    /// Whether the error text contains these words.
    pub(super) fn says(&self, words: &str) -> bool {
        self.detail.contains(words)
    }

    /// Whether another operation on the instance or on the key is in progress.
    pub(super) fn is_busy(&self) -> bool {
        self.says("in progress") || self.says("getting deleted")
    }

    /// Whether the API refused the page because this page and all earlier ones exceed the most resources that it lists.
    pub(super) fn is_about_page_size(&self) -> bool {
        self.says("(page * per_page) must be less than")
    }

    pub(super) fn is_about_unknown_instance(&self) -> bool {
        self.says("instance could not be found") || self.says("instance not found")
    }

    /// Whether the name is in use at this instance.
    pub(super) fn is_about_the_name(&self) -> bool {
        self.says("must be unique") || self.says("has a key binding") || self.says("binding already exists")
    }
}

/// One page of a list. Its items are read one by one.
#[derive(Deserialize)]
pub(super) struct ListPage<'a> {
    #[serde(default)]
    pub(super) pagination: Pagination,
    #[serde(borrow)]
    pub(super) resources: &'a RawValue,
}

#[derive(Default, Deserialize)]
pub(super) struct Pagination {
    pub(super) next: Option<PageLink>,
}

#[derive(Deserialize)]
pub(super) struct PageLink {
    #[serde(deserialize_with = "link")]
    pub(super) href: String,
}

/// An organization or a space.
#[derive(Deserialize)]
pub(super) struct NamedResource {
    #[serde(deserialize_with = "id")]
    pub(super) guid: String,
}

impl Weight for NamedResource {
    fn weight(&self) -> usize {
        self.guid.capacity()
    }
}

#[derive(Deserialize)]
pub(super) struct ServiceInstance {
    #[serde(deserialize_with = "id")]
    pub(super) guid: String,
    #[serde(rename = "type", default, deserialize_with = "word")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) last_operation: Option<LastOperation>,
    #[serde(default)]
    relationships: InstanceRelationships,
}

impl ServiceInstance {
    /// The GUID of the space that owns the instance. The instance may also be shared into other spaces.
    pub(super) fn space(&self) -> Option<&str> {
        Some(self.relationships.space.as_ref()?.data.as_ref()?.guid.as_str())
    }
}

impl Weight for ServiceInstance {
    fn weight(&self) -> usize {
        let Self { guid, kind, last_operation, relationships: _ } = self;
        guid.capacity()
            + kind.capacity()
            + last_operation.as_ref().map_or(0, LastOperation::weight)
            + self.space().map_or(0, str::len)
    }
}

#[derive(Default, Deserialize)]
struct InstanceRelationships {
    #[serde(default)]
    space: Option<Related>,
}

#[derive(Deserialize)]
struct Related {
    #[serde(default)]
    data: Option<NamedResource>,
}

/// The last operation on an instance or a key, finished or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct LastOperation {
    #[serde(rename = "type", default, deserialize_with = "word")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "word")]
    pub(super) state: String,
    #[serde(default, deserialize_with = "description")]
    pub(super) description: Option<String>,
}

impl Weight for LastOperation {
    fn weight(&self) -> usize {
        let Self { kind, state, description } = self;
        kind.capacity() + state.capacity() + weight_of([description])
    }
}

/// A service key, without its credentials.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct CredentialBinding {
    #[serde(deserialize_with = "id")]
    pub(super) guid: String,
    #[serde(default, deserialize_with = "word")]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) created_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) last_operation: Option<LastOperation>,
    #[serde(default)]
    pub(super) metadata: BindingMetadata,
}

impl Weight for CredentialBinding {
    fn weight(&self) -> usize {
        let Self { guid, name, created_at: _, last_operation, metadata } = self;
        let BindingMetadata { labels, annotations } = metadata;
        let Labels { owner, cluster } = labels;
        let Annotations { namespace, name: marked_name, sequence, inputs } = annotations;
        guid.capacity()
            + last_operation.as_ref().map_or(0, LastOperation::weight)
            + weight_of([name, owner, cluster, namespace, marked_name, sequence, inputs])
    }
}

fn weight_of<const N: usize>(words: [&Option<String>; N]) -> usize {
    words.into_iter().flatten().map(String::capacity).sum()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BindingState {
    Creating,
    Created,
    CreateFailed,
    Deleting,
    DeleteFailed,
}

impl CredentialBinding {
    /// The state of the key. A key without a recorded operation was created before the API recorded them.
    pub(super) fn state(&self) -> BindingState {
        let Some(LastOperation { kind, state, .. }) = &self.last_operation else {
            return BindingState::Created;
        };
        match (kind.as_str(), state.as_str()) {
            ("delete", "failed") => BindingState::DeleteFailed,
            ("delete", _) => BindingState::Deleting,
            (_, "failed") => BindingState::CreateFailed,
            (_, "succeeded") => BindingState::Created,
            _ => BindingState::Creating,
        }
    }

    /// The broker's description of the last operation.
    pub(super) fn said(&self) -> Option<&str> {
        let said = self.last_operation.as_ref()?.description.as_deref()?;
        Some(said).filter(|said| !said.trim().is_empty())
    }
}

/// The operator's own labels and annotations of a key. Others are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct BindingMetadata {
    #[serde(default)]
    pub(super) labels: Labels,
    #[serde(default)]
    pub(super) annotations: Annotations,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Labels {
    #[serde(rename = "servicekeys.dev/owner", default, deserialize_with = "word")]
    pub(super) owner: Option<String>,
    #[serde(rename = "servicekeys.dev/cluster", default, deserialize_with = "word")]
    pub(super) cluster: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Annotations {
    #[serde(rename = "servicekeys.dev/namespace", default, deserialize_with = "word")]
    pub(super) namespace: Option<String>,
    #[serde(rename = "servicekeys.dev/name", default, deserialize_with = "word")]
    pub(super) name: Option<String>,
    #[serde(rename = "servicekeys.dev/sequence", default, deserialize_with = "word")]
    pub(super) sequence: Option<String>,
    #[serde(rename = "servicekeys.dev/inputs", default, deserialize_with = "word")]
    pub(super) inputs: Option<String>,
}

/// The most characters of a description that are kept. No message repeats more.
const LONGEST_DESCRIPTION: usize = 1000;

fn description<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.map(|text| text.chars().take(LONGEST_DESCRIPTION).collect()))
}

/// The labels and annotations of a new key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct NewBindingMetadata {
    pub(super) labels: BTreeMap<&'static str, String>,
    pub(super) annotations: BTreeMap<&'static str, String>,
}

/// The body of a request for a key.
#[derive(Serialize)]
pub(super) struct CreateCredentialBinding<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    relationships: Relationships<'a>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    parameters: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<NewBindingMetadata>,
}

#[derive(Serialize)]
struct Relationships<'a> {
    service_instance: ToOne<'a>,
}

#[derive(Serialize)]
struct ToOne<'a> {
    data: Reference<'a>,
}

#[derive(Serialize)]
struct Reference<'a> {
    guid: &'a str,
}

impl<'a> CreateCredentialBinding<'a> {
    pub(super) const fn new(
        name: &'a str,
        instance: &'a str,
        parameters: &'a Map<String, Value>,
        metadata: Option<NewBindingMetadata>,
    ) -> Self {
        let service_instance = ToOne { data: Reference { guid: instance } };
        Self { kind: "key", name, relationships: Relationships { service_instance }, parameters, metadata }
    }
}

/// Reads the credentials from the details of a key.
///
/// # Errors
/// The body is invalid. The message names the fault, and quotes nothing from the body.
pub(super) fn credentials(body: &[u8]) -> Result<Map<String, Value>, &'static str> {
    let Ok(Value::Object(mut details)) = serde_json::from_slice(body) else {
        return Err("is not a JSON object");
    };
    match details.remove("credentials") {
        Some(Value::Object(credentials)) => Ok(credentials),
        Some(_) => Err("contains `credentials` that are not a JSON object"),
        None => Err("contains no `credentials`"),
    }
}

/// A job, which works on a key in the background.
#[derive(Deserialize)]
pub(super) struct JobObject {
    #[serde(default, deserialize_with = "word")]
    state: String,
    #[serde(default)]
    errors: Vec<CloudFoundryError>,
}

impl JobObject {
    pub(super) fn has_failed(&self) -> bool {
        self.state == "FAILED"
    }

    /// The first error with a text.
    pub(super) fn error(&self) -> Option<&CloudFoundryError> {
        self.errors.first().filter(|error| !error.detail.trim().is_empty())
    }
}

/// Whether this is the API's message about a broker that handles one key of an instance at a time, and works on another
/// one (422 `ConcurrencyError`).
pub(super) fn is_of_a_busy_broker(said: &str) -> bool {
    said.contains("broker rejected the request due to an operation being in progress")
        || said.contains("in parallel with other running operations")
}

/// Whether the body is JSON, as every answer of the API is.
pub(super) fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// Describes a body that can't be read.
pub(super) const UNDOCUMENTED: &str = "does not match the API's documentation";

/// # Errors
/// The body is invalid. The message names the fault, and quotes nothing from the body.
pub(super) fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, &'static str> {
    serde_json::from_slice(body).map_err(|_| UNDOCUMENTED)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_labels_and_annotations_only_known_ones_are_kept() {
        let long = |start: &str| format!("{start}{}", "x".repeat(1 << 20));
        let with = |mark: &str| {
            let marks = json!({"servicekeys.dev/owner": "me", long("servicekeys.dev/"): "y", long("z"): "y"});
            let annotations = json!({"servicekeys.dev/sequence": mark, "servicekeys.dev/name": null});
            let key = json!({"guid": "g", "metadata": {"labels": marks, "annotations": annotations}});
            serde_json::from_value::<CredentialBinding>(key)
        };
        let key = with("1").unwrap();
        assert_eq!(key.metadata.labels.owner.as_deref(), Some("me"));
        assert_eq!(key.metadata.annotations.sequence.as_deref(), Some("1"));
        assert_eq!(key.metadata.annotations.name, None);
        assert!(key.weight() < 100, "{}", key.weight());
        assert!(with(&long("")).is_err(), "values have a limit");
    }
}
