//! Which addresses the operator may connect to.
//!
//! Whoever may write a `KeyProvider` chooses where the operator connects to; this keeps that choice away from the
//! node's own services and from the cloud's metadata service, which would give the node's identity away.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

use super::Failure;

/// Which addresses may be connected to. The default refuses loopback, link-local, unspecified and multicast
/// addresses and the metadata services of the clouds, whichever way they are written, and plain http to anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    admitted: Vec<IpNet>,
}

impl AddressPolicy {
    /// Admits these ranges besides what is admitted anyway, also for plain http (`--allow-cidr`).
    #[must_use]
    pub fn admitting(ranges: impl IntoIterator<Item = IpNet>) -> Self {
        Self { admitted: ranges.into_iter().collect() }
    }

    /// The ranges that `--allow-cidr` named.
    pub(super) fn admitted(&self) -> &[IpNet] {
        &self.admitted
    }

    /// Why this address is refused over https; `None` where it may be connected to.
    pub(super) fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        if self.admits(address) { None } else { kind_of_refused(embedded_v4(address)) }
    }

    /// Whether `--allow-cidr` names this address.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        let embedded = embedded_v4(address);
        self.admitted.iter().any(|range| range.contains(&address) || range.contains(&embedded))
    }

    /// Checks what can be told from a URL alone. Names are checked again when they are resolved, addresses only
    /// here, because no resolver is asked for them.
    pub(in crate::backend) fn check(&self, url: &Url) -> Result<(), Failure> {
        let Some(host) = url.host() else {
            return Err(Failure::Refused("the address has no host: write `https://<host>`".to_owned()));
        };
        let literal = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        match (url.scheme(), literal) {
            ("https", None) => Ok(()),
            ("https", Some(address)) => match self.refusal(address) {
                None => Ok(()),
                Some(kind) => Err(Failure::Refused(refused(&address.to_string(), kind))),
            },
            ("http", None) if !self.admitted.is_empty() => Ok(()),
            ("http", Some(address)) if self.admits(address) => Ok(()),
            ("http", _) => Err(Failure::Refused(plain_http_refused(&host.to_string()))),
            (scheme, _) => {
                Err(Failure::Refused(format!("`{scheme}` is not a scheme that is spoken here: use `https`")))
            }
        }
    }
}

/// The words for an address of a refused kind.
pub(super) fn refused(host: &str, kind: &str) -> String {
    format!("`{host}` is {kind}, which is refused; start the operator with `--allow-cidr` to admit it")
}

/// The words for plain http to an address that is not admitted.
pub(super) fn plain_http_refused(host: &str) -> String {
    format!(
        "plain http to `{host}` is refused; use https, or start the operator with `--allow-cidr` to admit its address"
    )
}

fn kind_of_refused(address: IpAddr) -> Option<&'static str> {
    if METADATA_SERVICES.contains(&address) {
        return Some("a cloud's metadata address");
    }
    match address {
        IpAddr::V4(address) if address.octets()[0] == 0 => Some("an unspecified address"),
        IpAddr::V4(address) if address.is_link_local() => Some("a link-local address"),
        IpAddr::V4(address) if address.is_broadcast() => Some("a broadcast address"),
        IpAddr::V6(address) if address.is_unicast_link_local() => Some("a link-local address"),
        address if address.is_unspecified() => Some("an unspecified address"),
        address if address.is_loopback() => Some("a loopback address"),
        address if address.is_multicast() => Some("a multicast address"),
        _ => None,
    }
}

/// The IPv4 address that an IPv6 address stands for (mapped, compatible, NAT64), or the address itself.
fn embedded_v4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if v6 == Ipv6Addr::LOCALHOST || v6 == Ipv6Addr::UNSPECIFIED {
        return address;
    }
    match v6.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        _ => address,
    }
}

/// Where the clouds give a machine its identity. 169.254.169.254 is that of AWS, Azure, Google, IBM, Oracle and others.
const METADATA_SERVICES: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // AWS over IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // Google over IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Azure's WireServer.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("127.0.0.1", "loopback")]
    #[case("127.255.0.9", "loopback")]
    #[case("::1", "loopback")]
    #[case("::ffff:127.0.0.1", "loopback")]
    #[case("::127.0.0.1", "loopback")]
    #[case("64:ff9b::7f00:1", "loopback")]
    #[case("0.0.0.0", "unspecified")]
    #[case("0.1.2.3", "unspecified")]
    #[case("::", "unspecified")]
    #[case("::ffff:0.0.0.0", "unspecified")]
    #[case("169.254.1.1", "link-local")]
    #[case("fe80::1", "link-local")]
    #[case("febf::1", "link-local")]
    #[case("224.0.0.1", "multicast")]
    #[case("ff02::1", "multicast")]
    #[case("255.255.255.255", "broadcast")]
    #[case("169.254.169.254", "metadata")]
    #[case("::ffff:169.254.169.254", "metadata")]
    #[case("64:ff9b::a9fe:a9fe", "metadata")]
    #[case("fd00:ec2::254", "metadata")]
    #[case("fd20:ce::254", "metadata")]
    #[case("100.100.100.200", "metadata")]
    #[case("168.63.129.16", "metadata")]
    fn refuses(#[case] address: IpAddr, #[case] kind: &str) {
        let refusal = AddressPolicy::default().refusal(address).unwrap();
        assert!(refusal.contains(kind), "{refusal}");
    }

    #[rstest]
    #[case("10.0.0.1")]
    #[case("172.16.3.4")]
    #[case("192.168.0.1")]
    #[case("100.100.100.201")]
    #[case("93.184.215.14")]
    #[case("2606:4700::1111")]
    #[case("fd00::1")]
    #[case("fec0::1")]
    fn lets_pass(#[case] address: IpAddr) {
        assert_eq!(AddressPolicy::default().refusal(address), None);
    }

    #[rstest]
    #[case("127.0.0.1", true)]
    #[case("::ffff:127.0.0.1", true)]
    #[case("127.0.1.1", false)]
    #[case("::1", false)]
    #[case("fe80::1", true)]
    #[case("169.254.169.254", false)]
    fn admits_what_the_flag_names(#[case] address: IpAddr, #[case] admitted: bool) {
        let policy =
            AddressPolicy::admitting(["127.0.0.0/24".parse().unwrap(), "fe80::/64".parse().unwrap()]);
        assert_eq!(policy.refusal(address).is_none(), admitted);
        assert_eq!(policy.admits(address), admitted);
    }

    #[rstest]
    #[case("https://broker.example.com", &[], None)]
    #[case("https://10.1.2.3", &[], None)]
    #[case("https://127.0.0.1", &[], Some("`127.0.0.1` is a loopback address"))]
    #[case("https://127.1", &[], Some("`127.0.0.1` is a loopback address"))]
    #[case("https://2130706433", &[], Some("`127.0.0.1` is a loopback address"))]
    #[case("https://0x7f.0.0.1", &[], Some("`127.0.0.1` is a loopback address"))]
    #[case("https://127.0.0.1.", &[], Some("`127.0.0.1` is a loopback address"))]
    #[case("https://[::ffff:a9fe:a9fe]", &[], Some("metadata address"))]
    #[case("https://127.0.0.1", &["127.0.0.0/8"], None)]
    #[case("http://127.0.0.1:8080", &["127.0.0.0/8"], None)]
    #[case("http://10.1.2.3", &["127.0.0.0/8"], Some("plain http to `10.1.2.3` is refused"))]
    #[case("http://broker.example.com", &[], Some("plain http to `broker.example.com` is refused"))]
    #[case("http://broker.example.com", &["10.0.0.0/8"], None)]
    #[case("ftp://broker.example.com", &[], Some("`ftp` is not a scheme"))]
    fn checks_urls(#[case] url: Url, #[case] ranges: &[&str], #[case] refusal: Option<&str>) {
        let policy = AddressPolicy::admitting(ranges.iter().map(|range| range.parse().unwrap()));
        match (policy.check(&url), refusal) {
            (Ok(()), None) => {}
            (Err(Failure::Refused(message)), Some(words)) => assert!(message.contains(words), "{message}"),
            (outcome, _) => panic!("{outcome:?}"),
        }
    }
}
