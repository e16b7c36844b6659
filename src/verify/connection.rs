//! Connections to checked addresses.

use std::{io, net::SocketAddr, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, Join, Take, join},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use url::Host;

use super::failure::Fault;

/// The most bytes that a probe reads from a service. A TLS handshake with a client certificate may list a few hundred
/// authorities, and takes most of them.
const MOST_BYTES: u64 = 128 << 10;

/// The most addresses of a name to try.
pub(super) const MOST_ADDRESSES: usize = 4;

/// A TCP connection that ends after [`MOST_BYTES`].
pub(super) type BoundedTcp = Join<Take<OwnedReadHalf>, OwnedWriteHalf>;

/// A connection with or without TLS.
pub(super) type Connection = Box<dyn ByteStream>;

/// Reads and writes bytes.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// The host and the port of a service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Destination {
    /// Reads `host:port`, with brackets around an IPv6 address.
    pub(super) fn parse(address: &str) -> Result<Self, Fault> {
        let invalid = Fault::Invalid {
            field: "address",
            problem: "is not `host:port`; write brackets around an IPv6 address",
        };
        let Some((host, port)) = address.rsplit_once(':') else { return Err(invalid) };
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        match (Host::parse(host), port.parse()) {
            (Ok(host), Ok(port @ 1..)) if is_number => Ok(Self { host, port }),
            _ => Err(invalid),
        }
    }

    /// The name that the service's certificate must have.
    pub(super) fn server_name(&self) -> Result<ServerName<'static>, Fault> {
        match &self.host {
            Host::Ipv4(address) => Ok(ServerName::IpAddress((*address).into())),
            Host::Ipv6(address) => Ok(ServerName::IpAddress((*address).into())),
            Host::Domain(name) => server_name("address", name.trim_end_matches('.')),
        }
    }
}

/// Reads a name or an address that a certificate must have.
pub(super) fn server_name(field: &'static str, name: &str) -> Result<ServerName<'static>, Fault> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| Fault::Invalid { field, problem: "has no host name that a certificate can have" })
}

/// Connects to the first of the addresses that accepts. Each attempt may last an equal part of the deadline.
pub(super) async fn connect(addresses: &[SocketAddr], deadline: Duration) -> io::Result<BoundedTcp> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let each = deadline / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    for address in addresses {
        match tokio::time::timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let (reader, writer) = stream.into_split();
                return Ok(join(reader.take(MOST_BYTES), writer));
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("db.example.com:5432", "db.example.com", 5432)]
    #[case("DB.example.com.:5432", "db.example.com.", 5432)]
    #[case("my_service:1", "my_service", 1)]
    #[case("10.1.2.3:6379", "10.1.2.3", 6379)]
    #[case("0x7f.1:80", "127.0.0.1", 80)]
    #[case("2130706433:80", "127.0.0.1", 80)]
    #[case("[::1]:65535", "[::1]", 65535)]
    fn reads_an_address(#[case] address: &str, #[case] host: &str, #[case] port: u16) {
        let destination = Destination::parse(address).unwrap();
        assert_eq!((destination.host.to_string().as_str(), destination.port), (host, port));
        destination.server_name().unwrap();
    }

    #[rstest]
    #[case("")]
    #[case("db.example.com")]
    #[case(":5432")]
    #[case("db.example.com:")]
    #[case("db.example.com:0")]
    #[case("db.example.com:+5432")]
    #[case("db.example.com:65536")]
    #[case("db.example.com:5432/")]
    #[case("::1:5432")]
    #[case("[::1]")]
    #[case("[::1%eth0]:5432")]
    #[case("postgres://admin:hunter2@db.example.com:5432")]
    #[case("two words:5432")]
    fn refuses_other_text(#[case] address: &str) {
        assert!(matches!(Destination::parse(address), Err(Fault::Invalid { field: "address", .. })));
    }
}
