//! The strict checks that need no state except the tokens: caller, query, body.
//!
//! They run in a fixed order, and the first failed check determines the answer. A call that passes all of them becomes
//! an [`Operation`] with the [`Session`] of its caller.

use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode, Uri},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    answer::{Answer, ApiError, Refusal},
    metadata::Metadata,
    operation::{Change, Operation, Wish},
    query::ListQuery,
    record::Rule,
    route::Route,
    uaa::{GrantRequest, Session, Uaa},
};
use crate::remote::{self, reading};

const MAX_URL_BYTES: usize = 8_000;
const MAX_NAME: usize = 255;

/// A request as the fake received it.
pub(super) type Request = remote::Request<Route>;

/// An admitted call.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub(super) operation: Operation,
    /// Nothing if the call needs no token.
    pub(super) session: Option<Session>,
}

/// Checks a request, and returns its operation.
pub(super) fn admit(request: &Request, uaa: &Uaa) -> Result<Admitted, Refusal> {
    check_length(&request.uri)?;
    let session = match request.target.route {
        Route::Unknown | Route::Root | Route::ApiRoot | Route::Token => None,
        _ => Some(uaa.session(&request.headers)?),
    };
    Ok(Admitted { operation: operation(request)?, session })
}

fn check_length(uri: &Uri) -> Result<(), Refusal> {
    let bytes = uri.path_and_query().map_or(0, |url| url.as_str().len());
    if bytes <= MAX_URL_BYTES {
        return Ok(());
    }
    let detail = format!("the URL has {bytes} bytes, and routers pass {MAX_URL_BYTES} on");
    Err(Refusal::breach(Rule::UrlLength, Answer::bare(StatusCode::URI_TOO_LONG), detail))
}

fn operation(request: &Request) -> Result<Operation, Refusal> {
    let Request { target, uri, headers, body } = request;
    let route = &target.route;
    let query = || ListQuery::read(uri, *route);
    let guid = || query().map(|_| target.id().unwrap_or_default().to_owned());
    Ok(match route {
        Route::Unknown => {
            let detail = format!("there is nothing at `{}`", uri.path());
            return Err(Refusal::breach(Rule::KnownRoute, ApiError::unknown_request(), detail));
        }
        Route::Root => Operation::Root,
        Route::ApiRoot => Operation::ApiRoot,
        Route::Organizations => Operation::Organizations(query()?),
        Route::Spaces => Operation::Spaces(query()?),
        Route::Instances => Operation::Instances(query()?),
        Route::Instance => Operation::Instance { guid: guid()? },
        Route::Keys => Operation::Keys(query()?),
        Route::Key => Operation::Key { guid: guid()?, query: query()? },
        Route::Details => Operation::Details { guid: guid()? },
        Route::Parameters => Operation::Parameters { guid: guid()? },
        Route::Create => {
            query()?;
            Operation::Create(Box::new(wish(headers, body.as_ref())?))
        }
        Route::Update => {
            let Change { metadata } = read_body(headers, body.as_ref())?;
            metadata.check().map_err(|error| Refusal::unprocessable(Rule::Metadata, error))?;
            Operation::Update { guid: guid()?, metadata }
        }
        Route::Delete => Operation::Delete { guid: guid()? },
        Route::Job => Operation::Job { guid: guid()? },
        Route::Token => Operation::Token(GrantRequest::read(uri, headers, body.as_deref())?),
    })
}

fn wish(headers: &HeaderMap, body: Option<&Bytes>) -> Result<Wish, Refusal> {
    let sent: Value = read_body(headers, body)?;
    if sent["type"] == "app" {
        let detail = "the fake makes keys only, and this is a binding of an app";
        return Err(Refusal::unprocessable(Rule::KeyType, detail));
    }
    let wish: Wish = serde_json::from_value(sent)
        .map_err(|error| Refusal::unprocessable(Rule::Body, format!("the body is malformed: {error}")))?;
    if wish.kind != "key" {
        return Err(Refusal::unprocessable(Rule::Body, "Type must be one of 'key', 'app'"));
    }
    if wish.name.is_empty() {
        return Err(Refusal::unprocessable(Rule::Body, "Name can't be blank"));
    }
    if wish.name.chars().count() > MAX_NAME {
        let detail = format!("Name is too long (maximum is {MAX_NAME} characters)");
        return Err(Refusal::unprocessable(Rule::Body, detail));
    }
    wish.metadata
        .iter()
        .try_for_each(Metadata::check)
        .map_err(|error| Refusal::unprocessable(Rule::Metadata, error))?;
    Ok(wish)
}

fn read_body<T: DeserializeOwned>(headers: &HeaderMap, body: Option<&Bytes>) -> Result<T, Refusal> {
    let unreadable = |rule, detail: String| Refusal::breach(rule, ApiError::parse_error(), detail);
    reading::declares(headers, "application/json").map_err(|detail| unreadable(Rule::ContentType, detail))?;
    let sent = reading::json(body.map(AsRef::as_ref)).map_err(|detail| unreadable(Rule::Body, detail))?;
    serde_json::from_value(sent)
        .map_err(|error| Refusal::unprocessable(Rule::Body, format!("the body is malformed: {error}")))
}
