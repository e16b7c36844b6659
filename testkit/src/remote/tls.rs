//! Certificates for fakes on https: valid ones, and invalid ones that clients must refuse. A fake can also demand a
//! certificate from its clients.

use std::{fmt, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

/// The certificate of a fake, and the CA that its clients trust.
pub struct TlsIdentity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    ca_pem: String,
    /// The CA of the clients' certificates, if clients need one.
    clients: Option<String>,
}

/// A certificate can't be created.
#[derive(Debug, thiserror::Error)]
#[error("can't create a certificate")]
pub struct TlsError(#[from] rcgen::Error);

impl TlsIdentity {
    /// A certificate for `127.0.0.1` and `localhost`, issued by the CA of [`Self::ca_pem`].
    ///
    /// # Errors
    /// The certificate can't be created.
    pub fn trusted() -> Result<Self, TlsError> {
        Self::issue(certificate_for(&["127.0.0.1", "localhost"])?)
    }

    /// A certificate by the right CA for another host.
    ///
    /// # Errors
    /// The certificate can't be created.
    pub fn wrong_host_name() -> Result<Self, TlsError> {
        Self::issue(certificate_for(&["elsewhere.example.com"])?)
    }

    /// An expired certificate by the right CA for the right host.
    ///
    /// # Errors
    /// The certificate can't be created.
    pub fn expired() -> Result<Self, TlsError> {
        let mut params = certificate_for(&["127.0.0.1", "localhost"])?;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        Self::issue(params)
    }

    /// A certificate for the right host by another CA than that of [`Self::ca_pem`].
    ///
    /// # Errors
    /// The certificate can't be created.
    pub fn unknown_ca() -> Result<Self, TlsError> {
        let Self { ca_pem, .. } = Self::trusted()?;
        Ok(Self { ca_pem, ..Self::trusted()? })
    }

    /// Demands a certificate by this CA from clients (mutual TLS). A self-signed certificate is its own CA.
    #[must_use]
    pub fn for_clients_of(mut self, authority_pem: impl Into<String>) -> Self {
        self.clients = Some(authority_pem.into());
        self
    }

    /// The CA bundle that clients must trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    fn issue(params: CertificateParams) -> Result<Self, TlsError> {
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate()?;
        let ca_pem = ca.self_signed(&ca_key)?.pem();
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key))?.into();
        Ok(Self { certificate, key, ca_pem, clients: None })
    }

    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let crypto = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&crypto)).with_safe_default_protocol_versions()?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(roots(authority)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, crypto).build();
                builder.with_client_cert_verifier(verifier.map_err(unusable)?)
            }
        };
        let config = builder.with_single_cert(vec![self.certificate.clone()], key.into())?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn roots(authority_pem: &str) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority_pem.as_bytes()).map_err(unusable)?)?;
    Ok(roots)
}

fn unusable(error: impl fmt::Display) -> rustls::Error {
    rustls::Error::General(format!("can't use the CA of the clients: {error}"))
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}

fn certificate_for(hosts: &[&str]) -> Result<CertificateParams, TlsError> {
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts)?;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
