//! What the operator writes into the Secret's metadata, to know again which key it holds.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::lifecycle::Sequence;

/// The label that says who writes the Secret.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`LABEL_MANAGED_BY`]; the Secrets to watch have it.
pub const MANAGED_BY: &str = "servicekey-operator";
/// The label with the UID of the ServiceKey that the Secret belongs to.
pub const LABEL_OWNER_UID: &str = "servicekeys.dev/owner-uid";

/// What all keys of the operator's own labels and annotations begin with.
const PREFIX: &str = "servicekeys.dev/";

const SEQUENCE: &str = "servicekeys.dev/sequence";
const KEY_ID: &str = "servicekeys.dev/key-id";
const KEY_NAME: &str = "servicekeys.dev/key-name";
const CREATED_AT: &str = "servicekeys.dev/created-at";
const EXPIRES_AT: &str = "servicekeys.dev/expires-at";
const RENEW_BEFORE: &str = "servicekeys.dev/renew-before";
const LAYOUT: &str = "servicekeys.dev/layout";
const INPUTS: &str = "servicekeys.dev/inputs";
const CONTENT: &str = "servicekeys.dev/content";

/// All annotations that [`Marks`] are written as.
const ALL: [&str; 9] =
    [SEQUENCE, KEY_ID, KEY_NAME, CREATED_AT, EXPIRES_AT, RENEW_BEFORE, LAYOUT, INPUTS, CONTENT];

/// Everything the operator must know of the key in a Secret, from the Secret's metadata alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Which key of the ServiceKey the Secret holds.
    pub sequence: Sequence,
    /// The remote side's id of the key; never empty.
    pub key_id: String,
    /// The remote side's name of the key, where it has names.
    pub key_name: Option<String>,
    /// When the key was made.
    pub created_at: Timestamp,
    /// When the key stops working by itself.
    pub expires_at: Option<Timestamp>,
    /// By when the remote side wants the key to be rotated.
    pub renew_before: Option<Timestamp>,
    /// [`super::Layout::digest`] of the layout that the Secret was written with.
    pub layout: String,
    /// A digest of the fields that went into making the key.
    pub inputs: String,
    /// [`super::Entries::digest`] of the entries that were written.
    pub content: String,
}

/// Reads the marks back. `None` when one that is needed is missing or damaged: the Secret is to be repaired.
#[must_use]
pub fn read(meta: &ObjectMeta) -> Option<Marks> {
    let annotations = meta.annotations.as_ref()?;
    let text = |key: &str| annotations.get(key).filter(|value| !value.is_empty()).cloned();
    // Absent is `Some(None)`, damaged is `None`.
    let optional_time = |key: &str| match annotations.get(key) {
        None => Some(None),
        Some(value) => value.parse().ok().map(Some),
    };
    Some(Marks {
        sequence: Sequence::new(annotations.get(SEQUENCE)?.parse().ok()?)?,
        key_id: text(KEY_ID)?,
        key_name: annotations.get(KEY_NAME).cloned(),
        created_at: annotations.get(CREATED_AT)?.parse().ok()?,
        expires_at: optional_time(EXPIRES_AT)?,
        renew_before: optional_time(RENEW_BEFORE)?,
        layout: text(LAYOUT)?,
        inputs: text(INPUTS)?,
        content: text(CONTENT)?,
    })
}

/// Whether a user may not set this label or annotation, because the operator does.
pub(super) fn is_reserved(key: &str) -> bool {
    key == LABEL_MANAGED_BY || key.starts_with(PREFIX)
}

impl Marks {
    /// Writes the marks over those of an earlier key.
    pub(super) fn write(&self, annotations: &mut BTreeMap<String, String>) {
        let Self {
            sequence,
            key_id,
            key_name,
            created_at,
            expires_at,
            renew_before,
            layout,
            inputs,
            content,
        } = self;
        annotations.retain(|key, _| !ALL.contains(&key.as_str()));
        let written = [
            (SEQUENCE, Some(sequence.to_string())),
            (KEY_ID, Some(key_id.clone())),
            (KEY_NAME, key_name.clone()),
            (CREATED_AT, Some(created_at.to_string())),
            (EXPIRES_AT, expires_at.map(|time| time.to_string())),
            (RENEW_BEFORE, renew_before.map(|time| time.to_string())),
            (LAYOUT, Some(layout.clone())),
            (INPUTS, Some(inputs.clone())),
            (CONTENT, Some(content.clone())),
        ];
        let present = written.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        annotations.extend(present);
    }
}

#[cfg(test)]
pub(super) mod tests;
