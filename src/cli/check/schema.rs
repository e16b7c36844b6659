//! Compares the schemas that the API server publishes with those of this version. Every authenticated user may read the
//! published schemas.

use serde_json::Value;

use super::outcome::CheckOutcome;
use crate::api::custom_resource_definitions;

/// The path at which the API server publishes the schemas.
pub(super) const PUBLISHED: &str = "/openapi/v3/apis/servicekeys.dev/v1alpha1";

/// The maximum number of fields in a message.
const SHOWN: usize = 5;

/// Compares the published schema of each kind with this version's.
pub(super) fn compare(published: &Value) -> Vec<CheckOutcome> {
    let definitions = custom_resource_definitions();
    definitions
        .iter()
        .map(|definition| {
            let kind = &definition.spec.names.kind;
            let ours = definition.spec.versions.first().and_then(|version| version.schema.as_ref());
            let ours = ours.and_then(|schema| serde_json::to_value(&schema.open_api_v3_schema).ok());
            match (ours, published_schema(published, kind)) {
                (Some(ours), Some(theirs)) => differences(kind, &ours, theirs),
                _ => CheckOutcome::Failed(format!(
                    "`{kind}` is not installed; apply the output of `servicekey-operator crds`"
                )),
            }
        })
        .collect()
}

fn published_schema<'a>(published: &'a Value, kind: &str) -> Option<&'a Value> {
    let schemas = published.pointer("/components/schemas")?.as_object()?;
    schemas.values().find(|schema| {
        let kinds = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
        kinds.is_some_and(|kinds| kinds.iter().any(|known| known["kind"] == kind))
    })
}

fn differences(kind: &str, ours: &Value, theirs: &Value) -> CheckOutcome {
    let (missing, unknown) = (beyond(ours, theirs), beyond(theirs, ours));
    if !missing.is_empty() {
        return CheckOutcome::Failed(format!(
            "`{kind}` is installed from another version, without {}; apply the output of `servicekey-operator crds`",
            named(&missing)
        ));
    }
    if !unknown.is_empty() {
        return CheckOutcome::Note(format!(
            "`{kind}` is installed from a newer version; this version ignores {}",
            named(&unknown)
        ));
    }
    CheckOutcome::Passed(format!("`{kind}` is installed with the schema of this version"))
}

fn named(paths: &[String]) -> String {
    let shown: Vec<_> = paths.iter().take(SHOWN).map(|path| format!("`{path}`")).collect();
    let more = paths.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join(", "))
}

/// The fields and enum values of a schema that the other schema lacks.
fn beyond(schema: &Value, other: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(schema, other, "", &mut found);
    found
}

fn collect(schema: &Value, other: &Value, path: &str, found: &mut Vec<String>) {
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        // The API server publishes references for these standard fields.
        if path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
            continue;
        }
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match other.get("properties").and_then(|properties| properties.get(name)) {
            Some(other) => collect(property, other, &path, found),
            None => found.push(path),
        }
    }
    for (key, sign) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let (Some(inner), Some(other)) = (schema.get(key), other.get(key)) {
            collect(inner, other, &format!("{path}{sign}"), found);
        }
    }
    let values = |schema: &Value| schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
    let known = values(other);
    found.extend(
        values(schema)
            .iter()
            .filter(|value| !known.is_empty() && !known.contains(value))
            .map(|value| format!("{path}: {}", value.as_str().unwrap_or_default())),
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The answer of an API server that has this version's definitions.
    fn published() -> Value {
        let definitions = custom_resource_definitions();
        let schemas = definitions.iter().map(|definition| {
            let schema = definition.spec.versions[0].schema.as_ref().unwrap();
            let mut schema = serde_json::to_value(&schema.open_api_v3_schema).unwrap();
            schema["x-kubernetes-group-version-kind"] = json!([{"kind": definition.spec.names.kind}]);
            (definition.spec.names.kind.clone(), schema)
        });
        json!({"components": {"schemas": schemas.collect::<serde_json::Map<_, _>>()}})
    }

    fn of_service_keys(published: &Value) -> CheckOutcome {
        let found = compare(published);
        let of_them = |outcome: &&CheckOutcome| match outcome {
            CheckOutcome::Passed(what) | CheckOutcome::Note(what) | CheckOutcome::Failed(what) => {
                what.starts_with("`ServiceKey`")
            }
        };
        found.iter().find(of_them).unwrap().clone()
    }

    #[test]
    fn our_own_are_well() {
        let found = compare(&published());
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|outcome| matches!(outcome, CheckOutcome::Passed(_))), "{found:?}");
    }

    #[test]
    fn older_ones_lack_fields_and_values() {
        let mut older = published();
        let spec = older.pointer_mut("/components/schemas/ServiceKey/properties/spec/properties").unwrap();
        spec.as_object_mut().unwrap().remove("suspend").unwrap();
        spec["rotation"]["properties"].as_object_mut().unwrap().remove("every").unwrap();
        spec["deletionPolicy"]["enum"] = json!(["Delete"]);
        let CheckOutcome::Failed(said) = of_service_keys(&older) else { panic!() };
        for part in [
            "`spec.suspend`",
            "`spec.rotation.every`",
            "`spec.deletionPolicy: Retain`",
            "servicekey-operator crds",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn newer_ones_are_noted() {
        let mut newer = published();
        let spec = newer.pointer_mut("/components/schemas/ServiceKey/properties/spec/properties").unwrap();
        spec["invented"] = json!({"type": "string"});
        let CheckOutcome::Note(said) = of_service_keys(&newer) else { panic!() };
        assert!(said.contains("this version ignores `spec.invented`"), "{said}");
    }

    #[test]
    fn a_kind_that_is_missing_is_named() {
        let mut partly = published();
        partly.pointer_mut("/components/schemas").unwrap().as_object_mut().unwrap().remove("ServiceKey");
        assert!(
            matches!(of_service_keys(&partly), CheckOutcome::Failed(said) if said.contains("is not installed"))
        );
    }
}
