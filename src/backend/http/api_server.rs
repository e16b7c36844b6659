//! The API server of the operator's own cluster. No provider may use it, even if other rules admit its address.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use url::Url;

use super::{path::literal, possible_addresses::faces};

/// Names and addresses of the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServer {
    names: BTreeSet<String>,
    addresses: BTreeSet<SocketAddr>,
}

impl ApiServer {
    /// An API server with these names and addresses.
    #[must_use]
    pub fn at(
        names: impl IntoIterator<Item = String>,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        let names = names.into_iter().map(|name| normal(&name)).collect();
        Self { names, addresses: addresses.into_iter().collect() }
    }

    /// The API server behind any of these URLs. If a name can't be resolved now, only the name is refused.
    pub async fn behind(urls: impl IntoIterator<Item = Url>) -> Self {
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        for url in urls {
            if let Some(address) = literal(&url) {
                addresses.push(address);
            } else if let Some(host) = url.host_str() {
                let port = url.port_or_known_default().unwrap_or_default();
                let found: Vec<_> = match tokio::net::lookup_host((host, port)).await {
                    Ok(found) => found.collect(),
                    Err(error) => {
                        tracing::warn!(host, %error, "the API server's name can't be resolved");
                        Vec::new()
                    }
                };
                // The names of loopback also belong to other servers.
                if !found.iter().any(|address| address.ip().is_loopback()) {
                    names.push(host.to_owned());
                }
                addresses.extend(found);
            }
        }
        Self::at(names, addresses)
    }

    /// Whether the host of the URL is one of the API server's names.
    pub(super) fn is_called(&self, url: &Url) -> bool {
        url.domain().is_some_and(|name| self.has_name(name))
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.contains(&normal(name))
    }

    /// Whether this is one of the API server's addresses. All ports of its host are refused, except on loopback, where
    /// other servers share the address.
    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        let is_there = |face: IpAddr| {
            let mut same_ip = self.addresses.iter().filter(|known| known.ip() == face);
            same_ip.any(|known| !face.is_loopback() || known.port() == address.port())
        };
        faces(address.ip()).any(is_there)
    }
}

fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10.96.0.1:443", true)]
    #[case("10.96.0.1:10250", true)]
    #[case("[::ffff:10.96.0.1]:443", true)]
    #[case("10.96.0.2:443", false)]
    #[case("127.0.0.1:6443", true)]
    #[case("127.0.0.1:8080", false)]
    #[tokio::test]
    async fn is_found_behind_urls(#[case] address: SocketAddr, #[case] expected: bool) {
        let urls = ["https://10.96.0.1", "https://127.0.0.1:6443"].map(|url| url.parse().unwrap());
        assert_eq!(ApiServer::behind(urls).await.is_at(address), expected);
    }
}
