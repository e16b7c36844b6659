//! Strict readers of queries, JSON, forms and tokens. Their errors name the mistake of the client, and each remote side
//! words its own answer.

use std::collections::BTreeMap;

use axum::http::{
    HeaderMap, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::Value;

/// The parameters of a query or a form, each once.
pub(crate) type Parameters = BTreeMap<String, String>;

/// Reads a query that may have these parameters.
pub(crate) fn query(uri: &Uri, known: &[&str]) -> Result<Parameters, String> {
    let sent = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned();
    let mut query = Parameters::new();
    for (name, value) in sent {
        if !known.contains(&name.as_str()) {
            let known = known.join("', '");
            return Err(format!("Unknown query parameter(s): '{name}'. Valid parameters are: '{known}'"));
        }
        if value.is_empty() {
            return Err(format!("`{name}` is empty"));
        }
        insert_once(&mut query, name, value)?;
    }
    Ok(query)
}

/// Reads a form that may have these parameters. The body must be declared as a form.
pub(crate) fn form(headers: &HeaderMap, body: Option<&[u8]>, known: &[&str]) -> Result<Parameters, String> {
    declares(headers, "application/x-www-form-urlencoded")?;
    let mut form = Parameters::new();
    for (name, value) in form_urlencoded::parse(whole(body)?).into_owned() {
        if !known.contains(&name.as_str()) {
            return Err(format!("unknown parameter `{name}`"));
        }
        insert_once(&mut form, name, value)?;
    }
    Ok(form)
}

fn insert_once(parameters: &mut Parameters, name: String, value: String) -> Result<(), String> {
    match parameters.insert(name.clone(), value) {
        None => Ok(()),
        Some(_) => Err(format!("`{name}` is there twice")),
    }
}

/// Reads a body as JSON.
pub(crate) fn json(body: Option<&[u8]>) -> Result<Value, String> {
    serde_json::from_slice(whole(body)?).map_err(|error| format!("the body is no JSON: {error}"))
}

fn whole(body: Option<&[u8]>) -> Result<&[u8], String> {
    body.ok_or_else(|| "the body is too large or cut off".into())
}

/// Checks that the body is declared as this media type.
pub(crate) fn declares(headers: &HeaderMap, media_type: &str) -> Result<(), String> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    match essence.is_some_and(|value| value.eq_ignore_ascii_case(media_type)) {
        true => Ok(()),
        false => Err(format!("`Content-Type` must be {media_type}, not {content_type:?}")),
    }
}

/// The bearer token of a call.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
