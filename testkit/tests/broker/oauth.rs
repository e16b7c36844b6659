//! The token endpoint, and the broker that admits callers with its tokens.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::{
    broker::{FakeBroker, Login, Moment, Rule, StatusCode, TlsIdentity},
    token_server::{Builder, Fault, GrantRule, Route, TokenServer},
};

use crate::client::{Fixture, answer, http_client, start_with};

const IN_BODY: &str = "grant_type=client_credentials&client_id=operator&client_secret=client-secret";
const BARE: &str = "grant_type=client_credentials";

/// A token server, and a client.
struct Desk {
    server: TokenServer,
    client: Client,
}

async fn start() -> Result<Desk> {
    start_desk(TokenServer::builder()).await
}

async fn start_desk(builder: Builder) -> Result<Desk> {
    Ok(Desk { server: builder.start().await?, client: http_client().build()? })
}

impl Desk {
    /// A request with this form as its body.
    fn ask(&self, form: &str) -> RequestBuilder {
        self.client
            .post(self.server.url())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned())
    }

    async fn token(&self) -> Result<String> {
        let (status, body) = answer(self.ask(IN_BODY).send().await?).await?;
        assert_eq!(status, 200);
        Ok(body["access_token"].as_str().context("a token")?.to_owned())
    }

    /// Sends a request that breaks exactly this rule and gets no token.
    async fn breaks(&self, rule: GrantRule, status: u16, error: &str, request: RequestBuilder) -> Result<()> {
        let grants = self.server.grants();
        let (seen, body) = answer(request.send().await?).await?;
        let violations = self.server.take_violations();
        let rules: Vec<_> = violations.iter().map(|violation| violation.rule).collect();
        assert_eq!((rules.as_slice(), seen, &body["error"]), (&[rule][..], status, &json!(error)), "{body}");
        assert!(!format!("{violations:?}{body}").contains("client-secret"));
        assert_eq!(self.server.grants(), grants);
        Ok(())
    }
}

impl Fixture {
    /// The status of the broker's answer to a caller with this token.
    async fn status_for(&self, token: &str) -> Result<u16> {
        let mut request = self.call(Method::GET, "/v2/catalog").build()?;
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
        Ok(self.client.execute(request).await?.status().as_u16())
    }
}

#[tokio::test]
async fn a_client_logs_in_by_its_body_or_by_basic_authentication() -> Result<()> {
    let it = start().await?;
    let response = it.ask(IN_BODY).send().await?;
    assert_eq!(response.headers()["cache-control"], "no-store");
    let (status, in_body) = answer(response).await?;
    assert_eq!(
        (status, &in_body["token_type"], &in_body["expires_in"]),
        (200, &json!("bearer"), &json!(3600))
    );

    let basic = it.ask(BARE).basic_auth("operator", Some("client-secret"));
    let (status, by_header) = answer(basic.send().await?).await?;
    assert_eq!(status, 200);
    assert_ne!(in_body["access_token"], by_header["access_token"]);
    assert_eq!((it.server.requests(), it.server.grants()), (2, 2));
    let tokens = [&in_body, &by_header].map(|body| body["access_token"].clone());
    assert_eq!(json!(it.server.tokens()), json!(tokens));
    it.server.wait_for_grants(2).await?;
    Ok(())
}

#[tokio::test]
async fn basic_authentication_form_encodes_id_and_secret() -> Result<()> {
    let it = start_desk(TokenServer::builder().client("op:1", "a+b =&%c")).await?;
    let basic = it.ask(BARE).basic_auth("op%3A1", Some("a%2Bb+%3D%26%25c"));
    assert_eq!(basic.send().await?.status(), 200);
    let raw = it.ask(BARE).basic_auth("op%3A1", Some("a+b =&%c"));
    it.breaks(GrantRule::Authentication, 400, "invalid_request", raw).await?;
    let in_body = format!("{BARE}&client_id=op%3A1&client_secret=a%2Bb+%3D%26%25c");
    assert_eq!(it.ask(&in_body).send().await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn a_client_logs_in_in_one_way() -> Result<()> {
    let it = start().await?;
    let refused = GrantRule::Authentication;
    it.breaks(refused, 401, "invalid_client", it.ask(BARE)).await?;
    it.breaks(refused, 401, "invalid_client", it.ask(&format!("{BARE}&client_id=operator"))).await?;
    let both = it.ask(IN_BODY).basic_auth("operator", Some("client-secret"));
    it.breaks(refused, 400, "invalid_request", both).await?;
    let half = it.ask(&format!("{BARE}&client_id=operator")).basic_auth("operator", Some("client-secret"));
    it.breaks(refused, 400, "invalid_request", half).await?;
    for header in ["Bearer client-secret", "Basic", "Basic !", &format!("Basic {}", STANDARD.encode("x"))] {
        let request = it.ask(BARE).header("authorization", header);
        it.breaks(refused, 400, "invalid_request", request).await?;
    }
    Ok(())
}

#[tokio::test]
async fn id_and_secret_have_to_be_right() -> Result<()> {
    let it = start().await?;
    for form in [IN_BODY.replace("client-secret", "guess"), IN_BODY.replace("operator", "somebody")] {
        it.breaks(GrantRule::Client, 401, "invalid_client", it.ask(&form)).await?;
    }
    it.server.change_secret("another-secret");
    it.server.tolerate(GrantRule::Client);
    let basic = it.ask(BARE).basic_auth("operator", Some("client-secret"));
    let response = basic.send().await?;
    assert_eq!(response.status(), 401);
    assert!(response.headers().contains_key("www-authenticate"));
    assert_eq!(it.server.violations(), [], "it is tolerated");
    let basic = it.ask(BARE).basic_auth("operator", Some("another-secret"));
    assert_eq!(basic.send().await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn a_request_is_what_the_specification_says() -> Result<()> {
    let it = start().await?;
    let url = it.server.url();
    let elsewhere = [
        it.client.get(&url),
        it.client.post(format!("{url}?grant_type=client_credentials")),
        it.client.post(format!("{url}/")),
    ];
    for request in elsewhere {
        it.breaks(GrantRule::Endpoint, 404, "invalid_request", request).await?;
    }
    let json = it.client.post(&url).json(&json!({ "grant_type": "client_credentials" }));
    it.breaks(GrantRule::ContentType, 400, "invalid_request", json).await?;
    for form in [format!("{IN_BODY}&{BARE}"), format!("{IN_BODY}&audience=x"), "x".repeat(100_000)] {
        it.breaks(GrantRule::Parameters, 400, "invalid_request", it.ask(&form)).await?;
    }
    for grant_type in ["", "password", "CLIENT_CREDENTIALS"] {
        let form = IN_BODY.replace("client_credentials", grant_type);
        it.breaks(GrantRule::GrantType, 400, "unsupported_grant_type", it.ask(&form)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn scopes_are_those_that_were_agreed() -> Result<()> {
    let it = start().await?;
    it.breaks(GrantRule::Scope, 400, "invalid_scope", it.ask(&format!("{IN_BODY}&scope=read"))).await?;

    let it = start_desk(TokenServer::builder().scopes(["read", "write"])).await?;
    assert_eq!(it.ask(&format!("{IN_BODY}&scope=write+read")).send().await?.status(), 200);
    for scope in ["", "&scope=", "&scope=read", "&scope=read+write+admin", "&scope=read,write"] {
        let request = it.ask(&format!("{IN_BODY}{scope}"));
        it.breaks(GrantRule::Scope, 400, "invalid_scope", request).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_broker_admits_exactly_the_tokens_that_are_valid_now() -> Result<()> {
    let desk = start().await?;
    let builder = FakeBroker::builder().login(Login::oauth(&desk.server)).tolerate(Rule::Login);
    let it = start_with(builder).await?;
    assert_eq!(it.status_for("token-1").await?, 401);
    let first = desk.token().await?;
    let second = desk.token().await?;
    assert_eq!((it.status_for(&first).await?, it.status_for(&second).await?), (200, 200));

    desk.server.revoke_all();
    assert_eq!((it.status_for(&first).await?, it.status_for(&second).await?), (401, 401));
    let third = desk.token().await?;
    assert_eq!(it.status_for(&third).await?, 200);

    desk.server.change_expires_in(0);
    let expired = desk.token().await?;
    assert_eq!((it.status_for(&expired).await?, it.status_for(&third).await?), (401, 200));
    let basic = it.call(Method::GET, "/v2/catalog").send().await?;
    assert_eq!(basic.status(), 401);
    Ok(())
}

#[tokio::test]
async fn a_server_can_keep_the_life_of_its_tokens_to_itself() -> Result<()> {
    let it = start_desk(TokenServer::builder().without_expires_in()).await?;
    let (_, body) = answer(it.ask(IN_BODY).send().await?).await?;
    assert_eq!(body.get("expires_in"), None);
    let token = body["access_token"].as_str().context("a token")?;
    assert!(it.server.issued().admit(token));

    let it = start_desk(TokenServer::builder().expires_in(7)).await?;
    assert_eq!(answer(it.ask(IN_BODY).send().await?).await?.1["expires_in"], 7);
    Ok(())
}

#[tokio::test]
async fn requests_go_wrong_as_told() -> Result<()> {
    let it = start().await?;
    let denied = json!({ "error": "invalid_client" });
    it.server.inject(Fault::Status(StatusCode::UNAUTHORIZED, denied.clone()).on(Route::Token));
    it.server.inject(Fault::Html(StatusCode::OK).on(Route::Token));
    it.server.inject(Fault::Cut.on(Route::Token));
    assert_eq!(answer(it.ask(IN_BODY).send().await?).await?, (401, denied));
    let page = it.ask(IN_BODY).send().await?;
    assert_eq!(page.status(), 200);
    assert!(page.json::<Value>().await.is_err());
    assert!(it.ask(IN_BODY).send().await.is_err());
    it.token().await?;

    it.server.inject(Fault::Status(StatusCode::INTERNAL_SERVER_ERROR, json!({})).on(Route::Token).forever());
    for _ in 0..3 {
        assert_eq!(it.ask(IN_BODY).send().await?.status(), 500);
    }
    it.server.clear_faults();
    it.token().await?;
    assert_eq!((it.server.requests(), it.server.grants()), (8, 2));
    Ok(())
}

#[tokio::test]
async fn a_request_can_hang_until_the_server_stops() -> Result<()> {
    let it = start().await?;
    it.server.inject(Fault::Hang.on(Route::Token));
    // The first of the two hangs. The other one gets a token, but its answer may not leave before the stop.
    let requests = [it.ask(IN_BODY), it.ask(IN_BODY)].map(|request| tokio::spawn(request.send()));
    it.server.wait_for_grants(1).await?;
    assert_eq!(it.server.grants(), 1);
    drop(it.server);
    let mut failed = 0;
    for request in requests {
        failed += usize::from(request.await?.is_err());
    }
    assert!(failed >= 1);
    Ok(())
}

#[tokio::test]
async fn a_token_can_be_late() -> Result<()> {
    let it = start().await?;
    let pause = Duration::from_millis(50);
    it.server.inject(Fault::Delay(pause).on(Route::Token));
    let start = Instant::now();
    it.token().await?;
    assert!(start.elapsed() >= pause);
    Ok(())
}

#[tokio::test]
async fn a_gate_holds_requests() -> Result<()> {
    let it = start().await?;
    let gate = it.server.gate(Route::Token, Moment::BeforeEffect);
    let requests = [it.ask(IN_BODY), it.ask(IN_BODY)].map(|request| tokio::spawn(request.send()));
    gate.wait_for_arrivals(2).await?;
    assert_eq!((it.server.requests(), it.server.grants()), (2, 0));
    gate.release();
    for request in requests {
        assert_eq!(request.await??.status(), 200);
    }
    assert_eq!(it.server.grants(), 2);
    Ok(())
}

#[tokio::test]
async fn a_token_server_can_be_on_https() -> Result<()> {
    let server = TokenServer::builder().tls(TlsIdentity::trusted()?).start().await?;
    assert!(server.url().starts_with("https://127.0.0.1:"));
    let ca = reqwest::Certificate::from_pem(server.ca_pem().context("a bundle")?.as_bytes())?;
    let it = Desk { server, client: http_client().tls_certs_only([ca]).build()? };
    it.token().await?;
    Ok(())
}

/// The panic message when the server is dropped.
fn drop_panics(server: TokenServer) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| drop(server))).err()?;
    panic.downcast_ref::<String>().cloned()
}

#[tokio::test]
async fn dropping_the_server_fails_the_test_that_used_it_wrongly() -> Result<()> {
    let it = start().await?;
    it.ask(BARE).send().await?;
    let message = drop_panics(it.server).context("the drop panics")?;
    assert!(message.contains("call 0 broke Authentication"), "{message}");

    for forever in [false, true] {
        let it = start().await?;
        if forever {
            it.server.inject(Fault::Html(StatusCode::OK).on(Route::Token).forever());
        } else {
            it.server.inject(Fault::Html(StatusCode::OK).on(Route::Token));
        }
        let message = drop_panics(it.server).context("the drop panics")?;
        assert!(message.contains("no call met the fault Html"), "{message}");
    }
    let it = start().await?;
    it.token().await?;
    assert_eq!(drop_panics(it.server), None);
    Ok(())
}

#[tokio::test]
async fn debug_output_shows_no_secrets() -> Result<()> {
    let it = start().await?;
    let token = it.token().await?;
    let fault = Fault::Status(StatusCode::OK, json!({ "access_token": token }));
    let shown = format!(
        "{:?} {:?} {:?} {:?} {:?} {fault:?}",
        it.server,
        it.server.calls(),
        it.server.issued(),
        Login::oauth(&it.server),
        TokenServer::builder()
    );
    for secret in [token.as_str(), "client-secret"] {
        assert!(!shown.contains(secret), "`{secret}` is in {shown}");
    }
    Ok(())
}
