//! Finds the Cloud Controller and the UAA through the links in the API's root document (`GET /`).
//!
//! The operator sends the login to these addresses, so it follows only links within the API's own domain. A Korifi
//! links to its address outside of the cluster. The operator calls it at the address of the provider instead.

use reqwest::Url;
use serde::Deserialize;
use url::Host;

use crate::backend::{
    BackendError, ErrorClass, bounded,
    http::{below, without_query},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Links {
    /// The base of the API v3, without a slash at the end of its path.
    pub(super) api: Url,
    /// The UAA's token endpoint, if the login needs one.
    pub(super) token: Option<Url>,
    /// The base of the API v3 in the links that the API returns. It may name another host.
    pub(super) named: Url,
    /// Whether the API is a Korifi's, which does not accept labels and annotations when it creates a key.
    pub(super) is_korifi: bool,
}

/// The source of the tokens for a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokensFrom {
    /// None is needed: the login contains a token.
    Nowhere,
    /// The UAA that the API's root names.
    Root,
    /// The UAA at this address.
    Uaa(Url),
}

#[derive(Deserialize)]
struct Root {
    links: RootLinks,
    #[serde(default)]
    cf_on_k8s: bool,
}

#[derive(Deserialize)]
struct RootLinks {
    cloud_controller_v3: Option<RootLink>,
    uaa: Option<RootLink>,
    login: Option<RootLink>,
}

#[derive(Deserialize)]
struct RootLink {
    #[serde(deserialize_with = "bounded::word")]
    href: String,
    #[serde(default)]
    meta: LinkMeta,
}

#[derive(Default, Deserialize)]
struct LinkMeta {
    #[serde(default, deserialize_with = "bounded::word")]
    version: String,
}

/// Part of the version of every Korifi API. A Korifi with a UAA does not set `cf_on_k8s`.
const VERSION_OF_KORIFI: &str = "cf-k8s";

impl Links {
    /// Reads the links at the root of the API.
    ///
    /// # Errors
    /// The links can't be used. The message says why, and how to correct that.
    pub(super) fn read(root: &Url, tokens: &TokensFrom, body: &[u8]) -> Result<Self, BackendError> {
        let no_root = || {
            let message = format!(
                "`{}` does not name the address of the API v3; check that `apiUrl` is the API's base address, without \
                 `/v3`",
                without_query(root)
            );
            BackendError::new(ErrorClass::Unexpected, message)
        };
        let Root { links: RootLinks { cloud_controller_v3, uaa, login }, cf_on_k8s } =
            serde_json::from_slice(body).map_err(|_| no_root())?;
        let v3 = cloud_controller_v3.ok_or_else(no_root)?;
        let is_korifi = cf_on_k8s || v3.meta.version.contains(VERSION_OF_KORIFI);
        let named = link("cloud_controller_v3", &v3)?;
        let api = if has_same_origin(root, &named) {
            named.clone()
        } else if is_korifi {
            with_origin_of(root, &named)
        } else {
            return Err(elsewhere(root, "cloud_controller_v3", &named, "check `apiUrl`"));
        };
        let token = match tokens {
            TokensFrom::Nowhere => None,
            TokensFrom::Uaa(uaa) => Some(below(uaa, "/oauth/token")),
            TokensFrom::Root if is_korifi && uaa.is_none() => {
                let message = format!(
                    "`{}` is a Korifi without a UAA; log in with `bearer` and a token of its Kubernetes cluster",
                    without_query(root)
                );
                return Err(BackendError::new(ErrorClass::Rejected, message));
            }
            TokensFrom::Root => Some(Self::token_of(root, uaa, login)?),
        };
        Ok(Self { api, token, named, is_korifi })
    }

    /// The token endpoint of the UAA that the root names.
    fn token_of(root: &Url, uaa: Option<RootLink>, login: Option<RootLink>) -> Result<Url, BackendError> {
        let (name, found) = match (uaa, login) {
            (Some(uaa), _) => ("uaa", uaa),
            (None, Some(login)) => ("login", login),
            (None, None) => {
                let message = format!(
                    "`{}` does not name a login server (link `uaa` or `login`); check `apiUrl`",
                    without_query(root)
                );
                return Err(BackendError::new(ErrorClass::Unexpected, message));
            }
        };
        let uaa = link(name, &found)?;
        if !is_near(root, &uaa) {
            let what_to_do = "check `apiUrl`, or name the UAA in `uaaUrl`";
            return Err(elsewhere(root, name, &uaa, what_to_do));
        }
        Ok(below(&uaa, "/oauth/token"))
    }

    /// The URL at which to call a link of the API, whose links may name another host. `None` for a link that does not
    /// belong to the API.
    pub(super) fn resolve_link(&self, href: &str) -> Option<Url> {
        let link: Url = href.parse().ok()?;
        if has_same_origin(&self.api, &link) {
            Some(link)
        } else if has_same_origin(&self.named, &link) {
            Some(with_origin_of(&self.api, &link))
        } else {
            None
        }
    }
}

/// The path and the query of a link, at the host of another URL.
fn with_origin_of(host: &Url, link: &Url) -> Url {
    let mut url = host.clone();
    url.set_path(link.path());
    url.set_query(link.query());
    url
}

/// Whether both have the same scheme, host and port.
fn has_same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Whether the operator may send a login there: to the API's own host, or to a host in the API's domain.
fn is_near(root: &Url, link: &Url) -> bool {
    if root.scheme() != link.scheme() {
        return false;
    }
    let same_port = root.port_or_known_default() == link.port_or_known_default();
    match (root.host(), link.host()) {
        (Some(one), Some(other)) if one == other => same_port || is_loopback(&one),
        (Some(Host::Domain(one)), Some(Host::Domain(other))) => {
            let domain = one.split_once('.').map(|(_, domain)| domain);
            // Hosts below `com`, `co.uk` or `github.io` belong to other owners.
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

fn link(name: &str, RootLink { href, meta: _ }: &RootLink) -> Result<Url, BackendError> {
    href.parse().map_err(|_| {
        let message = format!("the API's link `{name}` is not a URL; ask the operator of the Cloud Foundry");
        BackendError::new(ErrorClass::Unexpected, message)
    })
}

fn elsewhere(root: &Url, name: &str, link: &Url, what_to_do: &str) -> BackendError {
    let message = format!(
        "the API's link `{name}` leads to `{}`, which does not belong to `{}` and is not followed; {what_to_do}",
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
        Links::read(&root.parse().unwrap(), &TokensFrom::Root, body.to_string().as_bytes())
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
        assert_eq!(links.token.unwrap().as_str(), format!("{uaa}/oauth/token"));
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
    #[case(json!({"links": {"uaa": {"href": "https://uaa.example.com"}}}), "does not name the address of the API v3")]
    #[case(json!({"links": {"cloud_controller_v3": {"href": "https://api.cf.example.com/v3"}}}), "a login server")]
    #[case(json!({"links": {"cloud_controller_v3": {"href": "v3"}}}), "is not a URL")]
    #[case(json!([]), "does not name the address of the API v3")]
    fn says_what_is_missing(#[case] body: serde_json::Value, #[case] words: &str) {
        let root = "https://api.cf.example.com".parse().unwrap();
        let error = Links::read(&root, &TokensFrom::Root, body.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.class, ErrorClass::Unexpected);
        assert!(error.message.contains(words), "{error}");
    }

    const INSIDE: &str = "https://korifi-api-svc.korifi.svc.cluster.local";
    const OUTSIDE: &str = "https://api.cf.example.com";

    /// The root document of a Korifi, as in its `api/presenter/root.go`.
    fn korifi(cf_on_k8s: bool, uaa: Option<&str>) -> String {
        let version = json!({"version": "3.117.0+cf-k8s"});
        let login = uaa.unwrap_or(OUTSIDE);
        let links = json!({
            "cloud_controller_v3": {"href": format!("{OUTSIDE}/v3"), "meta": version},
            "login": {"href": login, "meta": {"version": ""}},
            "uaa": uaa.map(|uaa| json!({"href": uaa, "meta": {"version": ""}})),
        });
        json!({"links": links, "cf_on_k8s": cf_on_k8s}).to_string()
    }

    #[test]
    fn a_korifi_is_called_where_the_provider_says() {
        let root = INSIDE.parse().unwrap();
        let links = Links::read(&root, &TokensFrom::Nowhere, korifi(true, None).as_bytes()).unwrap();
        assert!(links.is_korifi);
        assert_eq!((links.api.as_str(), links.token.as_ref()), (&*format!("{INSIDE}/v3"), None));
        let next = |href: &str| links.resolve_link(href).map(String::from);
        assert_eq!(next(&format!("{OUTSIDE}/v3/spaces?page=2")), Some(format!("{INSIDE}/v3/spaces?page=2")));
        assert_eq!(next(&format!("{INSIDE}/v3/spaces?page=2")), Some(format!("{INSIDE}/v3/spaces?page=2")));
        assert_eq!(next("https://evil.example.com/v3/spaces?page=2"), None);
    }

    #[test]
    fn a_korifi_without_a_uaa_has_no_passwords() {
        let root = OUTSIDE.parse().unwrap();
        let error = Links::read(&root, &TokensFrom::Root, korifi(true, None).as_bytes()).unwrap_err();
        assert!(error.message.contains("log in with `bearer`"), "{error}");
    }

    /// A Korifi with a UAA does not say that it runs on Kubernetes.
    #[test]
    fn a_uaa_elsewhere_is_asked_where_the_provider_names_it() {
        let (root, body) = (INSIDE.parse().unwrap(), korifi(false, Some("https://uaa.example.org")));
        let error = Links::read(&root, &TokensFrom::Root, body.as_bytes()).unwrap_err();
        assert_eq!(error.class, ErrorClass::Rejected);
        assert!(error.message.contains("or name the UAA in `uaaUrl`"), "{error}");
        let uaa = TokensFrom::Uaa("https://uaa.example.org".parse().unwrap());
        let links = Links::read(&root, &uaa, body.as_bytes()).unwrap();
        assert_eq!(links.token.unwrap().as_str(), "https://uaa.example.org/oauth/token");
        assert!(links.is_korifi);
    }

    #[test]
    fn a_login_that_brings_its_token_needs_no_uaa() {
        let root = OUTSIDE.parse().unwrap();
        let body = json!({"links": {"cloud_controller_v3": {"href": format!("{OUTSIDE}/v3")}, "uaa": null}});
        let links = Links::read(&root, &TokensFrom::Nowhere, body.to_string().as_bytes()).unwrap();
        assert!(!links.is_korifi && links.token.is_none());
    }
}
