//! Checks a Secret for what the API server would refuse, before a key is created.

use std::collections::BTreeMap;

use super::{Entries, RenderError, marks};

/// The longest value of a label, and the longest key without its prefix.
const MAX_NAME: usize = 63;
/// The longest prefix of a key.
const MAX_PREFIX: usize = 253;
/// Limit of all annotations together in bytes, minus the space for the operator's own.
const MAX_ANNOTATIONS: usize = 240 * 1024;

/// Types that are not for credentials. A controller of the cluster would fill such a Secret with its own
/// token. That would grant rights to any user who may create a ServiceKey.
const GRANTING: [&str; 2] = ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"];

/// All entries that a type requires.
pub(super) fn demanded(type_: &str) -> &'static [&'static str] {
    match type_ {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    }
}

/// Refuses types that are not for credentials.
pub(super) fn check_type(type_: &str) -> Result<(), RenderError> {
    if GRANTING.contains(&type_) {
        return Err(wrong_type(
            type_,
            "is filled in by Kubernetes itself; choose another `spec.secret.type`",
        ));
    }
    Ok(())
}

/// Refuses a Secret without an entry that its type requires. `has` returns whether an entry of a name exists.
pub(super) fn check_names(type_: &str, has: impl Fn(&str) -> bool) -> Result<(), RenderError> {
    if type_ == "kubernetes.io/basic-auth" && !has("username") && !has("password") {
        return Err(wrong_type(
            type_,
            "needs the entry `username` or `password`; add it to `spec.secret.template.data`",
        ));
    }
    match demanded(type_).iter().find(|name| !has(name)) {
        Some(name) => {
            let problem = format!("needs the entry `{name}`; add it to `spec.secret.template.data`");
            Err(wrong_type(type_, problem))
        }
        None => Ok(()),
    }
}

/// Refuses values that the type does not allow.
pub(super) fn check_values(type_: &str, entries: &Entries) -> Result<(), RenderError> {
    for name in demanded(type_) {
        let value = entries.expose(name).unwrap_or_default();
        let problem = match *name {
            ".dockerconfigjson" | ".dockercfg"
                if serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(value).is_err() =>
            {
                "a JSON object"
            }
            "ssh-privatekey" if value.is_empty() => "a key, not an empty value",
            _ => continue,
        };
        return Err(wrong_type(type_, format!("needs {problem} in the entry `{name}`; change its template")));
    }
    Ok(())
}

fn wrong_type(type_: &str, problem: impl Into<String>) -> RenderError {
    RenderError::Type { type_: type_.to_owned(), problem: problem.into() }
}

/// Refuses labels and annotations that are invalid, or that the operator writes itself.
pub(super) fn check_metadata(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Result<(), RenderError> {
    let refuse =
        |field, key: &str, problem| Err(RenderError::Metadata { field, key: key.to_owned(), problem });
    for (field, map) in [("labels", labels), ("annotations", annotations)] {
        for key in map.keys() {
            if marks::is_reserved(key) {
                return refuse(field, key, "is written by the operator itself; remove it");
            }
            if !is_qualified_name(key, field == "annotations") {
                return refuse(field, key, "is not a valid key; use `name` or `domain/name`");
            }
        }
    }
    if let Some((key, _)) = labels.iter().find(|(_, value)| !value.is_empty() && !is_name(value)) {
        return refuse(
            "labels",
            key,
            "has an invalid value; use at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
        );
    }
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    match annotations.iter().max_by_key(|(_, value)| value.len()) {
        Some((key, _)) if size > MAX_ANNOTATIONS => refuse(
            "annotations",
            key,
            "is the longest of annotations that exceed 240 KiB together; shorten them",
        ),
        _ => Ok(()),
    }
}

/// Whether Kubernetes accepts a key: a name, or a domain as prefix, `/` and a name. The API server checks the
/// keys of annotations in lower case.
fn is_qualified_name(key: &str, lower_case: bool) -> bool {
    match key.split_once('/') {
        None => is_name(key),
        Some((prefix, name)) if lower_case => is_subdomain(&prefix.to_ascii_lowercase()) && is_name(name),
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
    }
}

fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= MAX_NAME && is_outer(bytes.first()) && is_outer(bytes.last()) && name.bytes().all(is_inner)
}

fn is_subdomain(prefix: &str) -> bool {
    let is_outer = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        label.as_bytes().first().is_some_and(is_outer)
            && label.as_bytes().last().is_some_and(is_outer)
            && label.bytes().all(|byte| is_outer(&byte) || byte == b'-')
    };
    prefix.len() <= MAX_PREFIX && prefix.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn one(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[rstest]
    #[case::plain("team", "data", true)]
    #[case::empty_value("team", "", true)]
    #[case::prefixed("example.com/team", "Data_1.x", true)]
    #[case::upper_prefix("Example.com/team", "data", false)]
    #[case::empty_key("", "x", false)]
    #[case::empty_prefix("/team", "x", false)]
    #[case::two_slashes("a/b/c", "x", false)]
    #[case::ends_in_dash("team-", "x", false)]
    #[case::space_in_value("team", "a b", false)]
    #[case::unicode_value("team", "ü", false)]
    #[case::ours("servicekeys.dev/owner-uid", "x", false)]
    #[case::ours_too("servicekeys.dev/anything", "x", false)]
    #[case::managed_by("app.kubernetes.io/managed-by", "helm", false)]
    fn labels_are_checked(#[case] key: &str, #[case] value: &str, #[case] valid: bool) {
        assert_eq!(check_metadata(&one(key, value), &BTreeMap::new()).is_ok(), valid);
    }

    #[rstest]
    #[case::text("note", "any text: ü", true)]
    #[case::upper_prefix("Example.com/note", "x", true)]
    #[case::bad_key("a b", "x", false)]
    #[case::ours("servicekeys.dev/sequence", "2", false)]
    fn annotations_are_checked(#[case] key: &str, #[case] value: &str, #[case] valid: bool) {
        assert_eq!(check_metadata(&BTreeMap::new(), &one(key, value)).is_ok(), valid);
    }

    #[rstest]
    #[case::longest_name(63, true)]
    #[case::too_long(64, false)]
    fn lengths_are_checked(#[case] length: usize, #[case] valid: bool) {
        let text = "x".repeat(length);
        assert_eq!(check_metadata(&one(&text, "x"), &BTreeMap::new()).is_ok(), valid);
        assert_eq!(check_metadata(&one("x", &text), &BTreeMap::new()).is_ok(), valid);
    }

    #[test]
    fn annotations_are_limited_together() {
        assert!(check_metadata(&BTreeMap::new(), &one("a", &"x".repeat(MAX_ANNOTATIONS))).is_err());
    }
}
