//! Where the Cloud Controller and the UAA are, as the API's root says (`GET /`).
//!
//! The login is shown where this says, so it is believed only as far as the API's own domain goes.

use reqwest::Url;
use serde::Deserialize;
use url::Host;

use crate::backend::{
    BackendError, ErrorClass, bounded,
    http::{below, without_query},
};

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Links {
    /// The base of the API v3, without a slash at the end of its path.
    pub(super) api: Url,
    /// The UAA's token endpoint.
    pub(super) token: Url,
}

#[derive(Deserialize)]
struct Root {
    links: RootLinks,
}

#[derive(Deserialize)]
struct RootLinks {
    cloud_controller_v3: Option<Link>,
    uaa: Option<Link>,
    login: Option<Link>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(deserialize_with = "bounded::word")]
    href: String,
}

impl Links {
    /// Reads the links at the root of the API.
    ///
    /// # Errors
    /// What is wrong with them, and what to do.
    pub(super) fn read(root: &Url, body: &[u8]) -> Result<Self, BackendError> {
        let no_root = || {
            let message = format!(
                "`{}` does not tell where the API v3 is; check that `apiUrl` is the API's base address, without `/v3`",
                without_query(root)
            );
            BackendError::new(ErrorClass::Unexpected, message)
        };
        let Root { links: RootLinks { cloud_controller_v3, uaa, login } } =
            serde_json::from_slice(body).map_err(|_| no_root())?;
        let api = link("cloud_controller_v3", &cloud_controller_v3.ok_or_else(no_root)?)?;
        if !is_same_place(root, &api) {
            return Err(elsewhere(root, "cloud_controller_v3", &api));
        }
        let (name, found) = match (uaa, login) {
            (Some(uaa), _) => ("uaa", uaa),
            (None, Some(login)) => ("login", login),
            (None, None) => {
                let message = format!(
                    "`{}` does not tell where to log in (link `uaa` or `login`); check `apiUrl`",
                    without_query(root)
                );
                return Err(BackendError::new(ErrorClass::Unexpected, message));
            }
        };
        let uaa = link(name, &found)?;
        if !is_near(root, &uaa) {
            return Err(elsewhere(root, name, &uaa));
        }
        Ok(Self { api, token: below(&uaa, "/oauth/token") })
    }
}

/// Whether both are the same scheme, host and port.
pub(super) fn is_same_place(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Whether a login may be shown there: at the API's own host, or at one below the domain that the API's is in.
fn is_near(root: &Url, link: &Url) -> bool {
    if root.scheme() != link.scheme() {
        return false;
    }
    let same_port = root.port_or_known_default() == link.port_or_known_default();
    match (root.host(), link.host()) {
        (Some(one), Some(other)) if one == other => same_port || is_loopback(&one),
        (Some(Host::Domain(one)), Some(Host::Domain(other))) => {
            let domain = one.split_once('.').map(|(_, domain)| domain);
            // Hosts below `com`, `co.uk` or `github.io` belong to strangers.
            let domain = domain.filter(|domain| psl::domain_str(domain).is_some());
            same_port
                && domain
                    .and_then(|domain| other.strip_suffix(domain))
                    .is_some_and(|before| before.ends_with('.'))
        }
        _ => false,
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => *name == "localhost",
    }
}

fn link(name: &str, Link { href }: &Link) -> Result<Url, BackendError> {
    href.parse().map_err(|_| {
        let message = format!("the API's link `{name}` is no URL; ask the operator of the Cloud Foundry");
        BackendError::new(ErrorClass::Unexpected, message)
    })
}

fn elsewhere(root: &Url, name: &str, link: &Url) -> BackendError {
    let message = format!(
        "the API's link `{name}` leads to `{}`, which does not belong to `{}` and is not followed; check `apiUrl`",
        without_query(link),
        without_query(root)
    );
    BackendError::new(ErrorClass::Rejected, message)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn read(root: &str, api: &str, uaa: &str) -> Result<Links, BackendError> {
        let body =
            json!({"links": {"cloud_controller_v3": {"href": api}, "uaa": {"href": uaa}, "login": null}});
        Links::read(&root.parse().unwrap(), body.to_string().as_bytes())
    }

    #[rstest]
    #[case("https://api.cf.example.com", "https://api.cf.example.com/v3", "https://uaa.cf.example.com")]
    #[case("https://api.cf.example.com", "https://api.cf.example.com/v3", "https://login.eu.cf.example.com")]
    #[case(
        "https://api.cf.example.com",
        "https://api.cf.example.com:443/v3",
        "https://api.cf.example.com/uaa"
    )]
    #[case("https://api.example.co.uk", "https://api.example.co.uk/v3", "https://uaa.example.co.uk")]
    #[case("https://api.cf.internal", "https://api.cf.internal/v3", "https://uaa.cf.internal")]
    #[case("http://127.0.0.1:8080", "http://127.0.0.1:8080/v3", "http://127.0.0.1:8081")]
    fn follows_links_that_stay_near(#[case] root: &str, #[case] api: &str, #[case] uaa: &str) {
        let links = read(root, api, uaa).unwrap();
        assert_eq!(links.token.as_str(), format!("{uaa}/oauth/token"));
    }

    #[rstest]
    #[case("https://api.cf.example.com", "https://api.cf.example.com/v3", "https://uaa.evil.example.com")]
    #[case("https://api.cf.example.com", "https://api.cf.example.com/v3", "https://evilcf.example.com")]
    #[case("https://api.cf.example.com", "https://api.cf.example.com/v3", "http://uaa.cf.example.com")]
    #[case("https://api.cf.example.com", "https://api.cf.example.com/v3", "https://uaa.cf.example.com:8443")]
    #[case("https://api.cf.example.com", "https://uaa.cf.example.com/v3", "https://uaa.cf.example.com")]
    #[case("https://api.com", "https://api.com/v3", "https://uaa.com")]
    #[case("https://api.co.uk", "https://api.co.uk/v3", "https://uaa.co.uk")]
    #[case(
        "https://cf.azurewebsites.net",
        "https://cf.azurewebsites.net/v3",
        "https://uaa.azurewebsites.net"
    )]
    #[case("https://api.internal", "https://api.internal/v3", "https://uaa.internal")]
    #[case("https://10.0.0.1", "https://10.0.0.1/v3", "https://10.0.0.2")]
    #[case("https://10.0.0.1", "https://10.0.0.1/v3", "https://10.0.0.1:8443")]
    #[case("https://api.cf.example.com", "https://api.cf.example.com/v3", "https://169.254.169.254")]
    fn follows_no_link_to_elsewhere(#[case] root: &str, #[case] api: &str, #[case] uaa: &str) {
        let error = read(root, api, uaa).unwrap_err();
        assert_eq!(error.class, ErrorClass::Rejected);
        assert!(error.message.contains("is not followed; check `apiUrl`"), "{error}");
    }

    #[rstest]
    #[case(json!({"links": {"uaa": {"href": "https://uaa.example.com"}}}), "does not tell where the API v3 is")]
    #[case(json!({"links": {"cloud_controller_v3": {"href": "https://api.cf.example.com/v3"}}}), "where to log in")]
    #[case(json!({"links": {"cloud_controller_v3": {"href": "v3"}}}), "is no URL")]
    #[case(json!([]), "does not tell where the API v3 is")]
    fn says_what_is_missing(#[case] body: serde_json::Value, #[case] words: &str) {
        let root = "https://api.cf.example.com".parse().unwrap();
        let error = Links::read(&root, body.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.class, ErrorClass::Unexpected);
        assert!(error.message.contains(words), "{error}");
    }
}
