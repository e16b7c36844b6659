//! `docs/reference.md` documents every field with the words of the definitions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{env, fs, path::Path};

use serde_json::Value;
use servicekey_operator::api::custom_resource_definitions;

const FILE: &str = "docs/reference.md";
const UPDATE: &str = "UPDATE_DOCS=1 cargo test --test api_is_documented";

const INTRODUCTION: &str = "\
# API reference

This page describes every field of `servicekeys.dev/v1alpha1`. A test writes it from the definitions in `crds/`, and
`kubectl explain servicekey.spec` shows the same texts. A field in **bold** is required. Rules about several fields, or
about changes, are below the table of their object. The API server refuses a request that breaks a rule, with the text of
the rule.
";

#[test]
fn every_field_is_documented_as_the_definitions_do() {
    let mut page = INTRODUCTION.to_owned();
    for definition in custom_resource_definitions() {
        let names = &definition.spec.names;
        let version = serde_json::to_value(&definition.spec.versions[0]).unwrap();
        let schema = &version["schema"]["openAPIV3Schema"];
        let short =
            names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        page += &format!("\n## {}\n\n{}\n\n", names.kind, text(schema));
        page += &format!("{}, `{}`, {short} for short.\n", definition.spec.scope, names.plural);
        page += &rules(schema);
        for part in ["spec", "status"] {
            page += &section(&names.kind, part, &schema["properties"][part]);
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(path, page).unwrap();
    }
    let there = fs::read_to_string(path).unwrap_or_default();
    assert!(there == page, "`{FILE}` differs from `src/api`; run `{UPDATE}`");
}

/// The table of an object's fields, followed by the sections of the objects in it.
fn section(kind: &str, path: &str, schema: &Value) -> String {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
    let mut table = String::new();
    let mut sections = String::new();
    for (name, field) in schema["properties"].as_object().unwrap() {
        let inner = format!("{path}.{name}");
        let label = if required.iter().any(|required| *required == name) {
            format!("**`{name}`**")
        } else {
            format!("`{name}`")
        };
        let object = object_in(field).filter(|_| !is_condition(name));
        let type_ = match object {
            Some(_) => format!("[{}](#{})", type_of(field), anchor(kind, &inner)),
            None => type_of(field),
        };
        let rules = if object.is_some() { Vec::new() } else { messages(field) };
        table += &format!("| {label} | {type_} | {} |\n", description(field, &rules));
        if let Some(object) = object {
            sections += &section(kind, &inner, object);
        }
    }
    format!(
        "\n### {kind} `{path}`\n\n{}\n\n| field | type | meaning |\n| --- | --- | --- |\n{table}{}{sections}",
        text(schema),
        rules(schema)
    )
}

/// The anchor that mdBook and GitHub derive from the heading.
fn anchor(kind: &str, path: &str) -> String {
    format!("{kind}-{}", path.replace('.', "")).to_lowercase()
}

/// Kubernetes' own type, which its own documentation describes.
fn is_condition(name: &str) -> bool {
    name == "conditions"
}

/// The object with its own fields, if the field is such an object or a list of them.
fn object_in(field: &Value) -> Option<&Value> {
    let object = if field["items"].is_object() { &field["items"] } else { field };
    object["properties"].is_object().then_some(object)
}

fn type_of(field: &Value) -> String {
    if field["items"].is_object() {
        return format!("list of {}", type_of(&field["items"]));
    }
    if field["additionalProperties"].is_object() {
        return format!("map of {}", type_of(&field["additionalProperties"]));
    }
    match (field["type"].as_str().unwrap_or("any"), field["format"].as_str()) {
        ("string", Some("date-time")) => "time".to_owned(),
        (type_, _) => type_.to_owned(),
    }
}

/// The meaning of the field, and its permitted values.
fn description(field: &Value, rules: &[String]) -> String {
    let mut parts = vec![text(field)];
    let values = field["enum"].as_array().into_iter().flatten();
    let values: Vec<_> = values.filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
    if !values.is_empty() {
        parts.push(format!("One of {}.", values.join(", ")));
    }
    parts.extend(rules.iter().map(|rule| format!("Rule: {rule}.")));
    parts.retain(|part| !part.is_empty());
    // A pipe would end the cell.
    parts.join(" ").replace('|', "\\|")
}

/// The API server's messages for broken rules.
fn messages(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.filter_map(|rule| rule["message"].as_str().map(str::to_owned)).collect()
}

/// The rules of an object as a whole.
fn rules(schema: &Value) -> String {
    let rules: String = messages(schema).iter().map(|text| format!("- {text}\n")).collect();
    if rules.is_empty() { rules } else { format!("\nRules:\n\n{rules}") }
}

/// The description in one line.
fn text(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
