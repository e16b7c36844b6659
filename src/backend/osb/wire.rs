//! The JSON of the API. The operator reads answers tolerantly: it ignores unknown fields, and treats invalid optional
//! fields as absent.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json, value::RawValue};
use uuid::Uuid;

use super::{config::BindResourceObject, target::PlanRef};
use crate::backend::{
    Credentials, IssuedKey, KeyFacts, KeyRequest, Owner,
    bounded::{AtMost, is_word},
};

#[derive(Serialize)]
pub(super) struct BindBody<'a> {
    pub(super) service_id: &'a str,
    pub(super) plan_id: &'a str,
    pub(super) context: PlatformContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bind_resource: Option<&'a BindResourceObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) predecessor_binding_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) parameters: &'a Map<String, Value>,
}

/// The namespace and the cluster that the key is for, in the spec's profile for Kubernetes.
#[derive(Serialize)]
pub(super) struct PlatformContext<'a> {
    platform: &'static str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    clusterid: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    instance_annotations: &'a BTreeMap<String, String>,
}

impl<'a> PlatformContext<'a> {
    pub(super) fn new(request: &'a KeyRequest) -> Self {
        let KeyRequest { owner, instance, .. } = request;
        Self {
            platform: "kubernetes",
            namespace: &owner.namespace,
            clusterid: owner.cluster_id.as_deref(),
            instance_annotations: &instance.annotations,
        }
    }
}

/// The value of `X-Broker-API-Originating-Identity`: the ServiceKey, in the form of a Kubernetes user.
pub(super) fn originating_identity(owner: &Owner) -> String {
    let username = format!("servicekeys.dev:{}:{}", owner.namespace, owner.name);
    let user = json!({"username": username, "uid": owner.uid, "groups": [], "extra": {}});
    format!("kubernetes {}", BASE64_STANDARD.encode(user.to_string()))
}

/// The answer to `GET /v2/catalog`. Each service is read separately, so that an invalid one does not hide the others.
#[derive(Deserialize)]
pub(super) struct CatalogBody<'a> {
    #[serde(borrow)]
    pub(super) services: AtMost<10_000, &'a RawValue>,
}

/// One offering of the catalog. Each plan is read separately, so that an invalid one does not hide the others.
#[derive(Deserialize)]
pub(super) struct ServiceObject<'a> {
    #[serde(default)]
    pub(super) id: Word,
    #[serde(default)]
    pub(super) name: Word,
    #[serde(default)]
    pub(super) bindable: Flag,
    #[serde(default)]
    pub(super) bindings_retrievable: Flag,
    #[serde(default)]
    pub(super) instances_retrievable: Flag,
    #[serde(borrow)]
    pub(super) plans: Option<&'a RawValue>,
}

impl<'a> ServiceObject<'a> {
    /// The plans, or `None` if they are not a list.
    pub(super) fn plans(&self) -> Option<AtMost<10_000, &'a RawValue>> {
        serde_json::from_str(self.plans?.get()).ok()
    }
}

#[derive(Deserialize)]
pub(super) struct PlanObject {
    #[serde(default)]
    pub(super) id: Word,
    #[serde(default)]
    pub(super) name: Word,
    #[serde(default)]
    pub(super) bindable: Flag,
    #[serde(default)]
    pub(super) binding_rotatable: Flag,
    #[serde(default, deserialize_with = "seconds")]
    pub(super) maximum_polling_duration: Option<Duration>,
}

/// An id or a name. It is `None` if the catalog has none, or a value of another type.
#[derive(Default)]
pub(super) struct Word(pub(super) Option<String>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = <&RawValue>::deserialize(deserializer)?;
        let word = serde_json::from_str(written.get()).ok();
        Ok(Self(word.filter(|word: &String| !word.is_empty() && is_word(word))))
    }
}

/// A boolean field.
#[derive(Clone, Copy, Default)]
pub(super) enum Flag {
    #[default]
    Absent,
    Is(bool),
    /// The field has a value of another type.
    Odd,
}

impl Flag {
    /// The value. A value of another type counts as absent.
    pub(super) const fn value(self) -> Option<bool> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Odd => None,
        }
    }

    pub(super) const fn is_odd(self) -> bool {
        matches!(self, Self::Odd)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = <&RawValue>::deserialize(deserializer)?;
        Ok(serde_json::from_str::<Option<bool>>(written.get())
            .map_or(Self::Odd, |value| value.map_or(Self::Absent, Self::Is)))
    }
}

/// Reads a positive whole number of seconds. Any other value counts as absent.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let written = <&RawValue>::deserialize(deserializer)?;
    let seconds = written.get().parse().ok().filter(|seconds: &u64| *seconds > 0);
    Ok(seconds.map(Duration::from_secs))
}

/// Whether the body is a JSON object, as every answer of a broker is.
pub(super) fn is_object(body: &[u8]) -> bool {
    matches!(serde_json::from_slice(body), Ok(Value::Object(_)))
}

/// Reads the plan from the answer to `GET /v2/service_instances/:instance_id`.
///
/// # Errors
/// The answer is invalid. The message names the fault, and quotes nothing from the answer.
pub(super) fn place(body: &[u8]) -> Result<PlanRef, &'static str> {
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else { return Err("is not a JSON object") };
    let id = |name: &str| {
        let id = body.get(name).and_then(Value::as_str).filter(|id| !id.is_empty() && is_word(id));
        id.map(str::to_owned)
    };
    match (id("service_id"), id("plan_id")) {
        (Some(offering), Some(plan)) => Ok(PlanRef { offering, plan }),
        _ => Err("does not contain both `service_id` and `plan_id`"),
    }
}

/// The most characters in the token of an operation (spec: "Asynchronous Operations").
const LONGEST_TOKEN: usize = 10_000;

/// Reads the token of an accepted operation, if the answer contains one.
///
/// # Errors
/// The answer is invalid. The message names the fault, and quotes nothing from the answer.
pub(super) fn operation_token(body: &[u8]) -> Result<Option<String>, &'static str> {
    let Ok(Value::Object(mut body)) = serde_json::from_slice(body) else {
        return Err("is not a JSON object");
    };
    match body.remove("operation") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(token)) if token.chars().count() > LONGEST_TOKEN => {
            Err("contains an `operation` of more than 10,000 characters")
        }
        Some(Value::String(token)) => Ok(Some(token)),
        Some(_) => Err("contains an `operation` that is not a string"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastOperationState {
    InProgress,
    Succeeded,
    Failed,
}

/// Reads the state from the answer to a poll.
///
/// # Errors
/// The answer is invalid. The message names the fault, and quotes nothing from the answer.
pub(super) fn operation_state(body: &[u8]) -> Result<LastOperationState, &'static str> {
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(body) else {
        return Err("is not a JSON object");
    };
    match body.get("state").and_then(Value::as_str) {
        Some("in progress") => Ok(LastOperationState::InProgress),
        Some("succeeded") => Ok(LastOperationState::Succeeded),
        Some("failed") => Ok(LastOperationState::Failed),
        Some(_) => Err("contains a `state` that the specification does not define"),
        None => Err("contains no `state`"),
    }
}

/// The body of a refusal.
#[derive(Default)]
pub(super) struct BrokerRefusal {
    /// The `error` field: one of the codes of the spec.
    pub(super) code: Option<String>,
    /// Whether the body is not a JSON object, as every answer of a broker is.
    pub(super) is_foreign: bool,
}

impl BrokerRefusal {
    pub(super) fn read(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let code = body.get("error").and_then(Value::as_str).map(str::to_owned);
        Self { code, is_foreign: !body.is_object() }
    }
}

/// Reads the key from the answer to a bind or a fetch.
///
/// # Errors
/// The answer is invalid. The message names the fault, and quotes nothing from the answer.
pub(super) fn issued_key(body: &[u8], binding_id: Uuid) -> Result<IssuedKey, &'static str> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Err("is not JSON") };
    let Value::Object(mut body) = body else { return Err("is not a JSON object") };
    let credentials = match body.remove("credentials") {
        Some(Value::Object(credentials)) => Credentials::new(credentials),
        None | Some(Value::Null) => return Err("contains no `credentials`"),
        Some(_) => return Err("contains `credentials` that are not an object"),
    };
    let time = |name: &str| body.get("metadata")?.get(name)?.as_str().and_then(timestamp);
    let facts = KeyFacts {
        id: binding_id.to_string(),
        expires_at: time("expires_at"),
        renew_before: time("renew_before"),
        ..KeyFacts::default()
    };
    Ok(IssuedKey { facts, credentials })
}

/// Whether the answer is an object without credentials.
pub(super) fn withholds_credentials(body: &[u8]) -> bool {
    credentials_field(body).is_some_and(|credentials| credentials.is_null())
}

/// Whether the answer is an object whose `credentials` are missing or not an object.
pub(super) fn lacks_credentials(body: &[u8]) -> bool {
    credentials_field(body).is_some_and(|credentials| !credentials.is_object())
}

/// The `credentials` of an answer that is an object, or null if it has none.
fn credentials_field(body: &[u8]) -> Option<Value> {
    let Ok(Value::Object(mut body)) = serde_json::from_slice(body) else { return None };
    Some(body.remove("credentials").unwrap_or_default())
}

/// Reads an ISO 8601 time. A time without an offset is in UTC.
fn timestamp(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(timestamp) = text.parse() {
        return Some(timestamp);
    }
    let local: civil::DateTime = text.parse().ok()?;
    local.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2026-11-24T12:00:00Z", Some("2026-11-24T12:00:00Z"))]
    #[case("2026-11-24T12:00:00.5+02:00", Some("2026-11-24T10:00:00.5Z"))]
    #[case("2026-11-24T12:00:00+0200", Some("2026-11-24T10:00:00Z"))]
    #[case("20261124T120000Z", Some("2026-11-24T12:00:00Z"))]
    #[case("2026-11-24 12:00:00", Some("2026-11-24T12:00:00Z"))]
    #[case("2026-11-24", Some("2026-11-24T00:00:00Z"))]
    #[case("tomorrow", None)]
    #[case("", None)]
    #[case("2026-13-01T00:00:00Z", None)]
    fn reads_timestamps(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(timestamp(text), expected.map(|expected| expected.parse().unwrap()));
    }

    #[rstest]
    #[case("", Err("is not JSON"))]
    #[case("<html>", Err("is not JSON"))]
    #[case("[]", Err("is not a JSON object"))]
    #[case("{}", Err("contains no `credentials`"))]
    #[case(r#"{"credentials": null}"#, Err("contains no `credentials`"))]
    #[case(r#"{"credentials": []}"#, Err("contains `credentials` that are not an object"))]
    #[case(r#"{"credentials": "x"}"#, Err("contains `credentials` that are not an object"))]
    #[case(r#"{"credentials": 7}"#, Err("contains `credentials` that are not an object"))]
    #[case(r#"{"credentials": {"a": 1}, "metadata": "x", "more": 1}"#, Ok(None))]
    #[case(r#"{"credentials": {"a": 1}, "metadata": {"expires_at": 5}}"#, Ok(None))]
    #[case(
        r#"{"credentials": {"a": 1}, "metadata": {"expires_at": "2026-11-24T12:00:00Z"}}"#,
        Ok(Some("2026-11-24T12:00:00Z"))
    )]
    fn reads_keys(#[case] body: &str, #[case] expected: Result<Option<&str>, &str>) {
        let key = issued_key(body.as_bytes(), Uuid::nil());
        let expires_at = key.map(|key| key.facts.expires_at);
        assert_eq!(expires_at, expected.map(|time| time.map(|time| time.parse().unwrap())));
    }

    #[rstest]
    #[case("{}", Ok(None))]
    #[case(r#"{"operation": null}"#, Ok(None))]
    #[case(r#"{"operation": "task 10"}"#, Ok(Some("task 10")))]
    #[case(r#"{"operation": 10}"#, Err("contains an `operation` that is not a string"))]
    #[case("", Err("is not a JSON object"))]
    #[case("[]", Err("is not a JSON object"))]
    fn reads_tokens(#[case] body: &str, #[case] expected: Result<Option<&str>, &str>) {
        let token = operation_token(body.as_bytes());
        assert_eq!(token.as_ref().map(Option::as_deref).map_err(|what| *what), expected);
    }

    #[rstest]
    #[case(10_000, true)]
    #[case(10_001, false)]
    #[case(20_000, false)]
    fn tokens_are_as_long_as_the_spec_allows(#[case] length: usize, #[case] read: bool) {
        let body = json!({"operation": "\u{fc}".repeat(length)}).to_string();
        assert_eq!(operation_token(body.as_bytes()).is_ok(), read);
    }

    #[rstest]
    #[case(r#"{"state": "in progress"}"#, Ok(LastOperationState::InProgress))]
    #[case(r#"{"state": "succeeded", "description": "x"}"#, Ok(LastOperationState::Succeeded))]
    #[case(r#"{"state": "failed"}"#, Ok(LastOperationState::Failed))]
    #[case(r#"{"state": "done"}"#, Err("contains a `state` that the specification does not define"))]
    #[case("{}", Err("contains no `state`"))]
    #[case("<html>", Err("is not a JSON object"))]
    fn reads_states(#[case] body: &str, #[case] expected: Result<LastOperationState, &str>) {
        assert_eq!(operation_state(body.as_bytes()), expected);
    }

    #[rstest]
    #[case(100, true)]
    #[case(200, false)]
    #[case(100_000, false)]
    fn nesting_is_limited(#[case] depth: usize, #[case] read: bool) {
        let body = format!(r#"{{"credentials": {{"deep": {}{}}}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(issued_key(body.as_bytes(), Uuid::nil()).is_ok(), read);
    }

    #[test]
    fn names_the_servicekey_as_the_originating_identity() {
        let owner = Owner {
            namespace: "training".to_owned(),
            name: "monitoring-creds".to_owned(),
            uid: Uuid::nil(),
            cluster_id: None,
        };
        let header = originating_identity(&owner);
        let (platform, encoded) = header.split_once(' ').unwrap();
        let user: Value = serde_json::from_slice(&BASE64_STANDARD.decode(encoded).unwrap()).unwrap();
        assert_eq!(platform, "kubernetes");
        assert_eq!(
            user,
            json!({
                "username": "servicekeys.dev:training:monitoring-creds",
                "uid": "00000000-0000-0000-0000-000000000000",
                "groups": [],
                "extra": {},
            })
        );
    }
}
