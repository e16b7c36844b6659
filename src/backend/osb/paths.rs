//! The paths of the API, built so that no id can lead out of its own segment.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;
use uuid::Uuid;

use crate::backend::{BackendError, ErrorClass};

/// All but the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) fn catalog(base: &Url) -> Url {
    below(base, "/v2/catalog")
}

/// # Errors
/// [`ErrorClass::Rejected`], where the instance's id can't be part of a path.
pub(super) fn check(instance_id: &str) -> Result<(), BackendError> {
    // Empty and dotted segments are dropped by whoever normalizes the path, encoded or not.
    if matches!(instance_id, "" | "." | "..") {
        let message = format!(
            "`{instance_id}` can't be the id of an instance; create the ServiceKey again with the right `instance.id`"
        );
        return Err(BackendError::new(ErrorClass::Rejected, message));
    }
    Ok(())
}

/// The instance, whose id was [checked](check).
pub(super) fn instance(base: &Url, instance_id: &str) -> Url {
    let instance_id = utf8_percent_encode(instance_id, SEGMENT);
    below(base, &format!("/v2/service_instances/{instance_id}"))
}

/// The binding of an instance whose id was [checked](check).
pub(super) fn binding(base: &Url, instance_id: &str, binding_id: Uuid) -> Url {
    below(&instance(base, instance_id), &format!("/service_bindings/{binding_id}"))
}

/// Where to ask for the operation under way on a binding.
pub(super) fn last_operation(binding: &Url) -> Url {
    below(binding, "/last_operation")
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://broker", "https://broker/v2/catalog")]
    #[case("https://broker/", "https://broker/v2/catalog")]
    #[case("https://broker:8443/a%2Fb/c/", "https://broker:8443/a%2Fb/c/v2/catalog")]
    fn appends_to_the_base(#[case] base: Url, #[case] expected: &str) {
        assert_eq!(catalog(&base).as_str(), expected);
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
        let base = "https://broker/prefix".parse().unwrap();
        check(id).unwrap();
        let url = binding(&base, id, Uuid::nil());
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
