//! TLS connections of probes.

use std::{error::Error, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use rustls::{
    CertificateError, ClientConfig, ProtocolVersion, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{connection::BoundedTcp, failure::Fault};
use crate::backend::{ClientCertificate, certificates, find_source, system_roots};

/// Connects to one service over TLS, with the system's roots and the bundle of a probe.
pub(super) struct TlsClient {
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// A client for a service whose certificate has this name.
    pub(super) fn new(
        name: ServerName<'static>,
        ca_bundle: Option<&str>,
        client_certificate: Option<&ClientCertificate>,
    ) -> Result<Self, Fault> {
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .map_err(|_| Fault::Tls("TLS can't be set up".to_owned()))?
            .with_root_certificates(roots(ca_bundle)?);
        let mut config = match client_certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let (chain, key) = identity(certificate)?;
                builder.with_client_auth_cert(chain, key).map_err(|_| Fault::Invalid {
                    field: "clientKey",
                    problem: "is not the key of the certificate in `tls.clientCertificate`",
                })?
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Self { name, config: Arc::new(config) })
    }

    /// Completes the client's part of a handshake.
    pub(super) async fn handshake(self, stream: BoundedTcp) -> Result<TlsStream<BoundedTcp>, Fault> {
        let connector = TlsConnector::from(self.config);
        connector.connect(self.name, stream).await.map_err(|error| fault_of(&error))
    }
}

fn identity(
    certificate: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Fault> {
    let chain = certificates(&certificate.cert_pem)
        .map_err(|problem| Fault::Invalid { field: "clientCertificate", problem })?;
    // Without the parser's message: it may quote a line of the key.
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.expose_secret().as_bytes())
        .map_err(|_| Fault::Invalid { field: "clientKey", problem: "contains no private key in PEM" })?;
    Ok((chain, key))
}

fn roots(ca_bundle: Option<&str>) -> Result<Arc<RootCertStore>, Fault> {
    let mut roots = system_roots();
    if let Some(pem) = ca_bundle {
        let invalid = |problem| Fault::Invalid { field: "caBundle", problem };
        let trusted = Arc::make_mut(&mut roots);
        for certificate in certificates(pem).map_err(invalid)? {
            trusted
                .add(certificate)
                .map_err(|_| invalid("contains a certificate that can't be a trust anchor"))?;
        }
    }
    Ok(roots)
}

/// Waits until the service has accepted the handshake.
///
/// With TLS 1.3 the service checks the client's certificate after the client's part of the handshake is complete. A
/// service that refuses it sends an alert or closes the connection. A service that accepts it usually sends a session
/// ticket. If the service sends nothing for the time of `silence`, it counts as accepting.
pub(super) async fn confirm(stream: &mut TlsStream<BoundedTcp>, silence: Duration) -> Result<(), Fault> {
    if stream.get_ref().1.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Ok(());
    }
    let closed = || Fault::Refused("it closed the connection after the TLS handshake".to_owned());
    let mut byte = [0];
    let answer = poll_fn(|context| {
        let mut buffer = ReadBuf::new(&mut byte);
        match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Err(closed())),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(match fault_of(&error) {
                Fault::Unreachable(_) => closed(),
                fault => fault,
            })),
            Poll::Pending if stream.get_ref().1.tls13_tickets_received() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    });
    tokio::time::timeout(silence, answer).await.unwrap_or(Ok(()))
}

/// The fault behind an error of a connection. Without an error of TLS, the service is not reachable.
pub(super) fn fault_of(error: &(dyn Error + 'static)) -> Fault {
    let reason = match find_source::<rustls::Error>(error) {
        None | Some(rustls::Error::InvalidMessage(_)) => return Fault::of_connection(error),
        Some(rustls::Error::InvalidCertificate(reason)) => certificate_words(reason).to_owned(),
        Some(rustls::Error::AlertReceived(alert)) => format!("the service sent the alert `{alert:?}`"),
        Some(rustls::Error::PeerIncompatible(_)) => {
            "the service offers no secure TLS version or cipher; enable TLS 1.2 or 1.3 there".to_owned()
        }
        Some(_) => "the handshake failed".to_owned(),
    };
    Fault::Tls(reason)
}

fn certificate_words(reason: &CertificateError) -> &'static str {
    use CertificateError as Reason;
    match reason {
        // An authority that was renewed under its old name shows up as a bad signature.
        Reason::UnknownIssuer | Reason::BadSignature => {
            "the service's certificate is not trusted; set `caBundle` to the certificate of the authority that issued it"
        }
        Reason::Expired | Reason::ExpiredContext { .. } => "the service's certificate has expired",
        Reason::NotValidYet | Reason::NotValidYetContext { .. } => {
            "the service's certificate is not valid yet; check the clocks"
        }
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => {
            "the service's certificate is for another name; use a name that the certificate lists"
        }
        _ => "the service's certificate can't be used for a server",
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use rstest::rstest;
    use rustls::{SupportedProtocolVersion, version};

    use crate::{
        backend::ClientCertificate,
        verify::{
            Probe, ProbeFailureClass as Class,
            test_server::{
                Authority, Identity, PASSWORD, TestServer, accept_tls, fails, outcome, outcome_of, prober,
                replying_over_tls, serve,
            },
        },
    };

    const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

    async fn server(identity: &Identity, clients: Option<&Authority>) -> TestServer {
        replying_over_tls(identity.server_config(clients, &VERSIONS), &[]).await
    }

    fn probe(
        server: &TestServer,
        authority: &Authority,
        client_certificate: Option<ClientCertificate>,
    ) -> Probe {
        Probe::Tls {
            address: server.address(),
            server_name: None,
            ca_bundle: Some(authority.pem()),
            client_certificate,
        }
    }

    #[rstest]
    #[case::by_address("127.0.0.1", None)]
    #[case::by_name("db.example.com", Some("db.example.com"))]
    #[tokio::test]
    async fn a_trusted_certificate_passes(#[case] name: &str, #[case] server_name: Option<&str>) {
        let authority = Authority::new();
        let server = server(&authority.issue(name), None).await;
        let probe = Probe::Tls {
            address: server.address(),
            server_name: server_name.map(str::to_owned),
            ca_bundle: Some(authority.pem()),
            client_certificate: None,
        };
        assert_eq!(outcome(&probe).await, Ok(()));
    }

    #[tokio::test]
    async fn an_untrusted_certificate_fails() {
        let authority = Authority::new();
        let server = server(&authority.issue("127.0.0.1"), None).await;
        fails(&probe(&server, &Authority::new(), None), Class::TlsFailed, "is not trusted").await;
    }

    #[tokio::test]
    async fn a_certificate_for_another_name_fails() {
        let authority = Authority::new();
        let server = server(&authority.issue("db.example.com"), None).await;
        fails(&probe(&server, &authority, None), Class::TlsFailed, "is for another name").await;
    }

    #[tokio::test]
    async fn an_expired_certificate_fails() {
        let authority = Authority::new();
        let server = server(&authority.issue_expired("127.0.0.1"), None).await;
        fails(&probe(&server, &authority, None), Class::TlsFailed, "has expired").await;
    }

    #[rstest]
    #[tokio::test]
    async fn a_client_certificate_is_checked(
        #[values(&version::TLS12, &version::TLS13)] version: &'static SupportedProtocolVersion,
    ) {
        let (authority, clients) = (Authority::new(), Authority::new());
        let config = authority.issue("127.0.0.1").server_config(Some(&clients), &[version]);
        let server = replying_over_tls(config, &[]).await;
        let of = |authority: &Authority| Some(authority.issue("client").client_certificate());
        assert_eq!(outcome(&probe(&server, &authority, of(&clients))).await, Ok(()));
        // With TLS 1.2 there is no alert of its own for a missing certificate.
        fails(&probe(&server, &authority, None), Class::TlsFailed, "sent the alert `").await;
        let another = probe(&server, &authority, of(&Authority::new()));
        fails(&another, Class::TlsFailed, "sent the alert `").await;
    }

    #[tokio::test]
    async fn a_service_without_tickets_passes_after_a_silence() {
        let authority = Authority::new();
        let mut config = authority.issue("127.0.0.1").server_config(None, &VERSIONS);
        config.send_tls13_tickets = 0;
        let server = replying_over_tls(config, &[]).await;
        let prober = prober(&["127.0.0.0/8"]).with_deadline(Duration::from_secs(2));
        assert_eq!(outcome_of(&prober, &probe(&server, &authority, None)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_service_that_closes_the_connection_refuses() {
        let authority = Authority::new();
        let mut config = authority.issue("127.0.0.1").server_config(None, &VERSIONS);
        config.send_tls13_tickets = 0;
        let config = Arc::new(config);
        let server = serve(move |stream| {
            let config = Arc::clone(&config);
            async move { accept_tls(config, stream).await.map(drop) }
        })
        .await;
        fails(&probe(&server, &authority, None), Class::Refused, "closed the connection after the TLS").await;
    }

    #[tokio::test]
    async fn unusable_certificates_are_not_quoted() {
        let (authority, other) = (Authority::new(), Authority::new());
        let server = server(&authority.issue("127.0.0.1"), None).await;
        let valid = authority.issue("client").client_certificate();
        let key_pem = PASSWORD.into();
        let broken_key = ClientCertificate { key_pem, ..valid.clone() };
        let cert_pem = PASSWORD.to_owned();
        let broken_certificate = ClientCertificate { cert_pem, ..valid.clone() };
        let cert_pem = other.issue("client").client_certificate().cert_pem;
        let mixed = ClientCertificate { cert_pem, ..valid };
        for (certificate, words) in [
            (broken_key, "`tls.clientKey` contains no private key"),
            (broken_certificate, "`tls.clientCertificate` contains no certificate"),
            (mixed, "`tls.clientKey` is not the key of"),
        ] {
            let probe = probe(&server, &authority, Some(certificate));
            fails(&probe, Class::InvalidProbe, words).await;
        }
        let bundle = Probe::Tls {
            address: server.address(),
            server_name: None,
            ca_bundle: Some(PASSWORD.to_owned()),
            client_certificate: None,
        };
        fails(&bundle, Class::InvalidProbe, "`tls.caBundle` contains no certificate").await;
        assert_eq!(server.connections(), 0);
    }
}
