//! The paths of the API. An id always stays within its own segment.

use uuid::Uuid;

use crate::backend::{BackendError, ErrorClass, http::segment};

pub(super) const CATALOG: &str = "/v2/catalog";

/// # Errors
/// [`ErrorClass::Rejected`] if the instance's id can't be part of a path.
pub(super) fn check(instance_id: &str) -> Result<(), BackendError> {
    // Proxies and servers that normalize paths drop empty and dotted segments, encoded or not.
    if matches!(instance_id, "" | "." | "..") {
        let message = format!(
            "`{instance_id}` can't be the id of an instance; create the ServiceKey again with the right `instance.id`"
        );
        return Err(BackendError::new(ErrorClass::Rejected, message));
    }
    Ok(())
}

/// The path of an instance. The caller has [checked](check) its id.
pub(super) fn instance(instance_id: &str) -> String {
    format!("/v2/service_instances/{}", segment(instance_id))
}

/// The path of a binding. The caller has [checked](check) the id of the instance.
pub(super) fn binding(instance_id: &str, binding_id: Uuid) -> String {
    format!("{}/service_bindings/{binding_id}", instance(instance_id))
}

/// The path of the pending operation on a binding.
pub(super) fn last_operation(binding: &str) -> String {
    format!("{binding}/last_operation")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use url::Url;

    use super::*;
    use crate::backend::http::below;

    #[rstest]
    #[case("https://broker", "https://broker/v2/catalog")]
    #[case("https://broker/", "https://broker/v2/catalog")]
    #[case("https://broker:8443/a%2Fb/c/", "https://broker:8443/a%2Fb/c/v2/catalog")]
    fn appends_to_the_base(#[case] base: Url, #[case] expected: &str) {
        assert_eq!(below(&base, CATALOG).as_str(), expected);
    }

    #[rstest]
    #[case("training-app-db", "training-app-db")]
    #[case("a/../../b", "a%2F..%2F..%2Fb")]
    #[case("%2e%2e", "%252e%252e")]
    #[case("..\t", "..%09")]
    #[case("a?b#c", "a%3Fb%23c")]
    #[case("a\\b", "a%5Cb")]
    #[case("ü ;", "%C3%BC%20%3B")]
    #[case("...", "...")]
    fn keeps_ids_in_their_segment(#[case] id: &str, #[case] encoded: &str) {
        let base: Url = "https://broker/prefix".parse().unwrap();
        check(id).unwrap();
        let url = below(&base, &binding(id, Uuid::nil()));
        let expected = format!(
            "https://broker/prefix/v2/service_instances/{encoded}/service_bindings/00000000-0000-0000-0000-000000000000"
        );
        assert_eq!(url.as_str(), expected);
    }

    #[rstest]
    #[case("")]
    #[case(".")]
    #[case("..")]
    fn refuses_segments_that_vanish(#[case] id: &str) {
        assert_eq!(check(id).unwrap_err().class, ErrorClass::Rejected);
    }
}
