//! The syntax of names, labels and keys, as `k8s.io/apimachinery/pkg/util/validation` defines it.

/// The longest DNS subdomain.
const SUBDOMAIN_BYTES: usize = 253;
/// The longest DNS label, label value, and name part of a qualified name.
const LABEL_BYTES: usize = 63;

pub(super) const SUBDOMAIN_WORDS: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
     characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
     validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
pub(super) const LABEL_WORDS: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
     '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
     validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
pub(super) const CONFIG_KEY_WORDS: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' \
     (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
pub(super) const QUALIFIED_NAME_WORDS: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and \
     must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
     validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
pub(super) const LABEL_VALUE_WORDS: &str = "a valid label must be an empty string or consist of alphanumeric \
     characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
     'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// The words with which a text is refused as a DNS subdomain.
pub(super) fn subdomain_error(text: &str) -> Option<String> {
    if text.len() > SUBDOMAIN_BYTES {
        Some(format!("must be no more than {SUBDOMAIN_BYTES} bytes"))
    } else {
        (!is_subdomain(text)).then(|| SUBDOMAIN_WORDS.to_owned())
    }
}

/// The words with which a text is refused as a DNS label.
pub(super) fn label_error(text: &str) -> Option<String> {
    if text.len() > LABEL_BYTES {
        Some(format!("must be no more than {LABEL_BYTES} bytes"))
    } else {
        (!is_label(text)).then(|| LABEL_WORDS.to_owned())
    }
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
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= LABEL_BYTES && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(is_key_byte)
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

/// Whether a Secret may have an entry of this name.
pub(super) fn is_config_key(text: &str) -> bool {
    text.len() <= SUBDOMAIN_BYTES
        && !text.is_empty()
        && text.bytes().all(|byte| is_key_byte(&byte))
        && text != "."
        && !text.starts_with("..")
}
