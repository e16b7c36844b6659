//! Certificates that a client can trust, and others that it must refuse.

use anyhow::{Context, Result};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use reqwest::{Certificate, Identity};
use testkit::broker::{FakeBroker, Login, Rule, TlsIdentity};

use crate::client::http_client;

/// Whether a client that trusts the broker's bundle gets an answer.
async fn answers(identity: TlsIdentity) -> Result<bool> {
    answers_to(identity, None).await
}

/// The same for a client that sends this certificate.
async fn answers_to(identity: TlsIdentity, shown: Option<&CertifiedKey<KeyPair>>) -> Result<bool> {
    let builder = FakeBroker::builder().login(Login::None).tolerate(Rule::ApiVersion);
    let broker = builder.tls(identity).start().await?;
    assert!(broker.url().starts_with("https://127.0.0.1:"));
    let ca = Certificate::from_pem(broker.ca_pem().context("a bundle")?.as_bytes())?;
    let mut client = http_client().tls_certs_only([ca]);
    if let Some(CertifiedKey { cert, signing_key }) = shown {
        let pem = format!("{}{}", cert.pem(), signing_key.serialize_pem());
        client = client.identity(Identity::from_pem(pem.as_bytes())?);
    }
    let client = client.build()?;
    let answered = client.get(format!("{}/v2/catalog", broker.url())).send().await.is_ok();
    assert_eq!(broker.calls().len(), usize::from(answered));
    Ok(answered)
}

#[tokio::test]
async fn a_trusted_certificate_is_accepted() -> Result<()> {
    assert!(answers(TlsIdentity::trusted()?).await?);
    Ok(())
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() -> Result<()> {
    assert!(!answers(TlsIdentity::unknown_ca()?).await?);
    Ok(())
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() -> Result<()> {
    assert!(!answers(TlsIdentity::wrong_host_name()?).await?);
    Ok(())
}

#[tokio::test]
async fn an_expired_certificate_is_refused() -> Result<()> {
    assert!(!answers(TlsIdentity::expired()?).await?);
    Ok(())
}

#[tokio::test]
async fn a_client_without_the_right_certificate_is_refused() -> Result<()> {
    let [mine, other] = ["me", "somebody-else"].map(|name| generate_simple_self_signed([name.to_owned()]));
    let (mine, other) = (mine?, other?);
    let broker = || anyhow::Ok(TlsIdentity::trusted()?.for_clients_of(mine.cert.pem()));
    assert!(answers_to(broker()?, Some(&mine)).await?);
    assert!(!answers_to(broker()?, Some(&other)).await?);
    assert!(!answers_to(broker()?, None).await?);
    Ok(())
}
