//! The endpoints, by host, method and path.

use axum::http::Method;

use crate::remote;

/// An endpoint of the Cloud Controller or of the UAA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `GET /`: the links to all APIs.
    Root,
    /// `GET /v3`.
    ApiRoot,
    /// `GET /v3/organizations`.
    Organizations,
    /// `GET /v3/spaces`.
    Spaces,
    /// `GET /v3/service_instances`.
    Instances,
    /// `GET /v3/service_instances/:guid`.
    Instance,
    /// `GET /v3/service_credential_bindings`.
    Keys,
    /// `GET /v3/service_credential_bindings/:guid`.
    Key,
    /// `GET /v3/service_credential_bindings/:guid/details`.
    Details,
    /// `GET /v3/service_credential_bindings/:guid/parameters`.
    Parameters,
    /// `POST /v3/service_credential_bindings`.
    Create,
    /// `PATCH /v3/service_credential_bindings/:guid`.
    Update,
    /// `DELETE /v3/service_credential_bindings/:guid`.
    Delete,
    /// `GET /v3/jobs/:guid`.
    Job,
    /// `POST /oauth/token`, at the UAA.
    Token,
    /// Everything else; a client of service keys does not need it.
    Unknown,
}

/// The two hosts of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Api,
    Uaa,
}

/// A route with the GUID of its path.
pub(super) type Target = remote::Target<Route>;

/// Reads the raw path.
pub(super) fn target(door: Door, method: &Method, path: &str) -> Target {
    Target::read(path, |segments| {
        let (route, guid) = match door {
            Door::Api => at_the_api(method.as_str(), segments),
            Door::Uaa => match (method.as_str(), segments) {
                ("POST", ["", "oauth", "token"]) => (Route::Token, None),
                _ => (Route::Unknown, None),
            },
        };
        match guid {
            Some("") => (Route::Unknown, Vec::new()),
            guid => (route, Vec::from_iter(guid)),
        }
    })
}

fn at_the_api<'a>(method: &str, segments: &[&'a str]) -> (Route, Option<&'a str>) {
    match (method, segments) {
        ("GET", ["", ""]) => (Route::Root, None),
        ("GET", ["", "v3"]) => (Route::ApiRoot, None),
        ("GET", ["", "v3", "organizations"]) => (Route::Organizations, None),
        ("GET", ["", "v3", "spaces"]) => (Route::Spaces, None),
        ("GET", ["", "v3", "service_instances"]) => (Route::Instances, None),
        ("GET", ["", "v3", "service_instances", guid]) => (Route::Instance, Some(guid)),
        ("GET", ["", "v3", "jobs", guid]) => (Route::Job, Some(guid)),
        ("GET", ["", "v3", "service_credential_bindings"]) => (Route::Keys, None),
        ("POST", ["", "v3", "service_credential_bindings"]) => (Route::Create, None),
        (method, ["", "v3", "service_credential_bindings", guid]) => {
            let route = match method {
                "GET" => Route::Key,
                "PATCH" => Route::Update,
                "DELETE" => Route::Delete,
                _ => Route::Unknown,
            };
            (route, Some(guid))
        }
        ("GET", ["", "v3", "service_credential_bindings", guid, "details"]) => (Route::Details, Some(guid)),
        ("GET", ["", "v3", "service_credential_bindings", guid, "parameters"]) => {
            (Route::Parameters, Some(guid))
        }
        _ => (Route::Unknown, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(door: Door, method: Method, path: &str) -> Route {
        target(door, &method, path).route
    }

    #[test]
    fn each_door_leads_to_its_own_endpoints() {
        assert_eq!(route(Door::Api, Method::GET, "/"), Route::Root);
        assert_eq!(route(Door::Uaa, Method::GET, "/"), Route::Unknown);
        assert_eq!(route(Door::Uaa, Method::POST, "/oauth/token"), Route::Token);
        assert_eq!(route(Door::Api, Method::POST, "/oauth/token"), Route::Unknown);
    }

    #[test]
    fn a_guid_is_one_segment_that_is_decoded_once() {
        let found = target(Door::Api, &Method::GET, "/v3/jobs/a%2Fb%2525");
        assert_eq!(found, Target { route: Route::Job, ids: vec!["a/b%25".into()] });
        assert_eq!(route(Door::Api, Method::GET, "/v3/jobs/a/b"), Route::Unknown);
        assert_eq!(route(Door::Api, Method::GET, "/v3/jobs/"), Route::Unknown);
        assert_eq!(route(Door::Api, Method::GET, "/v3/jobs/%ff"), Route::Unknown);
    }
}
