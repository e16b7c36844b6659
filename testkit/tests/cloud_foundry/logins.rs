//! The UAA: the grants, the lifetime of tokens, and the refusals.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::cloud_foundry::{FakeCloudFoundry, Grant, Login, RefreshTokens, Route, Rule};

use crate::client::{Fixture, answer, start, start_with};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ALICE: [(&str, &str); 3] =
    [("grant_type", "password"), ("username", "alice"), ("password", "cf-password")];

fn refresh(token: &str) -> [(&str, &str); 2] {
    [("grant_type", "refresh_token"), ("refresh_token", token)]
}

fn text<'a>(body: &'a Value, field: &str) -> Result<&'a str> {
    body[field].as_str().with_context(|| format!("`{field}` in {body}"))
}

impl Fixture {
    /// The status of the Cloud Controller's answer to a caller with this token.
    async fn status_for(&self, token: &str) -> Result<u16> {
        let request = self.bare(Method::GET, "/v3/organizations").bearer_auth(token);
        Ok(request.send().await?.status().as_u16())
    }

    fn broken(&self) -> Vec<Rule> {
        self.cf.take_violations().iter().map(|violation| violation.rule).collect()
    }
}

#[tokio::test]
async fn a_user_logs_in_with_a_password() -> Result<()> {
    let it = start().await?;
    let (status, body) = it.ask_uaa(&ALICE).await?;
    assert_eq!((status, &body["token_type"], &body["expires_in"]), (200, &json!("bearer"), &json!(3600)));
    assert_eq!(it.status_for(text(&body, "access_token")?).await?, 200);
    assert_eq!(it.cf.granted(Grant::Password), 1);
    assert_eq!(it.cf.calls()[1].login.as_deref(), Some("alice"));
    assert_eq!(it.cf.calls()[0].grant, Some(Grant::Password));
    Ok(())
}

#[tokio::test]
async fn a_user_of_another_identity_provider_names_it() -> Result<()> {
    let bob = Login::user("bob", "secret").origin("ldap");
    let it = start_with(FakeCloudFoundry::builder().login(bob).tolerate(Rule::Password)).await?;
    let bob = [("grant_type", "password"), ("username", "bob"), ("password", "secret")];
    let with_hint = |hint: &'static str| [&bob[..], &[("login_hint", hint)]].concat();
    assert_eq!(it.ask_uaa(&with_hint(r#"{"origin":"ldap"}"#)).await?.0, 200);
    assert_eq!(it.ask_uaa(&bob).await?.0, 401);
    assert_eq!(it.ask_uaa(&with_hint(r#"{"origin":"uaa"}"#)).await?.0, 401);
    let (status, body) = it.ask_uaa(&with_hint(r#"{"origin":"saml"}"#)).await?;
    assert_eq!(status, 401);
    assert!(text(&body, "error_description")?.contains("does not match an active Identity Provider"));
    assert_eq!(it.ask_uaa(&with_hint("ldap")).await?.0, 400);
    assert_eq!(it.broken(), [Rule::TokenForm]);
    Ok(())
}

#[tokio::test]
async fn a_client_logs_in_by_itself_and_gets_no_refresh_token() -> Result<()> {
    let it = start().await?;
    let request = it.uaa_as(("operator", "client-secret"), &[("grant_type", "client_credentials")]);
    let (status, body) = answer(request.send().await?).await?;
    assert_eq!((status, &body["refresh_token"]), (200, &Value::Null));
    assert_eq!(it.status_for(text(&body, "access_token")?).await?, 200);
    assert_eq!(it.cf.granted(Grant::ClientCredentials), 1);
    Ok(())
}

/// The UAA refuses a client that encodes its secret without the header, and one that sends the header without encoding.
#[tokio::test]
async fn a_client_says_whether_its_secret_is_encoded() -> Result<()> {
    let login = Login::client("odd", "50%25+:\u{e9}");
    let it = start_with(FakeCloudFoundry::builder().login(login).tolerate(Rule::Client)).await?;
    let ask = async |secret: &str, encoded: bool| {
        let request = it.uaa_as(("odd", secret), &[("grant_type", "client_credentials")]);
        let request = if encoded { request.header("X-CF-ENCODED-CREDENTIALS", "true") } else { request };
        Ok::<_, anyhow::Error>(request.send().await?.status().as_u16())
    };
    assert_eq!(ask("50%2525%2B%3A%C3%A9", true).await?, 200);
    assert_eq!(ask("50%2525%2B%3A%C3%A9", false).await?, 401);
    assert_eq!(ask("50%25+:\u{e9}", false).await?, 200);
    assert_eq!(ask("50%25+:\u{e9}", true).await?, 401);
    Ok(())
}

#[tokio::test]
async fn an_assertion_stands_for_a_user() -> Result<()> {
    let it = start().await?;
    let assertion = it.cf.issue_assertion("alice");
    let (status, body) = it.ask_uaa(&[("grant_type", JWT_BEARER), ("assertion", &assertion)]).await?;
    assert_eq!(status, 200);
    assert_eq!(it.status_for(text(&body, "access_token")?).await?, 200);
    let (status, body) = it.ask_uaa(&[("grant_type", JWT_BEARER), ("assertion", "a.b.c")]).await?;
    assert_eq!((status, &body["error"]), (401, &json!("invalid_grant")));
    Ok(())
}

#[tokio::test]
async fn a_refresh_token_lasts_until_it_is_revoked() -> Result<()> {
    let it = start().await?;
    let (_, body) = it.ask_uaa(&ALICE).await?;
    let token = text(&body, "refresh_token")?;
    for _ in 0..2 {
        let (status, again) = it.ask_uaa(&refresh(token)).await?;
        assert_eq!((status, text(&again, "refresh_token")?), (200, token));
        assert_ne!(again["access_token"], body["access_token"]);
    }
    it.cf.revoke_refresh_tokens();
    let (status, refused) = it.ask_uaa(&refresh(token)).await?;
    assert_eq!((status, &refused["error"]), (401, &json!("invalid_token")));
    assert_eq!(it.cf.granted(Grant::RefreshToken), 2);
    Ok(())
}

#[tokio::test]
async fn a_rotating_refresh_token_can_be_used_once() -> Result<()> {
    let builder = FakeCloudFoundry::builder().refresh_tokens(RefreshTokens::Rotating);
    let it = start_with(builder).await?;
    let (_, first) = it.ask_uaa(&ALICE).await?;
    let (status, second) = it.ask_uaa(&refresh(text(&first, "refresh_token")?)).await?;
    assert_eq!(status, 200);
    assert_eq!(it.ask_uaa(&refresh(text(&first, "refresh_token")?)).await?.0, 401);
    assert_eq!(it.ask_uaa(&refresh(text(&second, "refresh_token")?)).await?.0, 200);
    it.cf.change_refresh_tokens(RefreshTokens::None);
    assert_eq!(it.ask_uaa(&ALICE).await?.1["refresh_token"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn a_new_password_ends_refresh_tokens_but_not_access_tokens() -> Result<()> {
    let it = start().await?;
    let (_, body) = it.ask_uaa(&ALICE).await?;
    it.cf.change_secret("alice", "new-password");
    assert_eq!(it.ask_uaa(&refresh(text(&body, "refresh_token")?)).await?.0, 401);
    assert_eq!(it.status_for(text(&body, "access_token")?).await?, 200);
    let (status, body) = it.ask_uaa(&ALICE).await?;
    assert_eq!((status, &body["error_description"]), (401, &json!("Bad credentials")));
    assert_eq!(it.broken(), [Rule::Password]);
    Ok(())
}

#[tokio::test]
async fn a_token_expires_which_its_client_should_have_known() -> Result<()> {
    let it = start_with(FakeCloudFoundry::builder().token_lifetime(Duration::ZERO)).await?;
    let (_, body) = it.ask_uaa(&ALICE).await?;
    assert_eq!(body["expires_in"], 0);
    assert_eq!(it.status_for(text(&body, "access_token")?).await?, 401);
    assert_eq!(it.broken(), [Rule::FreshToken]);
    it.cf.change_token_lifetime(Duration::from_secs(600));
    let (_, body) = it.ask_uaa(&ALICE).await?;
    assert_eq!(body["expires_in"], 600);
    assert_eq!(it.status_for(text(&body, "access_token")?).await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_revoked_is_nobodys_fault() -> Result<()> {
    let it = start().await?;
    it.cf.revoke_tokens();
    let (status, code, detail) = it.error(it.call(Method::GET, "/v3/organizations")).await?;
    assert_eq!((status, code, detail.as_str()), (401, 1000, "Invalid Auth Token"));
    assert_eq!(it.broken(), []);
    Ok(())
}

#[tokio::test]
async fn a_token_can_be_read_as_a_jwt() -> Result<()> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let it = start().await?;
    let claims = it.token.split('.').nth(1).context("three parts")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    assert_eq!(claims["sub"], "alice");
    let lifetime = claims["exp"].as_u64().zip(claims["iat"].as_u64()).map(|(exp, iat)| exp - iat);
    assert_eq!(lifetime, Some(3600));
    Ok(())
}

#[tokio::test]
async fn who_asks_the_uaa_wrongly_gets_no_token() -> Result<()> {
    let it = start().await?;
    let own = [("grant_type", "client_credentials")];
    let wrong = [
        (Rule::Client, 401, "invalid_client", it.uaa_as(("operator", "guess"), &own)),
        (Rule::Client, 401, "invalid_client", it.uaa_as(("cf", "guess"), &ALICE)),
        (Rule::GrantType, 401, "invalid_client", it.uaa_as(("cf", ""), &own)),
        (Rule::GrantType, 401, "invalid_client", it.uaa_as(("operator", "client-secret"), &ALICE)),
        (
            Rule::GrantType,
            400,
            "unsupported_grant_type",
            it.uaa_as(("cf", ""), &[("grant_type", "implicit")]),
        ),
        (Rule::TokenForm, 400, "invalid_request", it.uaa_as(("cf", ""), &ALICE[..2])),
        (
            Rule::TokenForm,
            400,
            "invalid_request",
            it.uaa_as(("cf", ""), &[&ALICE[..], &[("totp", "1")]].concat()),
        ),
        (Rule::TokenForm, 400, "invalid_request", it.uaa_as(("cf", ""), &[&ALICE[..], &ALICE[..]].concat())),
        (
            Rule::Client,
            400,
            "invalid_request",
            it.uaa_as(("cf", ""), &[&ALICE[..], &[("client_id", "cf")]].concat()),
        ),
        (
            Rule::Password,
            401,
            "unauthorized",
            it.uaa_as(("cf", ""), &[ALICE[0], ALICE[1], ("password", "guess")]),
        ),
    ];
    let token_url = format!("{}/oauth/token", it.cf.uaa_url());
    let form = |query| it.client.post(format!("{token_url}{query}")).body("grant_type=client_credentials");
    let form_type = "application/x-www-form-urlencoded";
    let more = [
        (Rule::TokenForm, 400, "invalid_request", form("?password=x").header("content-type", form_type)),
        (Rule::TokenForm, 400, "invalid_request", form("").header("content-type", "text/plain")),
        (Rule::Client, 401, "unauthorized", form("").header("content-type", form_type)),
    ];
    let wrong: Vec<_> = wrong.into_iter().chain(more).collect();
    let count = wrong.len();
    for (rule, status, error, request) in wrong {
        let (seen, body) = answer(request.send().await?).await?;
        assert_eq!((it.broken(), seen, &body["error"]), (vec![rule], status, &json!(error)), "{body}");
    }
    assert_eq!(it.cf.count(Route::Token), count);
    assert!([Grant::Password, Grant::ClientCredentials].map(|grant| it.cf.granted(grant)) == [0, 0]);
    Ok(())
}

#[tokio::test]
async fn secrets_and_tokens_are_in_no_debug_output() -> Result<()> {
    let it = start().await?;
    it.ask_uaa(&ALICE).await?;
    it.create("a")?.send().await?;
    let shown =
        format!("{:?} {:?} {:?} {:?}", it.cf, it.cf.calls(), it.cf.keys(), FakeCloudFoundry::builder());
    let secrets = ["cf-password", "client-secret", "read-only", "p@ss/"];
    assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
    assert!(it.cf.tokens().len() >= 3);
    assert!(it.cf.tokens().iter().all(|token| !shown.contains(token)), "{shown}");
    Ok(())
}
