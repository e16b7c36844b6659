//! The validation rules of the CRDs in Rust: a table from the text of each rule to a function.
//!
//! An interpreter of CEL would be slower than everything else in a simulation. The preparation of the definitions fails
//! if the text of a rule is not in the table, so a changed rule can't go unnoticed.

use std::{net::Ipv6Addr, ops::RangeInclusive, sync::LazyLock};

use regex::Regex;
use serde_json::Value;

use super::names::{is_label, is_label_value, is_qualified_name, is_subdomain};

/// Whether a value keeps a rule. The second argument is the value before an update.
pub(super) type Check = fn(&Value, Option<&Value>) -> bool;

/// The check for the text of a rule.
pub(super) fn find(text: &str) -> Option<Check> {
    TABLE.iter().find(|(rule, _)| *rule == text).map(|(_, check)| *check)
}

/// The reason why a rule that fails can't be evaluated at all: the pattern of durations admits an empty text, and the
/// function does not.
pub(super) fn evaluation_error(rule: &str, value: &Value) -> Option<&'static str> {
    let fields = rule.split("duration(self.").skip(1).filter_map(|rest| rest.split(')').next());
    let is_empty = fields.into_iter().any(|field| value[field] == "");
    is_empty.then_some("type conversion error from 'string' to 'google.protobuf.Duration'")
}

macro_rules! pattern {
    ($regex:literal) => {{
        static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new($regex).ok());
        |text: &str| PATTERN.as_ref().is_some_and(|pattern| pattern.is_match(text))
    }};
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn has(value: &Value, field: &str) -> bool {
    value.get(field).is_some()
}

fn count_of(value: &Value, fields: &[&str]) -> usize {
    fields.iter().filter(|field| has(value, field)).count()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn keys(value: &Value) -> impl Iterator<Item = &str> {
    value.as_object().into_iter().flat_map(|fields| fields.keys().map(String::as_str))
}

fn same(value: &Value, old: Option<&Value>, field: &str) -> bool {
    old.is_some_and(|old| value.get(field) == old.get(field))
}

/// A value whose lists are sorted: `ibmCloud` has only lists of the types `set` and `map`, and their order is not
/// compared.
fn unordered(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<_> = items.iter().map(unordered).collect();
            items.sort_by_key(ToString::to_string);
            items.into()
        }
        Value::Object(fields) => {
            fields.iter().map(|(field, value)| (field.clone(), unordered(value))).collect()
        }
        scalar => scalar.clone(),
    }
}

fn same_presence(value: &Value, old: Option<&Value>, field: &str) -> bool {
    old.is_some_and(|old| has(value, field) == has(old, field))
}

fn has_control(value: &Value) -> bool {
    text(value).chars().any(|character| character.is_ascii_control())
}

/// The class `[:space:]`.
fn has_space(text: &str) -> bool {
    text.chars().any(|character| matches!(character, '\t'..='\r' | ' '))
}

fn is_crn(value: &Value) -> bool {
    text(value).strip_prefix("crn:").is_some_and(|rest| !rest.is_empty() && !has_space(rest))
}

fn is_duration(text: &str) -> bool {
    pattern!("^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$")(text)
}

/// The milliseconds of a duration that has the form above.
fn duration(text: &str) -> Option<u64> {
    let (mut total, mut number) = (0u64, 0u64);
    let mut rest = text.chars().peekable();
    if text.is_empty() {
        return None;
    }
    while let Some(character) = rest.next() {
        let unit = match character {
            '0'..='9' => {
                number = number * 10 + u64::from(character.to_digit(10)?);
                continue;
            }
            'h' => 3_600_000,
            'm' if rest.next_if_eq(&'s').is_some() => 1,
            'm' => 60_000,
            's' => 1000,
            _ => return None,
        };
        total += number * unit;
        number = 0;
    }
    Some(total)
}

/// The duration in a field; `None` if the field is absent or has another form.
fn duration_in(value: &Value, field: &str) -> Option<Option<u64>> {
    value.get(field).map(text).filter(|text| is_duration(text)).map(duration)
}

/// Whether the field is absent, has another form, or is a duration of this range of milliseconds.
fn is_between(value: &Value, field: &str, range: RangeInclusive<u64>) -> bool {
    duration_in(value, field).is_none_or(|time| time.is_some_and(|time| range.contains(&time)))
}

/// `isURL` as Go's `url.ParseRequestURI` decides, for a text that matches the pattern beside it.
fn is_url(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let (address, _query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = address.find('/').map_or((address, ""), |at| address.split_at(at));
    let literal = host.strip_prefix('[').and_then(|host| host.split_once(']')).map(|(literal, _)| literal);
    !url.chars().any(|character| character.is_ascii_control())
        && literal.is_none_or(|literal| literal.parse::<Ipv6Addr>().is_ok())
        && escapes_are_valid(path)
}

fn escapes_are_valid(path: &str) -> bool {
    path.split('%').skip(1).all(|escape| {
        let escape = escape.as_bytes();
        escape.len() >= 2 && escape[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

fn is_url_without_query(value: &Value) -> bool {
    let form = pattern!(r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^?#[:space:]]*)?$");
    is_url(text(value)) && form(text(value))
}

fn is_url_with_query(value: &Value) -> bool {
    let form = pattern!(
        r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^?#[:space:]]*)?([?][^#[:space:]]*)?$"
    );
    is_url(text(value)) && form(text(value))
}

fn is_entry_name(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn is_cluster_id(id: &Value) -> bool {
    pattern!("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$|^[0-9a-f]{8}$")(text(id))
}

fn is_a_key_of_others(key: &str) -> bool {
    !key.starts_with("servicekeys.dev/")
        && !key.contains(".servicekeys.dev/")
        && key != "app.kubernetes.io/managed-by"
}

fn uses_trusted_profile(provider: &Value) -> bool {
    provider["spec"]["ibmCloud"]["auth"].get("trustedProfile").is_some()
}

fn secret_name(key: &Value) -> &Value {
    key["spec"]["secret"].get("name").unwrap_or(&key["metadata"]["name"])
}

fn has_entries_of_its_type(secret: &Value) -> bool {
    let Some(template) = secret.get("template") else { return true };
    let entry = |name: &str| template["data"].get(name).is_some();
    match text(&secret["type"]) {
        "kubernetes.io/tls" => entry("tls.crt") && entry("tls.key"),
        "kubernetes.io/dockerconfigjson" => entry(".dockerconfigjson"),
        "kubernetes.io/dockercfg" => entry(".dockercfg"),
        "kubernetes.io/basic-auth" => entry("username") || entry("password"),
        "kubernetes.io/ssh-auth" => entry("ssh-privatekey"),
        _ => true,
    }
}

fn overlap_is_shorter(rotation: &Value) -> bool {
    match (duration_in(rotation, "every"), duration_in(rotation, "overlap")) {
        (Some(every), Some(overlap)) => every.zip(overlap).is_some_and(|(every, overlap)| overlap < every),
        _ => true,
    }
}

fn max_overlap_is_longer(rotation: &Value) -> bool {
    match (duration_in(rotation, "maxOverlap"), duration_in(rotation, "overlap")) {
        (Some(most), Some(overlap)) => most.zip(overlap).is_none_or(|(most, overlap)| most >= overlap),
        _ => true,
    }
}

const TABLE: &[(&str, Check)] = &[
    (
        "[has(self.openServiceBroker), has(self.cloudFoundry), has(self.ibmCloud)].exists_one(given, given)",
        |value, _| count_of(value, &["openServiceBroker", "cloudFoundry", "ibmCloud"]) == 1,
    ),
    (
        "has(self.openServiceBroker) == has(oldSelf.openServiceBroker) && has(self.cloudFoundry) == \
         has(oldSelf.cloudFoundry) && has(self.ibmCloud) == has(oldSelf.ibmCloud)",
        |value, old| {
            ["openServiceBroker", "cloudFoundry", "ibmCloud"]
                .iter()
                .all(|field| same_presence(value, old, field))
        },
    ),
    (
        "!has(self.rules) || has(self.cloudFoundry) || self.rules.all(rule, !has(rule.cloudFoundry))",
        |value, _| {
            has(value, "cloudFoundry") || items(&value["rules"]).all(|rule| !has(rule, "cloudFoundry"))
        },
    ),
    ("!has(self.rules) || has(self.ibmCloud) || self.rules.all(rule, !has(rule.ibmCloud))", |value, _| {
        has(value, "ibmCloud") || items(&value["rules"]).all(|rule| !has(rule, "ibmCloud"))
    }),
    ("self.all(name, !format.dns1123Label().validate(name).hasValue())", |value, _| {
        items(value).all(|name| is_label(text(name)))
    }),
    ("(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)", |value, _| {
        matches!(text(&value["operator"]), "In" | "NotIn") == (items(&value["values"]).count() > 0)
    }),
    ("has(self.organization) == has(self.space)", |value, _| {
        has(value, "organization") == has(value, "space")
    }),
    ("self.matches('^[-0-9A-Za-z*/,#?]+( [-0-9A-Za-z*/,#?]+){4}$')", |value, _| {
        pattern!("^[-0-9A-Za-z*/,#?]+( [-0-9A-Za-z*/,#?]+){4}$")(text(value))
    }),
    ("self.all(pointer, pointer.matches('^(/([^/~[:cntrl:]]|~[01])*)+$'))", |value, _| {
        items(value).all(|pointer| pattern!("^(/([^/~[:cntrl:]]|~[01])*)+$")(text(pointer)))
    }),
    ("self.all(id, id.matches('^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$|^[0-9a-f]{8}$'))", |value, _| {
        items(value).all(is_cluster_id)
    }),
    (
        "isURL(self) && \
         self.matches('^https?://([A-Za-z0-9._-]+|[[][0-9A-Fa-f:.]+[]])(:[0-9]{1,5})?(/[^?#[:space:]]*)?$')",
        |value, _| is_url_without_query(value),
    ),
    (
        "[has(self.password), has(self.clientCredentials), has(self.bearer)].exists_one(given, given)",
        |value, _| count_of(value, &["password", "clientCredentials", "bearer"]) == 1,
    ),
    ("!format.dns1123Subdomain().validate(self).hasValue()", |value, _| is_subdomain(text(value))),
    ("!self.matches('[[:cntrl:]]')", |value, _| !has_control(value)),
    ("[has(self.apiKey), has(self.trustedProfile)].exists_one(given, given)", |value, _| {
        count_of(value, &["apiKey", "trustedProfile"]) == 1
    }),
    ("[has(self.name), has(self.id)].exists_one(given, given)", |value, _| {
        count_of(value, &["name", "id"]) == 1
    }),
    (
        "!has(self.timeout) || \
         !self.timeout.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$') || \
         (duration(self.timeout) >= duration('1s') && duration(self.timeout) <= duration('10m'))",
        |value, _| is_between(value, "timeout", 1000..=600_000),
    ),
    (
        "!has(self.duration) || \
         !self.duration.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$') || \
         (duration(self.duration) >= duration('1m') && duration(self.duration) <= duration('168h'))",
        |value, _| is_between(value, "duration", 60_000..=604_800_000),
    ),
    ("self.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$')", |value, _| {
        is_duration(text(value))
    }),
    ("self.matches('^2[.](0|[1-9][0-9]{0,2})$')", |value, _| {
        pattern!("^2[.](0|[1-9][0-9]{0,2})$")(text(value))
    }),
    (
        "[has(self.basic), has(self.bearer), has(self.clientCredentials)].filter(given, given).size() <= 1",
        |value, _| count_of(value, &["basic", "bearer", "clientCredentials"]) <= 1,
    ),
    ("self.all(scope, !scope.matches('[[:space:][:cntrl:]]'))", |value, _| {
        items(value).all(|scope| !has_space(text(scope)) && !has_control(scope))
    }),
    ("has(self.appGuid) || has(self.credentialClientId)", |value, _| {
        count_of(value, &["appGuid", "credentialClientId"]) > 0
    }),
    ("self.matches('^[-._A-Za-z0-9]+$')", |value, _| is_entry_name(text(value))),
    (
        "oldSelf.orValue('') == self || isURL(self) && \
         self.matches('^https?://([A-Za-z0-9._-]+|[[][0-9A-Fa-f:.]+[]])(:[0-9]{1,5})?(/[^?#[:space:]]*)?([?][^#[:space:]]*)?$')",
        |value, old| old.map_or("", text) == text(value) || is_url_with_query(value),
    ),
    ("has(self.roles) || has(self.serviceIds)", |value, _| count_of(value, &["roles", "serviceIds"]) > 0),
    ("self.all(role, role != '*')", |value, _| items(value).all(|role| role != "*")),
    ("has(self.names) || has(self.ids) || has(self.crns)", |value, _| {
        count_of(value, &["names", "ids", "crns"]) > 0
    }),
    (
        "self.contains('-----BEGIN CERTIFICATE-----') && self.contains('-----END CERTIFICATE-----')",
        |value, _| {
            ["-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"]
                .iter()
                .all(|mark| text(value).contains(mark))
        },
    ),
    (
        "!(has(self.spec.ibmCloud) && has(self.spec.ibmCloud.auth.trustedProfile)) || oldSelf.optMap(old, \
         has(old.spec.ibmCloud) && has(old.spec.ibmCloud.auth.trustedProfile)).orValue(false)",
        |value, old| !uses_trusted_profile(value) || old.is_some_and(uses_trusted_profile),
    ),
    (
        "(has(self.spec.secret.name) ? self.spec.secret.name : self.metadata.name) == \
         (has(oldSelf.spec.secret.name) ? oldSelf.spec.secret.name : oldSelf.metadata.name)",
        |value, old| old.is_some_and(|old| secret_name(value) == secret_name(old)),
    ),
    ("self.providerRef == oldSelf.providerRef", |value, old| same(value, old, "providerRef")),
    ("self.instance == oldSelf.instance", |value, old| same(value, old, "instance")),
    (
        "has(self.keyName) == has(oldSelf.keyName) && (!has(self.keyName) || self.keyName == oldSelf.keyName)",
        |value, old| same(value, old, "keyName"),
    ),
    (
        "has(self.ibmCloud) == has(oldSelf.ibmCloud) && (!has(self.ibmCloud) || self.ibmCloud == \
         oldSelf.ibmCloud)",
        |value, old| old.is_some_and(|old| unordered(&value["ibmCloud"]) == unordered(&old["ibmCloud"])),
    ),
    ("self.adoption != 'IfExists' || has(self.keyName)", |value, _| {
        value["adoption"] != "IfExists" || has(value, "keyName")
    }),
    ("self.secret.deletionPolicy != 'Retain' || self.deletionPolicy == 'Retain'", |value, _| {
        value["secret"]["deletionPolicy"] != "Retain" || value["deletionPolicy"] == "Retain"
    }),
    ("self.secret.type == oldSelf.secret.type", |value, old| {
        old.is_some_and(|old| value["secret"]["type"] == old["secret"]["type"])
    }),
    ("!has(self.role) || !has(self.access) || !has(self.access.roles)", |value, _| {
        !has(value, "role") || !has(&value["access"], "roles")
    }),
    ("[has(self.name), has(self.selector)].exists_one(given, given)", |value, _| {
        count_of(value, &["name", "selector"]) == 1
    }),
    ("[has(self.serviceIdCrn), has(self.roles)].exists_one(given, given)", |value, _| {
        count_of(value, &["serviceIdCrn", "roles"]) == 1
    }),
    ("!has(self.resourceAttributes) || has(self.roles)", |value, _| {
        !has(value, "resourceAttributes") || has(value, "roles")
    }),
    ("!(self in ['accountId', 'serviceName', 'serviceInstance'])", |value, _| {
        !matches!(text(value), "accountId" | "serviceName" | "serviceInstance")
    }),
    ("self.matches('^crn:[^[:space:]]+$')", |value, _| is_crn(value)),
    ("[has(self.name), has(self.id), has(self.crn)].exists_one(given, given)", |value, _| {
        count_of(value, &["name", "id", "crn"]) == 1
    }),
    ("has(self.offering) == has(self.plan)", |value, _| has(value, "offering") == has(value, "plan")),
    ("!has(self.offering) || has(self.id)", |value, _| !has(value, "offering") || has(value, "id")),
    ("!has(self.annotations) || has(self.id)", |value, _| !has(value, "annotations") || has(value, "id")),
    ("self.all(key, !format.qualifiedName().validate(key.lowerAscii()).hasValue())", |value, _| {
        keys(value).all(|key| is_qualified_name(&key.to_ascii_lowercase()))
    }),
    ("self.matches('^[-._a-zA-Z0-9]+$')", |value, _| is_entry_name(text(value))),
    (
        "!has(self.every) || \
         !self.every.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$') || \
         (duration(self.every) >= duration('1m'))",
        |value, _| duration_in(value, "every").is_none_or(|every| every.is_some_and(|every| every >= 60_000)),
    ),
    (
        "!has(self.every) || !has(self.overlap) || \
         !self.every.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$') || \
         !self.overlap.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$') || \
         duration(self.overlap) < duration(self.every)",
        |value, _| overlap_is_shorter(value),
    ),
    (
        "!has(self.maxOverlap) || \
         !self.maxOverlap.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$') || \
         (duration(self.maxOverlap) >= duration('1m'))",
        |value, _| duration_in(value, "maxOverlap").is_none_or(|most| most.is_none_or(|most| most >= 60_000)),
    ),
    (
        "!has(self.maxOverlap) || !has(self.overlap) || \
         !self.maxOverlap.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$') || \
         !self.overlap.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$') || \
         duration(self.maxOverlap) >= duration(self.overlap)",
        |value, _| max_overlap_is_longer(value),
    ),
    (
        "!has(self.within) || \
         !self.within.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$') || \
         (duration(self.within) >= duration('1s') && duration(self.within) <= duration('30m'))",
        |value, _| is_between(value, "within", 1000..=1_800_000),
    ),
    (
        "!has(self.every) || \
         !self.every.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$') || \
         (duration(self.every) >= duration('1s') && duration(self.every) <= duration('1m'))",
        |value, _| is_between(value, "every", 1000..=60_000),
    ),
    (
        "[has(self.tcp), has(self.tls), has(self.http), has(self.postgres), has(self.redis)].exists_one(given, given)",
        |value, _| count_of(value, &["tcp", "tls", "http", "postgres", "redis"]) == 1,
    ),
    ("has(self.clientCertificate) == has(self.clientKey)", |value, _| {
        has(value, "clientCertificate") == has(value, "clientKey")
    }),
    ("self.all(key, key.matches('^[A-Za-z0-9-]{1,64}$'))", |value, _| {
        keys(value).all(|key| pattern!("^[A-Za-z0-9-]{1,64}$")(key))
    }),
    ("!has(self.maxOverlap) || (has(self.revokeWhen) && self.revokeWhen == 'ConsumersMoved')", |value, _| {
        !has(value, "maxOverlap") || value["revokeWhen"] == "ConsumersMoved"
    }),
    (
        "!has(self.revokeWhen) || self.revokeWhen != 'ConsumersMoved' || self.strategy != 'Replace'",
        |value, _| value["revokeWhen"] != "ConsumersMoved" || value["strategy"] != "Replace",
    ),
    ("self.strategy != 'Replace' || !has(self.overlap)", |value, _| {
        value["strategy"] != "Replace" || !has(value, "overlap")
    }),
    (
        "!has(self.template) || ((self.type != 'kubernetes.io/tls' || 'tls.crt' in self.template.data && \
         'tls.key' in self.template.data) && (self.type != 'kubernetes.io/dockerconfigjson' || \
         '.dockerconfigjson' in self.template.data) && (self.type != 'kubernetes.io/dockercfg' || \
         '.dockercfg' in self.template.data) && (self.type != 'kubernetes.io/basic-auth' || 'username' in \
         self.template.data || 'password' in self.template.data) && (self.type != 'kubernetes.io/ssh-auth' || \
         'ssh-privatekey' in self.template.data))",
        |value, _| has_entries_of_its_type(value),
    ),
    (
        "self.previous != 'Include' || !has(self.template) || self.template.data.all(key, \
         !key.startsWith('previous.'))",
        |value, _| {
            value["previous"] != "Include"
                || keys(&value["template"]["data"]).all(|key| !key.starts_with("previous."))
        },
    ),
    (
        "self.all(key, !key.startsWith('servicekeys.dev/') && !key.contains('.servicekeys.dev/') && key != \
         'app.kubernetes.io/managed-by')",
        |value, _| keys(value).all(is_a_key_of_others),
    ),
    ("self.all(key, !format.labelValue().validate(self[key]).hasValue())", |value, _| {
        value
            .as_object()
            .into_iter()
            .flat_map(|labels| labels.values())
            .all(|label| is_label_value(text(label)))
    }),
    (
        "self.all(key, key.size() <= 253 && key.matches('^[-._a-zA-Z0-9]+$') && key != '.' && \
         !key.startsWith('..'))",
        |value, _| {
            keys(value).all(|key| {
                key.chars().count() <= 253 && is_entry_name(key) && key != "." && !key.starts_with("..")
            })
        },
    ),
    (
        "self != 'kubernetes.io/service-account-token' && self != 'bootstrap.kubernetes.io/token'",
        |value, _| {
            !matches!(text(value), "kubernetes.io/service-account-token" | "bootstrap.kubernetes.io/token")
        },
    ),
];
