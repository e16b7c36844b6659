//! Where a call goes: method and path, read as the specification names its endpoints.

use axum::http::Method;
use percent_encoding::percent_decode_str;

/// An endpoint of the Open Service Broker API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `GET /v2/catalog`.
    Catalog,
    /// `GET /v2/service_instances/:instance_id`.
    FetchInstance,
    /// `PUT …/service_bindings/:binding_id`.
    Bind,
    /// `GET …/service_bindings/:binding_id`.
    Fetch,
    /// `DELETE …/service_bindings/:binding_id`.
    Unbind,
    /// `GET …/service_bindings/:binding_id/last_operation`.
    LastOperation,
    /// Everything else, which a client of bindings has no business to call.
    Unknown,
}

/// A route with the ids of its path, percent-decoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub route: Route,
    pub instance: Option<String>,
    pub binding: Option<String>,
}

impl Target {
    /// Reads the raw path. The path is split before it is decoded, so that an encoded `/` stays part of an id.
    pub(super) fn read(method: &Method, path: &str) -> Self {
        let unknown = Self { route: Route::Unknown, instance: None, binding: None };
        let decoded: Result<Vec<_>, _> =
            path.split('/').map(|segment| percent_decode_str(segment).decode_utf8()).collect();
        let Ok(segments) = decoded else { return unknown };
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();

        let (route, instance, binding) = match (method.as_str(), segments.as_slice()) {
            ("GET", ["", "v2", "catalog"]) => (Route::Catalog, None, None),
            ("GET", ["", "v2", "service_instances", instance]) => {
                (Route::FetchInstance, Some(*instance), None)
            }
            (method, ["", "v2", "service_instances", instance, "service_bindings", binding]) => {
                let route = match method {
                    "PUT" => Route::Bind,
                    "GET" => Route::Fetch,
                    "DELETE" => Route::Unbind,
                    _ => return unknown,
                };
                (route, Some(*instance), Some(*binding))
            }
            (
                "GET",
                ["", "v2", "service_instances", instance, "service_bindings", binding, "last_operation"],
            ) => (Route::LastOperation, Some(*instance), Some(*binding)),
            _ => return unknown,
        };
        Self { route, instance: instance.map(Into::into), binding: binding.map(Into::into) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: Method, path: &str) -> (Route, Option<String>, Option<String>) {
        let Target { route, instance, binding } = Target::read(&method, path);
        (route, instance, binding)
    }

    #[test]
    fn ids_are_decoded_exactly_once() {
        assert_eq!(
            target(Method::PUT, "/v2/service_instances/a%2Fb%2525/service_bindings/k"),
            (Route::Bind, Some("a/b%25".to_owned()), Some("k".to_owned()))
        );
    }

    #[test]
    fn an_id_with_a_bare_slash_leads_nowhere() {
        let (route, ..) = target(Method::PUT, "/v2/service_instances/a/b/service_bindings/k");
        assert_eq!(route, Route::Unknown);
    }

    #[test]
    fn bytes_that_are_no_text_lead_nowhere() {
        let (route, ..) = target(Method::GET, "/v2/service_instances/%ff");
        assert_eq!(route, Route::Unknown);
    }
}
