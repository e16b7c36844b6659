//! IBM Cloud's own hosts. The operator sends its own identity only to them, unless the administrator names others.

use url::Url;

use crate::backend::{AddressPolicy, BackendError, ErrorClass};

const IAM: &str = "iam.cloud.ibm.com";
const RESOURCE_CONTROLLER: &str = "resource-controller.cloud.ibm.com";
/// Precedes the name of each host in IBM Cloud's private network.
const PRIVATE: &str = "private.";

/// Checks whether a trusted profile may be used at these addresses. They get the token of the operator's own service
/// account, and a token of the profile.
///
/// # Errors
/// [`ErrorClass::Rejected`] with the address that may not be used, and how to permit it.
pub(super) fn check(
    iam_url: &Url,
    resource_controller_url: &Url,
    policy: &AddressPolicy,
) -> Result<(), BackendError> {
    let fields =
        [("iamUrl", iam_url, IAM), ("resourceControllerUrl", resource_controller_url, RESOURCE_CONTROLLER)];
    for (field, url, host) in fields {
        if !is_endpoint_of(host, url) && !policy.names_ibm_cloud_host(url) {
            let found = url.host_str().unwrap_or_default();
            return Err(BackendError::new(
                ErrorClass::Rejected,
                format!(
                    "`{field}`: `{found}` is not a host of IBM Cloud over https, so no trusted profile is used there; \
                     write `https://{host}` or one of its private or regional endpoints, or start the operator with \
                     `--ibm-cloud-host` (chart value `ibmCloud.trustedProfiles.hosts`)"
                ),
            ));
        }
    }
    Ok(())
}

/// Whether the URL is the host itself over https, or one of its endpoints: `private.<host>`, `<region>.<host>`,
/// `private.<region>.<host>`, `<region>.private.<host>`. IBM lists the private ones in the introduction to each API. In
/// some of them, the region comes first.
fn is_endpoint_of(host: &str, url: &Url) -> bool {
    let Some(before) = url.domain().and_then(|domain| domain.strip_suffix(host)) else { return false };
    let region = before.strip_prefix(PRIVATE).or_else(|| before.strip_suffix(PRIVATE)).unwrap_or(before);
    url.scheme() == "https" && url.port().is_none() && (region.is_empty() || is_region(region))
}

/// Whether the label is a region with a dot, such as `us-south.`, `jp-tok.` or `eu-fr2.`.
fn is_region(label: &str) -> bool {
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let parts = label.strip_suffix('.').and_then(|label| label.split_once('-'));
    parts.is_some_and(|(country, place)| {
        let place = place.strip_suffix(|digit: char| digit.is_ascii_digit()).unwrap_or(place);
        country.len() == 2 && letters(country) && letters(place)
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::backend::AddressRules;

    #[rstest]
    #[case("https://iam.cloud.ibm.com", true)]
    #[case("https://iam.cloud.ibm.com:443/", true)]
    #[case("https://private.iam.cloud.ibm.com", true)]
    #[case("https://us-south.iam.cloud.ibm.com", true)]
    #[case("https://private.jp-tok.iam.cloud.ibm.com", true)]
    #[case("https://private.eu-fr2.iam.cloud.ibm.com", true)]
    #[case("https://eu-de.private.iam.cloud.ibm.com", true)]
    #[case("https://private.eu-de.private.iam.cloud.ibm.com", false)]
    #[case("https://evil.private.iam.cloud.ibm.com", false)]
    #[case("https://eu-22.iam.cloud.ibm.com", false)]
    #[case("http://iam.cloud.ibm.com", false)]
    #[case("https://iam.cloud.ibm.com:8443", false)]
    #[case("https://iam.cloud.ibm.com.", false)]
    #[case("https://iam.cloud.ibm.com.example.com", false)]
    #[case("https://eviliam.cloud.ibm.com", false)]
    #[case("https://evil.iam.cloud.ibm.com", false)]
    #[case("https://private.private.iam.cloud.ibm.com", false)]
    #[case("https://resource-controller.cloud.ibm.com", false)]
    #[case("https://10.0.0.1", false)]
    #[case("https://iam.test.cloud.ibm.com", true)]
    fn knows_the_endpoints_of_iam(#[case] iam: Url, #[case] expected: bool) {
        let rules = AddressRules {
            ibm_cloud_hosts: vec!["iam.test.cloud.ibm.com".parse().unwrap()],
            ..AddressRules::default()
        };
        let controller = "https://private.us-east.resource-controller.cloud.ibm.com".parse().unwrap();
        let checked = check(&iam, &controller, &rules.into());
        assert_eq!(checked.is_ok(), expected, "{checked:?}");
        if let Err(error) = checked {
            assert_eq!(error.class, ErrorClass::Rejected);
            assert!(error.message.starts_with("`iamUrl`: "), "{error}");
        }
    }

    #[test]
    fn the_token_of_a_profile_stays_there_as_well() {
        let iam = "https://iam.cloud.ibm.com".parse().unwrap();
        let elsewhere = "https://resource-controller.example.com".parse().unwrap();
        let error = check(&iam, &elsewhere, &AddressPolicy::default()).unwrap_err();
        assert!(
            error.message.starts_with("`resourceControllerUrl`: `resource-controller.example.com`"),
            "{error}"
        );
    }
}
