//! A test that used the fake wrongly fails, even if it does not check for violations.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result};
use reqwest::{Certificate, Client, Method};
use testkit::ibm_cloud::{FakeIbmCloud, Fault, Login, ReservedPort, Route, Rule, StartError, TlsIdentity};

use crate::client::{KEYS, start};

/// The panic message when the fake is dropped.
fn drop_panics(ibm: FakeIbmCloud) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| drop(ibm))).err()?;
    panic.downcast_ref::<String>().cloned()
}

#[tokio::test]
async fn dropping_the_fake_fails_the_test_of_a_client_that_broke_a_rule() -> Result<()> {
    let it = start().await?;
    it.bare(Method::GET, KEYS).send().await?;
    let message = drop_panics(it.ibm).context("the drop panics")?;
    assert!(message.contains("the fake IBM Cloud complains"), "{message}");
    assert!(message.contains("call 0 broke Authorization"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_tolerated_breach_is_refused_and_forgiven() -> Result<()> {
    let it = start().await?;
    it.ibm.tolerate(Rule::Authorization);
    assert_eq!(it.bare(Method::GET, KEYS).send().await?.status(), 401);
    assert_eq!(drop_panics(it.ibm), None);
    Ok(())
}

#[tokio::test]
async fn a_fault_that_no_call_met_fails_the_test() -> Result<()> {
    let it = start().await?;
    it.ibm.inject(Fault::Cut.on(Route::DeleteKey));
    let message = drop_panics(it.ibm).context("the drop panics")?;
    assert!(message.contains("no call met the fault Cut"), "{message}");
    Ok(())
}

#[tokio::test]
async fn both_hosts_serve_https_where_they_are_told_to() -> Result<()> {
    let _ = start().await?;
    let port = ReservedPort::take()?;
    let url = port.url().replace("http:", "https:");
    let ibm = FakeIbmCloud::builder().tls(TlsIdentity::trusted()?).port(port).start().await?;
    assert_eq!(ibm.url(), url);
    let ca = Certificate::from_pem(ibm.ca_pem().context("a bundle")?.as_bytes())?;
    let client = Client::builder().tls_certs_only([ca]).build()?;
    let token = ibm.issue_token("alice");
    for url in [format!("{}{KEYS}", ibm.url()), format!("{}/v2/roles", ibm.iam_url())] {
        assert_eq!(client.get(url).bearer_auth(&token).send().await?.status(), 200);
    }
    Ok(())
}

#[tokio::test]
async fn logins_have_names_of_their_own() -> Result<()> {
    let started = FakeIbmCloud::builder().login(Login::api_key("alice", "another")).start().await;
    assert!(matches!(started, Err(StartError::Login(name)) if name == "alice"));
    Ok(())
}
