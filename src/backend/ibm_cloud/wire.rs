//! The APIs' JSON. The operator reads it tolerantly: it ignores unknown fields, and reports missing ones.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, value::RawValue};
use url::form_urlencoded;

use crate::backend::{
    bounded::{AtMost, id, is_word, link, word},
    memory::Weight,
};

pub(super) const INSTANCES: &str = "/v2/resource_instances";
/// More resources than the API puts on a page.
pub(super) const MOST_PER_PAGE: usize = 1000;

/// The error in a refusal. It is empty if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IbmCloudError {
    pub(super) code: String,
    pub(super) message: String,
}

impl IbmCloudError {
    /// Reads the error in the body of a refusal: its own fields, or those of the first of its `errors`.
    pub(super) fn read(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let places = [Some(&body), body.get("errors").and_then(|errors| errors.get(0))];
        let text = |names: &[&str]| {
            let found = places.iter().flatten().flat_map(|place| names.iter().map(|name| place.get(name)));
            let mut texts = found.flatten().filter_map(Value::as_str);
            texts.find(|text| !text.trim().is_empty()).unwrap_or_default().to_owned()
        };
        Self { code: text(&["error_code", "errorCode", "code"]), message: text(&["message", "errorMessage"]) }
    }

    /// Whether this is a message of the service's broker. It has a code for that, or none.
    pub(super) fn is_of_the_service(&self, status: u16) -> bool {
        status == 422 && ["", "RC-ServiceBrokerErrorResponse"].contains(&self.code.as_str())
    }
}

/// One page of a list. Its items are read one by one.
#[derive(Deserialize)]
pub(super) struct ResourcePage<'a> {
    #[serde(default, deserialize_with = "link")]
    next_url: Option<String>,
    #[serde(borrow)]
    pub(super) resources: &'a RawValue,
}

impl ResourcePage<'_> {
    /// The start of the next page. The operator does not follow the address itself.
    ///
    /// # Errors
    /// If there is a next page without a start.
    pub(super) fn next_start(&self) -> Result<Option<String>, &'static str> {
        let Some(next) = self.next_url.as_deref().filter(|next| !next.is_empty()) else { return Ok(None) };
        let query = next.split_once('?').map_or("", |(_, query)| query);
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let start = pairs.find(|(name, _)| name == "start").map(|(_, start)| start.into_owned());
        start.map(Some).ok_or("its `next_url` contains no `start`")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct ResourceInstance {
    #[serde(deserialize_with = "id")]
    pub(super) guid: String,
    #[serde(deserialize_with = "id")]
    pub(super) crn: String,
    #[serde(default, deserialize_with = "word")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "word")]
    pub(super) account_id: String,
    #[serde(default, deserialize_with = "word")]
    pub(super) state: String,
}

impl Weight for ResourceInstance {
    fn weight(&self) -> usize {
        let Self { guid, crn, name, account_id, state } = self;
        [guid, crn, name, account_id, state].into_iter().map(String::capacity).sum()
    }
}

/// A resource key, without its credentials.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct ResourceKey {
    #[serde(deserialize_with = "id")]
    pub(super) guid: String,
    #[serde(default, deserialize_with = "word")]
    pub(super) crn: String,
    #[serde(default, deserialize_with = "word")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "word")]
    pub(super) state: String,
    #[serde(default, deserialize_with = "word")]
    pub(super) account_id: String,
    #[serde(default)]
    pub(super) created_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "word")]
    pub(super) created_by: Option<String>,
    /// The CRN of its role. IBM's page "Connecting services to apps" shows it, and the API's documentation does not.
    #[serde(default, deserialize_with = "word_if_any")]
    pub(super) role: Option<String>,
    /// Whether the credentials are shown only in the answer to the creation. A key inherits that from its instance.
    #[serde(default)]
    pub(super) onetime_credentials: Option<bool>,
}

impl Weight for ResourceKey {
    fn weight(&self) -> usize {
        let Self {
            guid,
            crn,
            name,
            state,
            account_id,
            created_at: _,
            created_by,
            role,
            onetime_credentials: _,
        } = self;
        let words = [guid, crn, name, state, account_id].into_iter().chain(created_by).chain(role);
        words.map(String::capacity).sum()
    }
}

/// Reads a word. Any other value counts as absent.
fn word_if_any<'de, D: Deserializer<'de>>(de: D) -> Result<Option<String>, D::Error> {
    let found = Value::deserialize(de)?;
    Ok(found.as_str().filter(|text| is_word(text)).map(str::to_owned))
}

impl ResourceKey {
    /// Whether this is only the record of a deleted key.
    pub(super) fn is_removed(&self) -> bool {
        self.state == "removed"
    }
}

/// The name of the service in the CRN of an instance, or of a resource in one. It is empty if there is none.
pub(super) fn service(crn: &str) -> &str {
    crn.split(':').nth(4).unwrap_or_default()
}

/// Why the login may not see credentials (IBM/platform-services-go-sdk, `Credentials.Redacted`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redaction {
    /// `REDACTED`: the login has less access than the key.
    Lesser,
    /// `REDACTED_EXPLICIT`: only a login with the action `resource-controller.credential.retrieve_all` may see them.
    Explicit,
}

/// The credentials in an answer about a key.
pub(super) enum ShownCredentials {
    Credentials(Map<String, Value>),
    /// The login may not see them.
    Redacted(Redaction),
    /// They are not shown again, or there are none.
    Nothing,
}

/// Reads the credentials in an answer about a key.
pub(super) fn shown(body: &[u8]) -> ShownCredentials {
    let Ok(Value::Object(mut key)) = serde_json::from_slice(body) else { return ShownCredentials::Nothing };
    match key.remove("credentials") {
        Some(Value::Object(credentials)) if credentials.contains_key("REDACTED") => {
            let is_lesser = credentials.get("REDACTED").and_then(Value::as_str) == Some("REDACTED");
            ShownCredentials::Redacted(if is_lesser { Redaction::Lesser } else { Redaction::Explicit })
        }
        Some(Value::Object(credentials)) if !credentials.is_empty() => {
            ShownCredentials::Credentials(credentials)
        }
        _ => ShownCredentials::Nothing,
    }
}

/// The CRN of the role of a key, if its credentials or the key itself contain it. It is not a secret.
pub(super) fn role(credentials: &Map<String, Value>, key: Option<String>) -> Option<String> {
    let of_credentials = credentials.get("iam_role_crn").and_then(Value::as_str).map(str::to_owned);
    let is_role = |role: &String| role.starts_with("crn:") && is_word(role);
    of_credentials.filter(is_role).or(key.filter(is_role))
}

/// The body of a request for a key.
#[derive(Serialize)]
pub(super) struct CreateResourceKey<'a> {
    pub(super) name: &'a str,
    pub(super) source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) parameters: &'a Map<String, Value>,
}

/// The body of a request to rename a key.
#[derive(Serialize)]
pub(super) struct RenameKey<'a> {
    pub(super) name: &'a str,
}

/// The service IDs of an account.
#[derive(Deserialize)]
pub(super) struct ServiceIds {
    pub(super) serviceids: AtMost<1000, ServiceId>,
}

/// An identity that keys can act as.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct ServiceId {
    #[serde(deserialize_with = "id")]
    pub(super) id: String,
    #[serde(deserialize_with = "id")]
    pub(super) iam_id: String,
    #[serde(deserialize_with = "id")]
    pub(super) crn: String,
    #[serde(default, deserialize_with = "word")]
    pub(super) name: String,
}

/// The body of a request for a service ID.
#[derive(Serialize)]
pub(super) struct CreateServiceId<'a> {
    pub(super) account_id: &'a str,
    pub(super) name: &'a str,
    pub(super) description: &'a str,
}

#[derive(Deserialize)]
pub(super) struct Policies {
    pub(super) policies: AtMost<1000, Policy>,
}

#[derive(Deserialize)]
pub(super) struct Policy {
    #[serde(deserialize_with = "id")]
    pub(super) id: String,
}

/// The body of a request for a policy that gives a service ID roles on a resource.
#[derive(Serialize)]
pub(super) struct CreatePolicy<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    subjects: [Attributes<'a>; 1],
    roles: Vec<PolicyRole<'a>>,
    resources: [Attributes<'a>; 1],
}

#[derive(Serialize)]
struct Attributes<'a> {
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
struct Attribute<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
struct PolicyRole<'a> {
    role_id: &'a str,
}

impl<'a> CreatePolicy<'a> {
    /// A policy for the service ID with this IAM id. It gives these roles, by their CRNs, on resources with all these
    /// attributes.
    pub(super) fn access(
        iam_id: &'a str,
        roles: &'a [String],
        resource: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let attribute = |(name, value)| Attribute { name, value };
        Self {
            kind: "access",
            subjects: [Attributes { attributes: vec![attribute(("iam_id", iam_id))] }],
            roles: roles.iter().map(|role_id| PolicyRole { role_id }).collect(),
            resources: [Attributes { attributes: resource.into_iter().map(attribute).collect() }],
        }
    }
}

/// The roles of a service: those of all services, its own, and those that the account has created for it.
#[derive(Deserialize)]
pub(super) struct Roles {
    #[serde(default)]
    pub(super) service_roles: AtMost<500, Role>,
    #[serde(default)]
    pub(super) custom_roles: AtMost<500, Role>,
    #[serde(default)]
    pub(super) system_roles: AtMost<500, Role>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Role {
    #[serde(default, deserialize_with = "word")]
    pub(super) display_name: String,
    #[serde(deserialize_with = "id")]
    pub(super) crn: String,
}

impl Role {
    /// Whether the role is one of the service's own. The CRNs of platform roles and custom roles have another form.
    pub(super) fn is_of_a_service(&self) -> bool {
        self.crn.rsplit(':').nth(1) == Some("serviceRole")
    }

    /// Whether a user may name the role like this.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.display_name == name || self.crn.rsplit(':').next() == Some(name)
    }
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
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::of_the_controller(json!({"error_code": "RC-X", "message": "no", "status_code": 400}), "RC-X", "no")]
    #[case::wrapped(
        json!({"errors": [{"code": "RC-ServiceBrokerErrorResponse", "message": "full"}], "status_code": 422}),
        "RC-ServiceBrokerErrorResponse",
        "full"
    )]
    #[case::flat(json!({"message": "full", "status_code": 422, "transaction_id": "x"}), "", "full")]
    #[case::of_iam(json!({"trace": "x", "errors": [{"code": "not_found", "message": "no"}]}), "not_found", "no")]
    #[case::of_tokens(json!({"errorCode": "BXNIM0415E", "errorMessage": "no"}), "BXNIM0415E", "no")]
    #[case::empty(json!({}), "", "")]
    #[case::odd(json!({"error_code": 7, "errors": "no"}), "", "")]
    fn errors_come_in_many_shapes(#[case] body: Value, #[case] code: &str, #[case] message: &str) {
        let error = IbmCloudError::read(body.to_string().as_bytes());
        assert_eq!((error.code.as_str(), error.message.as_str()), (code, message));
    }

    #[rstest]
    #[case(json!(null), Ok(None))]
    #[case(json!(""), Ok(None))]
    #[case(json!("/v2/resource_keys?start=a%2Bb&limit=100"), Ok(Some("a+b")))]
    #[case(json!("https://elsewhere.example.com/?limit=100&start=x"), Ok(Some("x")))]
    #[case(json!("/v2/resource_keys?limit=100"), Err(()))]
    fn the_next_page_is_told_by_its_start(
        #[case] next_url: Value,
        #[case] expected: Result<Option<&str>, ()>,
    ) {
        let page = json!({"next_url": next_url, "resources": []}).to_string();
        let page: ResourcePage<'_> = read(page.as_bytes()).unwrap();
        assert_eq!(page.next_start().map_err(drop), expected.map(|start| start.map(str::to_owned)));
    }

    #[rstest]
    #[case::told(json!({"iam_role_crn": "crn:v1:r"}), json!(null), Some("crn:v1:r"))]
    #[case::not_told(json!({}), json!(null), None)]
    #[case::no_crn(json!({"iam_role_crn": "a password in the wrong place"}), json!(null), None)]
    #[case::no_text(json!({"iam_role_crn": 7}), json!({"odd": true}), None)]
    #[case::of_the_key(json!({}), json!("crn:v1:k"), Some("crn:v1:k"))]
    #[case::of_both(json!({"iam_role_crn": "crn:v1:r"}), json!("crn:v1:k"), Some("crn:v1:r"))]
    #[case::of_the_key_and_no_crn(json!({}), json!("NONE"), None)]
    fn a_key_tells_its_role(#[case] credentials: Value, #[case] of_key: Value, #[case] told: Option<&str>) {
        let key: ResourceKey = serde_json::from_value(json!({"guid": "k-1", "role": of_key})).unwrap();
        let found = role(credentials.as_object().unwrap(), key.role);
        assert_eq!(found.as_deref(), told);
    }

    #[test]
    fn a_crn_tells_the_service() {
        assert_eq!(service("crn:v1:bluemix:public:logdnaat:eu-de:a/1:2::"), "logdnaat");
        assert_eq!(service("crn"), "");
    }
}
