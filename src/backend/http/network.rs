//! A range of addresses and the providers that it applies to, in the notation of the operator's flags.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use super::possible_addresses::{embedded, is_metadata_service};

/// The author of a provider, who chose the addresses that the operator connects to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Author {
    /// An administrator, who wrote a `ClusterKeyProvider`.
    #[default]
    Administrator,
    /// A tenant, who wrote a `KeyProvider`.
    Tenant {
        /// The namespace of the provider.
        namespace: String,
    },
}

/// The providers that a flag applies to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ProviderScope {
    #[default]
    All,
    ClusterKeyProviders,
    KeyProviders,
    /// The `KeyProvider`s of one namespace.
    Namespace(String),
}

impl ProviderScope {
    const CLUSTER_KEY_PROVIDERS: &str = "ClusterKeyProviders";
    const KEY_PROVIDERS: &str = "KeyProviders";
    const NAMESPACE: &str = "namespace/";

    fn includes(&self, author: &Author) -> bool {
        match (self, author) {
            (Self::All, _)
            | (Self::ClusterKeyProviders, Author::Administrator)
            | (Self::KeyProviders, Author::Tenant { .. }) => true,
            (Self::Namespace(admitted), Author::Tenant { namespace }) => admitted == namespace,
            (Self::ClusterKeyProviders, Author::Tenant { .. })
            | (Self::KeyProviders | Self::Namespace(_), Author::Administrator) => false,
        }
    }
}

/// A range of addresses for some providers: `10.0.0.0/8`, `ClusterKeyProviders=10.0.0.0/8`,
/// `KeyProviders=10.0.0.0/8` or `namespace/billing=10.0.0.0/8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    range: IpNet,
    scope: ProviderScope,
}

impl From<IpNet> for Network {
    fn from(range: IpNet) -> Self {
        Self { range, scope: ProviderScope::All }
    }
}

impl Network {
    pub(super) const fn range(&self) -> &IpNet {
        &self.range
    }

    pub(super) fn is_for(&self, author: &Author) -> bool {
        self.scope.includes(author)
    }

    /// Whether the range contains the address itself, or all addresses that it may stand for. One of several is not
    /// enough: the connection may end at another. Only a range of exactly one address admits a cloud's metadata
    /// service: an administrator who admits a network of services does not mean it.
    pub(super) fn contains_all_of(&self, address: IpAddr) -> bool {
        if is_metadata_service(address) && self.range.prefix_len() < self.range.max_prefix_len() {
            return false;
        }
        let embedded = embedded(address);
        let all_embedded = !embedded.is_empty() && embedded.iter().all(|v4| self.range.contains(v4));
        self.range.contains(&address) || all_embedded
    }

    /// Whether the range contains the address itself, or any address that it may stand for.
    pub(super) fn contains_any_of(&self, address: IpAddr) -> bool {
        self.range.contains(&address) || embedded(address).iter().any(|v4| self.range.contains(v4))
    }
}

/// The text is not a valid [`Network`].
#[derive(Debug, thiserror::Error)]
#[error(
    "write a range such as `10.0.0.0/8`, for some providers only with `ClusterKeyProviders=`, `KeyProviders=` or \
     `namespace/<name>=` before it"
)]
pub struct InvalidNetwork;

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scope, range) = match text.split_once('=') {
            None => (ProviderScope::All, text),
            Some((ProviderScope::CLUSTER_KEY_PROVIDERS, range)) => {
                (ProviderScope::ClusterKeyProviders, range)
            }
            Some((ProviderScope::KEY_PROVIDERS, range)) => (ProviderScope::KeyProviders, range),
            Some((scope, range)) => match scope.strip_prefix(ProviderScope::NAMESPACE) {
                Some(name) if !name.is_empty() => (ProviderScope::Namespace(name.to_owned()), range),
                _ => return Err(InvalidNetwork),
            },
        };
        Ok(Self { range: range.parse().map_err(|_| InvalidNetwork)?, scope })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            ProviderScope::All => {}
            ProviderScope::ClusterKeyProviders => write!(f, "{}=", ProviderScope::CLUSTER_KEY_PROVIDERS)?,
            ProviderScope::KeyProviders => write!(f, "{}=", ProviderScope::KEY_PROVIDERS)?,
            ProviderScope::Namespace(name) => write!(f, "{}{name}=", ProviderScope::NAMESPACE)?,
        }
        write!(f, "{}", self.range)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn tenant(namespace: &str) -> Author {
        Author::Tenant { namespace: namespace.to_owned() }
    }

    #[rstest]
    //     network                              cluster, billing, training
    #[case("10.0.0.0/8",                        [true,  true,  true])]
    #[case("ClusterKeyProviders=10.0.0.0/8",    [true,  false, false])]
    #[case("KeyProviders=fd00::/8",             [false, true,  true])]
    #[case("namespace/billing=10.0.0.0/8",      [false, true,  false])]
    #[rustfmt::skip]
    fn counts_for_the_providers_that_it_names(#[case] text: &str, #[case] expected: [bool; 3]) {
        let network: Network = text.parse().unwrap();
        let authors = [Author::Administrator, tenant("billing"), tenant("training")];
        assert_eq!(authors.map(|author| network.is_for(&author)), expected);
        assert_eq!(network.to_string(), text);
    }

    #[rstest]
    #[case("")]
    #[case("10.0.0.1")]
    #[case("billing=10.0.0.0/8")]
    #[case("namespace/=10.0.0.0/8")]
    #[case("clusterkeyproviders=10.0.0.0/8")]
    #[case("KeyProviders=")]
    fn what_is_no_network_is_refused(#[case] text: &str) {
        assert!(text.parse::<Network>().is_err());
    }
}
