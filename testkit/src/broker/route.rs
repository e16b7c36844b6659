//! The endpoints of the specification, by method and path.

use axum::http::Method;

use crate::remote;

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
    /// Everything else; a client of bindings does not need it.
    Unknown,
}

/// A route with the id of the instance and that of the binding.
pub(super) type Target = remote::Target<Route>;

/// Reads the raw path.
pub(super) fn target(method: &Method, path: &str) -> Target {
    Target::read(path, |segments| match (method.as_str(), segments) {
        ("GET", ["", "v2", "catalog"]) => (Route::Catalog, vec![]),
        ("GET", ["", "v2", "service_instances", instance]) => (Route::FetchInstance, vec![*instance]),
        (method, ["", "v2", "service_instances", instance, "service_bindings", binding]) => {
            let route = match method {
                "PUT" => Route::Bind,
                "GET" => Route::Fetch,
                "DELETE" => Route::Unbind,
                _ => return (Route::Unknown, vec![]),
            };
            (route, vec![*instance, *binding])
        }
        ("GET", ["", "v2", "service_instances", instance, "service_bindings", binding, "last_operation"]) => {
            (Route::LastOperation, vec![*instance, *binding])
        }
        _ => (Route::Unknown, vec![]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_decoded_exactly_once() {
        assert_eq!(
            target(&Method::PUT, "/v2/service_instances/a%2Fb%2525/service_bindings/k"),
            Target { route: Route::Bind, ids: vec!["a/b%25".to_owned(), "k".to_owned()] }
        );
    }

    #[test]
    fn an_id_with_a_bare_slash_leads_nowhere() {
        let target = target(&Method::PUT, "/v2/service_instances/a/b/service_bindings/k");
        assert_eq!(target.route, Route::Unknown);
    }

    #[test]
    fn bytes_that_are_no_text_lead_nowhere() {
        assert_eq!(target(&Method::GET, "/v2/service_instances/%ff").route, Route::Unknown);
    }
}
