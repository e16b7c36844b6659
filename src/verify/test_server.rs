//! Services on loopback for the tests of probes, and their certificates.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{NetworkProber, Probe, ProbeFailureClass, Prober};
use crate::backend::{AddressRules, ClientCertificate, Names, RemoteShares};

/// The secret of all probes, which no message may contain.
pub(super) const PASSWORD: &str = "hunter2";
/// Text that the services send, which no message may contain.
pub(super) const BANNER: &str = "confidential";

const PATIENT: Duration = Duration::from_secs(20);

/// A prober that may connect to these networks.
pub(super) fn prober(networks: &[&str]) -> NetworkProber {
    let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    NetworkProber::new(networks, &AddressRules::default(), RemoteShares::default()).with_deadline(PATIENT)
}

pub(super) async fn outcome_of(
    prober: &NetworkProber,
    probe: &Probe,
) -> Result<(), (ProbeFailureClass, String)> {
    let outcome = prober.probe("billing", probe).await;
    outcome.map_err(|failure| {
        let all = format!("{failure} {failure:?} {probe:?} {prober:?}");
        assert!(!all.contains(PASSWORD) && !all.contains(BANNER), "{all}");
        (failure.class, failure.message)
    })
}

/// Probes a service on loopback.
pub(super) async fn outcome(probe: &Probe) -> Result<(), (ProbeFailureClass, String)> {
    outcome_of(&prober(&["127.0.0.0/8"]), probe).await
}

/// Asserts that the probe fails for this reason.
pub(super) async fn fails(probe: &Probe, class: ProbeFailureClass, words: &str) {
    let (found, message) = outcome(probe).await.unwrap_err();
    assert!(found == class && message.contains(words), "{found:?}: {message}");
}

/// Resolves every name to these addresses, and counts the lookups.
#[derive(Debug, Default)]
pub(super) struct FixedNames {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) lookups: AtomicUsize,
}

impl Names for FixedNames {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        Ok(self.addresses.clone())
    }
}

/// A service on a free port of loopback.
pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl TestServer {
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Serves each connection with `handle`. An error ends the connection.
pub(super) async fn serve<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> TestServer
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(handle(stream));
        }
    });
    TestServer { address, connections }
}

/// Reads once and replies, for each of the replies. Then it waits until the client closes the connection.
pub(super) async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    replies: &[&str],
) -> io::Result<()> {
    for reply in replies {
        if stream.read(&mut [0; 16 << 10]).await? == 0 {
            return Ok(());
        }
        stream.write_all(reply.as_bytes()).await?;
    }
    wait_for_end(stream).await
}

pub(super) async fn wait_for_end(mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

/// A service that replies with these texts.
pub(super) async fn replying(replies: &'static [&'static str]) -> TestServer {
    serve(move |stream| converse(stream, replies)).await
}

/// A service that accepts connections and never sends anything.
pub(super) async fn silent() -> TestServer {
    replying(&[]).await
}

/// A service that never stops sending.
pub(super) async fn endless() -> TestServer {
    serve(|mut stream| async move {
        loop {
            stream.write_all(BANNER.as_bytes()).await?;
        }
    })
    .await
}

/// An address that refuses connections.
pub(super) async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// An authority that issues certificates.
pub(super) struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

/// A certificate and its key.
pub(super) struct Identity {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap(), issuer: rcgen::Issuer::new(params, key) }
    }

    pub(super) fn issue(&self, name: &str) -> Identity {
        self.sign(rcgen::CertificateParams::new([name.to_owned()]).unwrap())
    }

    pub(super) fn issue_expired(&self, name: &str) -> Identity {
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: rcgen::CertificateParams) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }
}

impl Identity {
    pub(super) fn client_certificate(&self) -> ClientCertificate {
        ClientCertificate { cert_pem: self.certificate.pem(), key_pem: self.key.serialize_pem().into() }
    }

    /// The settings of a server with this certificate. With `clients`, it requires a certificate that `clients` issued.
    pub(super) fn server_config(
        &self,
        clients: Option<&Authority>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&crypto));
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        builder.with_single_cert(vec![self.certificate.der().clone()], key).unwrap()
    }
}

/// Accepts TLS with these settings. A refused client receives the alert.
pub(super) async fn accept_tls(
    config: Arc<ServerConfig>,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    match TlsAcceptor::from(config).accept(stream).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            // Otherwise the reset of the connection could arrive before the alert.
            wait_for_end(stream).await?;
            Err(error)
        }
    }
}

/// A service that speaks TLS with these settings, and replies with these texts.
pub(super) async fn replying_over_tls(config: ServerConfig, replies: &'static [&'static str]) -> TestServer {
    let config = Arc::new(config);
    serve(move |stream| {
        let config = Arc::clone(&config);
        async move { converse(accept_tls(config, stream).await?, replies).await }
    })
    .await
}
