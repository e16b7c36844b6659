//! Parts of URLs: addresses below a base, path segments, and the parts that a message may show.

use std::net::{IpAddr, SocketAddr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

/// All but the unreserved characters of RFC 3986.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Appends a path to a base URL.
pub(in crate::backend) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// Encodes a value as one segment of a path.
pub(in crate::backend) fn segment(value: &str) -> String {
    utf8_percent_encode(value, UNRESERVED).to_string()
}

/// The URL without user, password, query and fragment, which a message must not show.
pub(in crate::backend) fn without_query(url: &Url) -> String {
    format!("{}{}", origin(url), url.path().trim_end_matches('/'))
}

/// Scheme, host and port of a URL.
pub(super) fn origin(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

/// The literal address in the URL, or `None` if its host is a name.
pub(super) fn literal(url: &Url) -> Option<SocketAddr> {
    let ip = match url.host()? {
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
        Host::Domain(_) => return None,
    };
    Some(SocketAddr::new(ip, url.port_or_known_default().unwrap_or_default()))
}
