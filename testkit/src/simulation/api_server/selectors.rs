//! Label selectors and field selectors of lists and watches.

use serde_json::Value;

use super::{
    kinds::Kind,
    names::{is_label_value, is_qualified_name},
    status::Refusal,
};

/// The selectors of a list or a watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Selectors {
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
}

#[derive(Clone, Debug)]
enum LabelTerm {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Compare(String, std::cmp::Ordering, i64),
}

#[derive(Clone, Debug)]
struct FieldTerm {
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl Selectors {
    /// Parses both selectors of a request.
    ///
    /// # Errors
    /// Refuses a syntax error, and a field that this kind can't be selected by.
    pub(super) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Refusal> {
        Ok(Self { labels: label_terms(labels)?, fields: field_terms(kind, fields)? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The only name that is selected.
    pub(super) fn name(&self) -> Option<&str> {
        let term = self.fields.iter().find(|term| term.equal && term.path == ["metadata", "name"]);
        term.map(|term| term.value.as_str())
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|term| term.matches(labels))
            && self.fields.iter().all(|term| term.matches(object))
    }
}

impl LabelTerm {
    fn matches(&self, labels: &Value) -> bool {
        let value = |key: &String| labels.get(key).and_then(Value::as_str);
        match self {
            Self::Exists(key) => value(key).is_some(),
            Self::Absent(key) => value(key).is_none(),
            Self::In(key, values) => value(key).is_some_and(|value| values.iter().any(|one| one == value)),
            Self::NotIn(key, values) => value(key).is_none_or(|value| values.iter().all(|one| one != value)),
            Self::Compare(key, order, bound) => value(key)
                .and_then(|value| value.parse::<i64>().ok())
                .is_some_and(|value| value.cmp(bound) == *order),
        }
    }
}

impl FieldTerm {
    fn matches(&self, object: &Value) -> bool {
        let value = self.path.iter().try_fold(object, |value, field| value.get(field));
        let value = value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        (value.unwrap_or_default() == self.value) == self.equal
    }
}

fn label_terms(text: &str) -> Result<Vec<LabelTerm>, Refusal> {
    split_outside_of_parentheses(text)
        .into_iter()
        .filter(|term| !term.is_empty() || !text.trim().is_empty())
        .map(|term| {
            label_term(term)
                .ok_or_else(|| Refusal::bad_request(format!("unable to parse requirement: {term:?}")))
        })
        .collect()
}

fn split_outside_of_parentheses(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0usize, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

fn label_term(term: &str) -> Option<LabelTerm> {
    let key = |text: &str| Some(text.trim().to_owned()).filter(|key| is_qualified_name(key));
    let value = |text: &str| Some(text.trim().to_owned()).filter(|value| is_label_value(value));
    if let Some(absent) = term.strip_prefix('!') {
        return Some(LabelTerm::Absent(key(absent)?));
    }
    if let Some((start, list)) = term.split_once('(') {
        let values = list.strip_suffix(')')?.split(',').map(value).collect::<Option<Vec<_>>>()?;
        let mut words = start.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(name), Some("in"), None) => Some(LabelTerm::In(key(name)?, values)),
            (Some(name), Some("notin"), None) => Some(LabelTerm::NotIn(key(name)?, values)),
            _ => None,
        };
    }
    for (operator, order) in [('>', std::cmp::Ordering::Greater), ('<', std::cmp::Ordering::Less)] {
        if let Some((name, bound)) = term.split_once(operator) {
            return Some(LabelTerm::Compare(key(name)?, order, bound.trim().parse().ok()?));
        }
    }
    if let Some((name, other)) = term.split_once("!=") {
        return Some(LabelTerm::NotIn(key(name)?, vec![value(other)?]));
    }
    match term.split_once("==").or_else(|| term.split_once('=')) {
        Some((name, wanted)) => Some(LabelTerm::In(key(name)?, vec![value(wanted)?])),
        None => Some(LabelTerm::Exists(key(term)?)),
    }
}

fn field_terms(kind: &Kind, text: &str) -> Result<Vec<FieldTerm>, Refusal> {
    let terms = text.split(',').filter(|term| !term.is_empty());
    terms
        .map(|term| {
            let (field, value, equal) = term
                .split_once("!=")
                .map(|(field, value)| (field, value, false))
                .or_else(|| term.split_once("==").map(|(field, value)| (field, value, true)))
                .or_else(|| term.split_once('=').map(|(field, value)| (field, value, true)))
                .ok_or_else(|| {
                    Refusal::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'"))
                })?;
            if !kind.selectable.iter().any(|one| one == field) {
                return Err(Refusal::bad_request(format!("field label not supported: {field}")));
            }
            let path = field.split('.').map(str::to_owned).collect();
            Ok(FieldTerm { path, value: value.to_owned(), equal })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_operator_of_a_label_selector_selects() {
        let object = json!({"metadata": {"labels": {"a": "1", "b": "x", "c": ""}}});
        let cases = [
            ("", true),
            ("a", true),
            ("!a", false),
            ("d", false),
            ("!d", true),
            ("a=1,b==x", true),
            ("a=1,b=y", false),
            ("a!=1", false),
            ("d!=1", true),
            ("b in (x,y)", true),
            ("b notin (x, y)", false),
            ("d notin (x)", true),
            ("a>0,a<2", true),
            ("a>1", false),
            ("c=", true),
        ];
        for (text, expected) in cases {
            let selectors = Selectors { labels: label_terms(text).unwrap(), fields: Vec::new() };
            assert_eq!(selectors.matches(&object), expected, "{text}");
        }
        for text in ["a in x", "-a", "a=-", "b is (x)"] {
            assert!(label_terms(text).is_err(), "{text}");
        }
    }
}
