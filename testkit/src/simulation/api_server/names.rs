//! The syntax of names, labels and keys, as `k8s.io/apimachinery/pkg/util/validation` defines it.

/// The longest DNS subdomain.
const SUBDOMAIN_BYTES: usize = 253;
/// The longest DNS label, label value, and name part of a qualified name.
const LABEL_BYTES: usize = 63;

const SUBDOMAIN_WORDS: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
     or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_WORDS: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const CONFIG_KEY_WORDS: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
     'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const QUALIFIED_NAME_WORDS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
     an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_WORDS: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
     used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// The words with which a text is refused as a DNS subdomain.
pub(super) fn subdomain_errors(text: &str) -> Vec<String> {
    let mut errors = too_long(text, SUBDOMAIN_BYTES);
    if !text.split('.').all(is_lower_part) {
        errors.push(SUBDOMAIN_WORDS.to_owned());
    }
    errors
}

/// The words with which a text is refused as a DNS label.
pub(super) fn label_errors(text: &str) -> Vec<String> {
    let mut errors = too_long(text, LABEL_BYTES);
    if !is_lower_part(text) {
        let has_dots = text.split('.').all(is_lower_part);
        errors.push(if has_dots { "must not contain dots" } else { LABEL_WORDS }.to_owned());
    }
    errors
}

/// The words with which a text is refused as a qualified name.
pub(super) fn qualified_name_errors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let name = match *text.split('/').collect::<Vec<_>>() {
        [name] => name,
        [prefix, name] => {
            let words = if prefix.is_empty() {
                vec!["must be non-empty".to_owned()]
            } else {
                subdomain_errors(prefix)
            };
            errors.extend(words.into_iter().map(|words| format!("prefix part {words}")));
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {QUALIFIED_NAME_WORDS} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    }
    errors.extend(too_long(name, LABEL_BYTES).into_iter().map(|words| format!("name part {words}")));
    if !has_name_characters(name) {
        errors.push(format!("name part {QUALIFIED_NAME_WORDS}"));
    }
    errors
}

/// The words with which a text is refused as the value of a label.
pub(super) fn label_value_errors(text: &str) -> Vec<String> {
    let mut errors = too_long(text, LABEL_BYTES);
    if !text.is_empty() && !has_name_characters(text) {
        errors.push(LABEL_VALUE_WORDS.to_owned());
    }
    errors
}

/// The words with which a text is refused as the name of an entry of a Secret.
pub(super) fn config_key_errors(text: &str) -> Vec<String> {
    let mut errors = too_long(text, SUBDOMAIN_BYTES);
    if text.is_empty() || !text.bytes().all(|byte| is_key_byte(&byte)) {
        errors.push(CONFIG_KEY_WORDS.to_owned());
    }
    match text {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

fn too_long(text: &str, most: usize) -> Vec<String> {
    if text.len() > most { vec![format!("must be no more than {most} bytes")] } else { Vec::new() }
}

pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_BYTES && text.split('.').all(is_lower_part)
}

pub(super) fn is_label(text: &str) -> bool {
    text.len() <= LABEL_BYTES && is_lower_part(text)
}

fn is_lower_part(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| is_lower(*byte));
    let bytes = text.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|byte| *byte == b'-' || is_lower(*byte))
}

const fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

fn is_name_part(text: &str) -> bool {
    text.len() <= LABEL_BYTES && has_name_characters(text)
}

fn has_name_characters(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(is_key_byte)
}

fn is_key_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(byte)
}

pub(super) fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name_part(name),
        None => is_name_part(text),
    }
}
