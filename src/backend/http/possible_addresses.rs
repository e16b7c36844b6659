//! The addresses that an address may stand for, and the kind of each.
//!
//! A packet to an IPv6 address of a transition mechanism ends at the embedded IPv4 address. So the operator checks both
//! the IPv6 address and the IPv4 address. It can't know prefixes that a network has chosen: the administrator lists
//! them with `--deny-cidr`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The IPv4 addresses that an IPv6 address may stand for. There are several only if the mechanism's prefix does not
/// determine the position of the IPv4 address.
pub(super) fn embedded(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = address else { return Vec::new() };
    if v6 == Ipv6Addr::LOCALHOST || v6 == Ipv6Addr::UNSPECIFIED {
        return Vec::new();
    }
    let bits = v6.to_bits();
    // The 32 bits from this one on.
    let at = |first: u32| v4(((bits >> (96 - first)) & 0xffff_ffff) as u32);
    match v6.segments() {
        // Compatible (`::/96`) and mapped (`::ffff:0:0/96`), translated (`::ffff:0:0:0/96`), NAT64 (`64:ff9b::/96`).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            vec![at(96)]
        }
        // NAT64 with a prefix that the network chose within `64:ff9b:1::/48`, in the lengths of RFC 6052. Bits 64 to 71
        // are skipped.
        [0x64, 0xff9b, 1, ..] => {
            let around = |high: u32, low: u32| {
                let before = 64 - high;
                let (upper, lower) = (bits >> 64, (bits >> (56 - low)) & ((1 << low) - 1));
                v4((((upper & ((1 << before) - 1)) << low) | lower) as u32)
            };
            let mut all = vec![around(48, 16), around(56, 24), around(64, 32), at(96)];
            // The positions that the address does not occupy are often zero. No gateway translates to `0.0.0.0/8`.
            all.retain(|face| !matches!(face, IpAddr::V4(face) if face.octets()[0] == 0));
            all
        }
        // 6to4.
        [0x2002, ..] => vec![at(16)],
        // Teredo: the server, and the client behind its NAT, whose bits are inverted.
        [0x2001, 0, ..] => vec![at(32), v4(!(bits & 0xffff_ffff) as u32)],
        // ISATAP, below any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => vec![at(96)],
        _ => Vec::new(),
    }
}

const fn v4(bits: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(bits))
}

/// The address itself, and the addresses that it may stand for.
pub(super) fn faces(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    std::iter::once(address).chain(embedded(address))
}

/// The reason to refuse this address to all providers unless it is admitted, or `None` if there is none.
pub(super) fn kind_of_refused(address: IpAddr) -> Option<&'static str> {
    faces(address).find_map(refused_as_written)
}

/// Whether the address may stand for a cloud's metadata service.
pub(super) fn is_metadata_service(address: IpAddr) -> bool {
    faces(address).any(|face| METADATA_SERVICES.contains(&face))
}

fn refused_as_written(address: IpAddr) -> Option<&'static str> {
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

/// Whether the address is outside of the public Internet: a private one, or one of [`kind_of_refused`].
pub(super) fn is_private(address: IpAddr) -> bool {
    faces(address).any(|face| refused_as_written(face).is_some() || private_as_written(face))
}

const fn private_as_written(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            address.is_private()
                // Shared with carriers and used by clouds for services and pods; protocol assignments; benchmarks; reserved.
                || (a == 100 && b & 0xc0 == 64)
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && b & 0xfe == 18)
                || a >= 240
        }
        IpAddr::V6(address) => {
            let first = address.segments()[0];
            // Unique local, and its predecessor.
            first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0
        }
    }
}

/// The services that give a machine its identity. AWS, Azure, Google, IBM, Oracle and others use 169.254.169.254.
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
    #[case::mapped("::ffff:10.1.2.3")]
    #[case::compatible("::10.1.2.3")]
    #[case::translated("::ffff:0:10.1.2.3")]
    #[case::nat64("64:ff9b::10.1.2.3")]
    #[case::nat64_by_48("64:ff9b:1:0a01:0002:0300::")]
    #[case::nat64_by_56("64:ff9b:1:0c0a:0001:0203::")]
    #[case::nat64_by_64("64:ff9b:1:0c0d:000a:0102:0300::")]
    #[case::nat64_by_96("64:ff9b:1:c:d:e:10.1.2.3")]
    #[case::six_to_four("2002:0a01:0203::1")]
    #[case::teredo_client("2001:0:4136:e378:8000:63bf:f5fe:fdfc")]
    #[case::teredo_server("2001:0:0a01:0203:8000:63bf:3fff:fdd2")]
    #[case::isatap("2606:4700::5efe:10.1.2.3")]
    #[case::isatap_universal("2606:4700::200:5efe:10.1.2.3")]
    fn stands_for(#[case] address: IpAddr) {
        assert!(embedded(address).contains(&"10.1.2.3".parse().unwrap()), "{:?}", embedded(address));
        assert!(is_private(address));
    }

    #[rstest]
    #[case("10.1.2.3")]
    #[case("::1")]
    #[case("::")]
    #[case("2606:4700::1111")]
    #[case("64:ff9c::a01:203")]
    #[case("2001:1::a01:203")]
    fn stands_for_itself(#[case] address: IpAddr) {
        assert!(embedded(address).is_empty());
    }

    #[rstest]
    #[case("127.0.0.1", "loopback")]
    #[case("127.255.0.9", "loopback")]
    #[case("::1", "loopback")]
    #[case("::ffff:127.0.0.1", "loopback")]
    #[case("::127.0.0.1", "loopback")]
    #[case("64:ff9b::7f00:1", "loopback")]
    #[case("64:ff9b:1::7f00:1", "loopback")]
    #[case("2002:7f00:1::", "loopback")]
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
    #[case("64:ff9b:1:a9fe:a9:fe00::", "metadata")]
    #[case("2002:a9fe:a9fe::1", "metadata")]
    #[case("fd00:ec2::254", "metadata")]
    #[case("fd20:ce::254", "metadata")]
    #[case("100.100.100.200", "metadata")]
    #[case("168.63.129.16", "metadata")]
    fn is_refused(#[case] address: IpAddr, #[case] kind: &str) {
        assert!(kind_of_refused(address).unwrap().contains(kind));
        assert!(is_private(address));
    }

    #[rstest]
    #[case("10.0.0.1")]
    #[case("172.16.3.4")]
    #[case("172.31.255.255")]
    #[case("192.168.0.1")]
    #[case("100.64.0.1")]
    #[case("100.127.255.255")]
    #[case("192.0.0.8")]
    #[case("198.19.0.1")]
    #[case("240.0.0.1")]
    #[case("fd00::1")]
    #[case("fc00::1")]
    #[case("fec0::1")]
    fn is_private_and_not_refused(#[case] address: IpAddr) {
        assert!(is_private(address));
        assert_eq!(kind_of_refused(address), None);
    }

    #[rstest]
    #[case("93.184.215.14")]
    #[case("172.32.0.1")]
    #[case("100.128.0.1")]
    #[case("198.20.0.1")]
    #[case("2606:4700::1111")]
    #[case("64:ff9b::93.184.215.14")]
    #[case("64:ff9b:1::93.184.215.14")]
    #[case("2002:5db8:d70e::1")]
    fn is_public(#[case] address: IpAddr) {
        assert!(!is_private(address));
        assert_eq!(kind_of_refused(address), None);
    }
}
