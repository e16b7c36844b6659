//! The built-in resources as schemas, and the rules of their kinds.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    kinds::{Kind, Strategy, selectable},
    names::{config_key_errors, qualified_name_errors},
    schema::Schema,
    status::FieldError,
};

/// The most bytes of the entries of a Secret.
const SECRET_BYTES: usize = 1 << 20;
/// The most bytes of the names in an Event.
const EVENT_NAME_BYTES: usize = 128;
/// The most bytes of an Event's note.
const EVENT_NOTE_BYTES: usize = 1024;

/// The fields of an Event that can't be changed, and their names in messages.
const EVENT_FIELDS: [(&str, &str); 9] = [
    ("regarding", "involvedObject"),
    ("reason", "reason"),
    ("note", "message"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingController"),
    ("reportingInstance", "reportingInstance"),
];

/// The built-in resources.
pub(super) fn kinds() -> Result<Vec<Kind>, String> {
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": text});
    let map = json!({"type": "object", "additionalProperties": text});
    let quantities = json!({
        "type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true}
    });
    let int = json!({"type": "integer"});
    let time = json!({"type": "string", "format": "date-time"});
    let reference = json!({"type": "object", "properties": {
        "apiVersion": text, "kind": text, "namespace": text, "name": text, "uid": text,
        "resourceVersion": text, "fieldPath": text,
    }});
    let secret = json!({"data": map, "stringData": map, "type": text, "immutable": {"type": "boolean"}});
    let namespace = json!({
        "spec": {"type": "object", "properties": {"finalizers": texts}},
        "status": {"type": "object", "properties": {"phase": text}},
    });
    let quota = json!({
        "spec": {"type": "object", "properties": {"hard": quantities}},
        "status": {"type": "object", "properties": {"hard": quantities, "used": quantities}},
    });
    let event = json!({
        "action": text, "eventTime": time, "note": text, "reason": text, "regarding": reference,
        "related": reference, "reportingController": text, "reportingInstance": text, "type": text,
        "series": {"type": "object", "required": ["count", "lastObservedTime"], "properties": {
            "count": int, "lastObservedTime": time,
        }},
    });
    // A pointer in Go: an empty text is kept.
    let pointer = json!({"type": "string", "nullable": true});
    let lease = json!({"spec": {"type": "object", "properties": {
        "holderIdentity": pointer, "leaseDurationSeconds": int, "acquireTime": time, "renewTime": time,
        "leaseTransitions": int,
    }}});
    // The server stores workloads and pods as the client sent them. The simulation needs no other part of their rules.
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let workload = json!({"spec": any});
    let pod = json!({"spec": any, "status": any});
    Ok(vec![
        built_in("apps", "deployments", "Deployment", Strategy::Workload, &workload)?,
        built_in("", "pods", "Pod", Strategy::Workload, &pod)?,
        built_in("", "secrets", "Secret", Strategy::Secret, &secret)?,
        built_in("", "namespaces", "Namespace", Strategy::Namespace, &namespace)?,
        built_in("", "resourcequotas", "ResourceQuota", Strategy::Quota, &quota)?,
        built_in("events.k8s.io", "events", "Event", Strategy::Event, &event)?,
        built_in("coordination.k8s.io", "leases", "Lease", Strategy::Lease, &lease)?,
    ])
}

fn built_in(
    group: &str,
    plural: &str,
    kind: &str,
    strategy: Strategy,
    fields: &Value,
) -> Result<Kind, String> {
    let mut schema = json!({"type": "object", "properties": fields});
    for field in ["apiVersion", "kind"] {
        schema["properties"][field] = json!({"type": "string"});
    }
    schema["properties"]["metadata"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let namespaced = strategy != Strategy::Namespace;
    let further: &[&str] = match strategy {
        Strategy::Secret => &["type"],
        Strategy::Namespace => &["status.phase"],
        _ => &[],
    };
    Ok(Kind {
        index: 0,
        group: group.to_owned(),
        version: "v1".to_owned(),
        plural: plural.to_owned(),
        kind: kind.to_owned(),
        namespaced,
        has_status: matches!(strategy, Strategy::Namespace | Strategy::Quota),
        strategy,
        schema: Schema::compile(&schema, plural)?,
        selectable: selectable(namespaced).chain(further.iter().map(|field| (*field).to_owned())).collect(),
    })
}

/// Converts what a client sent to what the server stores.
///
/// # Errors
/// The object can't be decoded.
pub(super) fn decode(strategy: Strategy, object: &mut Value) -> Result<(), String> {
    match strategy {
        Strategy::Secret => decode_secret(object),
        Strategy::Namespace => {
            let name = object["metadata"]["name"].clone();
            if name.is_string() {
                object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            }
            Ok(())
        }
        Strategy::Event => {
            for field in ["deprecatedSource", "deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
                let empty = if field == "deprecatedSource" { json!({}) } else { Value::Null };
                object[field] = empty;
            }
            for field in ["regarding", "metadata"] {
                if object.get(field).is_none() {
                    object[field] = json!({});
                }
            }
            Ok(())
        }
        Strategy::Lease | Strategy::Quota => {
            for field in ["spec", "status"] {
                let wanted = field == "spec" || strategy == Strategy::Quota;
                if wanted && object.get(field).is_none() {
                    object[field] = json!({});
                }
            }
            Ok(())
        }
        Strategy::Custom | Strategy::Workload => Ok(()),
    }
}

fn decode_secret(secret: &mut Value) -> Result<(), String> {
    for (_, value) in secret["data"].as_object().into_iter().flatten() {
        STANDARD.decode(value.as_str().unwrap_or_default()).map_err(|error| error.to_string())?;
    }
    let Some(fields) = secret.as_object_mut() else { return Ok(()) };
    if let Some(Value::Object(texts)) = fields.remove("stringData") {
        let data = fields.entry("data").or_insert_with(|| json!({}));
        for (key, text) in texts {
            data[key] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
        }
    }
    if fields.get("type").is_none_or(|kind| kind == "") {
        fields.insert("type".into(), "Opaque".into());
    }
    if fields.get("immutable").is_some_and(Value::is_null) {
        fields.remove("immutable");
    }
    Ok(())
}

/// The rules of a kind for an object, and for its update.
pub(super) fn validate(
    strategy: Strategy,
    object: &Value,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
) {
    match strategy {
        Strategy::Secret => validate_secret(object, old, errors),
        Strategy::Event => validate_event(object, old, errors),
        Strategy::Lease => validate_lease(object, errors),
        Strategy::Custom | Strategy::Namespace | Strategy::Quota | Strategy::Workload => {}
    }
}

fn validate_secret(secret: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    if let Some(old) = old {
        if old["type"] != secret["type"] {
            errors.push(FieldError::invalid("type", &secret["type"], "field is immutable"));
        }
        if old["immutable"] == true {
            let words = "field is immutable when `immutable` is set";
            if secret["immutable"] != true {
                errors.push(FieldError::forbidden("immutable", words));
            }
            if old.get("data") != secret.get("data") {
                errors.push(FieldError::forbidden("data", words));
            }
        }
    }
    let entries = || secret["data"].as_object().into_iter().flatten();
    let mut total = 0;
    for (key, value) in entries() {
        for words in config_key_errors(key) {
            errors.push(FieldError::invalid(format!("data[{key}]"), &Value::from(&**key), &words));
        }
        total += decoded_size(value);
    }
    if total > SECRET_BYTES {
        errors.push(FieldError::too_long("data", SECRET_BYTES));
    }
    validate_entries(secret, errors);
}

fn decoded_size(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count()
}

/// The entries that the type of a Secret requires.
fn validate_entries(secret: &Value, errors: &mut Vec<FieldError>) {
    let entry = |key: &str| secret["data"].get(key);
    let mut require = |key: &str| errors.push(FieldError::required(format!("data[{key}]"), ""));
    match secret["type"].as_str().unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            let annotation = "kubernetes.io/service-account.name";
            if secret["metadata"]["annotations"].get(annotation).is_none_or(|name| name == "") {
                errors.push(FieldError::required(format!("metadata.annotations[{annotation}]"), ""));
            }
        }
        "kubernetes.io/dockercfg" => validate_json_entry(secret, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => validate_json_entry(secret, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if entry("username").is_none() && entry("password").is_none() => {
            require("username");
            require("password");
        }
        "kubernetes.io/ssh-auth" if entry("ssh-privatekey").is_none_or(|key| key == "") => {
            require("ssh-privatekey");
        }
        "kubernetes.io/tls" => {
            ["tls.crt", "tls.key"].into_iter().filter(|key| entry(key).is_none()).for_each(require);
        }
        _ => {}
    }
}

fn validate_json_entry(secret: &Value, key: &str, errors: &mut Vec<FieldError>) {
    let Some(value) = secret["data"].get(key) else {
        errors.push(FieldError::required(format!("data[{key}]"), ""));
        return;
    };
    let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) {
        let shown = Value::from("<secret contents redacted>");
        errors.push(FieldError::invalid(format!("data[{key}]"), &shown, &error.to_string()));
    }
}

fn validate_lease(lease: &Value, errors: &mut Vec<FieldError>) {
    let spec = &lease["spec"];
    if let Some(seconds) = spec["leaseDurationSeconds"].as_i64().filter(|seconds| *seconds <= 0) {
        let words = "must be greater than 0";
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", &seconds.into(), words));
    }
    if let Some(count) = spec["leaseTransitions"].as_i64().filter(|count| *count < 0) {
        let words = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("spec.leaseTransitions", &count.into(), words));
    }
}

fn validate_event(event: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
    let of_object = event["regarding"]["namespace"].as_str().unwrap_or_default();
    let has_time = !text("eventTime").is_empty();
    let is_elsewhere = match of_object {
        "" => !matches!(namespace, "default") && (!has_time || namespace != "kube-system"),
        _ => !has_time && of_object != namespace,
    };
    if is_elsewhere {
        let words = "does not match event.namespace";
        errors.push(FieldError::invalid("involvedObject.namespace", &of_object.into(), words));
    }
    if has_time {
        for words in qualified_name_errors(text("reportingController")) {
            errors.push(FieldError::invalid("reportingController", &event["reportingController"], &words));
        }
        for field in ["reportingController", "reportingInstance", "action", "reason"] {
            if text(field).is_empty() {
                errors.push(FieldError::required(field, ""));
            } else if text(field).len() > EVENT_NAME_BYTES && field != "reportingController" {
                errors.push(too_many_characters(field, EVENT_NAME_BYTES));
            }
        }
        if text("note").len() > EVENT_NOTE_BYTES {
            errors.push(too_many_characters("message", EVENT_NOTE_BYTES));
        }
    }
    let changed = |field: &str| old.is_some_and(|old| old.get(field) != event.get(field));
    let series = event.get("series").filter(|_| old.is_none() || changed("series"));
    if series.is_some_and(|series| series["count"].as_i64().is_none_or(|count| count < 2)) {
        errors.push(FieldError::invalid("series.count", &"".into(), "should be at least 2"));
    }
    if old.is_none() {
        if !has_time {
            errors.push(FieldError::required("eventTime", ""));
        }
        if !matches!(text("type"), "Normal" | "Warning") {
            let words = format!("has invalid value: {}", text("type"));
            errors.push(FieldError::invalid("type", &"".into(), &words));
        }
    }
    for (field, shown) in EVENT_FIELDS {
        if changed(field) {
            errors.push(FieldError::invalid(shown, &event[field], "field is immutable"));
        }
    }
}

fn too_many_characters(field: &str, most: usize) -> FieldError {
    FieldError::invalid(field, &"".into(), &format!("can have at most {most} characters"))
}
