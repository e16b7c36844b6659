//! Rate limits: the remote side's own, and the one that a test sets for a client.

use std::{
    num::NonZeroU32,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use reqwest::{Method, Response};
use testkit::cloud_foundry::{FakeCloudFoundry, RateLimit, Rule};

use crate::client::{KEYS, answer, start, start_with};

fn number(response: &Response, header: &str) -> Result<u64> {
    Ok(response.headers().get(header).context("a header")?.to_str()?.parse()?)
}

#[tokio::test]
async fn the_cloud_controller_counts_and_says_so() -> Result<()> {
    let it = start().await?;
    it.cf.limit_rate(Some(RateLimit { requests: 2, window: Duration::from_secs(60) }));
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    for remaining in [1, 0] {
        let response = it.call(Method::GET, KEYS).send().await?;
        assert_eq!(response.status(), 200);
        assert_eq!(number(&response, "x-ratelimit-limit")?, 2);
        assert_eq!(number(&response, "x-ratelimit-remaining")?, remaining);
        assert!((now + 60..=now + 90).contains(&number(&response, "x-ratelimit-reset")?));
    }
    let response = it.create("a")?.send().await?;
    assert_eq!(response.status(), 429);
    assert_eq!(number(&response, "retry-after")?, number(&response, "x-ratelimit-reset")?);
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    let (_, body) = answer(response).await?;
    assert_eq!(body["errors"][0]["code"], 10013);
    assert_eq!(it.cf.keys(), []);
    assert_eq!(it.cf.violations(), [], "a client can't know");
    // Calls of the root and of the UAA do not count.
    assert_eq!(it.bare(Method::GET, "/").send().await?.status(), 200);
    it.cf.limit_rate(None);
    assert_eq!(it.create("a")?.send().await?.status(), 202);
    Ok(())
}

#[tokio::test]
async fn a_window_ends_when_it_says() -> Result<()> {
    let it = start().await?;
    it.cf.limit_rate(Some(RateLimit { requests: 1, window: Duration::ZERO }));
    assert_eq!(it.call(Method::GET, KEYS).send().await?.status(), 200);
    loop {
        let response = it.call(Method::GET, KEYS).send().await?;
        if response.status() == 200 {
            return Ok(());
        }
        let reset = Duration::from_secs(number(&response, "x-ratelimit-reset")?);
        // This test needs the clock: the limit depends on it.
        let wait = reset.saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH)?);
        assert!(wait <= Duration::from_secs(1));
        tokio::time::sleep(wait).await;
    }
}

#[tokio::test]
async fn a_client_is_held_to_its_budget() -> Result<()> {
    let limit = NonZeroU32::new(1).context("a number")?;
    let it = start_with(FakeCloudFoundry::builder().limit(limit)).await?;
    assert_eq!(it.call(Method::GET, KEYS).send().await?.status(), 200);
    let (status, code, _) = it.error(it.call(Method::GET, KEYS)).await?;
    assert_eq!((status, code), (429, 10013));
    assert_eq!(it.cf.take_violations()[0].rule, Rule::RateLimit);
    Ok(())
}
