//! The keys of one plane: a certificate authority that only its clients trust, the API server's certificate, and the
//! key that signs service account tokens.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Keys and certificates, in PEM unless a name states another form.
pub(super) struct Certificates {
    pub(super) authority: String,
    pub(super) authority_der: Vec<u8>,
    pub(super) server_certificate: String,
    pub(super) server_key: String,
    pub(super) service_account_key: String,
    pub(super) service_account_public_key: String,
}

impl Certificates {
    /// Creates new keys and certificates.
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        authority.distinguished_name.push(DnType::CommonName, "testkit control plane");
        let authority_certificate = authority.self_signed(&authority_key)?;

        let server_key = KeyPair::generate()?;
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
        let mut server = CertificateParams::new(names)?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let server_certificate = server.signed_by(&server_key, &Issuer::new(authority, authority_key))?;

        let service_account_key = KeyPair::generate()?;
        Ok(Self {
            authority: authority_certificate.pem(),
            authority_der: authority_certificate.der().to_vec(),
            server_certificate: server_certificate.pem(),
            server_key: server_key.serialize_pem(),
            service_account_key: service_account_key.serialize_pem(),
            service_account_public_key: service_account_key.public_key_pem(),
        })
    }
}
