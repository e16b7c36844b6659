//! Name resolution under the address policy: what is refused never reaches the connector, so that a name which
//! resolves to something else the next time (DNS rebinding) gains nothing.

use std::{io, net::SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{AddressPolicy, RemoteShares, address};

/// Why a name gave no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The name is unknown, or the name server does not answer.
    #[error("`{host}` can't be resolved; check the name and the cluster's DNS")]
    Unknown {
        /// The name.
        host: String,
        /// What the system's resolver said.
        #[source]
        source: io::Error,
    },
    /// Every address of the name is refused.
    #[error("{0}")]
    Refused(String),
}

/// The system's resolver, without the addresses that the policy refuses.
pub(super) struct PolicedResolver {
    /// Which addresses may be connected to.
    pub(super) policy: AddressPolicy,
    /// Whether the connection will be plain http, to which only the admitted ranges are open.
    pub(super) plain_http: bool,
    /// The threads that wait for name servers.
    pub(super) shares: RemoteShares,
}

impl PolicedResolver {
    fn filter(
        policy: &AddressPolicy,
        plain_http: bool,
        host: &str,
        found: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let mut refusal = None;
        let mut addresses = Vec::new();
        for address in found {
            let refused = if plain_http && !policy.admits(address.ip()) {
                Some(address::plain_http_refused(host))
            } else {
                policy.refusal(address.ip()).map(|kind| address::refused(host, &format!("at {kind}")))
            };
            match refused {
                None => addresses.push(address),
                Some(words) => refusal = Some(words),
            }
        }
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        Err(ResolveError::Refused(refusal.unwrap_or_else(|| format!("`{host}` has no address"))))
    }
}

impl Resolve for PolicedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, plain_http, shares) = (self.policy.clone(), self.plain_http, self.shares.clone());
        Box::pin(async move {
            let host = name.as_str();
            let found = shares
                .look_up(host)
                .await
                .map_err(|source| ResolveError::Unknown { host: host.to_owned(), source })?;
            let addresses = Self::filter(&policy, plain_http, host, found.into_iter())?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&["93.184.215.14"], false, Ok(1))]
    #[case(&["93.184.215.14", "127.0.0.1"], false, Ok(1))]
    #[case(&["127.0.0.1"], false, Err("`broker` is at a loopback address"))]
    #[case(&["169.254.169.254", "::1"], false, Err("is refused"))]
    #[case(&["10.0.0.1"], false, Ok(1))]
    #[case(&["10.0.0.1", "93.184.215.14"], true, Ok(1))]
    #[case(&["93.184.215.14"], true, Err("plain http to `broker` is refused"))]
    #[case(&[], false, Err("`broker` has no address"))]
    fn filters(#[case] found: &[&str], #[case] plain_http: bool, #[case] expected: Result<usize, &str>) {
        let policy = AddressPolicy::admitting(["10.0.0.0/8".parse().unwrap()]);
        let found = found.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0));
        match (PolicedResolver::filter(&policy, plain_http, "broker", found), expected) {
            (Ok(addresses), Ok(count)) => assert_eq!(addresses.len(), count),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (outcome, _) => panic!("{outcome:?}"),
        }
    }
}
