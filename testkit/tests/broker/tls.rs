//! Certificates that a client can trust, and ones that it must refuse.

use anyhow::{Context, Result};
use reqwest::Certificate;
use testkit::broker::{FakeBroker, Login, Rule, TlsIdentity};

use crate::client::http_client;

/// Whether a client that trusts the broker's bundle gets an answer.
async fn answers(identity: TlsIdentity) -> Result<bool> {
    let builder = FakeBroker::builder().login(Login::None).tolerate(Rule::ApiVersion);
    let broker = builder.tls(identity).start().await?;
    assert!(broker.url().starts_with("https://127.0.0.1:"));
    let ca = Certificate::from_pem(broker.ca_pem().context("a bundle")?.as_bytes())?;
    let client = http_client().tls_certs_only([ca]).build()?;
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
