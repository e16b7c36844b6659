//! Labels and annotations: the limits of the API (section Metadata), and the merge of a change.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

const MAX_NAME: usize = 63;
const MAX_PREFIX: usize = 253;
const MAX_LABEL_VALUE: usize = 63;
const MAX_ANNOTATION_VALUE: usize = 5000;

/// `metadata` in the body of a request. A value that is null removes the entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metadata {
    #[serde(deserialize_with = "maybe_null")]
    pub labels: Changes,
    #[serde(deserialize_with = "maybe_null")]
    pub annotations: Changes,
}

type Changes = BTreeMap<String, Option<String>>;

/// The API accepts null as an empty map here. Go encodes a nil map as null.
fn maybe_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Changes, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Metadata {
    /// Returns all complaints of the API, with its own messages.
    pub(super) fn check(&self) -> Result<(), String> {
        let labels = self.labels.iter().flat_map(|(key, value)| {
            let key = key_error(key).map(|error| format!("Metadata label key error: {error}"));
            let value = value.as_deref().and_then(label_value_error);
            key.into_iter().chain(value.map(|error| format!("Metadata label value error: {error}")))
        });
        let annotations = self.annotations.iter().flat_map(|(key, value)| {
            let key = key_error(key).map(|error| format!("Metadata annotation key error: {error}"));
            let value = value.as_deref().and_then(annotation_value_error);
            key.into_iter().chain(value.map(|error| format!("Metadata annotation value error: {error}")))
        });
        let errors: Vec<_> = labels.chain(annotations).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join(", ")) }
    }
}

/// Changes or removes (null) the named entries, and keeps the others.
pub(super) fn merge(into: &mut BTreeMap<String, String>, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => into.insert(key.clone(), value.clone()),
            None => into.remove(key),
        };
    }
}

fn key_error(key: &str) -> Option<String> {
    if key.matches('/').count() > 1 {
        return Some("key has more than one '/'".into());
    }
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.and_then(prefix_error).or_else(|| {
        if name.is_empty() { Some("key cannot be empty string".into()) } else { word_error(name, MAX_NAME) }
    })
}

fn prefix_error(prefix: &str) -> Option<String> {
    let is_label = |label: &str| {
        let inner = |character: char| character.is_ascii_alphanumeric() || character == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !prefix.contains('.') || !prefix.split('.').all(is_label) {
        return Some(format!("prefix '{prefix}' must be in valid dns format"));
    }
    if prefix.len() > MAX_PREFIX {
        return Some(format!("prefix '{}...' is greater than {MAX_PREFIX} characters", start_of(prefix)));
    }
    prefix.eq_ignore_ascii_case("cloudfoundry.org").then(|| "prefix 'cloudfoundry.org' is reserved".into())
}

fn label_value_error(value: &str) -> Option<String> {
    if value.is_empty() { None } else { word_error(value, MAX_LABEL_VALUE) }
}

fn annotation_value_error(value: &str) -> Option<String> {
    (value.chars().count() > MAX_ANNOTATION_VALUE)
        .then(|| format!("'{}...' is greater than {MAX_ANNOTATION_VALUE} characters", start_of(value)))
}

fn word_error(word: &str, max: usize) -> Option<String> {
    let inner = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    let outer =
        |character: Option<char>| character.is_some_and(|character| character.is_ascii_alphanumeric());
    if !word.chars().all(inner) {
        Some(format!("'{word}' contains invalid characters"))
    } else if !outer(word.chars().next()) || !outer(word.chars().last()) {
        Some(format!("'{word}' starts or ends with invalid characters"))
    } else if word.len() > max {
        Some(format!("'{}...' is greater than {max} characters", start_of(word)))
    } else {
        None
    }
}

fn start_of(text: &str) -> String {
    text.chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(key: &str, value: &str) -> Result<(), String> {
        let labels = [(key.to_owned(), Some(value.to_owned()))].into();
        Metadata { labels, annotations: Changes::new() }.check()
    }

    fn annotation(key: &str, value: &str) -> Result<(), String> {
        let annotations = [(key.to_owned(), Some(value.to_owned()))].into();
        Metadata { labels: Changes::new(), annotations }.check()
    }

    #[test]
    fn labels_within_the_limits_are_accepted() {
        for (key, value) in [("a", ""), ("example.com/a-b_c.d", "x"), (&"k".repeat(63), &*"v".repeat(63))] {
            assert_eq!(label(key, value), Ok(()), "{key}={value}");
        }
        assert_eq!(label(&format!("{}.com/a", "p".repeat(63)), "x"), Ok(()));
    }

    #[test]
    fn what_is_wrong_with_a_label_is_said_in_the_words_of_the_api() {
        let long = "v".repeat(64);
        let wrong = [
            ("", "x", "label key error: key cannot be empty string"),
            ("example.com/", "x", "label key error: key cannot be empty string"),
            ("a/b/c", "x", "label key error: key has more than one '/'"),
            ("local/a", "x", "label key error: prefix 'local' must be in valid dns format"),
            ("-a.com/a", "x", "label key error: prefix '-a.com' must be in valid dns format"),
            ("cloudfoundry.org/a", "x", "label key error: prefix 'cloudfoundry.org' is reserved"),
            ("a b", "x", "label key error: 'a b' contains invalid characters"),
            ("-a", "x", "label key error: '-a' starts or ends with invalid characters"),
            (&long, "x", "label key error: 'vvvvvvvv...' is greater than 63 characters"),
            ("a", "x/y", "label value error: 'x/y' contains invalid characters"),
            ("a", "x-", "label value error: 'x-' starts or ends with invalid characters"),
            ("a", &long, "label value error: 'vvvvvvvv...' is greater than 63 characters"),
        ];
        for (key, value, error) in wrong {
            assert_eq!(label(key, value), Err(format!("Metadata {error}")));
        }
    }

    #[test]
    fn annotations_hold_any_text_of_5000_characters() {
        assert_eq!(annotation("example.com/a", &"\u{e4} /".repeat(1666)), Ok(()));
        let error = annotation("a", &"x".repeat(5001)).unwrap_err();
        assert_eq!(error, "Metadata annotation value error: 'xxxxxxxx...' is greater than 5000 characters");
        assert!(annotation("a b", "x").is_err());
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let mut labels = BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        merge(&mut labels, &[("b".into(), None), ("c".into(), Some("3".into()))].into());
        assert_eq!(labels, BTreeMap::from([("a".into(), "1".into()), ("c".into(), "3".into())]));
    }
}
