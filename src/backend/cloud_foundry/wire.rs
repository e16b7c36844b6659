//! The API's JSON, read tolerantly: fields that nobody needs are ignored, and those that are missing are told.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::backend::bounded::{AtMost, id, link, word, word_if_any};

/// The first error of an answer; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ApiError {
    #[serde(default)]
    pub(super) code: u64,
    #[serde(default)]
    pub(super) detail: String,
}

impl ApiError {
    /// The error in the body of a refusal.
    pub(super) fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<ApiError>,
        }
        let errors: Option<Errors> = serde_json::from_slice(body).ok();
        errors.and_then(|found| found.errors.into_iter().next()).unwrap_or_default()
    }

    /// Whether its words hold these.
    pub(super) fn says(&self, words: &str) -> bool {
        self.detail.contains(words)
    }

    /// Another operation on the instance or on the key is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.says("in progress") || self.says("getting deleted")
    }

    pub(super) fn is_about_unknown_instance(&self) -> bool {
        self.says("instance could not be found") || self.says("instance not found")
    }

    /// The name is in use at this instance.
    pub(super) fn is_about_the_name(&self) -> bool {
        self.says("must be unique") || self.says("has a key binding")
    }
}

/// One page of a list, as long as the API makes them.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(super) struct Page<T> {
    #[serde(default)]
    pub(super) pagination: Pagination,
    pub(super) resources: AtMost<5000, T>,
}

#[derive(Default, Deserialize)]
pub(super) struct Pagination {
    pub(super) next: Option<Link>,
}

#[derive(Deserialize)]
pub(super) struct Link {
    #[serde(deserialize_with = "link")]
    pub(super) href: String,
}

/// An organization or a space.
#[derive(Deserialize)]
pub(super) struct Named {
    #[serde(deserialize_with = "id")]
    pub(super) guid: String,
}

/// A service instance.
#[derive(Deserialize)]
pub(super) struct Instance {
    #[serde(deserialize_with = "id")]
    pub(super) guid: String,
    #[serde(rename = "type", default, deserialize_with = "word")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) last_operation: Option<LastOperation>,
    #[serde(default)]
    relationships: Whereabouts,
}

impl Instance {
    /// The GUID of the space that it belongs to, which may be another than those that it is shared into.
    pub(super) fn space(&self) -> Option<&str> {
        Some(self.relationships.space.as_ref()?.data.as_ref()?.guid.as_str())
    }
}

#[derive(Default, Deserialize)]
struct Whereabouts {
    #[serde(default)]
    space: Option<Related>,
}

#[derive(Deserialize)]
struct Related {
    #[serde(default)]
    data: Option<Named>,
}

/// What was, or is, done last to an instance or a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct LastOperation {
    #[serde(rename = "type", default, deserialize_with = "word")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "word")]
    pub(super) state: String,
    #[serde(default, deserialize_with = "description")]
    pub(super) description: Option<String>,
}

/// A service key, without its credentials.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Key {
    #[serde(deserialize_with = "id")]
    pub(super) guid: String,
    #[serde(default, deserialize_with = "word_if_any")]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) created_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) last_operation: Option<LastOperation>,
    #[serde(default)]
    pub(super) metadata: Metadata,
}

/// How a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Making,
    Made,
    NotMade,
    Deleting,
    NotDeleted,
}

impl Key {
    /// Keys that are older than operations on them have none.
    pub(super) fn standing(&self) -> Standing {
        let Some(LastOperation { kind, state, .. }) = &self.last_operation else { return Standing::Made };
        match (kind.as_str(), state.as_str()) {
            ("delete", "failed") => Standing::NotDeleted,
            ("delete", _) => Standing::Deleting,
            (_, "failed") => Standing::NotMade,
            (_, "succeeded") => Standing::Made,
            _ => Standing::Making,
        }
    }

    /// What the broker said of the last operation.
    pub(super) fn said(&self) -> Option<&str> {
        let said = self.last_operation.as_ref()?.description.as_deref()?;
        Some(said).filter(|said| !said.trim().is_empty())
    }
}

/// Labels and annotations. Of those that a key has, only the operator's own are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Metadata {
    #[serde(default, deserialize_with = "marks")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "marks")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// What the names of the operator's own labels and annotations begin with.
const OWN: &str = "servicekeys.dev/";
/// More labels or annotations of its own than the operator gives a key.
const MOST_MARKS: usize = 16;
/// The most characters of a description that are kept: more than any message repeats.
const LONGEST_DESCRIPTION: usize = 1000;

fn marks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    deserializer.deserialize_map(Marks)
}

struct Marks;

impl<'de> Visitor<'de> for Marks {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels or annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut found = BTreeMap::new();
        while let Some(name) = entries.next_key::<Cow<'de, str>>()? {
            if !name.starts_with(OWN) {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let Mark(value) = entries.next_value()?;
            found.extend(value.map(|value| (name.into_owned(), value)));
            if found.len() > MOST_MARKS {
                return Err(A::Error::custom("too many marks"));
            }
        }
        Ok(found)
    }
}

#[derive(Deserialize)]
struct Mark(#[serde(deserialize_with = "word_if_any")] Option<String>);

fn description<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.map(|text| text.chars().take(LONGEST_DESCRIPTION).collect()))
}

/// The body of a request for a key.
#[derive(Serialize)]
pub(super) struct CreateKey<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    relationships: Relationships<'a>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    parameters: &'a Map<String, Value>,
    metadata: Metadata,
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

impl<'a> CreateKey<'a> {
    pub(super) const fn new(
        name: &'a str,
        instance: &'a str,
        parameters: &'a Map<String, Value>,
        metadata: Metadata,
    ) -> Self {
        let service_instance = ToOne { data: Reference { guid: instance } };
        Self { kind: "key", name, relationships: Relationships { service_instance }, parameters, metadata }
    }
}

/// The credentials in the details of a key.
///
/// # Errors
/// What is wrong with the body, in words that quote none of it.
pub(super) fn credentials(body: &[u8]) -> Result<Map<String, Value>, &'static str> {
    let Ok(Value::Object(mut details)) = serde_json::from_slice(body) else {
        return Err("is no JSON object");
    };
    match details.remove("credentials") {
        Some(Value::Object(credentials)) => Ok(credentials),
        Some(_) => Err("holds `credentials` that are no JSON object"),
        None => Err("holds no `credentials`"),
    }
}

/// The first error of a job that failed.
pub(super) fn job_error(body: &[u8]) -> Option<String> {
    let detail = ApiError::read(body).detail;
    (!detail.trim().is_empty()).then_some(detail)
}

/// # Errors
/// What is wrong with the body, in words that quote none of it.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, &'static str> {
    serde_json::from_slice(body).map_err(|_| "is not what the API's documentation has")
}
