//! Refusals, as the API server answers them: `Status` objects.

use serde_json::{Map, Value, json};

use super::kinds::Kind;

/// A refused request: an HTTP code, and the parts of its `Status`.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, such as `Conflict`.
    pub reason: String,
    /// The text for people.
    pub message: String,
    pub(super) details: Map<String, Value>,
    pub(super) continuation: Option<String>,
}

/// One refused field; all of them are the causes of a refusal.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FieldError {
    pub(super) field: String,
    pub(super) reason: &'static str,
    pub(super) body: String,
}

impl FieldError {
    fn new(field: impl Into<String>, reason: &'static str, body: String) -> Self {
        Self { field: field.into(), reason, body }
    }

    /// The message contains the value.
    pub(super) fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::new(field, "FieldValueInvalid", format!("Invalid value: {}: {detail}", shown(value)))
    }

    /// The message does not contain the value.
    pub(super) fn invalid_unshown(field: impl Into<String>, detail: &str) -> Self {
        Self::new(field, "FieldValueInvalid", format!("Invalid value: {detail}"))
    }

    pub(super) fn type_invalid(field: impl Into<String>, value: &str, detail: &str) -> Self {
        Self::new(field, "FieldValueTypeInvalid", format!("Invalid value: {value:?}: {detail}"))
    }

    pub(super) fn required(field: impl Into<String>, detail: &str) -> Self {
        let body =
            if detail.is_empty() { "Required value".into() } else { format!("Required value: {detail}") };
        Self::new(field, "FieldValueRequired", body)
    }

    pub(super) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self::new(field, "FieldValueForbidden", format!("Forbidden: {detail}"))
    }

    pub(super) fn not_supported(field: impl Into<String>, value: &Value, supported: &[String]) -> Self {
        let supported: Vec<_> = supported.iter().map(|value| format!("{value:?}")).collect();
        let body = format!("Unsupported value: {}: supported values: {}", shown(value), supported.join(", "));
        Self::new(field, "FieldValueNotSupported", body)
    }

    pub(super) fn too_long(field: impl Into<String>, most: usize) -> Self {
        Self::new(field, "FieldValueTooLong", format!("Too long: may not be more than {most} bytes"))
    }

    pub(super) fn too_many(field: impl Into<String>, count: usize, most: usize) -> Self {
        Self::new(field, "FieldValueTooMany", format!("Too many: {count}: must have at most {most} items"))
    }

    pub(super) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::new(field, "FieldValueDuplicate", format!("Duplicate value: {}", shown(value)))
    }

    /// The same error, of a field in this one.
    pub(super) fn within(mut self, parent: &str) -> Self {
        let separator = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        self.field = format!("{parent}{separator}{}", self.field);
        self
    }

    /// Whether the API server checks no rules after this error.
    pub(super) fn blocks_rules(&self) -> bool {
        matches!(
            self.reason,
            "FieldValueNotSupported"
                | "FieldValueRequired"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
                | "FieldValueTypeInvalid"
        )
    }
}

/// A value as Go prints it: a text with `%q`, anything else as JSON.
fn shown(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_ascii_control() => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(control)))
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

impl Refusal {
    pub(super) fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            details: Map::new(),
            continuation: None,
        }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                self.details.insert(key.into(), value.into());
            }
        }
        self
    }

    pub(super) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.qualified_resource());
        Self::new(404, "NotFound", message).about(&kind.group, &kind.plural, name)
    }

    /// No resource is served at this path.
    pub(super) fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub(super) fn already_exists(kind: &Kind, name: &str, is_deleting: bool) -> Self {
        let start = if is_deleting { "object is being deleted: " } else { "" };
        let message = format!("{start}{} {name:?} already exists", kind.qualified_resource());
        Self::new(409, "AlreadyExists", message).about(&kind.group, &kind.plural, name)
    }

    pub(super) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.qualified_resource());
        Self::new(409, "Conflict", message).about(&kind.group, &kind.plural, name)
    }

    /// A conflict that the server names by the kind instead of the resource.
    pub(super) fn conflict_of_kind(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.qualified_kind());
        Self::new(409, "Conflict", message).about(kind.group_of_kind(), &kind.kind, name)
    }

    pub(super) fn outdated(kind: &Kind, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", kind.qualified_resource())
        } else {
            format!("{} {name:?} is forbidden: {why}", kind.qualified_resource())
        };
        Self::new(403, "Forbidden", message).about(&kind.group, &kind.plural, name)
    }

    pub(super) fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let cause = json!({"reason": reason, "message": message, "field": field});
        self.details.insert("causes".into(), json!([cause]));
        self
    }

    pub(super) fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        let mut words: Vec<String> = Vec::new();
        for error in errors {
            let text = format!("{}: {}", error.field, error.body);
            if !words.contains(&text) {
                words.push(text);
            }
        }
        let words = if let [one] = &*words { one.clone() } else { format!("[{}]", words.join(", ")) };
        let message = format!("{} {name:?} is invalid: {words}", kind.qualified_kind());
        let mut refusal = Self::new(422, "Invalid", message).about(kind.group_of_kind(), &kind.kind, name);
        let cause =
            |error: &FieldError| json!({"reason": error.reason, "message": error.body, "field": error.field});
        refusal.details.insert("causes".into(), errors.iter().map(cause).collect());
        refusal
    }

    /// An update without the version that this kind requires. The server names the resource as the kind.
    pub(super) fn without_version(kind: &Kind, name: &str) -> Self {
        let field = "metadata.resourceVersion";
        let error = FieldError::invalid(field, &0.into(), "must be specified for an update");
        let message = format!("{} {name:?} is invalid: {field}: {}", kind.qualified_resource(), error.body);
        let refusal = Self::new(422, "Invalid", message).about(&kind.group, &kind.plural, name);
        refusal.with_cause(error.reason, &error.body, field)
    }

    /// A patch that makes an object unreadable.
    pub(super) fn of_patch(words: &str) -> Self {
        let body = format!("Invalid value: \"\": {words}");
        let refusal = Self::new(422, "Invalid", format!(" \"\" is invalid: patch: {body}"));
        refusal.with_cause("FieldValueInvalid", &body, "patch")
    }

    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(super) fn to_json(&self) -> Value {
        let mut metadata = Map::new();
        metadata.extend(self.continuation.iter().map(|token| ("continue".to_owned(), token.as_str().into())));
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.as_str().into();
        }
        if !self.details.is_empty() {
            status["details"] = Value::Object(self.details.clone());
        }
        status
    }
}
