//! CEL rules that several fields share. The API server evaluates them; each message says how to correct the field.

use kube::core::{Message, Rule};

use super::duration::Duration;

/// A name of a namespaced object, as the API server accepts it: a DNS subdomain of RFC 1123.
pub(super) fn object_name() -> Rule {
    Rule::new("!format.dns1123Subdomain().validate(self).hasValue()").message(
        "write the name of a Kubernetes object: at most 253 lower-case letters, digits, `-` and `.`, \
         beginning and ending with a letter or digit",
    )
}

/// A name or id at a remote side: any text of one line.
pub(super) fn one_line() -> Rule {
    Rule::new("!self.matches('[[:cntrl:]]')")
        .message("write it in one line, without tabs, line breaks or other control characters")
}

/// Scheme, host, port and path of the URLs that are permitted, as a regular expression.
macro_rules! address {
    () => {
        "^https?://([A-Za-z0-9._-]+|[[][0-9A-Fa-f:.]+[]])(:[0-9]{1,5})?(/[^?#[:space:]]*)?"
    };
}

/// The base URL of a remote side. It contains no user name, query or fragment.
pub(super) fn base_url() -> Rule {
    Rule::new(concat!("isURL(self) && self.matches('", address!(), "$')")).message(
        "write an absolute URL such as `https://broker.example.com`: https or http, a host, no user or password \
         (logins belong in `auth`), no query and no fragment",
    )
}

/// The base URL of a broker, which may have a query. An existing URL stays valid, because an upgrade must not refuse
/// it.
pub(super) fn broker_url() -> Rule {
    Rule::new(concat!(
        "oldSelf.orValue('') == self || isURL(self) && self.matches('",
        address!(),
        "([?][^#[:space:]]*)?$')"
    ))
    .optional_old_self(true)
    .message(
        "write an absolute URL such as `https://broker.example.com`: https or http, a host, no user or password \
         (logins belong in `auth`) and no fragment",
    )
}

/// Keys that the API server accepts in an object's metadata.
pub(super) fn qualified_keys(what: &str) -> Rule {
    Rule::new("self.all(key, !format.qualifiedName().validate(key.lowerAscii()).hasValue())").message(Message::Message(format!(
        "write {what} keys as `name` or `example.com/name`: a name of at most 63 letters, digits, `-`, `_` and `.`, \
         after an optional DNS domain and `/`"
    )))
}

/// Ids of clusters, or their first eight digits.
pub(super) fn clusters() -> Rule {
    Rule::new("self.all(id, id.matches('^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$|^[0-9a-f]{8}$'))").message(
        "write the UID of the lost cluster's namespace `kube-system`, in lower case, or its first eight digits",
    )
}

/// A cron expression of five fields. The operator reads the fields themselves.
pub(super) fn cron() -> Rule {
    Rule::new("self.matches('^[-0-9A-Za-z*/,#?]+( [-0-9A-Za-z*/,#?]+){4}$')").message(
        "write a cron expression of five fields with one space between them, such as `0 2 * * SAT`: minute, hour, day \
         of the month, month, day of the week",
    )
}

/// JSON Pointers (RFC 6901) to members of the credentials.
pub(super) fn json_pointers() -> Rule {
    Rule::new("self.all(pointer, pointer.matches('^(/([^/~[:cntrl:]]|~[01])*)+$'))").message(
        "write JSON Pointers into the credentials, such as `/access_token` or `/uaa/token`; in a name, write `~1` \
         instead of `/`, and `~0` instead of `~`",
    )
}

/// Exactly one of the fields.
pub(super) fn exactly_one(fields: &[&str], message: &str) -> Rule {
    Rule::new(format!("[{}].exists_one(given, given)", has_each(fields))).message(message)
}

/// One of the fields, or none.
pub(super) fn at_most_one(fields: &[&str], message: &str) -> Rule {
    Rule::new(format!("[{}].filter(given, given).size() <= 1", has_each(fields))).message(message)
}

fn has_each(fields: &[&str]) -> String {
    fields.iter().map(|field| format!("has(self.{field})")).collect::<Vec<_>>().join(", ")
}

/// Both of the fields, or neither.
pub(super) fn together(first: &str, second: &str) -> Rule {
    Rule::new(format!("has(self.{first}) == has(self.{second})"))
        .message(format!("write `{first}` and `{second}` together, or neither").as_str())
}

/// A field that always has a value, which can't be changed.
pub(super) fn immutable(field: &str) -> Rule {
    Rule::new(format!("self.{field} == oldSelf.{field}"))
        .message(immutable_message(field))
        .field_path(format!(".{field}"))
}

/// A field that may be absent, and can neither be changed, added nor removed.
pub(super) fn immutable_optional(field: &str) -> Rule {
    Rule::new(format!(
        "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    ))
    .message(immutable_message(field))
    .field_path(format!(".{field}"))
}

/// How to get another value of a field that can't be changed.
pub(super) fn immutable_message(field: &str) -> Message {
    Message::Message(format!(
        "`{field}` can't be changed: delete this ServiceKey and create it again, or create a second ServiceKey and \
         switch over"
    ))
}

/// A field of a duration with these bounds. The field's own rule refuses a value that is not a duration.
pub(super) fn duration_between(field: &str, least: &str, most: Option<&str>) -> Rule {
    let duration = format!("duration(self.{field})");
    let (upper, words) = match most {
        Some(most) => {
            (format!(" && {duration} <= duration('{most}')"), format!("from `{least}` to `{most}`"))
        }
        None => (String::new(), format!("of at least `{least}`")),
    };
    Rule::new(format!(
        "!has(self.{field}) || !{} || ({duration} >= duration('{least}'){upper})",
        is_duration(&format!("self.{field}"))
    ))
    .message(format!("write a duration {words} for `{field}`").as_str())
    .field_path(format!(".{field}"))
}

/// CEL: whether the text is a duration.
pub(super) fn is_duration(text: &str) -> String {
    format!("{text}.matches('{}')", Duration::PATTERN)
}
