//! The strict checks that need no state: headers, login, ids, query, body.
//!
//! They run in a fixed order, and the first failed check determines the answer. A call that passes all of them becomes
//! an [`Operation`].

use axum::{
    body::Bytes,
    extract::Query,
    http::{HeaderMap, StatusCode, Uri},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    answer::{Answer, Refusal},
    login::Login,
    operation::{Hints, Key, Operation, OriginatingIdentity, Wish},
    record::Rule,
    route::Route,
};
use crate::remote::{self, reading};

pub(super) const API_VERSION: &str = "x-broker-api-version";
pub(super) const REQUEST_IDENTITY: &str = "x-broker-api-request-identity";
pub(super) const ORIGINATING_IDENTITY: &str = "x-broker-api-originating-identity";
const PLATFORM: &str = "kubernetes";

/// A request as the broker received it.
pub(super) type Request = remote::Request<Route>;

/// The requirements in which brokers differ.
#[derive(Clone, Debug)]
pub(super) struct Demands {
    /// The only supported version of the API.
    pub api_version: String,
    /// Whether a bind must name an application or a client.
    pub bind_resource: bool,
    /// A parameter that the query of every call must have, with its value.
    pub parameter: Option<(String, String)>,
}

impl Default for Demands {
    fn default() -> Self {
        Self { api_version: "2.17".to_owned(), bind_resource: false, parameter: None }
    }
}

/// Checks a request, and returns its operation.
pub(super) fn admit(request: &Request, login: &Login, demands: &Demands) -> Result<Operation, Refusal> {
    let Request { target, uri, headers, body } = request;
    if !login.admits(headers) {
        let detail = "the login is missing or wrong";
        return Err(Refusal::described(Rule::Login, StatusCode::UNAUTHORIZED, detail));
    }
    check_api_version(headers, &demands.api_version)?;
    check_request_identity(headers)?;
    let route = target.route;
    let query = Parameters::read(uri, route, demands.parameter.as_ref())?;

    let id = |place: usize| target.ids.get(place).map(String::as_str).unwrap_or_default();
    let key = || -> Result<Key, Refusal> {
        // A client that cleans up after a lost answer acts for no user.
        let may_be_anonymous = matches!(route, Route::Unbind | Route::LastOperation);
        if !may_be_anonymous || headers.contains_key(ORIGINATING_IDENTITY) {
            originating_identity(headers)?;
        }
        Ok(Key { instance: id(0).to_owned(), id: binding_id(id(1))? })
    };
    match route {
        Route::Catalog => Ok(Operation::Catalog),
        Route::FetchInstance => Ok(Operation::FetchInstance { instance: id(0).to_owned() }),
        Route::Bind => {
            let key = key()?;
            let accepts_incomplete = query.accepts_incomplete()?;
            Ok(Operation::Bind { key, wish: wish(headers, body.as_ref(), demands)?, accepts_incomplete })
        }
        Route::Fetch => Ok(Operation::Fetch { key: key()?, hints: query.into_hints() }),
        Route::Unbind => {
            let key = key()?;
            let accepts_incomplete = query.accepts_incomplete()?;
            let hints = query.into_hints();
            if hints.service_id.is_none() || hints.plan_id.is_none() {
                return Err(Refusal::bad_request(Rule::Query, "an unbind needs `service_id` and `plan_id`"));
            }
            Ok(Operation::Unbind { key, hints, accepts_incomplete })
        }
        Route::LastOperation => {
            let (key, token) = (key()?, query.operation.clone());
            Ok(Operation::Poll { key, hints: query.into_hints(), token })
        }
        Route::Unknown => {
            let detail = format!("there is nothing at `{}`", uri.path());
            Err(Refusal::described(Rule::KnownRoute, StatusCode::NOT_FOUND, detail))
        }
    }
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn check_api_version(headers: &HeaderMap, supported: &str) -> Result<(), Refusal> {
    match text(headers, API_VERSION) {
        Some(sent) if sent == supported => Ok(()),
        sent => {
            let detail = format!("`X-Broker-API-Version` must be {supported}, not {sent:?}");
            Err(Refusal::described(Rule::ApiVersion, StatusCode::PRECONDITION_FAILED, detail))
        }
    }
}

fn check_request_identity(headers: &HeaderMap) -> Result<(), Refusal> {
    let sent = text(headers, REQUEST_IDENTITY);
    if sent.is_some_and(|value| Uuid::try_parse(value).is_ok()) {
        return Ok(());
    }
    let detail = format!("`X-Broker-API-Request-Identity` must be a UUID, not {sent:?}");
    Err(Refusal::bad_request(Rule::RequestIdentity, detail))
}

/// Reads the header that names the platform's user (section Originating Identity, and the profile for Kubernetes).
pub(super) fn originating_identity(headers: &HeaderMap) -> Result<OriginatingIdentity, Refusal> {
    let breach = |detail: String| Refusal::bad_request(Rule::OriginatingIdentity, detail);
    let (platform, encoded) = text(headers, ORIGINATING_IDENTITY)
        .and_then(|value| value.split_once(' '))
        .ok_or_else(|| breach("`X-Broker-API-Originating-Identity` must be a platform and a value".into()))?;
    if platform != PLATFORM {
        return Err(breach(format!("the originating platform must be `{PLATFORM}`, not `{platform}`")));
    }
    let decoded = STANDARD
        .decode(encoded)
        .map_err(|error| breach(format!("the originating identity is not Base64: {error}")))?;
    let identity: OriginatingIdentity = serde_json::from_slice(&decoded)
        .map_err(|error| breach(format!("the originating identity is malformed: {error}")))?;
    if identity.username.is_empty() {
        return Err(breach("the originating identity names no user".into()));
    }
    Ok(identity)
}

fn binding_id(sent: &str) -> Result<Uuid, Refusal> {
    Uuid::try_parse(sent).ok().filter(|id| id.to_string() == sent).ok_or_else(|| {
        Refusal::bad_request(Rule::BindingId, format!("`{sent}` is no UUID in its usual form"))
    })
}

fn wish(headers: &HeaderMap, body: Option<&Bytes>, demands: &Demands) -> Result<Wish, Refusal> {
    reading::declares(headers, "application/json")
        .map_err(|detail| Refusal::bad_request(Rule::ContentType, detail))?;
    let body = body.ok_or_else(|| Refusal::bad_request(Rule::Body, "the body is too large or cut off"))?;
    let wish: Wish = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(Rule::Body, format!("the body is malformed: {error}")))?;
    if wish.app_guid.as_deref() == Some("") {
        return Err(Refusal::bad_request(Rule::Body, "`app_guid` must not be empty"));
    }
    let context = |name: &str| wish.context.get(name).and_then(Value::as_str).unwrap_or_default();
    if context("platform") != PLATFORM || context("namespace").is_empty() {
        let detail = format!("`context` must name the platform `{PLATFORM}` and a namespace");
        return Err(Refusal::bad_request(Rule::Context, detail));
    }
    if demands.bind_resource && !names_user(&wish) {
        // The specification allows brokers to require it, so a client without it breaks no rule.
        let description = "`app_guid` or `bind_resource.credential_client_id` is required";
        let body = json!({"error": "RequiresApp", "description": description});
        return Err(Answer::new(StatusCode::UNPROCESSABLE_ENTITY, body).into());
    }
    Ok(wish)
}

/// Whether a bind names an application or a client that uses the key.
fn names_user(wish: &Wish) -> bool {
    let named = |name: &str| {
        let value = wish.bind_resource.as_ref().and_then(|resource| resource.get(name)?.as_str());
        value.is_some_and(|value| !value.is_empty())
    };
    wish.app_guid.is_some() || named("app_guid") || named("credential_client_id")
}

/// The query parameters that the specification defines for bindings.
#[derive(Default)]
struct Parameters {
    accepts_incomplete: Option<String>,
    service_id: Option<String>,
    plan_id: Option<String>,
    operation: Option<String>,
}

impl Parameters {
    fn read(uri: &Uri, route: Route, demanded: Option<&(String, String)>) -> Result<Self, Refusal> {
        let Query(mut pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Refusal::bad_request(Rule::Query, error.to_string()))?;
        if let Some(demanded) = demanded {
            let Some(place) = pairs.iter().position(|pair| pair == demanded) else {
                let detail = format!("the query lacks `{}={}`", demanded.0, demanded.1);
                return Err(Refusal::bad_request(Rule::Query, detail));
            };
            pairs.remove(place);
        }
        let mut parameters = Self::default();
        for (name, value) in pairs {
            let field = match name.as_str() {
                "accepts_incomplete" => &mut parameters.accepts_incomplete,
                "service_id" => &mut parameters.service_id,
                "plan_id" => &mut parameters.plan_id,
                "operation" if route == Route::LastOperation => &mut parameters.operation,
                _ => return Err(Refusal::bad_request(Rule::Query, format!("unknown parameter `{name}`"))),
            };
            if value.is_empty() {
                return Err(Refusal::bad_request(Rule::Query, format!("`{name}` is empty")));
            }
            if field.replace(value).is_some() {
                return Err(Refusal::bad_request(Rule::Query, format!("`{name}` is there twice")));
            }
        }
        Ok(parameters)
    }

    fn accepts_incomplete(&self) -> Result<bool, Refusal> {
        match self.accepts_incomplete.as_deref() {
            Some("true") => Ok(true),
            None | Some("false") => Ok(false),
            Some(sent) => {
                let detail = format!("`accepts_incomplete` must be true or false, not `{sent}`");
                Err(Refusal::bad_request(Rule::Query, detail))
            }
        }
    }

    fn into_hints(self) -> Hints {
        Hints { service_id: self.service_id, plan_id: self.plan_id }
    }
}
