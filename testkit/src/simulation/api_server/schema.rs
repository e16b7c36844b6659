//! Structural schemas: defaults, pruning and validation, in the order and with the words of the API server.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    rules::{self, Check},
    status::FieldError,
};

/// The format of times.
const DATE_TIME: &str = "date-time";
/// The keywords of a schema that change nothing here.
const IGNORED: [&str; 3] = ["description", "title", "x-kubernetes-map-type"];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    IntOrString,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// One rule of `x-kubernetes-validations`.
#[derive(Clone)]
struct Rule {
    text: String,
    check: Check,
    transition: bool,
    optional_old: bool,
    message: String,
    field_path: String,
}

/// A schema, prepared for use.
#[derive(Clone, Default)]
pub(super) struct Schema {
    kind: Option<Type>,
    nullable: bool,
    preserves_unknown: bool,
    properties: BTreeMap<String, Schema>,
    additional: Option<Box<Schema>>,
    items: Option<Box<Schema>>,
    list: ListType,
    required: Vec<String>,
    default: Option<Value>,
    allowed: Vec<Value>,
    format: Option<String>,
    length: (Option<u64>, Option<u64>),
    item_count: (Option<u64>, Option<u64>),
    property_count: (Option<u64>, Option<u64>),
    range: (Option<f64>, Option<f64>),
    rules: Vec<Rule>,
    has_rules: bool,
}

impl Schema {
    /// Prepares a schema.
    ///
    /// # Errors
    /// Names a keyword, a format or a rule that the model does not know.
    pub(super) fn compile(schema: &Value, path: &str) -> Result<Self, String> {
        let mut compiled = Self::default();
        let fields = schema.as_object().ok_or_else(|| format!("`{path}` is not a schema"))?;
        for (keyword, value) in fields {
            compiled.read(keyword, value, path)?;
        }
        let children = compiled.properties.values().chain(compiled.additional.as_deref());
        compiled.has_rules = !compiled.rules.is_empty()
            || children.chain(compiled.items.as_deref()).any(|child| child.has_rules);
        if compiled.items.as_deref().is_some_and(Self::has_transition_rules) {
            return Err(format!(
                "`{path}` has rules with `oldSelf` in its items, which the model does not correlate"
            ));
        }
        Ok(compiled)
    }

    fn read(&mut self, keyword: &str, value: &Value, path: &str) -> Result<(), String> {
        let number = || value.as_f64().map(|number| number as u64);
        let texts =
            || value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        match keyword {
            "type" => {
                self.kind = Some(parse_type(value).ok_or_else(|| format!("`{path}` has the type {value}"))?)
            }
            "nullable" => self.nullable = value == true,
            "x-kubernetes-preserve-unknown-fields" => self.preserves_unknown = value == true,
            "x-kubernetes-int-or-string" => self.kind = Some(Type::IntOrString),
            "properties" => {
                for (name, child) in value.as_object().into_iter().flatten() {
                    self.properties.insert(name.clone(), Self::compile(child, &format!("{path}.{name}"))?);
                }
            }
            "additionalProperties" => {
                self.additional = Some(Box::new(Self::compile(value, &format!("{path}{{}}"))?));
            }
            "items" => self.items = Some(Box::new(Self::compile(value, &format!("{path}[]"))?)),
            "x-kubernetes-list-type" => match value.as_str() {
                Some("atomic") => self.list = ListType::Atomic,
                Some("set") => self.list = ListType::Set,
                // The keys follow in another keyword.
                Some("map") => {}
                _ => return Err(format!("`{path}` has the list type {value}")),
            },
            "x-kubernetes-list-map-keys" => self.list = ListType::Map(texts()),
            "required" => self.required = texts(),
            "default" => self.default = Some(value.clone()),
            "enum" => self.allowed = value.as_array().cloned().unwrap_or_default(),
            "format" => match value.as_str() {
                Some(format @ (DATE_TIME | "int64" | "int32")) => self.format = Some(format.to_owned()),
                _ => return Err(format!("`{path}` has the format {value}, which the model does not check")),
            },
            "minLength" => self.length.0 = number(),
            "maxLength" => self.length.1 = number(),
            "minItems" => self.item_count.0 = number(),
            "maxItems" => self.item_count.1 = number(),
            "minProperties" => self.property_count.0 = number(),
            "maxProperties" => self.property_count.1 = number(),
            "minimum" => self.range.0 = value.as_f64(),
            "maximum" => self.range.1 = value.as_f64(),
            "x-kubernetes-validations" => {
                for rule in value.as_array().into_iter().flatten() {
                    self.rules.push(compile_rule(rule, path)?);
                }
            }
            ignored if IGNORED.contains(&ignored) => {}
            other => return Err(format!("`{path}` has `{other}`, which the model does not know")),
        }
        Ok(())
    }

    pub(super) fn property(&self, name: &str) -> Option<&Self> {
        self.properties.get(name)
    }

    fn has_transition_rules(&self) -> bool {
        let children =
            self.properties.values().chain(self.additional.as_deref()).chain(self.items.as_deref());
        self.rules.iter().any(|rule| rule.transition) || children.into_iter().any(Self::has_transition_rules)
    }

    /// Fills in the defaults, and drops nulls that are neither allowed nor replaced by a default.
    pub(super) fn fill_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, value| {
                    let child = self.properties.get(name).or(self.additional.as_deref());
                    !value.is_null() || child.is_none_or(|child| child.nullable || child.default.is_some())
                });
                for (name, child) in &self.properties {
                    if let Some(default) = &child.default {
                        let given = fields.get(name);
                        if given.is_none_or(|given| given.is_null() && !child.nullable) {
                            fields.insert(name.clone(), default.clone());
                        }
                    }
                    if let Some(given) = fields.get_mut(name) {
                        child.fill_defaults(given);
                    }
                }
                if let Some(child) = &self.additional {
                    let known = &self.properties;
                    let others = fields.iter_mut().filter(|(name, _)| !known.contains_key(*name));
                    others.for_each(|(_, value)| child.fill_defaults(value));
                }
            }
            Value::Array(values) => {
                if let Some(child) = &self.items {
                    values.iter_mut().for_each(|value| child.fill_defaults(value));
                }
            }
            _ => {}
        }
    }

    /// Removes unknown fields, and names them.
    pub(super) fn prune(&self, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
        match value {
            Value::Object(fields) if !self.preserves_unknown => {
                let is_known =
                    |name: &String| self.properties.contains_key(name) || self.additional.is_some();
                let strange: Vec<_> = fields.keys().filter(|name| !is_known(name)).cloned().collect();
                for name in strange {
                    fields.remove(&name);
                    unknown.push(join(path, &name));
                }
                for (name, value) in fields.iter_mut() {
                    let child = self.properties.get(name).or(self.additional.as_deref());
                    if let Some(child) = child {
                        child.prune(value, &join(path, name), unknown);
                    }
                }
            }
            Value::Object(fields) => {
                for (name, child) in &self.properties {
                    if let Some(value) = fields.get_mut(name) {
                        child.prune(value, &join(path, name), unknown);
                    }
                }
            }
            Value::Array(values) => {
                // Objects in a list without a schema lose all fields.
                let empty = Self::default();
                let child = match &self.items {
                    Some(child) => child,
                    None if self.preserves_unknown => return,
                    None => &empty,
                };
                for (at, value) in values.iter_mut().enumerate() {
                    child.prune(value, &format!("{path}[{at}]"), unknown);
                }
            }
            _ => {}
        }
    }

    /// Removes fields that an object of Go omits because they are empty.
    pub(super) fn omit_empty(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, child) in &self.properties {
                    if let Some(value) = fields.get_mut(name) {
                        child.omit_empty(value);
                        let kept = self.required.contains(name);
                        if !kept && is_empty(value, child) {
                            fields.remove(name);
                        }
                    }
                }
            }
            Value::Array(values) => {
                if let Some(child) = &self.items {
                    values.iter_mut().for_each(|value| child.omit_empty(value));
                }
            }
            _ => {}
        }
    }

    /// Checks types, bounds, required fields and lists. Errors of values that have not changed are ignored.
    pub(super) fn validate(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        if old == Some(value) {
            return;
        }
        if value.is_null() && self.nullable {
            return;
        }
        if let Some(wanted) = self.kind.filter(|wanted| !wanted.admits(value)) {
            let (wanted, found) = match &self.format {
                Some(format) if !value.is_string() && !value.is_array() && !value.is_null() => {
                    (format.as_str(), format_of(value))
                }
                _ => (wanted.name(), type_of(value)),
            };
            let words = format!("{path} in body must be of type {wanted}: {found:?}");
            errors.push(FieldError::type_invalid(path, found, &words));
            if value.is_f64() && self.kind == Some(Type::Integer) {
                let words = format!("Checked value must be of type integer with format {wanted} in {path}");
                errors.push(FieldError::invalid("<nil>", &"".into(), &words));
            }
            self.check_allowed(value, path, errors);
            return;
        }
        match value {
            Value::Object(fields) => self.validate_object(fields, old, path, errors),
            Value::Array(values) => {
                // Items of a list are correlated by their keys, and only in lists of type `map`.
                let count = values.len();
                check_count(count, self.item_count, "items", path, errors);
                for (at, value) in values.iter().enumerate() {
                    if let Some(child) = &self.items {
                        let old = self.correlated(value, old);
                        child.validate(value, old, &format!("{path}[{at}]"), errors);
                    }
                }
            }
            Value::String(text) => self.validate_text(text, path, errors),
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                if let Some(least) = self.range.0.filter(|least| number < *least) {
                    let words = format!("{path} in body should be greater than or equal to {least}");
                    errors.push(FieldError::invalid(path, value, &words));
                }
                if let Some(most) = self.range.1.filter(|most| number > *most) {
                    let words = format!("{path} in body should be less than or equal to {most}");
                    errors.push(FieldError::invalid(path, value, &words));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
        self.check_allowed(value, path, errors);
    }

    fn check_allowed(&self, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        if !self.allowed.is_empty() && !self.allowed.contains(value) {
            let supported: Vec<_> = self
                .allowed
                .iter()
                .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
                .collect();
            errors.push(FieldError::not_supported(path, value, &supported));
        }
    }

    fn validate_object(
        &self,
        fields: &Map<String, Value>,
        old: Option<&Value>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        check_count(fields.len(), self.property_count, "properties", path, errors);
        for name in self.required.iter().filter(|name| !fields.contains_key(*name)) {
            errors.push(FieldError::required(join(path, name), ""));
        }
        for (name, value) in fields {
            if let Some(child) = self.properties.get(name).or(self.additional.as_deref()) {
                let old = old.and_then(|old| old.get(name));
                child.validate(value, old, &join(path, name), errors);
            }
        }
    }

    fn validate_text(&self, text: &str, path: &str, errors: &mut Vec<FieldError>) {
        let value = Value::from(text);
        let length = text.chars().count() as u64;
        if let Some(least) = self.length.0.filter(|least| length < *least) {
            let words = format!("{path} in body should be at least {least} chars long");
            errors.push(FieldError::invalid(path, &value, &words));
        }
        if let Some(most) = self.length.1.filter(|most| length > *most) {
            errors.push(FieldError::too_long(path, usize::try_from(most).unwrap_or(usize::MAX)));
        }
        if self.format.as_deref() == Some(DATE_TIME) && !is_date_time(text) {
            let words = format!("{path} in body must be of type date-time: {value}");
            errors.push(FieldError::type_invalid(path, text, &words));
        }
    }

    fn correlated<'a>(&self, item: &Value, old: Option<&'a Value>) -> Option<&'a Value> {
        let ListType::Map(keys) = &self.list else { return None };
        let same = |other: &&Value| keys.iter().all(|key| other.get(key) == item.get(key));
        old?.as_array()?.iter().find(same)
    }

    /// Checks that lists of type `set` and `map` contain nothing twice.
    pub(super) fn validate_lists(&self, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let Some(child) = self.properties.get(name).or(self.additional.as_deref()) {
                        child.validate_lists(value, &join(path, name), errors);
                    }
                }
            }
            Value::Array(values) => {
                self.validate_uniqueness(values, path, errors);
                if let Some(child) = &self.items {
                    for (at, value) in values.iter().enumerate() {
                        child.validate_lists(value, &format!("{path}[{at}]"), errors);
                    }
                }
            }
            _ => {}
        }
    }

    fn validate_uniqueness(&self, values: &[Value], path: &str, errors: &mut Vec<FieldError>) {
        let key_of = |value: &Value| match &self.list {
            ListType::Atomic => None,
            ListType::Set => Some(value.clone()),
            ListType::Map(keys) => {
                let parts = keys.iter().filter_map(|key| Some((key.clone(), value.get(key)?.clone())));
                Some(Value::Object(parts.collect()))
            }
        };
        let strange = values.iter().position(|value| !value.is_object() && !value.is_null());
        if let (ListType::Map(_), Some(at)) = (&self.list, strange) {
            let words = "must be an object for an array of list-type map";
            errors.push(FieldError::invalid(format!("{path}[{at}]"), &values[at], words));
            return;
        }
        let mut counts = BTreeMap::<String, usize>::new();
        for (at, key) in values.iter().enumerate().filter_map(|(at, value)| Some((at, key_of(value)?))) {
            let count = counts.entry(key.to_string()).or_default();
            *count += 1;
            // A third one is not reported again.
            if *count == 2 {
                errors.push(FieldError::duplicate(format!("{path}[{at}]"), &key));
            }
        }
    }

    /// Checks the rules. Values that have not changed keep every rule that they kept.
    pub(super) fn check_rules(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        if !self.has_rules || value.is_null() || old == Some(value) {
            return;
        }
        for rule in &self.rules {
            if (!rule.transition || rule.optional_old || old.is_some()) && !(rule.check)(value, old) {
                if let Some(problem) = rules::evaluation_error(&rule.text, value) {
                    let words = format!("{problem} evaluating rule: {}", rule.message);
                    errors.push(FieldError::invalid(path, &"object".into(), &words));
                    continue;
                }
                let field = format!("{path}{}", rule.field_path);
                let field = field.trim_start_matches('.');
                errors.push(if value.is_object() || value.is_array() {
                    FieldError::invalid_unshown(field, &rule.message)
                } else {
                    FieldError::invalid(field, value, &rule.message)
                });
            }
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let Some(child) = self.properties.get(name) {
                        let old = old.and_then(|old| old.get(name));
                        child.check_rules(value, old, &join(path, name), errors);
                    } else if let Some(child) = &self.additional {
                        let old = old.and_then(|old| old.get(name));
                        child.check_rules(value, old, &format!("{path}[{name}]"), errors);
                    }
                }
            }
            Value::Array(values) => {
                for (at, value) in values.iter().enumerate() {
                    if let Some(child) = &self.items {
                        let old = self.correlated(value, old);
                        child.check_rules(value, old, &format!("{path}[{at}]"), errors);
                    }
                }
            }
            _ => {}
        }
    }
}

fn check_count(
    count: usize,
    bounds: (Option<u64>, Option<u64>),
    what: &str,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    if let Some(least) = bounds.0.filter(|least| (count as u64) < *least) {
        let words = format!("{path} in body should have at least {least} {what}");
        errors.push(FieldError::invalid(path, &count.into(), &words));
    }
    if let Some(most) = bounds.1.filter(|most| count as u64 > *most) {
        errors.push(FieldError::too_many(path, count, usize::try_from(most).unwrap_or(usize::MAX)));
    }
}

fn compile_rule(rule: &Value, path: &str) -> Result<Rule, String> {
    let text = |field: &str| rule[field].as_str().unwrap_or_default().to_owned();
    let known = ["rule", "message", "fieldPath", "optionalOldSelf"];
    if let Some(other) =
        rule.as_object().into_iter().flatten().find(|(field, _)| !known.contains(&field.as_str()))
    {
        return Err(format!("a rule at `{path}` has `{}`, which the model does not know", other.0));
    }
    let words = text("rule");
    let check = rules::find(&words)
        .ok_or_else(|| format!("the rule at `{path}` is not in `rules.rs`; add it: {words}"))?;
    Ok(Rule {
        check,
        transition: words.contains("oldSelf"),
        optional_old: rule["optionalOldSelf"] == true,
        text: words,
        message: text("message"),
        field_path: text("fieldPath"),
    })
}

fn parse_type(name: &Value) -> Option<Type> {
    Some(match name.as_str()? {
        "object" => Type::Object,
        "array" => Type::Array,
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        _ => return None,
    })
}

impl Type {
    fn admits(self, value: &Value) -> bool {
        let is_integer = || value.is_i64() || value.is_u64();
        match self {
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::String => value.is_string(),
            Self::Integer => is_integer(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::IntOrString => value.is_string() || is_integer(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer | Self::IntOrString => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The format that Go's type of a value suggests.
fn format_of(value: &Value) -> &'static str {
    match value {
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        _ => "",
    }
}

fn is_empty(value: &Value, schema: &Schema) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && !schema.nullable,
        Value::Array(values) => values.is_empty(),
        // An empty structure is kept: only a map counts as empty.
        Value::Object(fields) => fields.is_empty() && schema.properties.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// RFC 3339, as Go parses it.
pub(super) fn is_date_time(text: &str) -> bool {
    let zoned =
        text.ends_with('Z') || text.len() > 6 && matches!(text.as_bytes()[text.len() - 6], b'+' | b'-');
    zoned && text.contains('T') && text.parse::<Timestamp>().is_ok()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
