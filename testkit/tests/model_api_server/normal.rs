//! Answers in a form that is equal for any two servers: numbers in the order of their first appearance replace UIDs and
//! versions.

use std::{collections::BTreeMap, sync::LazyLock};

use regex::{Captures, Regex};
use serde_json::Value;

/// The fields that contain a time.
const TIMES: [&str; 2] = ["creationTimestamp", "deletionTimestamp"];

static UID: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap());
static VERSION_IN_WORDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("(ResourceVersion[a-z ]*[:(] ?|too old resource version: )[0-9]+( \\([0-9]+\\))?").unwrap()
});
/// The API server shows values in their form in Go.
static IMMUTABLE_VALUE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("Invalid value: .*: field is immutable").unwrap());

/// The normal form of one server's answers.
#[derive(Default)]
pub struct Normal {
    uids: BTreeMap<String, usize>,
    versions: BTreeMap<String, usize>,
}

impl Normal {
    pub fn answer(&mut self, answer: &Value) -> Value {
        let mut answer = answer.clone();
        // These texts are those of Go's decoders.
        let is_of_patch = answer["details"]["causes"][0]["field"] == "patch";
        if is_of_patch {
            answer["details"]["causes"][0]["message"] = "any".into();
        }
        if is_of_patch || answer["code"] == 400 {
            answer["message"] = "any".into();
        }
        let metadata = &mut answer["metadata"];
        if metadata["continue"].as_str().is_some_and(|token| !token.is_empty()) {
            metadata["continue"] = "some".into();
        }
        let is_list = answer.get("items").is_some();
        if is_list {
            // Other writers of the real server change the version of a list.
            answer["metadata"]["resourceVersion"] = "any".into();
        }
        self.value("", &mut answer);
        if answer["kind"] == "Status" {
            order_causes(&mut answer);
        }
        answer
    }

    pub fn event(&mut self, event: &Value) -> Value {
        let mut event = event.clone();
        self.value("", &mut event);
        event
    }

    fn value(&mut self, field: &str, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("managedFields");
                if fields.get("phase").is_some_and(|phase| phase == "Terminating") {
                    fields.remove("conditions");
                }
                fields.iter_mut().for_each(|(field, value)| self.value(field, value));
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.value("", value)),
            Value::String(text) if TIMES.contains(&field) => "a time".clone_into(text),
            Value::String(text) if field == "resourceVersion" => {
                if let Ok(number) = text.parse::<u64>() {
                    let next = self.versions.len();
                    let order = self.versions.entry(number.to_string()).or_insert(next);
                    *text = format!("version {order}");
                }
            }
            Value::String(text) => {
                let uids = &mut self.uids;
                let numbered = UID.replace_all(text, |found: &Captures<'_>| {
                    let next = uids.len();
                    format!("uid {}", uids.entry(found[0].to_owned()).or_insert(next))
                });
                let numbered = VERSION_IN_WORDS.replace_all(&numbered, "${1}N");
                *text = IMMUTABLE_VALUE.replace_all(&numbered, ": field is immutable").into_owned();
            }
            _ => {}
        }
    }
}

/// The API server lists causes in the order of Go's maps, which is random.
fn order_causes(status: &mut Value) {
    if let Some(causes) = status["details"]["causes"].as_array_mut() {
        causes.sort_by_key(ToString::to_string);
        // It also checks the metadata of an update several times.
        causes.dedup();
        if causes.len() > 1 {
            // The message has the same words in the same random order.
            status["message"] = "several".into();
        }
    }
}

/// The lines in which two answers differ.
pub fn pretty_difference(real: &Value, model: &Value) -> String {
    let lines = |value: &Value| -> Vec<String> {
        serde_json::to_string_pretty(value).unwrap().lines().map(str::to_owned).collect()
    };
    let (real, model) = (lines(real), lines(model));
    let only = |ours: &[String], theirs: &[String], mark: &str| {
        let lines =
            ours.iter().filter(|line| !theirs.contains(line)).map(|line| format!("    {mark} {line}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let difference = format!("{}\n{}", only(&real, &model, "real "), only(&model, &real, "model"));
    // The same lines in another order or number.
    if difference.trim().is_empty() {
        format!("real {}\nmodel {}", real.join("\n"), model.join("\n"))
    } else {
        difference
    }
}
