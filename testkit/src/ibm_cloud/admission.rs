//! The strict checks that need no state except the tokens: caller, query, body.
//!
//! They run in a fixed order, and the first failed check determines the answer. A call that passes all of them becomes
//! an [`Operation`] with the [`Session`] of its caller.

use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::{
    answer::{Refusal, refused},
    iam::{GrantRequest, Iam, Session},
    operation::{KeyName, KeyWish, Operation, PolicyWish, ServiceIdWish},
    record::Rule,
    route::{Door, Route},
};
use crate::remote::{self, reading};

const MAX_NAME: usize = 180;

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
pub(super) fn admit(request: &Request, iam: &Iam) -> Result<Admitted, Refusal> {
    let route = request.target.route;
    let session = match route {
        Route::Unknown | Route::Token => None,
        _ => Some(iam.session(route, &request.headers)?),
    };
    Ok(Admitted { operation: operation(request)?, session })
}

fn operation(request: &Request) -> Result<Operation, Refusal> {
    let Request { target, uri, headers, body } = request;
    let (route, id) = (target.route, target.id().unwrap_or_default().to_owned());
    let query = reading::query(uri, parameters(route))
        .map_err(|detail| Refusal::bad_request(route, Rule::Query, detail))?;
    let body = body.as_deref();
    Ok(match route {
        Route::Unknown => {
            let detail = format!("there is nothing at `{}`", uri.path());
            let answer = refused(Door::ResourceController, StatusCode::NOT_FOUND, "NotFound", &detail);
            return Err(Refusal::breach(Rule::KnownRoute, answer, detail));
        }
        Route::Token => Operation::Token(GrantRequest::read(headers, body)?),
        Route::ServiceIds => Operation::ServiceIds(query),
        Route::ServiceId => Operation::ServiceId { id },
        Route::CreateServiceId => {
            let wish: ServiceIdWish = read_body(route, headers, body)?;
            check_name(route, &wish.name)?;
            Operation::CreateServiceId(wish)
        }
        Route::DeleteServiceId => Operation::DeleteServiceId { id },
        Route::Policies => Operation::Policies(query),
        Route::Policy => Operation::Policy { id },
        Route::CreatePolicy => {
            let wish: PolicyWish = read_body(route, headers, body)?;
            if wish.kind != "access" {
                let detail = format!("the fake makes policies of the type access only, not `{}`", wish.kind);
                return Err(Refusal::bad_request(route, Rule::Body, detail));
            }
            Operation::CreatePolicy(wish)
        }
        Route::DeletePolicy => Operation::DeletePolicy { id },
        Route::Roles => Operation::Roles(query),
        Route::Instances => Operation::Instances(query),
        Route::Instance => Operation::Instance { id },
        Route::KeysOfInstance => Operation::KeysOfInstance { id, query },
        Route::Keys => Operation::Keys(query),
        Route::Key => Operation::Key { id },
        Route::CreateKey => {
            let wish: KeyWish = read_body(route, headers, body)?;
            check_name(route, &wish.name)?;
            if wish.parameters.get("HMAC").is_some_and(|hmac| !hmac.is_boolean()) {
                return Err(Refusal::bad_request(route, Rule::Body, "`HMAC` is true or false"));
            }
            if wish.parameters.get("serviceid_crn").is_some_and(|crn| !crn.is_string()) {
                return Err(Refusal::bad_request(route, Rule::Body, "`serviceid_crn` is a CRN"));
            }
            Operation::CreateKey(wish)
        }
        Route::RenameKey => {
            let KeyName { name } = read_body(route, headers, body)?;
            check_name(route, &name)?;
            Operation::RenameKey { id, name }
        }
        Route::DeleteKey => Operation::DeleteKey { id },
    })
}

/// The query parameters of a route that the fake supports. IBM Cloud has more.
const fn parameters(route: Route) -> &'static [&'static str] {
    match route {
        Route::ServiceIds => &["account_id", "name", "pagesize", "pagetoken"],
        Route::Policies => &["account_id", "iam_id", "type", "state"],
        Route::Roles => &["account_id", "service_name", "policy_type"],
        Route::Instances => &[
            "guid",
            "name",
            "resource_group_id",
            "resource_id",
            "resource_plan_id",
            "type",
            "state",
            "limit",
            "start",
        ],
        Route::KeysOfInstance => &["limit", "start"],
        Route::Keys => &["guid", "name", "resource_group_id", "resource_id", "limit", "start"],
        _ => &[],
    }
}

/// Checks that a name has only the characters that the API's documentation lists.
fn check_name(route: Route, name: &str) -> Result<(), Refusal> {
    let refused = |detail: String| Err(Refusal::bad_request(route, Rule::Body, detail));
    if name.is_empty() || name.chars().count() > MAX_NAME {
        return refused(format!("a name has 1 to {MAX_NAME} characters"));
    }
    let is_known = |character: &char| {
        character.is_ascii_alphanumeric() || "-._: ".contains(*character) || !character.is_ascii()
    };
    match name.chars().find(|character| !is_known(character)) {
        None => Ok(()),
        Some(character) => refused(format!("a name must not hold `{character}`")),
    }
}

fn read_body<T: DeserializeOwned>(
    route: Route,
    headers: &HeaderMap,
    body: Option<&[u8]>,
) -> Result<T, Refusal> {
    reading::declares(headers, "application/json")
        .map_err(|detail| Refusal::bad_request(route, Rule::ContentType, detail))?;
    let sent = reading::json(body).map_err(|detail| Refusal::bad_request(route, Rule::Body, detail))?;
    serde_json::from_value(sent)
        .map_err(|error| Refusal::bad_request(route, Rule::Body, format!("the body is malformed: {error}")))
}
