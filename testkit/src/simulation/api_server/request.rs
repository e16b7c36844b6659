//! Requests: what the method, the path, the query and the headers of a call request.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::{
    kinds::{Definitions, Kind},
    status::Refusal,
    store::Form,
};

/// One HTTP request.
#[derive(Clone, Debug)]
pub struct Call {
    /// The HTTP method.
    pub method: Method,
    /// The path and the query, such as `/api/v1/secrets?limit=50`.
    pub target: String,
    /// The header `Accept`.
    pub accept: String,
    /// The header `Content-Type`.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
    /// The client, for the [counts](super::ApiServer::counts).
    pub caller: String,
}

impl Call {
    /// A request for JSON, without a body.
    #[must_use]
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            accept: "application/json".into(),
            content_type: "application/json".into(),
            body: Bytes::new(),
            caller: String::new(),
        }
    }

    /// The same with a body.
    #[must_use]
    pub fn with_body(mut self, body: &Value) -> Self {
        self.body = body.to_string().into();
        self
    }

    /// The same with another content type, such as `application/merge-patch+json`.
    #[must_use]
    pub fn with_content_type(mut self, content_type: &str) -> Self {
        content_type.clone_into(&mut self.content_type);
        self
    }

    /// The same request for metadata only; `list` for a list.
    #[must_use]
    pub fn metadata_only(mut self, list: bool) -> Self {
        let kind = if list { "PartialObjectMetadataList" } else { "PartialObjectMetadata" };
        self.accept = format!("application/json;as={kind};g=meta.k8s.io;v=v1");
        self
    }
}

/// The verb of a request, as RBAC names it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads many objects.
    List,
    /// Reads the changes of objects.
    Watch,
    /// Creates an object.
    Create,
    /// Replaces an object.
    Update,
    /// Changes a part of an object.
    Patch,
    /// Deletes an object.
    Delete,
}

/// A request that the model understands so far.
pub(super) struct Request {
    pub(super) kind: Arc<Kind>,
    pub(super) verb: Verb,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) of_status: bool,
    pub(super) form: Form,
    pub(super) query: BTreeMap<String, String>,
    pub(super) content_type: String,
    pub(super) body: Bytes,
    pub(super) caller: String,
}

/// The reason why a call has no request.
pub(super) enum Unclear {
    Refused(Refusal),
    Unmodelled(String),
}

impl From<Refusal> for Unclear {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Request {
    pub(super) fn parse(definitions: &Definitions, call: &Call) -> Result<Self, Unclear> {
        let unmodelled = |what: &str| Unclear::Unmodelled(format!("{what}: {} {}", call.method, call.target));
        let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
        let query: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let (group, version, rest) = match &*segments {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(unmodelled("this path")),
        };
        let find = |plural: &str| definitions.at_path(group, version, plural).cloned();
        let (kind, namespace, rest) = match rest {
            ["namespaces", namespace, plural, rest @ ..] if !matches!(*plural, "status" | "finalize") => {
                let kind = find(plural).ok_or_else(|| unmodelled("this resource"))?;
                if !kind.namespaced {
                    return Err(Refusal::no_such_path().into());
                }
                (kind, Some((*namespace).to_owned()), rest)
            }
            [plural, rest @ ..] => (find(plural).ok_or_else(|| unmodelled("this resource"))?, None, rest),
            [] => return Err(unmodelled("this path")),
        };
        let (name, of_status) = match rest {
            [] => (None, false),
            [name] => (Some((*name).to_owned()), false),
            [name, "status"] if kind.has_status => (Some((*name).to_owned()), true),
            [_, "status"] => return Err(Refusal::no_such_path().into()),
            _ => return Err(unmodelled("this subresource")),
        };
        if kind.namespaced && namespace.is_none() && name.is_some() {
            return Err(Refusal::no_such_path().into());
        }
        let watched = query.get("watch").is_some_and(|watch| watch != "false" && watch != "0");
        let verb = match (&call.method, &name) {
            (&Method::GET, None) if watched => Verb::Watch,
            (&Method::GET, None) => Verb::List,
            (&Method::GET, Some(_)) => Verb::Get,
            (&Method::POST, None) if namespace.is_some() || !kind.namespaced => Verb::Create,
            (&Method::PUT, Some(_)) => Verb::Update,
            (&Method::PATCH, Some(_)) => Verb::Patch,
            (&Method::DELETE, Some(_)) if !of_status => Verb::Delete,
            _ => return Err(unmodelled("this method")),
        };
        let known: &[&str] = match verb {
            Verb::Get => &[],
            Verb::List | Verb::Watch => &[
                "labelSelector",
                "fieldSelector",
                "limit",
                "continue",
                "resourceVersion",
                "resourceVersionMatch",
                "watch",
                "allowWatchBookmarks",
                "timeoutSeconds",
            ],
            Verb::Create | Verb::Update | Verb::Patch => &["dryRun", "fieldManager", "fieldValidation"],
            Verb::Delete => &["dryRun", "propagationPolicy"],
        };
        if let Some(other) = query.keys().find(|key| !known.contains(&key.as_str()) && *key != "pretty") {
            return Err(unmodelled(&format!("the parameter `{other}`")));
        }
        let is_list = call.accept.contains("as=PartialObjectMetadataList");
        if call.accept.contains("as=") && is_list != (verb == Verb::List) {
            return Err(unmodelled("a list for one object, or one object for a list"));
        }
        let form = form_of(&call.accept).ok_or_else(|| unmodelled(&format!("`Accept: {}`", call.accept)))?;
        let (content_type, body, caller) =
            (call.content_type.clone(), call.body.clone(), call.caller.clone());
        Ok(Self { kind, verb, namespace, name, of_status, form, query, content_type, body, caller })
    }

    pub(super) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map(String::as_str).unwrap_or_default()
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.parameter("dryRun") == "All"
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(super) fn key(&self) -> String {
        super::store::key(self.namespace.as_deref(), self.name())
    }
}

/// The form that the header `Accept` requests; `None` for one that the model lacks.
fn form_of(accept: &str) -> Option<Form> {
    let first = accept.split(',').next().unwrap_or_default();
    let mut parts = first.split(';').map(str::trim);
    if !matches!(parts.next(), Some("application/json" | "*/*" | "")) {
        return None;
    }
    match parts.find_map(|part| part.strip_prefix("as=")) {
        None => Some(Form::Full),
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Form::Metadata),
        Some(_) => None,
    }
}
