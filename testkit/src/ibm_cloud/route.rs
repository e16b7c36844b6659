//! The endpoints, by host, method and path.

use axum::http::Method;

use crate::remote;

/// An endpoint of IAM or of the Resource Controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `POST /identity/token`, at IAM.
    Token,
    /// `GET /v1/serviceids`, at IAM.
    ServiceIds,
    /// `GET /v1/serviceids/{id}`, at IAM.
    ServiceId,
    /// `POST /v1/serviceids`, at IAM.
    CreateServiceId,
    /// `DELETE /v1/serviceids/{id}`, at IAM.
    DeleteServiceId,
    /// `GET /v1/policies`, at IAM.
    Policies,
    /// `GET /v1/policies/{id}`, at IAM.
    Policy,
    /// `POST /v1/policies`, at IAM.
    CreatePolicy,
    /// `DELETE /v1/policies/{id}`, at IAM.
    DeletePolicy,
    /// `GET /v2/roles`, at IAM.
    Roles,
    /// `GET /v2/resource_instances`.
    Instances,
    /// `GET /v2/resource_instances/{id}`.
    Instance,
    /// `GET /v2/resource_instances/{id}/resource_keys`.
    KeysOfInstance,
    /// `GET /v2/resource_keys`.
    Keys,
    /// `GET /v2/resource_keys/{id}`.
    Key,
    /// `POST /v2/resource_keys`.
    CreateKey,
    /// `PATCH /v2/resource_keys/{id}`.
    RenameKey,
    /// `DELETE /v2/resource_keys/{id}`.
    DeleteKey,
    /// Everything else; a client of resource keys does not need it.
    Unknown,
}

/// The two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Iam,
    ResourceController,
}

/// A route with the id of its path: a GUID, or a CRN.
pub(super) type Target = remote::Target<Route>;

impl Route {
    /// The host that words the errors of a route.
    pub(super) const fn door(self) -> Door {
        match self {
            Self::Token
            | Self::ServiceIds
            | Self::ServiceId
            | Self::CreateServiceId
            | Self::DeleteServiceId
            | Self::Policies
            | Self::Policy
            | Self::CreatePolicy
            | Self::DeletePolicy
            | Self::Roles => Door::Iam,
            Self::Instances
            | Self::Instance
            | Self::KeysOfInstance
            | Self::Keys
            | Self::Key
            | Self::CreateKey
            | Self::RenameKey
            | Self::DeleteKey
            | Self::Unknown => Door::ResourceController,
        }
    }
}

/// Reads the raw path. The `/` of a CRN in it must be encoded.
pub(super) fn target(door: Door, method: &Method, path: &str) -> Target {
    Target::read(path, |segments| {
        let (route, id) = match door {
            Door::Iam => at_iam(method.as_str(), segments),
            Door::ResourceController => at_the_resource_controller(method.as_str(), segments),
        };
        match id {
            Some("") => (Route::Unknown, Vec::new()),
            id => (route, Vec::from_iter(id)),
        }
    })
}

fn at_iam<'a>(method: &str, segments: &[&'a str]) -> (Route, Option<&'a str>) {
    match (method, segments) {
        ("POST", ["", "identity", "token"]) => (Route::Token, None),
        // IBM's own clients add a slash at the end of this path.
        ("GET", ["", "v1", "serviceids"] | ["", "v1", "serviceids", ""]) => (Route::ServiceIds, None),
        ("POST", ["", "v1", "serviceids"] | ["", "v1", "serviceids", ""]) => (Route::CreateServiceId, None),
        ("GET", ["", "v1", "serviceids", id]) => (Route::ServiceId, Some(id)),
        ("DELETE", ["", "v1", "serviceids", id]) => (Route::DeleteServiceId, Some(id)),
        ("GET", ["", "v1", "policies"]) => (Route::Policies, None),
        ("POST", ["", "v1", "policies"]) => (Route::CreatePolicy, None),
        ("GET", ["", "v1", "policies", id]) => (Route::Policy, Some(id)),
        ("DELETE", ["", "v1", "policies", id]) => (Route::DeletePolicy, Some(id)),
        ("GET", ["", "v2", "roles"]) => (Route::Roles, None),
        _ => (Route::Unknown, None),
    }
}

fn at_the_resource_controller<'a>(method: &str, segments: &[&'a str]) -> (Route, Option<&'a str>) {
    match (method, segments) {
        ("GET", ["", "v2", "resource_instances"]) => (Route::Instances, None),
        ("GET", ["", "v2", "resource_instances", id]) => (Route::Instance, Some(id)),
        ("GET", ["", "v2", "resource_instances", id, "resource_keys"]) => (Route::KeysOfInstance, Some(id)),
        ("GET", ["", "v2", "resource_keys"]) => (Route::Keys, None),
        ("POST", ["", "v2", "resource_keys"]) => (Route::CreateKey, None),
        (method, ["", "v2", "resource_keys", id]) => {
            let route = match method {
                "GET" => Route::Key,
                "PATCH" => Route::RenameKey,
                "DELETE" => Route::DeleteKey,
                _ => Route::Unknown,
            };
            (route, Some(id))
        }
        _ => (Route::Unknown, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_door_leads_to_its_own_endpoints() {
        let route = |door, path| target(door, &Method::GET, path).route;
        assert_eq!(route(Door::ResourceController, "/v2/resource_keys"), Route::Keys);
        assert_eq!(route(Door::Iam, "/v2/resource_keys"), Route::Unknown);
        assert_eq!(route(Door::Iam, "/v2/roles"), Route::Roles);
        assert_eq!(route(Door::ResourceController, "/v2/roles"), Route::Unknown);
        assert_eq!(route(Door::Iam, "/v1/serviceids/"), Route::ServiceIds);
        assert_eq!(route(Door::Iam, "/v1/policies/"), Route::Unknown);
    }

    #[test]
    fn a_crn_is_one_segment_that_is_encoded() {
        let key = |path| target(Door::ResourceController, &Method::GET, path);
        let crn = "crn:v1:bluemix:public:logs:eu-de:a/1:2:resource-key:3";
        let path = "/v2/resource_keys/crn%3Av1:bluemix:public:logs:eu-de:a%2F1:2:resource-key:3";
        assert_eq!(key(path), Target { route: Route::Key, ids: vec![crn.into()] });
        assert_eq!(key(&format!("/v2/resource_keys/{crn}")).route, Route::Unknown);
    }
}
