//! The definitions in `crds/` accept and keep everything that those of each release accepted: fields are only added,
//! and no rule becomes stricter. So every object of a release stays valid, and can be rolled back to that release.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeSet, fs, path::Path};

use rstest::rstest;
use serde_json::{Value, json};

#[test]
fn the_definitions_accept_what_every_release_did() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compared = 0;
    for release in fs::read_dir(root.join("tests/releases")).unwrap().map(|entry| entry.unwrap().path()) {
        for file in fs::read_dir(release.join("crds")).unwrap().map(|entry| entry.unwrap()) {
            let now = root.join("crds").join(file.file_name());
            let [was, is] = [file.path(), now].map(|path| {
                let text = fs::read_to_string(&path);
                let text = text.unwrap_or_else(|error| panic!("can't read `{}`: {error}", path.display()));
                serde_saphyr::from_str::<Value>(&text).unwrap()
            });
            let breaches = breaches(&was, &is);
            assert!(breaches.is_empty(), "{}:\n{}", file.path().display(), breaches.join("\n"));
            compared += 1;
        }
    }
    assert!(compared >= 3, "only {compared} definitions");
}

/// What a cluster with the definition `was` would lose or refuse with `is`.
fn breaches(was: &Value, is: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for part in
        ["/spec/group", "/spec/scope", "/spec/names/kind", "/spec/names/plural", "/spec/names/singular"]
    {
        if was.pointer(part) != is.pointer(part) {
            found.push(format!("`{part}` has changed"));
        }
    }
    for part in ["/spec/names/shortNames", "/spec/names/categories"] {
        if !set(was.pointer(part)).is_subset(&set(is.pointer(part))) {
            found.push(format!("`{part}` has lost entries"));
        }
    }
    let none = vec![];
    let versions = |definition: &Value| definition["spec"]["versions"].as_array().unwrap_or(&none).clone();
    if versions(is).iter().filter(|version| version["storage"] == true).count() != 1 {
        found.push("expected exactly one stored version".to_owned());
    }
    for was in versions(was) {
        let name = was["name"].as_str().unwrap_or_default();
        let Some(is) = versions(is).into_iter().find(|is| is["name"] == name && is["served"] == true) else {
            found.push(format!("version `{name}` is no longer served"));
            continue;
        };
        if !set(was.get("selectableFields")).is_subset(&set(is.get("selectableFields"))) {
            found.push(format!("version `{name}` has lost a selectable field"));
        }
        if was["subresources"] != is["subresources"] {
            found.push(format!("version `{name}` has other subresources"));
        }
        let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
        compare(name, &schema(&was), &schema(&is), &mut found);
    }
    found
}

/// The members of a list; empty if there is no list.
fn set(list: Option<&Value>) -> BTreeSet<String> {
    list.and_then(Value::as_array).into_iter().flatten().map(Value::to_string).collect()
}

/// Bounds that must not become smaller or be added.
const UPPER: [&str; 4] = ["maxLength", "maxItems", "maxProperties", "maximum"];
/// Bounds that must not become greater or be added.
const LOWER: [&str; 4] = ["minLength", "minItems", "minProperties", "minimum"];
/// These fields define how a value is read, merged and stored. Any change gives stored values another meaning.
const FIXED: [&str; 10] = [
    "type",
    "default",
    "format",
    "pattern",
    "nullable",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
];

fn compare(path: &str, was: &Value, is: &Value, found: &mut Vec<String>) {
    for word in FIXED {
        if was.get(word) != is.get(word) {
            found.push(format!("{path}: `{word}` has changed"));
        }
    }
    for (words, grows) in [(UPPER, true), (LOWER, false)] {
        for word in words {
            let (was, is) = (was[word].as_f64(), is[word].as_f64());
            let stricter = match (was, is) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(was), Some(is)) => {
                    if grows {
                        is < was
                    } else {
                        is > was
                    }
                }
            };
            if stricter {
                found.push(format!("{path}: `{word}` is stricter"));
            }
        }
    }
    let allowed = |schema: &Value| schema.get("enum").map(|values| set(Some(values)));
    let stricter = match (allowed(was), allowed(is)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(was), Some(is)) => !was.is_subset(&is),
    };
    if stricter {
        found.push(format!("{path}: `enum` is stricter"));
    }
    if !set(is.get("required")).is_subset(&set(was.get("required"))) {
        found.push(format!("{path}: a field is newly required"));
    }
    rules(path, was, is, found);
    for (name, was) in was["properties"].as_object().into_iter().flatten() {
        match is["properties"].get(name) {
            Some(is) => compare(&format!("{path}.{name}"), was, is, found),
            None => found.push(format!("{path}.{name} is gone")),
        }
    }
    for (word, sign) in [("items", "[]"), ("additionalProperties", "{}")] {
        match (was.get(word), is.get(word)) {
            (Some(was), Some(is)) => compare(&format!("{path}{sign}"), was, is, found),
            (None, None) => {}
            _ => found.push(format!("{path}: `{word}` has changed")),
        }
    }
}

/// A new rule would refuse edits of objects that already break it. It is safe only if it can compare with the old
/// object, or is about a field that is also new.
fn rules(path: &str, was: &Value, is: &Value, found: &mut Vec<String>) {
    let none = vec![];
    let rules = |schema: &Value| schema["x-kubernetes-validations"].as_array().unwrap_or(&none).clone();
    let known: BTreeSet<_> = rules(was).iter().map(|rule| rule["rule"].to_string()).collect();
    for rule in rules(is) {
        let is_known = known.contains(&rule["rule"].to_string());
        let text = rule["rule"].as_str().unwrap_or_default();
        if !is_known && rule["optionalOldSelf"] != true && !is_about_a_new_field(text, was, is) {
            found.push(format!("{path}: the rule `{text}` is new"));
        }
    }
}

/// Whether the rule holds if a new field is absent, as in all existing objects: `!has(self.field) || …`.
fn is_about_a_new_field(rule: &str, was: &Value, is: &Value) -> bool {
    let guarded = rule.strip_prefix("!has(self.").and_then(|rest| rest.split_once(") || "));
    // A conditional expression would bind less tightly than the guard. A text may contain the character.
    guarded.is_some_and(|(field, rest)| {
        let is_conditional = rest.split('\'').step_by(2).any(|code| code.contains('?'));
        let is_new = was["properties"].get(field).is_none() && is["properties"].get(field).is_some();
        is_new && is["properties"][field].get("default").is_none() && !is_conditional
    })
}

fn definition() -> Value {
    json!({"spec": {
        "group": "servicekeys.dev",
        "names": {"kind": "ServiceKey", "plural": "servicekeys", "shortNames": ["skey"]},
        "versions": [{
            "name": "v1alpha1",
            "served": true,
            "storage": true,
            "selectableFields": [{"jsonPath": ".spec.name"}],
            "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
                "type": "object",
                "required": ["name"],
                "x-kubernetes-validations": [{"rule": "self.name != ''"}],
                "properties": {
                    "name": {"type": "string", "maxLength": 63, "minLength": 1},
                    "policy": {"type": "string", "enum": ["Delete", "Retain"], "default": "Delete"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
                    "list": {"type": "array", "items": {"type": "string", "maxLength": 10}},
                },
            }}}},
        }],
    }})
}

const SPEC: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";

fn changed(path: &str, value: Value) -> Value {
    let mut definition = definition();
    *definition.pointer_mut(path).unwrap_or_else(|| panic!("no `{path}`")) = value;
    definition
}

fn in_spec(path: &str, value: Value) -> Value {
    changed(&format!("{SPEC}{path}"), value)
}

fn with_another_field() -> Value {
    let mut definition = definition();
    let properties = definition.pointer_mut(&format!("{SPEC}/properties")).unwrap();
    properties["more"] = json!({"type": "string", "maxLength": 3, "default": "any"});
    properties["other"] = json!({"type": "string"});
    definition
}

/// Further fields, `more` with a default and `other` without, and a rule.
fn with_rule(rule: &str) -> Value {
    let mut definition = with_another_field();
    let rules = definition.pointer_mut(&format!("{SPEC}/x-kubernetes-validations")).unwrap();
    rules.as_array_mut().unwrap().push(json!({"rule": rule}));
    definition
}

#[rstest]
#[case::group(changed("/spec/group", json!("example.com")), "`/spec/group` has changed")]
#[case::short_name(changed("/spec/names/shortNames", json!([])), "`/spec/names/shortNames` has lost entries")]
#[case::version(changed("/spec/versions/0/name", json!("v1")), "version `v1alpha1` is no longer served")]
#[case::not_served(changed("/spec/versions/0/served", json!(false)), "version `v1alpha1` is no longer served")]
#[case::not_stored(changed("/spec/versions/0/storage", json!(false)), "expected exactly one stored version")]
#[case::selectable(changed("/spec/versions/0/selectableFields", json!([])), "has lost a selectable field")]
#[case::subresource(changed("/spec/versions/0/subresources", json!({})), "has other subresources")]
#[case::field(in_spec("/properties", json!({})), "v1alpha1.spec.name is gone")]
#[case::type_(in_spec("/properties/name/type", json!("integer")), "v1alpha1.spec.name: `type` has changed")]
#[case::longest(in_spec("/properties/name/maxLength", json!(62)), "v1alpha1.spec.name: `maxLength` is stricter")]
#[case::shortest(in_spec("/properties/name/minLength", json!(2)), "v1alpha1.spec.name: `minLength` is stricter")]
#[case::new_bound(in_spec("/properties/labels", json!({"type": "object", "maxProperties": 3, "additionalProperties": {"type": "string", "maxLength": 63}})), "v1alpha1.spec.labels: `maxProperties` is stricter")]
#[case::value(in_spec("/properties/policy/enum", json!(["Delete"])), "v1alpha1.spec.policy: `enum` is stricter")]
#[case::default(in_spec("/properties/policy/default", json!("Retain")), "v1alpha1.spec.policy: `default` has changed")]
#[case::required(in_spec("/required", json!(["name", "list"])), "v1alpha1.spec: a field is newly required")]
#[case::rule(in_spec("/x-kubernetes-validations", json!([{"rule": "self.name != 'a'"}])), "the rule `self.name != 'a'` is new")]
#[case::rule_about_an_old_field(with_rule("!has(self.policy) || self.name != 'a'"), "is new")]
#[case::rule_with_a_default(with_rule("!has(self.more) || self.name != 'a'"), "is new")]
#[case::rule_with_a_conditional(with_rule("!has(self.other) || true ? self.name != 'a' : true"), "is new")]
#[case::items(in_spec("/properties/list/items/maxLength", json!(9)), "v1alpha1.spec.list[]: `maxLength` is stricter")]
#[case::values(in_spec("/properties/labels/additionalProperties/maxLength", json!(9)), "v1alpha1.spec.labels{}: `maxLength` is stricter")]
fn what_would_break_an_object_is_found(#[case] is: Value, #[case] words: &str) {
    let found = breaches(&definition(), &is);
    assert!(found.iter().any(|breach| breach.contains(words)), "{found:#?}");
}

#[rstest]
#[case::nothing(definition())]
#[case::another_field(with_another_field())]
#[case::longer(in_spec("/properties/name/maxLength", json!(64)))]
#[case::shorter(in_spec("/properties/name/minLength", json!(0)))]
#[case::no_longer_required(in_spec("/required", json!([])))]
#[case::another_value(in_spec("/properties/policy/enum", json!(["Delete", "Retain", "Keep"])))]
#[case::rule_that_looks_back(in_spec("/x-kubernetes-validations", json!([{"rule": "self.name != 'a'", "optionalOldSelf": true}])))]
#[case::rule_about_a_new_field(with_rule("!has(self.other) || self.name != 'a'"))]
#[case::rule_about_a_new_field_with_a_pattern(with_rule("!has(self.other) || self.name.matches('^a?$')"))]
#[case::rule_less(in_spec("/x-kubernetes-validations", json!([])))]
fn what_breaks_nothing_is_no_breach(#[case] is: Value) {
    assert_eq!(breaches(&definition(), &is), [] as [&str; 0]);
}
