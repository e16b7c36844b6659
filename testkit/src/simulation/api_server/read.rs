//! Gets and lists.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    Answer,
    request::{Request, Unclear},
    selectors::Selectors,
    status::Refusal,
    store::{self, Form, Store, Stored, Types, is_within},
};

/// The message for a page of a list whose version was compacted.
const EXPIRED_WORDS: &str = "The provided continue parameter is too old to display a consistent list result. You can \
     start a new list without the continue parameter, or use the continue token in this response to retrieve the \
     remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
     created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

pub(super) fn get(request: &Request, store: &Store) -> Result<Answer, Refusal> {
    let (kind, name) = (&request.kind, request.name());
    let stored = store.get(kind, &request.key()).ok_or_else(|| Refusal::not_found(kind, name))?;
    Ok(Answer::complete(200, stored.text(request.form, Types::Of(kind))))
}

/// The place where a list continues: its version (`None` for the current one) and the last key of the page before.
struct Page {
    version: Option<u64>,
    after: String,
}

impl Page {
    fn parse(token: &str) -> Option<Self> {
        let text = URL_SAFE_NO_PAD.decode(token).ok()?;
        let token: Value = serde_json::from_slice(&text).ok()?;
        let version = token["rv"].as_i64()?;
        Some(Self { version: u64::try_from(version).ok(), after: token["start"].as_str()?.to_owned() })
    }

    fn token(&self) -> String {
        let version = self.version.map_or_else(|| json!(-1), |version| json!(version));
        let token = json!({"v": "meta.k8s.io/v1", "rv": version, "start": self.after});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }
}

pub(super) fn list(request: &Request, store: &Store) -> Result<Answer, Unclear> {
    let fields = request.parameter("fieldSelector");
    let selectors = Selectors::parse(&request.kind, request.parameter("labelSelector"), fields)?;
    let page = match request.parameter("continue") {
        "" => None,
        token => {
            let page = Page::parse(token);
            Some(page.ok_or_else(|| Refusal::bad_request("continue key is not valid: token is malformed"))?)
        }
    };
    let limit = limit(request)?;
    let version = match &page {
        Some(page) => page.version,
        None => exact_version(request, store, limit)?,
    };
    if version.is_some_and(|version| version < store.compacted()) {
        return Err(expired(page).into());
    }
    let snapshot: BTreeMap<String, Arc<Stored>> = match version {
        Some(version) => store.at_revision(&request.kind, version),
        None => store.all(&request.kind).map(|(key, stored)| (key.clone(), Arc::clone(stored))).collect(),
    };
    let version = version.unwrap_or_else(|| store.revision());
    let after = page.as_ref().map(|page| page.after.as_str());
    // A list of one name reads only its key.
    let is_exact = request.namespace.is_some() || !request.kind.namespaced;
    let only =
        selectors.name().filter(|_| is_exact).map(|name| store::key(request.namespace.as_deref(), name));
    let mut rest = snapshot.iter().filter(|(key, _)| {
        is_within(key, request.namespace.as_deref())
            && only.as_ref().is_none_or(|only| only == *key)
            && after.is_none_or(|after| key.as_str() > after)
    });
    let selected = rest.by_ref().filter(|(_, stored)| selectors.matches(&stored.value));
    let objects: Vec<_> = selected.take(limit.unwrap_or(usize::MAX)).collect();
    // The server does not know whether the rest matches, so the last page may be empty.
    let remaining = rest.count();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let Some((key, _)) = objects.last().filter(|_| remaining > 0) {
        metadata["continue"] = Page { version: Some(version), after: (*key).clone() }.token().into();
        if selectors.is_empty() {
            metadata["remainingItemCount"] = remaining.into();
        }
    } else if request.kind.is_custom() && request.form == Form::Full {
        // Lists of custom resources do not omit it.
        metadata["continue"] = "".into();
    }
    Ok(Answer::complete(200, body(request, &metadata, objects.into_iter().map(|(_, stored)| stored))))
}

fn body<'a>(request: &Request, metadata: &Value, objects: impl Iterator<Item = &'a Arc<Stored>>) -> String {
    let kind = &request.kind;
    let (api_version, list, types) = match request.form {
        Form::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata", Types::Metadata),
        Form::Full if kind.is_custom() => (kind.api_version(), kind.kind.as_str(), Types::Of(kind)),
        Form::Full => (kind.api_version(), kind.kind.as_str(), Types::None),
    };
    let items: Vec<_> = objects.map(|stored| stored.text(request.form, types)).collect();
    // A nil slice in Go.
    let is_nil = items.is_empty() && request.form == Form::Metadata;
    let items = if is_nil { "null".to_owned() } else { format!("[{}]", items.join(",")) };
    format!(r#"{{"kind":"{list}List","apiVersion":"{api_version}","metadata":{metadata},"items":{items}}}"#)
}

/// The number of objects in a page. A list from the cache, in any version, has no pages.
fn limit(request: &Request) -> Result<Option<usize>, Refusal> {
    let from_cache = request.parameter("resourceVersion") == "0" && request.parameter("continue").is_empty();
    match request.parameter("limit") {
        "" | "0" => Ok(None),
        _ if from_cache => Ok(None),
        text => text.parse().map(Some).map_err(|_| Refusal::bad_request(format!("invalid limit {text:?}"))),
    }
}

/// The version that the list must have; `None` for the current one.
fn exact_version(request: &Request, store: &Store, limit: Option<usize>) -> Result<Option<u64>, Unclear> {
    let version = match request.parameter("resourceVersion") {
        "" | "0" => return Ok(None),
        text => text.parse::<u64>().map_err(|_| Refusal::bad_request(format!("invalid version {text:?}")))?,
    };
    if version > store.revision() {
        return Err(Unclear::Unmodelled(format!("a list in the future version {version}")));
    }
    Ok(match request.parameter("resourceVersionMatch") {
        "Exact" => Some(version),
        "NotOlderThan" => None,
        _ => limit.map(|_| version),
    })
}

fn expired(page: Option<Page>) -> Refusal {
    let Some(page) = page else {
        return Refusal::expired("The resourceVersion for the provided list is too old.");
    };
    let continuation = Page { version: None, ..page }.token();
    Refusal { continuation: Some(continuation), ..Refusal::expired(EXPIRED_WORDS) }
}
