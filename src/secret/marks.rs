//! Marks in the Secret's metadata, by which the operator recognizes the key that the Secret contains.
//!
//! A user who may edit the Secret may edit the marks. So the operator reads them as a [`Claim`], without the
//! remote side's id and name of the key. Those are written for people only.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Digest, Entries, Layout, ownership::created_for};
use crate::{
    api::marks::{FORMER_UID_ANNOTATION, MANAGED_BY_LABEL},
    lifecycle::{Claim, Expiry, ExpirySource, KeyRecord, Lifetime, Sequence},
};

/// Prefix of the operator's own labels and annotations.
pub(super) const PREFIX: &str = "servicekeys.dev/";

const SEQUENCE: &str = "servicekeys.dev/sequence";
const KEY_ID: &str = "servicekeys.dev/key-id";
const KEY_NAME: &str = "servicekeys.dev/key-name";
const ROLE: &str = "servicekeys.dev/role";
const CREATED_AT: &str = "servicekeys.dev/created-at";
const CREATED_BY: &str = "servicekeys.dev/created-by";
const EXPIRES_AT: &str = "servicekeys.dev/expires-at";
const EXPIRES_FROM: &str = "servicekeys.dev/expires-from";
const RENEW_BEFORE: &str = "servicekeys.dev/renew-before";
const SAME_CREDENTIALS: &str = "servicekeys.dev/same-credentials";
const LATE_UNTIL: &str = "servicekeys.dev/late-until";
const PREVIOUS: &str = "servicekeys.dev/previous-sequence";
const LAYOUT: &str = "servicekeys.dev/layout";
const INPUTS: &str = "servicekeys.dev/inputs";
const CONTENT: &str = "servicekeys.dev/content";
const RENDERING: &str = "servicekeys.dev/rendering";
const CREDENTIALS: &str = "servicekeys.dev/credentials";
const ENTRIES: &str = "servicekeys.dev/entries";

/// All annotations of [`Marks`].
const ALL: [&str; 19] = [
    SEQUENCE,
    KEY_ID,
    KEY_NAME,
    ROLE,
    CREATED_AT,
    CREATED_BY,
    EXPIRES_AT,
    EXPIRES_FROM,
    RENEW_BEFORE,
    LATE_UNTIL,
    SAME_CREDENTIALS,
    PREVIOUS,
    LAYOUT,
    INPUTS,
    CONTENT,
    RENDERING,
    ENTRIES,
    CREDENTIALS,
    FORMER_UID_ANNOTATION,
];

/// Limit in bytes. A longer digest counts as damaged.
const LONGEST_DIGEST: usize = 256;
/// Limit in bytes. A longer name of a role or creator is omitted.
const LONGEST_NAME: usize = 1024;
/// Limit in bytes. A longer list of entries is omitted.
const LONGEST_LIST: usize = 4096;

/// The marks of the key in a Secret, and of the Secret itself. Marks that were read from a Secret are a
/// claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marks<K = KeyRecord> {
    /// The key whose credentials the Secret contains.
    pub key: K,
    /// The previous key, if the Secret also contains its credentials.
    pub previous: Option<Sequence>,
    /// The ServiceKey that the key was created for, if it is not the Secret's owner.
    pub former: Option<Uuid>,
    /// The Secret as it was written.
    pub imprint: Imprint,
}

/// The Secret as it was written. It shows the operator what another writer, or the user, has changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Imprint {
    /// [`Layout::digest`].
    pub layout: String,
    /// [`Entries::digest`].
    pub content: String,
    /// [`Layout::rendering`]; `None` if a release before 0.2 wrote the Secret.
    pub rendering: Option<String>,
    /// The names of the entries; `None` if there are too many, or a release before 0.2 wrote the Secret.
    pub entries: Option<BTreeSet<String>>,
    /// [`digest_of`] the credentials that the entries were rendered from; `None` if an earlier release wrote
    /// the Secret.
    pub credentials: Option<String>,
}

/// A digest of a key's credentials. Two keys of one ServiceKey with the same credentials have the same
/// digest, even if the templates differ. It has the salt of [`Entries::digest`], and protects a guessable
/// password no better.
#[must_use]
pub(crate) fn digest_of(credentials: &Map<String, Value>, salt: &Uuid) -> String {
    // The members of a map are sorted, so the text is stable. Serializing a map does not fail.
    let text = Zeroizing::new(serde_json::to_vec(credentials).unwrap_or_default());
    Digest::new("servicekeys.dev/credentials/1").field(salt).field(&*text).finish()
}

impl Imprint {
    /// The imprint of a Secret with these entries, of unknown credentials. The salt is that of
    /// [`Entries::digest`].
    #[must_use]
    pub(crate) fn new(layout: &Layout, entries: &Entries, salt: &Uuid) -> Self {
        Self {
            layout: layout.digest(),
            content: entries.digest(salt),
            rendering: Some(layout.rendering()),
            entries: Some(entries.names().map(str::to_owned).collect())
                .filter(|names| list_of(names).is_some()),
            credentials: None,
        }
    }

    /// The written entries, if all of them are unchanged. Other writers may have added entries.
    #[must_use]
    pub(crate) fn untouched(&self, found: &Entries, salt: &Uuid) -> Option<Entries> {
        let is_written = |entries: &Entries| entries.digest(salt) == self.content;
        if is_written(found) {
            return Some(found.clone());
        }
        self.entries.as_ref().map(|names| found.only(names)).filter(is_written)
    }
}

/// Reads the marks. `None` if a required one is missing or damaged, so that the Secret needs a repair.
#[must_use]
pub(crate) fn read(meta: &ObjectMeta) -> Option<Marks<Claim>> {
    let annotations = meta.annotations.as_ref()?;
    let digest =
        |key: &str| annotations.get(key).filter(|value| (1..=LONGEST_DIGEST).contains(&value.len())).cloned();
    let name = |key: &str| annotations.get(key).filter(|value| value.len() <= LONGEST_NAME).cloned();
    // Absent is `Some(None)`, damaged is `None`.
    let optional_time = |key: &str| match annotations.get(key) {
        None => Some(None),
        Some(value) => value.parse().ok().map(Some),
    };
    let sequence = |text: &String| Sequence::new(text.parse().ok()?);
    let key = KeyRecord {
        sequence: sequence(annotations.get(SEQUENCE)?)?,
        id: None,
        name: None,
        role: name(ROLE),
        created_at: annotations.get(CREATED_AT)?.parse().ok()?,
        created_by: name(CREATED_BY),
        lifetime: Lifetime {
            expires: optional_time(EXPIRES_AT)?
                .map(|at| Expiry { at, source: source(annotations.get(EXPIRES_FROM)) }),
            ignored: None,
            renew_before: optional_time(RENEW_BEFORE)?,
        },
        late_until: optional_time(LATE_UNTIL)?,
        inputs: digest(INPUTS)?.as_str().into(),
        plan_ids: None,
        same_credentials: annotations.get(SAME_CREDENTIALS).is_some_and(|value| value == "true"),
    };
    let previous = match annotations.get(PREVIOUS) {
        None => None,
        Some(text) => Some(sequence(text)?),
    };
    let list = annotations.get(ENTRIES).filter(|list| list.len() <= LONGEST_LIST);
    Some(Marks {
        key: key.into(),
        previous,
        former: created_for(meta),
        imprint: Imprint {
            layout: digest(LAYOUT)?,
            content: digest(CONTENT)?,
            rendering: digest(RENDERING),
            entries: list.map(|list| list.split_terminator(SEPARATOR).map(str::to_owned).collect()),
            credentials: digest(CREDENTIALS),
        },
    })
}

/// The value of [`EXPIRES_FROM`]; `None` for the remote side.
fn text_of(source: &ExpirySource) -> Option<String> {
    match source {
        ExpirySource::RemoteSide => None,
        ExpirySource::Certificate(entry) => Some(format!("certificate {entry}")),
        ExpirySource::Token(entry) => Some(format!("token {entry}")),
    }
}

/// The source in [`EXPIRES_FROM`]. An unknown one counts as the remote side.
fn source(text: Option<&String>) -> ExpirySource {
    let text = text.filter(|text| text.len() <= LONGEST_NAME && !text.contains(char::is_control));
    match text.and_then(|text| text.split_once(' ')) {
        Some(("certificate", entry)) => ExpirySource::Certificate(entry.to_owned()),
        Some(("token", entry)) => ExpirySource::Token(entry.to_owned()),
        Some(_) | None => ExpirySource::RemoteSide,
    }
}

/// Separates the names in [`ENTRIES`]. It never occurs in the name of an entry.
const SEPARATOR: char = ',';

/// The value of [`ENTRIES`] for these names.
fn list_of(names: &BTreeSet<String>) -> Option<String> {
    let list: String = names.iter().flat_map(|name| [name.as_str(), ","]).collect();
    (list.len() <= LONGEST_LIST).then_some(list)
}

/// Whether the operator writes this label or annotation, so that a user may not set it.
pub(super) fn is_reserved(key: &str) -> bool {
    key == MANAGED_BY_LABEL || key.starts_with(PREFIX)
}

impl<K> Marks<K> {
    /// The same marks for this key.
    pub(crate) fn of<L>(self, key: L) -> Marks<L> {
        let Self { key: _, previous, former, imprint } = self;
        Marks { key, previous, former, imprint }
    }
}

impl From<Marks> for Marks<Claim> {
    fn from(marks: Marks) -> Self {
        let claim = marks.key.clone().into();
        marks.of(claim)
    }
}

impl Marks {
    /// Replaces the marks of an earlier key.
    pub(super) fn write(&self, annotations: &mut BTreeMap<String, String>) {
        let Self { key, previous, former, imprint } = self;
        let Imprint { layout, content, rendering, entries, credentials } = imprint;
        let KeyRecord {
            sequence,
            id,
            name,
            role,
            created_at,
            created_by,
            lifetime: Lifetime { expires, ignored: _, renew_before },
            late_until,
            inputs,
            plan_ids: _,
            same_credentials,
        } = key;
        annotations.retain(|key, _| !ALL.contains(&key.as_str()));
        let written = [
            (SEQUENCE, Some(sequence.to_string())),
            (KEY_ID, id.clone()),
            (KEY_NAME, name.clone()),
            (ROLE, role.clone()),
            (CREATED_AT, Some(created_at.to_string())),
            (CREATED_BY, created_by.clone()),
            (EXPIRES_AT, expires.as_ref().map(|expiry| expiry.at.to_string())),
            (EXPIRES_FROM, expires.as_ref().and_then(|expiry| text_of(&expiry.source))),
            (RENEW_BEFORE, renew_before.map(|time| time.to_string())),
            (LATE_UNTIL, late_until.map(|time| time.to_string())),
            (SAME_CREDENTIALS, same_credentials.then(|| "true".to_owned())),
            (PREVIOUS, previous.map(|sequence| sequence.to_string())),
            (LAYOUT, Some(layout.clone())),
            (INPUTS, Some(inputs.to_string())),
            (CONTENT, Some(content.clone())),
            (RENDERING, rendering.clone()),
            (ENTRIES, entries.as_ref().and_then(list_of)),
            (CREDENTIALS, credentials.clone()),
            (FORMER_UID_ANNOTATION, former.map(|uid| uid.to_string())),
        ];
        let present = written.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        annotations.extend(present);
    }
}

#[cfg(test)]
pub(super) mod tests;
