//! The metadata of objects: decoding, syntax, and the fields that can't be changed.

use serde_json::{Map, Value};

use super::{
    kinds::{Kind, Strategy},
    names::{label_errors, label_value_errors, qualified_name_errors, subdomain_errors},
    schema::is_date_time,
    status::FieldError,
};

/// The most bytes of all annotations.
const ANNOTATION_BYTES: usize = 256 << 10;
/// The finalizers without a domain that core objects may have.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Whether a finalizer removes itself in a way that the model lacks.
pub(super) const UNMODELLED_FINALIZERS: [&str; 2] = ["orphan", "foregroundDeletion"];

/// Keeps the known fields of the metadata, without those that are empty.
///
/// # Errors
/// A field has another type.
pub(super) fn decode(metadata: &mut Value, unknown: &mut Vec<String>) -> Result<(), String> {
    let Value::Object(given) = std::mem::take(metadata) else {
        return Err("`metadata` is not an object".into());
    };
    let mut kept = Map::new();
    for (field, value) in given {
        let is_right = match field.as_str() {
            "name" | "generateName" | "namespace" | "uid" | "resourceVersion" => value.is_string(),
            "labels" | "annotations" => value
                .as_object()
                .is_some_and(|map| map.values().all(|value| value.is_string() || value.is_null())),
            "finalizers" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            "ownerReferences" => value.as_array().is_some_and(|list| list.iter().all(Value::is_object)),
            "creationTimestamp" | "deletionTimestamp" => value.as_str().is_some_and(is_date_time),
            "generation" | "deletionGracePeriodSeconds" => value.is_i64() || value.is_u64(),
            "selfLink" | "managedFields" => continue,
            _ => {
                unknown.push(format!("metadata.{field}"));
                continue;
            }
        };
        let is_empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Number(_) | Value::Bool(_) => false,
        };
        if is_empty {
            continue;
        }
        if !is_right {
            return Err(format!("`metadata.{field}` has another type"));
        }
        kept.insert(field, value);
    }
    if let Some(Value::Array(owners)) = kept.get_mut("ownerReferences") {
        owners.iter_mut().for_each(decode_owner);
    }
    *metadata = Value::Object(kept);
    Ok(())
}

fn decode_owner(owner: &mut Value) {
    if let Some(fields) = owner.as_object_mut() {
        let known = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
        fields.retain(|field, value| known.contains(&field.as_str()) && !value.is_null());
    }
}

/// Checks the metadata of a new object.
pub(super) fn validate(kind: &Kind, metadata: &Value, errors: &mut Vec<FieldError>) {
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let check = |name: &str| match kind.strategy {
        Strategy::Namespace => label_errors(name),
        _ => subdomain_errors(name),
    };
    if !text("generateName").is_empty() {
        let prefix = text("generateName").trim_end_matches('-');
        for words in check(prefix) {
            errors.push(FieldError::invalid("metadata.generateName", &metadata["generateName"], &words));
        }
    }
    if text("name").is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        for words in check(text("name")) {
            errors.push(FieldError::invalid("metadata.name", &metadata["name"], &words));
        }
    }
    validate_common(kind, metadata, errors);
}

/// Checks the metadata of an update.
pub(super) fn validate_update(kind: &Kind, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if old.get("deletionTimestamp").is_some() {
        let had: Vec<_> = finalizers(old).collect();
        let added: Vec<_> =
            finalizers(new).filter(|one| !had.contains(one)).map(|one| format!("{one:?}")).collect();
        if !added.is_empty() {
            let words = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", &words));
        }
    }
    for field in ["name", "namespace", "uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if new.get(field) != old.get(field) {
            errors.push(FieldError::invalid(format!("metadata.{field}"), &new[field], "field is immutable"));
        }
    }
    validate_common(kind, new, errors);
}

fn validate_common(kind: &Kind, metadata: &Value, errors: &mut Vec<FieldError>) {
    validate_labels(&metadata["labels"], errors);
    validate_annotations(&metadata["annotations"], errors);
    validate_owners(&metadata["ownerReferences"], errors);
    for (at, finalizer) in finalizers(metadata).enumerate() {
        let value = Value::from(finalizer);
        for words in qualified_name_errors(finalizer) {
            errors.push(FieldError::invalid("metadata.finalizers", &value, &words));
        }
        let is_standard = STANDARD_FINALIZERS.contains(&finalizer);
        let is_core = !matches!(kind.strategy, Strategy::Custom | Strategy::Lease);
        if is_core && !finalizer.contains('/') && !is_standard {
            let words = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(format!("metadata.finalizers[{at}]"), &value, words));
        }
    }
}

fn validate_labels(labels: &Value, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for words in qualified_name_errors(key) {
            errors.push(FieldError::invalid("metadata.labels", &Value::from(&**key), &words));
        }
        for words in label_value_errors(value.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid("metadata.labels", value, &words));
        }
    }
}

fn validate_annotations(annotations: &Value, errors: &mut Vec<FieldError>) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        for words in qualified_name_errors(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", &Value::from(&**key), &words));
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATION_BYTES {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATION_BYTES));
    }
}

fn validate_owners(owners: &Value, errors: &mut Vec<FieldError>) {
    let mut controllers = 0;
    for owner in owners.as_array().into_iter().flatten() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                let path = format!("metadata.ownerReferences.{field}");
                let words =
                    if field == "apiVersion" { "version must not be empty" } else { "must not be empty" };
                errors.push(FieldError::invalid(path, &Value::from(""), words));
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        let words = "Only one reference can have Controller set to true. Found \"true\" in references";
        errors.push(FieldError::invalid("metadata.ownerReferences", &Value::Null, words));
    }
}

/// The finalizers of an object with this metadata.
pub(super) fn finalizers(metadata: &Value) -> impl Iterator<Item = &str> {
    metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}
