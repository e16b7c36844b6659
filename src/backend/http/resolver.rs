//! Name resolution under the address policy. The connector never sees refused addresses, so a name that resolves to
//! another address the next time (DNS rebinding) gains nothing.

use std::{io, net::SocketAddr, sync::Arc};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{AddressPolicy, RemoteShares, address::AddressRefusal, proofs::Proofs};

/// The reason for a name without a usable address.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The name is unknown, or the name server does not answer.
    #[error("`{host}` can't be resolved; check the name and the cluster's DNS")]
    Unknown {
        host: String,
        #[source]
        source: io::Error,
    },
    /// Every address of the name is refused.
    #[error("{0}")]
    Refused(String),
    /// None of the admitted addresses has sent a valid answer of the protocol yet.
    #[error("`{host}` resolves only to private addresses that have not been verified yet")]
    Unproved { host: String },
}

/// The addresses of a name that a client may connect to.
#[derive(Clone, Debug)]
pub(super) enum Reach {
    /// All addresses that the policy admits.
    Admitted,
    /// The admitted addresses whose answers the author of the provider may read.
    Disclosed(Arc<Proofs>),
}

/// The resolver of one endpoint. It leaves out addresses that the client may not connect to.
pub(super) struct PolicedResolver {
    pub(super) policy: AddressPolicy,
    pub(super) reach: Reach,
    pub(super) port: u16,
    pub(super) plain_http: bool,
    /// Limits the threads that wait for name servers.
    pub(super) shares: RemoteShares,
}

impl PolicedResolver {
    fn filter(&self, host: &str, found: &[SocketAddr]) -> Result<Vec<SocketAddr>, ResolveError> {
        let refusal = |address: &SocketAddr| self.policy.refusal(*address, self.plain_http);
        let admitted: Vec<_> = found.iter().copied().filter(|address| refusal(address).is_none()).collect();
        if admitted.is_empty() {
            let words = found.iter().filter_map(refusal).next_back().map_or_else(
                || format!("`{host}` has no address"),
                |refusal| match refusal {
                    AddressRefusal::Kind(kind) => {
                        refusal.words(host).replacen(kind, &format!("at {kind}"), 1)
                    }
                    AddressRefusal::Private => refusal.words(host).replacen("is a", "is at a", 1),
                    AddressRefusal::ApiServer | AddressRefusal::Denied | AddressRefusal::PlainHttp => {
                        refusal.words(host)
                    }
                },
            );
            return Err(ResolveError::Refused(words));
        }
        let Reach::Disclosed(proofs) = &self.reach else { return Ok(admitted) };
        let disclosed: Vec<_> = admitted
            .into_iter()
            .filter(|address| self.policy.discloses(address.ip()) || proofs.has(address.ip()))
            .collect();
        if disclosed.is_empty() {
            Err(ResolveError::Unproved { host: host.to_owned() })
        } else {
            Ok(disclosed)
        }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<SocketAddr>, ResolveError> {
        let found = self.shares.look_up(self.policy.names(), host).await;
        let found = found.map_err(|source| ResolveError::Unknown { host: host.to_owned(), source })?;
        let found: Vec<_> = found.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect();
        self.filter(host, &found)
    }
}

/// For reqwest, which needs a resolver that it can share.
pub(super) struct SharedResolver(pub(super) Arc<PolicedResolver>);

impl Resolve for SharedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::backend::http::{AddressRules, Author};

    fn found(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 443)).collect()
    }

    fn resolver(policy: AddressPolicy, reach: Reach, plain_http: bool) -> PolicedResolver {
        PolicedResolver { policy, reach, port: 443, plain_http, shares: RemoteShares::default() }
    }

    #[rstest]
    #[case(&["93.184.215.14"], false, Ok(1))]
    #[case(&["93.184.215.14", "127.0.0.1"], false, Ok(1))]
    #[case(&["127.0.0.1"], false, Err("`broker` is at a loopback address"))]
    #[case(&["169.254.169.254", "::1"], false, Err("is refused"))]
    #[case(&["10.0.0.1"], false, Ok(1))]
    #[case(&["10.0.0.1", "93.184.215.14"], true, Ok(1))]
    #[case(&["93.184.215.14"], true, Err("plain http to `broker` is refused"))]
    #[case(&[], false, Err("`broker` has no address"))]
    fn filters(#[case] addresses: &[&str], #[case] plain_http: bool, #[case] expected: Result<usize, &str>) {
        let policy = AddressPolicy::admitting(["10.0.0.0/8".parse().unwrap()]);
        let resolver = resolver(policy, Reach::Admitted, plain_http);
        match (resolver.filter("broker", &found(addresses)), expected) {
            (Ok(addresses), Ok(count)) => assert_eq!(addresses.len(), count),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (outcome, _) => panic!("{outcome:?}"),
        }
    }

    #[rstest]
    #[case::public(&["93.184.215.14", "10.0.0.1"], &[], Some(1))]
    #[case::private(&["10.0.0.1", "10.0.0.2"], &[], None)]
    #[case::proved(&["10.0.0.1", "10.0.0.2"], &["10.0.0.1"], Some(1))]
    #[case::proved_elsewhere(&["10.0.0.2"], &["10.0.0.1"], None)]
    fn discloses(#[case] addresses: &[&str], #[case] proved: &[&str], #[case] expected: Option<usize>) {
        let author = Author::Tenant { namespace: "billing".to_owned() };
        let policy = AddressPolicy::from(AddressRules::default()).for_author(author);
        let proofs = Arc::<Proofs>::default();
        proved.iter().for_each(|ip| proofs.add(Some(ip.parse().unwrap())));
        let resolver = resolver(policy, Reach::Disclosed(proofs), false);
        match resolver.filter("broker", &found(addresses)) {
            Ok(disclosed) => assert_eq!(Some(disclosed.len()), expected),
            Err(ResolveError::Unproved { .. }) => assert_eq!(expected, None),
            Err(error) => panic!("{error}"),
        }
    }
}
