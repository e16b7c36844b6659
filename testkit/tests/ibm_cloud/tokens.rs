//! Tokens: the logins that get one, the grants, and the lifetime.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use testkit::ibm_cloud::{FakeIbmCloud, Grant, Login, Rule};

use crate::client::{KEYS, answer, start, start_with};

const API_KEY: (&str, &str) = ("grant_type", "urn:ibm:params:oauth:grant-type:apikey");
const CR_TOKEN: (&str, &str) = ("grant_type", "urn:ibm:params:oauth:grant-type:cr-token");

#[tokio::test]
async fn an_api_key_gets_a_token() -> Result<()> {
    let mut it = start().await?;
    let (status, token) =
        it.ask_iam(&[API_KEY, ("apikey", "ibm-api-key"), ("response_type", "cloud_iam")]).await?;
    assert_eq!((status, &token["token_type"], &token["expires_in"]), (200, &json!("Bearer"), &json!(3600)));
    assert_eq!(token["refresh_token"], "not_supported");
    assert!(token["expiration"].as_u64() > Some(1_700_000_000));
    token["access_token"].as_str().context("a token")?.clone_into(&mut it.token);
    let payload = it.token.split('.').nth(1).context("a JWT")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
    assert_eq!(claims["account"]["bss"], json!(it.ibm.account_id()));
    assert!(claims["iam_id"].as_str().is_some_and(|id| id.starts_with("IBMid-")));
    assert_eq!(it.get(KEYS).await?.0, 200);
    assert_eq!((it.ibm.granted(Grant::ApiKey), it.ibm.tokens().len()), (1, 2));
    let calls = it.ibm.calls();
    assert_eq!((calls[0].grant, &calls[0].body), (Some(Grant::ApiKey), &None));
    assert_eq!(calls[1].login.as_deref(), Some("alice"));
    Ok(())
}

#[tokio::test]
async fn a_trusted_profile_is_taken_on_by_id_or_name() -> Result<()> {
    let it = start_with(FakeIbmCloud::builder().login(Login::profile("pods", "a-token"))).await?;
    let id = it.ibm.profile_id("pods").context("an id")?;
    for profile in [("profile_id", id.as_str()), ("profile_name", "pods")] {
        assert_eq!(it.ask_iam(&[CR_TOKEN, ("cr_token", "a-token"), profile]).await?.0, 200);
    }
    it.ibm.change_secret("pods", "a-newer-token");
    it.ibm.tolerate(Rule::Secret);
    let (status, refused) =
        it.ask_iam(&[CR_TOKEN, ("cr_token", "a-token"), ("profile_name", "pods")]).await?;
    assert_eq!(status, 400, "{refused}");
    assert_eq!(
        it.ask_iam(&[CR_TOKEN, ("cr_token", "a-newer-token"), ("profile_name", "pods")]).await?.0,
        200
    );
    assert_eq!(it.ibm.granted(Grant::ComputeResource), 3);
    Ok(())
}

#[tokio::test]
async fn a_wrong_secret_gets_nothing() -> Result<()> {
    let it = start().await?;
    let (status, refused) = it.ask_iam(&[API_KEY, ("apikey", "guess")]).await?;
    assert_eq!((status, &refused["errorCode"]), (400, &json!("BXNIM0415E")));
    assert_eq!(refused["errorMessage"], "Provided API key could not be found.");
    assert!(refused["context"]["requestId"].is_string());
    // The token of a profile's compute resource is not an API key.
    assert_eq!(it.ask_iam(&[API_KEY, ("apikey", "service-account-token")]).await?.0, 400);
    let form = [CR_TOKEN, ("cr_token", "service-account-token"), ("profile_name", "alice")];
    assert_eq!(it.ask_iam(&form).await?.0, 400);
    let rules: Vec<_> = it.ibm.take_violations().iter().map(|violation| violation.rule).collect();
    assert_eq!(rules, [Rule::Secret; 3]);
    Ok(())
}

#[tokio::test]
async fn a_request_for_a_token_is_a_form_of_known_parameters() -> Result<()> {
    let it = start().await?;
    let wrong: [(&[_], Rule); 8] = [
        (&[], Rule::TokenForm),
        (&[API_KEY], Rule::TokenForm),
        (&[API_KEY, ("apikey", "a"), ("apikey", "b")], Rule::TokenForm),
        (&[API_KEY, ("apikey", "a"), ("client", "b")], Rule::TokenForm),
        (&[API_KEY, ("apikey", "a"), ("profile_id", "b")], Rule::TokenForm),
        (&[CR_TOKEN, ("cr_token", "a")], Rule::TokenForm),
        (&[API_KEY, ("apikey", "a"), ("response_type", "uaa")], Rule::TokenForm),
        (&[("grant_type", "password")], Rule::GrantType),
    ];
    for (form, rule) in wrong {
        assert_eq!(it.ask_iam(form).await?.0, 400, "{form:?}");
        assert_eq!(it.ibm.take_violations()[0].rule, rule, "{form:?}");
    }
    let json = it.token_request(&[]).header("content-type", "application/json").body("{}");
    assert_eq!(answer(json.send().await?).await?.0, 400);
    assert_eq!(it.ibm.take_violations()[0].rule, Rule::TokenForm);
    Ok(())
}

#[tokio::test]
async fn a_token_ends() -> Result<()> {
    let mut it = start().await?;
    it.ibm.change_token_lifetime(Duration::ZERO);
    it.token = it.ibm.issue_token("alice");
    let (status, refused) = it.get(KEYS).await?;
    assert_eq!((status, &refused["message"]), (401, &json!("Token is expired")));
    assert_eq!(refused["error_code"], "RC-IamErrorResponse");
    assert_eq!(it.ibm.take_violations()[0].rule, Rule::FreshToken);

    it.ibm.change_token_lifetime(Duration::from_secs(60));
    it.token = it.ibm.issue_token("alice");
    assert_eq!(it.get(KEYS).await?.0, 200);
    it.ibm.revoke_tokens();
    assert_eq!(it.get(KEYS).await?.0, 401);
    assert_eq!(it.get("/v2/roles").await?.0, 401);
    assert_eq!(it.ibm.violations(), [], "the client could not know");
    Ok(())
}
