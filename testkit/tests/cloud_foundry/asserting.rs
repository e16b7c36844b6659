//! A test that used the fake wrongly fails, even if it does not check for violations.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result};
use reqwest::{Certificate, Client, Method};
use testkit::cloud_foundry::{FakeCloudFoundry, Fault, ReservedPort, Route, Rule, TlsIdentity};

use crate::client::{KEYS, start};

/// The panic message when the fake is dropped.
fn drop_panics(cf: FakeCloudFoundry) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| drop(cf))).err()?;
    panic.downcast_ref::<String>().cloned()
}

#[tokio::test]
async fn dropping_the_fake_fails_the_test_of_a_client_that_broke_a_rule() -> Result<()> {
    let it = start().await?;
    it.bare(Method::GET, KEYS).send().await?;
    let message = drop_panics(it.cf).context("the drop panics")?;
    assert!(message.contains("call 0 broke Authorization"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_tolerated_breach_is_refused_and_forgiven() -> Result<()> {
    let it = start().await?;
    it.cf.tolerate(Rule::Authorization);
    assert_eq!(it.bare(Method::GET, KEYS).send().await?.status(), 401);
    assert_eq!(drop_panics(it.cf), None);
    Ok(())
}

#[tokio::test]
async fn a_fault_that_no_call_met_fails_the_test() -> Result<()> {
    let it = start().await?;
    it.cf.inject(Fault::Cut.on(Route::Delete));
    let message = drop_panics(it.cf).context("the drop panics")?;
    assert!(message.contains("no call met the fault Cut"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_late_call_that_never_arrives_fails_the_test() -> Result<()> {
    let it = start().await?;
    it.cf.inject(Fault::Late.on(Route::Create));
    assert!(it.create("a")?.send().await.is_err());
    let message = drop_panics(it.cf).context("the drop panics")?;
    assert!(message.contains("a late call was never released"), "{message}");
    Ok(())
}

#[tokio::test]
async fn both_hosts_serve_https_where_they_are_told_to() -> Result<()> {
    let _ = start().await?;
    let port = ReservedPort::take()?;
    let url = port.url().replace("http:", "https:");
    let cf = FakeCloudFoundry::builder().tls(TlsIdentity::trusted()?).port(port).start().await?;
    assert_eq!(cf.url(), url);
    let ca = Certificate::from_pem(cf.ca_pem().context("a bundle")?.as_bytes())?;
    let client = Client::builder().tls_certs_only([ca]).build()?;
    let root: serde_json::Value = client.get(cf.url()).send().await?.json().await?;
    let uaa = root["links"]["uaa"]["href"].as_str().context("a link")?;
    assert_eq!(uaa, cf.uaa_url());
    cf.tolerate(Rule::TokenForm);
    let refused = client.post(format!("{uaa}/oauth/token")).send().await?;
    assert_eq!(refused.status(), 400);
    Ok(())
}
