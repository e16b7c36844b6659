//! The fields of a Secret that are not as the operator wants them, and their other writers, as the API server records
//! them in `metadata.managedFields`.
//!
//! Each writer chooses the name of its field manager, and may edit the record. So the record is shown to
//! people, and no decision depends on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};

use super::{
    Entries, Layout,
    marks::{PREFIX, is_reserved},
};
use crate::api::marks::FIELD_MANAGER;

/// Limit of field managers that a message names, and of fields for each.
const MOST_NAMED: usize = 3;
/// Limit in characters of the name of a field manager or of a field.
const LONGEST_NAME: usize = 100;

/// A part of a Secret whose members the API server records individually.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Data,
    Labels,
    Annotations,
}

impl Part {
    /// The path in `fieldsV1` where the API server records the members of this part.
    const fn record(self) -> &'static str {
        match self {
            Self::Data => "/f:data",
            Self::Labels => "/f:metadata/f:labels",
            Self::Annotations => "/f:metadata/f:annotations",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Field {
    part: Part,
    name: String,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Data => "data",
            Part::Labels => "metadata.labels",
            Part::Annotations => "metadata.annotations",
        };
        write!(f, "`{part}[{}]`", shown(&self.name))
    }
}

/// The fields that the API server stored differently than the operator sent them.
#[derive(Debug)]
pub(crate) struct SecretChange {
    fields: Vec<Field>,
    owners: Option<String>,
}

impl fmt::Display for SecretChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fields, owners } = self;
        write!(f, "another {} than the operator sent: ", list(fields))?;
        match owners {
            Some(owners) => write!(
                f,
                "`metadata.managedFields` names {owners}; exclude Secrets with the label \
                 `servicekeys.dev/owner-uid` from that writer"
            ),
            None => f.write_str(
                "an admission webhook or policy changed it within the operator's request, and \
                 `metadata.managedFields` does not name the author of such a change; check the \
                 MutatingWebhookConfigurations and MutatingAdmissionPolicies, and exempt Secrets with the label \
                 `servicekeys.dev/owner-uid`",
            ),
        }
    }
}

/// The fields that the API server stored differently than the operator sent them. Only entries and the
/// operator's own labels and annotations count; other fields may differ.
#[must_use]
pub(crate) fn changed(sent: &Secret, stored: &Secret) -> Option<SecretChange> {
    let (sent_entries, stored_entries) = (Entries::from_secret(sent), Entries::from_secret(stored));
    let entries = differences(Part::Data, &sent_entries.0, &stored_entries.0, |_, _| true);
    let is_mark = |_, name: &str| name.starts_with(PREFIX);
    let marks = differences_of_metadata(&sent.metadata, &stored.metadata, is_mark);
    let fields: Vec<_> = entries.into_iter().chain(marks).collect();
    (!fields.is_empty()).then(|| SecretChange { owners: owners(stored, fields.iter().cloned()), fields })
}

/// The other field managers that own fields of a Secret that is not intact, in words. `None`: the API server
/// names none.
#[must_use]
pub(crate) fn other_writers(secret: &Secret, layout: &Layout) -> Option<String> {
    let meta = &secret.metadata;
    let entries = secret.data.iter().flatten().map(|(name, _)| field(Part::Data, name));
    let wanted = ObjectMeta {
        labels: Some(layout.labels.clone()),
        annotations: Some(layout.annotations.clone()),
        ..ObjectMeta::default()
    };
    let of_layout = differences_of_metadata(&wanted, meta, |is_wanted, name| is_wanted || is_reserved(name));
    owners(secret, entries.chain(of_layout))
}

fn differences_of_metadata(
    wanted: &ObjectMeta,
    there: &ObjectMeta,
    counts: impl Fn(bool, &str) -> bool,
) -> impl Iterator<Item = Field> {
    let parts = [
        (Part::Labels, &wanted.labels, &there.labels),
        (Part::Annotations, &wanted.annotations, &there.annotations),
    ];
    parts.into_iter().flat_map(move |(part, wanted, there)| {
        let none = BTreeMap::new();
        differences(part, wanted.as_ref().unwrap_or(&none), there.as_ref().unwrap_or(&none), &counts)
    })
}

fn differences<T: PartialEq>(
    part: Part,
    wanted: &BTreeMap<String, T>,
    there: &BTreeMap<String, T>,
    counts: impl Fn(bool, &str) -> bool,
) -> Vec<Field> {
    let names: BTreeSet<_> = wanted.keys().chain(there.keys()).collect();
    let differs = |name: &&String| {
        let wanted = wanted.get(*name);
        counts(wanted.is_some(), name) && wanted != there.get(*name)
    };
    names.into_iter().filter(differs).map(|name| field(part, name)).collect()
}

fn field(part: Part, name: &str) -> Field {
    Field { part, name: name.to_owned() }
}

/// The field managers other than the operator that own some of these fields, in words.
fn owners(secret: &Secret, fields: impl Iterator<Item = Field>) -> Option<String> {
    let fields: Vec<_> = fields.collect();
    let mut owners = BTreeMap::<String, BTreeSet<&Field>>::new();
    // The API server lists the latest writers last.
    for entry in secret.metadata.managed_fields.iter().flatten().rev() {
        let ManagedFieldsEntry { manager, fields_v1, .. } = entry;
        let (Some(manager), Some(record)) = (manager, fields_v1) else { continue };
        let owns = |field: &&Field| {
            let members = record.0.pointer(field.part.record());
            members.is_some_and(|members| members.get(format!("f:{}", field.name)).is_some())
        };
        let manager = shown(manager);
        let is_known = owners.contains_key(&manager);
        if manager != FIELD_MANAGER && (is_known || owners.len() < MOST_NAMED) {
            let owned: Vec<_> = fields.iter().filter(owns).collect();
            if !owned.is_empty() {
                owners.entry(manager).or_default().extend(owned);
            }
        }
    }
    let named =
        owners.iter().map(|(manager, fields)| format!("`{manager}` for {}", list(fields.iter().copied())));
    Some(named.collect::<Vec<_>>().join(", and ")).filter(|named| !named.is_empty())
}

/// The first of these fields, in words.
fn list<'a>(fields: impl IntoIterator<Item = &'a Field>) -> String {
    let mut fields = fields.into_iter();
    let named: Vec<_> = fields.by_ref().take(MOST_NAMED).map(ToString::to_string).collect();
    let named = named.join(", ");
    match fields.count() {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// A name that another writer chose, in the form for a message.
fn shown(name: &str) -> String {
    let plain = |letter: char| match letter {
        '`' => '\'',
        _ if letter.is_alphanumeric() || letter.is_ascii_graphic() || letter == ' ' => letter,
        _ => '?',
    };
    let mut letters = name.chars().map(plain);
    let mut shown: String = letters.by_ref().take(LONGEST_NAME).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn layout() -> Layout {
        let labels = BTreeMap::from([("team".to_owned(), "data".to_owned())]);
        let (annotations, template) = (BTreeMap::new(), BTreeMap::new());
        Layout {
            type_: "Opaque".to_owned(),
            labels,
            annotations,
            template,
            outlives_owner: false,
            parameters_key: None,
        }
    }

    fn entry(manager: &str, fields: Value) -> Value {
        json!({
            "manager": manager,
            "operation": "Update",
            "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        })
    }

    fn secret(managed_fields: Value) -> Secret {
        let secret = json!({
            "metadata": {
                "name": "s",
                "labels": {"team": "x", "tier": "web", "servicekeys.dev/owner-uid": "u"},
                "annotations": {"servicekeys.dev/sequence": "7", "note": "n"},
                "managedFields": managed_fields,
            },
            "data": {"password": "eA==", "extra": "eA=="},
        });
        serde_json::from_value(secret).unwrap()
    }

    #[rstest]
    #[case::an_entry(json!({"f:data": {"f:extra": {}}}), Some("`flux` for `data[extra]`"))]
    #[case::several(
        json!({"f:data": {".": {}, "f:extra": {}, "f:password": {}}}),
        Some("`flux` for `data[extra]`, `data[password]`")
    )]
    #[case::a_label_of_the_layout(
        json!({"f:metadata": {"f:labels": {"f:team": {}}}}),
        Some("`flux` for `metadata.labels[team]`")
    )]
    #[case::a_mark(
        json!({"f:metadata": {"f:annotations": {"f:servicekeys.dev/sequence": {}}}}),
        Some("`flux` for `metadata.annotations[servicekeys.dev/sequence]`")
    )]
    #[case::what_is_nobody_elses_business(
        json!({"f:metadata": {"f:labels": {"f:tier": {}}, "f:annotations": {"f:note": {}}}}),
        None
    )]
    #[case::what_is_not_there(json!({"f:data": {"f:gone": {}}}), None)]
    #[case::another_form(json!({"f:data": ["f:extra"], "f:metadata": 7}), None)]
    fn other_writers_are_named_with_their_fields(#[case] fields: Value, #[case] expected: Option<&str>) {
        let record =
            json!([entry(FIELD_MANAGER, json!({"f:data": {"f:password": {}}})), entry("flux", fields)]);
        assert_eq!(other_writers(&secret(record), &layout()).as_deref(), expected);
    }

    /// Its value is the one that the layout requires.
    #[test]
    fn who_agrees_with_the_operator_is_not_named() {
        let mut secret = secret(json!([entry("flux", json!({"f:metadata": {"f:labels": {"f:team": {}}}}))]));
        secret.metadata.labels.as_mut().unwrap().insert("team".to_owned(), "data".to_owned());
        assert_eq!(other_writers(&secret, &layout()), None);
    }

    #[test]
    fn the_latest_writers_are_named_once_each() {
        let fields = || json!({"f:data": {"f:extra": {}}});
        let names = ["oldest", "c", "b", "a", "a"];
        let record: Vec<_> = names.iter().map(|name| entry(name, fields())).collect();
        let expected = "`a` for `data[extra]`, and `b` for `data[extra]`, and `c` for `data[extra]`";
        assert_eq!(other_writers(&secret(json!(record)), &layout()).as_deref(), Some(expected));
    }

    #[test]
    fn a_change_of_the_operators_write_is_named() {
        let (mut sent, stored) = (secret(json!([])), secret(json!([])));
        assert!(changed(&sent, &stored).is_none());
        sent.metadata.labels = None;
        sent.data.as_mut().unwrap().remove("extra");
        let said = changed(&sent, &stored).unwrap().to_string();
        let fields =
            "another `data[extra]`, `metadata.labels[servicekeys.dev/owner-uid]` than the operator sent: ";
        assert!(said.starts_with(fields) && said.contains("MutatingAdmissionPolicies"), "{said}");

        let stored = secret(json!([entry("injector", json!({"f:data": {"f:extra": {}}}))]));
        let said = changed(&sent, &stored).unwrap().to_string();
        assert!(
            said.contains("names `injector` for `data[extra]`; exclude Secrets with the label"),
            "{said}"
        );
    }

    #[test]
    fn many_fields_are_counted() {
        let (mut sent, stored) = (secret(json!([])), secret(json!([])));
        let names = ('a'..='z').map(|letter| (letter.to_string(), Default::default()));
        sent.data.as_mut().unwrap().extend(names);
        let said = changed(&sent, &stored).unwrap().to_string();
        assert!(said.starts_with("another `data[a]`, `data[b]`, `data[c]` and 23 more than"), "{said}");
    }

    proptest! {
        #[test]
        fn names_of_others_are_short_and_break_no_line(managers in prop::collection::vec(any::<String>(), 0..9)) {
            let fields = || json!({"f:data": {"f:extra": {}}});
            let record: Vec<_> = managers.iter().map(|name| entry(name, fields())).collect();
            let said = other_writers(&secret(json!(record)), &layout()).unwrap_or_default();
            prop_assert!(said.chars().count() <= MOST_NAMED * 130, "{}", said);
            prop_assert!(!said.contains(char::is_control) && !said.contains('\u{202e}'), "{}", said);
            prop_assert!(said.matches('`').count().is_multiple_of(4), "{}", said);
        }
    }
}
