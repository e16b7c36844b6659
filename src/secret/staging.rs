//! The Secret with credentials that are not published yet, because the operator verifies them first. No workload uses it.
//!
//! Its name has the UID of its ServiceKey, so no other object of the operator has the name, and a crash does not change
//! it. Every user who may edit Secrets in the namespace can change it, like any other Secret. So the operator believes
//! no more of it than of the published one.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use secrecy::SecretString;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Entries, Imprint, Layout, Marks, build, read, rehearsal, replace};
use crate::lifecycle::{Claim, KeyRecord};

/// The type of the Secret. Only the operator uses Secrets of this type.
pub(crate) const STAGING_TYPE: &str = "servicekeys.dev/staging";

/// The entry with the credentials, as JSON.
const CREDENTIALS: &str = "credentials.json";

/// The name of the staging Secret of the ServiceKey with this UID.
#[must_use]
pub(crate) fn staging_name(uid: Uuid) -> String {
    format!("servicekey-{uid}")
}

fn layout() -> Layout {
    Layout { type_: STAGING_TYPE.to_owned(), ..Layout::default() }
}

/// A staging Secret with these credentials. `existing` is the one to replace, if there is one.
///
/// `Debug` of a Secret shows its values, so never print the result.
#[must_use]
pub(crate) fn staged(
    uid: Uuid,
    namespace: &str,
    owner: &OwnerReference,
    existing: Option<&ObjectMeta>,
    key: KeyRecord,
    credentials: &Map<String, Value>,
) -> Secret {
    let entries = entries(credentials);
    let imprint = Imprint::new(&layout(), &entries, &uid);
    let marks = Marks { key, previous: None, former: None, imprint };
    match existing {
        Some(existing) => replace(existing, owner, &layout(), &entries, &marks),
        None => build(&staging_name(uid), namespace, owner, &layout(), &entries, &marks),
    }
}

fn entries(credentials: &Map<String, Value>) -> Entries {
    // Serializing a map does not fail.
    let text = serde_json::to_vec(credentials).unwrap_or_default();
    Entries(BTreeMap::from([(CREDENTIALS.to_owned(), text)]))
}

/// The imprint of a staging Secret with these credentials.
#[must_use]
pub(crate) fn staging_imprint(uid: Uuid, credentials: &Map<String, Value>) -> Imprint {
    Imprint::new(&layout(), &entries(credentials), &uid)
}

/// All texts in the credentials of a staging Secret, so that messages can hide them.
#[must_use]
pub(crate) fn staged_texts(secret: &Secret) -> Vec<SecretString> {
    let entries = Entries::from_secret(secret);
    let credentials = entries.0.get(CREDENTIALS).and_then(|text| serde_json::from_slice(text).ok());
    let mut texts = entries.texts();
    let mut values: Vec<Value> = credentials.into_iter().collect();
    while let Some(value) = values.pop() {
        match value {
            Value::Object(members) => values.extend(members.into_iter().map(|(_, value)| value)),
            Value::Array(items) => values.extend(items),
            Value::String(text) => texts.push(text.into()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    texts
}

/// A staging Secret for a dry run. It contains no credentials, and has no marks of a key.
#[must_use]
pub(crate) fn staging_rehearsal(uid: Uuid, namespace: &str, owner: &OwnerReference) -> Secret {
    let fresh = ObjectMeta {
        name: Some(staging_name(uid)),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    let template = BTreeMap::from([(CREDENTIALS.to_owned(), String::new())]);
    rehearsal(&fresh, owner, &Layout { template, ..layout() })
}

/// The key and the credentials in a staging Secret; `None` if another writer changed them.
#[must_use]
pub(crate) fn read_staged(secret: &Secret, uid: Uuid) -> Option<(Claim, Map<String, Value>)> {
    let marks = read(&secret.metadata)?;
    let entries = marks.imprint.untouched(&Entries::from_secret(secret), &uid)?;
    let text = entries.0.get(CREDENTIALS)?;
    let credentials = serde_json::from_slice(text).ok()?;
    Some((marks.key, credentials))
}
