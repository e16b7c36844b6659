//! Certificates for a broker on https: one that a client can trust, and ones that it must not.

use std::{fmt, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

/// The certificate that a broker shows, and the CA that its clients are told to trust.
pub struct TlsIdentity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    ca_pem: String,
}

/// A certificate can't be made.
#[derive(Debug, thiserror::Error)]
#[error("can't make a certificate for the fake broker")]
pub struct TlsError(#[from] rcgen::Error);

impl TlsIdentity {
    /// A certificate for `127.0.0.1` and `localhost`, issued by the CA of [`Self::ca_pem`].
    ///
    /// # Errors
    /// The certificate can't be made.
    pub fn trusted() -> Result<Self, TlsError> {
        Self::issue(certificate_for(&["127.0.0.1", "localhost"])?)
    }

    /// A certificate of the right CA for another host.
    ///
    /// # Errors
    /// The certificate can't be made.
    pub fn wrong_host_name() -> Result<Self, TlsError> {
        Self::issue(certificate_for(&["elsewhere.example.com"])?)
    }

    /// A certificate of the right CA and host whose time is over.
    ///
    /// # Errors
    /// The certificate can't be made.
    pub fn expired() -> Result<Self, TlsError> {
        let mut params = certificate_for(&["127.0.0.1", "localhost"])?;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        Self::issue(params)
    }

    /// A certificate for the right host, of another CA than that of [`Self::ca_pem`].
    ///
    /// # Errors
    /// The certificate can't be made.
    pub fn unknown_ca() -> Result<Self, TlsError> {
        let Self { ca_pem, .. } = Self::trusted()?;
        Ok(Self { ca_pem, ..Self::trusted()? })
    }

    /// The bundle that clients are to trust.
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
        Ok(Self { certificate, key, ca_pem })
    }

    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key.into())?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
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
