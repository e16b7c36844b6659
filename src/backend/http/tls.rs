//! TLS: the system's roots and the provider's own, with `ring` as the only crypto provider.
//!
//! This module builds the configuration and names the crypto provider explicitly, so that nothing depends on a default
//! of the process or installs one.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use secrecy::ExposeSecret;

use super::{ClientCertificate, HttpConfig};
use crate::backend::{BackendError, ErrorClass};

/// Sessions of one provider that are kept for resumption: it has only a few hosts.
const SESSIONS: usize = 8;

/// # Errors
/// [`ErrorClass::Rejected`] if the provider's bundle can't be used; [`ErrorClass::Untrusted`] if the client certificate
/// can't.
pub(super) fn client_config(config: &HttpConfig) -> Result<ClientConfig, BackendError> {
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .map_err(|error| rejected(format!("TLS can't be set up: {error}")))?
        .with_root_certificates(roots(config.ca_bundle.as_deref())?);
    let mut tls = match &config.client_certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => {
            let (chain, key) = identity(certificate)?;
            builder.with_client_auth_cert(chain, key).map_err(|_| {
                unusable("`tls.clientCertificate`: `tls.key` is not the key of the certificate in `tls.crt`")
            })?
        }
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tls.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(tls)
}

/// The system's roots, plus those of the bundle.
fn roots(ca_bundle: Option<&str>) -> Result<Arc<RootCertStore>, BackendError> {
    let system = system_roots();
    let Some(pem) = ca_bundle else { return Ok(system) };
    let mut roots = RootCertStore::clone(&system);
    for certificate in certificates(pem).map_err(|what| rejected(format!("`tls.caBundle` {what}")))? {
        roots
            .add(certificate)
            .map_err(|_| rejected("`tls.caBundle` contains a certificate that can't be a trust anchor"))?;
    }
    Ok(Arc::new(roots))
}

/// The system's roots, read again for each provider, so that rotated ones take effect. All providers share them while
/// they are the same: they take 100 KiB.
///
/// An image without any roots is not an error here: the handshake fails later, with a message that names
/// `tls.caBundle`.
pub(crate) fn system_roots() -> Arc<RootCertStore> {
    static LATEST: Mutex<Option<Arc<RootCertStore>>> = Mutex::new(None);
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's root certificates can't be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system.certs);
    let mut latest = LATEST.lock();
    if let Some(latest) = latest.as_ref().filter(|latest| latest.roots == roots.roots) {
        return Arc::clone(latest);
    }
    let roots = Arc::new(roots);
    *latest = Some(Arc::clone(&roots));
    roots
}

fn identity(
    certificate: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), BackendError> {
    let chain = certificates(&certificate.cert_pem)
        .map_err(|what| unusable(format!("`tls.crt` of `tls.clientCertificate` {what}")))?;
    // Without the parser's message: it may quote a line of the key.
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.expose_secret().as_bytes())
        .map_err(|_| unusable("`tls.key` of `tls.clientCertificate` contains no private key in PEM"))?;
    Ok((chain, key))
}

/// The certificates in the PEM text.
///
/// # Errors
/// The problem with the text, without quoting it.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| "contains PEM that can't be parsed")?;
    if certificates.is_empty() { Err("contains no certificate in PEM") } else { Ok(certificates) }
}

fn unusable(message: impl Into<String>) -> BackendError {
    BackendError::new(ErrorClass::Untrusted, message)
}

fn rejected(message: impl Into<String>) -> BackendError {
    BackendError::new(ErrorClass::Rejected, message)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn self_signed() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn with_client(cert_pem: String, key_pem: &str) -> HttpConfig {
        let client_certificate = Some(ClientCertificate { cert_pem, key_pem: key_pem.into() });
        HttpConfig { client_certificate, ..HttpConfig::default() }
    }

    #[rstest]
    #[case("", "`tls.caBundle` contains no certificate in PEM")]
    #[case("garbage", "`tls.caBundle` contains no certificate in PEM")]
    #[case(
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
        "`tls.caBundle` contains PEM that"
    )]
    #[case(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "`tls.caBundle` contains a certificate"
    )]
    fn refuses_a_bundle_that_is_none(#[case] pem: &str, #[case] words: &str) {
        let config = HttpConfig { ca_bundle: Some(pem.to_owned()), ..HttpConfig::default() };
        let error = client_config(&config).unwrap_err();
        assert_eq!(error.class, ErrorClass::Rejected);
        assert!(error.message.contains(words), "{error}");
    }

    #[test]
    fn takes_a_client_certificate() {
        let (cert, key) = self_signed();
        client_config(&with_client(cert, &key)).unwrap();
    }

    #[test]
    fn refuses_a_key_of_another_certificate() {
        let ((cert, _), (_, key)) = (self_signed(), self_signed());
        let error = client_config(&with_client(cert, &key)).unwrap_err();
        assert_eq!(error.class, ErrorClass::Untrusted);
        assert!(error.message.contains("is not the key of"), "{error}");
    }

    #[test]
    fn a_broken_key_is_not_quoted() {
        let (cert, _) = self_signed();
        let config = with_client(cert, "hunter2");
        let error = client_config(&config).unwrap_err();
        assert_eq!(error.class, ErrorClass::Untrusted);
        assert!(!format!("{error:?} {config:?}").contains("hunter2"));
    }
}
