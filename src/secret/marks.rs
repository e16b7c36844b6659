//! What the operator writes into the Secret's metadata, to know again which key it holds.
//!
//! Whoever may edit the Secret may edit the marks. So what is read back is a [`Claim`], without the remote side's id and
//! name of the key: those are written for people only.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Digest, Entries, Layout, ownership::created_for};
use crate::{
    api::marks::{FORMER_UID_ANNOTATION, MANAGED_BY_LABEL},
    lifecycle::{Claim, KeyRecord, Sequence},
};

/// What all keys of the operator's own labels and annotations begin with.
pub(super) const PREFIX: &str = "servicekeys.dev/";

const SEQUENCE: &str = "servicekeys.dev/sequence";
const KEY_ID: &str = "servicekeys.dev/key-id";
const KEY_NAME: &str = "servicekeys.dev/key-name";
const ROLE: &str = "servicekeys.dev/role";
const CREATED_AT: &str = "servicekeys.dev/created-at";
const CREATED_BY: &str = "servicekeys.dev/created-by";
const EXPIRES_AT: &str = "servicekeys.dev/expires-at";
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

/// All annotations that [`Marks`] are written as.
const ALL: [&str; 18] = [
    SEQUENCE,
    KEY_ID,
    KEY_NAME,
    ROLE,
    CREATED_AT,
    CREATED_BY,
    EXPIRES_AT,
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

/// In bytes: longer digests are damaged.
const LONGEST_DIGEST: usize = 256;
/// In bytes: longer names of roles and creators are left out.
const LONGEST_NAME: usize = 1024;
/// In bytes: a longer list of entries is left out.
const LONGEST_LIST: usize = 4096;

/// What is to be written about the key in a Secret, and about the Secret itself. Read back it is a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marks<K = KeyRecord> {
    /// The key that the Secret holds the credentials of.
    pub key: K,
    /// The key before it, where the Secret holds its credentials besides.
    pub previous: Option<Sequence>,
    /// The ServiceKey that the key was created for, where that is not the Secret's owner.
    pub former: Option<Uuid>,
    /// What the Secret was written as.
    pub imprint: Imprint,
}

/// What a Secret was written as: by this the operator sees what another writer, or the user, has changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Imprint {
    /// [`Layout::digest`].
    pub layout: String,
    /// [`Entries::digest`].
    pub content: String,
    /// [`Layout::rendering`]; `None` where a release before 0.2 wrote the Secret.
    pub rendering: Option<String>,
    /// The names of the entries; `None` where there are too many, or a release before 0.2 wrote the Secret.
    pub entries: Option<BTreeSet<String>>,
    /// [`digest_of`] the credentials that the entries were rendered from; `None` where an earlier release wrote the Secret.
    pub credentials: Option<String>,
}

/// A digest of a key's credentials. Two keys of one ServiceKey with the same credentials have the same digest, also where the
/// templates differ. It has the salt of [`Entries::digest`], and protects a guessable password no better.
#[must_use]
pub(crate) fn digest_of(credentials: &Map<String, Value>, salt: &Uuid) -> String {
    // The members of a map are sorted. A map can always be written.
    let text = Zeroizing::new(serde_json::to_vec(credentials).unwrap_or_default());
    Digest::new("servicekeys.dev/credentials/1").field(salt).field(&*text).finish()
}

impl Imprint {
    /// The imprint of a Secret with these entries, of credentials that are not known. The salt is that of [`Entries::digest`].
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

    /// The entries that were written, where they are all still there; others may have been added to them.
    #[must_use]
    pub(crate) fn untouched(&self, found: &Entries, salt: &Uuid) -> Option<Entries> {
        let is_written = |entries: &Entries| entries.digest(salt) == self.content;
        if is_written(found) {
            return Some(found.clone());
        }
        self.entries.as_ref().map(|names| found.only(names)).filter(is_written)
    }
}

/// Reads the marks back. `None` when one that is needed is missing or damaged: the Secret is to be repaired.
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
        expires_at: optional_time(EXPIRES_AT)?,
        renew_before: optional_time(RENEW_BEFORE)?,
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

/// Separates the names in [`ENTRIES`]: no entry of a Secret has it in its name.
const SEPARATOR: char = ',';

/// The value of [`ENTRIES`] for these names.
fn list_of(names: &BTreeSet<String>) -> Option<String> {
    let list: String = names.iter().flat_map(|name| [name.as_str(), ","]).collect();
    (list.len() <= LONGEST_LIST).then_some(list)
}

/// Whether a user may not set this label or annotation, because the operator does.
pub(super) fn is_reserved(key: &str) -> bool {
    key == MANAGED_BY_LABEL || key.starts_with(PREFIX)
}

impl<K> Marks<K> {
    /// The same marks of this key.
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
    /// Writes the marks over those of an earlier key.
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
            expires_at,
            renew_before,
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
            (EXPIRES_AT, expires_at.map(|time| time.to_string())),
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
