//! Token endpoints with the answers that a test sets.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::RETRY_AFTER},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use parking_lot::Mutex;
use rstest::rstest;
use secrecy::ExposeSecret;
use serde_json::json;
use url::Url;

use super::{ClientCredentials, PasswordLogin, TokenEndpoint, Tokens};
use crate::backend::{
    BackendError,
    ErrorClass::{self, Forbidden, Rejected, Throttled, Transient, Unexpected, Untrusted},
    FIRST_LOGIN_PAUSE,
    http::HttpClient,
    test_server::{self, Certificate, Then},
};

const PATIENT: Duration = Duration::from_secs(20);
/// A secret that looks different when it is form-encoded.
const SECRET: &str = "hunter 2/+";
const ENCODED: &str = "hunter+2%2F%2B";
const GRANT: &str = r#"{"access_token": "t0k3n", "token_type": "bearer", "expires_in": 3600}"#;

type Requests = Arc<Mutex<Vec<(HeaderMap, String)>>>;

/// An endpoint with one answer, and the requests that it receives.
async fn endpoint(status: u16, body: &str) -> (Url, Requests) {
    let requests = Requests::default();
    let answer = (StatusCode::from_u16(status).unwrap(), [(RETRY_AFTER, "7")], body.to_owned());
    let desk = move |State(requests): State<Requests>, headers: HeaderMap, body: Bytes| async move {
        requests.lock().push((headers, String::from_utf8(body.to_vec()).unwrap()));
        answer
    };
    let router = Router::new().route("/oauth/token", post(desk)).with_state(Arc::clone(&requests));
    (test_server::serve(router).await.join("oauth/token").unwrap(), requests)
}

fn client(token_url: Url) -> ClientCredentials {
    ClientCredentials {
        token_url,
        client_id: "op:1 \u{e9}".to_owned(),
        client_secret: SECRET.into(),
        scopes: Vec::new(),
    }
}

async fn ask(client: &ClientCredentials, timeout: Duration) -> Result<String, BackendError> {
    let http = HttpClient::new(&test_server::http_config(timeout)).unwrap();
    let token = Tokens::of_client(client, &http)?.current(&http).await?;
    Ok(token.secret().expose_secret().to_owned())
}

#[rstest]
#[case(&[], "grant_type=client_credentials")]
#[case(&["keys:read", "a&b"], "grant_type=client_credentials&scope=keys%3Aread+a%26b")]
#[tokio::test]
async fn asks_as_the_rfc_wants_it(#[case] scopes: &[&str], #[case] form: &str) {
    let (url, requests) = endpoint(200, GRANT).await;
    let scopes = scopes.iter().map(ToString::to_string).collect();
    assert_eq!(ask(&ClientCredentials { scopes, ..client(url) }, PATIENT).await.unwrap(), "t0k3n");

    let requests = requests.lock();
    let [(headers, body)] = &**requests else { panic!("{} requests", requests.len()) };
    assert_eq!(body, form);
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(headers["accept"], "application/json");
    assert_eq!(headers["x-cf-encoded-credentials"], "true");
    let login = headers["authorization"].to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
    let login = String::from_utf8(BASE64_STANDARD.decode(login).unwrap()).unwrap();
    assert_eq!(login, format!("op%3A1+%C3%A9:{ENCODED}"));
}

#[rstest]
#[case(
    400,
    r#"{"error": "invalid_client", "error_description": "no such client"}"#,
    Forbidden,
    "the server answers 400: invalid_client: no such client; check the entries `clientId` and `clientSecret`"
)]
#[case(401, r#"{"error": "unauthorized"}"#, Forbidden, "answers 401: unauthorized; check the entries")]
#[case(
    401,
    r#"{"error": "invalid_client", "error_description": "Unauthorized grant type"}"#,
    Forbidden,
    "answers 401: invalid_client: Unauthorized grant type; allow this client the grant `client_credentials` there"
)]
#[case(
    404,
    "404 Not Found: Requested route ('uaa.cf.example.com') does not exist.",
    Transient,
    "the server is not reachable behind its router, which answers 404: it has no such route"
)]
#[case(
    401,
    "<html>",
    Forbidden,
    "answers 401: an HTML page; check the entries `clientId` and `clientSecret`"
)]
#[case(403, "", Forbidden, "answers 403: an empty body; check the entries")]
#[case(
    400,
    r#"{"error": "unauthorized_client"}"#,
    Forbidden,
    "allow this client the grant `client_credentials`"
)]
#[case(400, r#"{"error": "unsupported_grant_type"}"#, Rejected, "allow this client the grant")]
#[case(400, r#"{"error": "invalid_scope"}"#, Rejected, "answers 400: invalid_scope; check `scopes`")]
#[case(400, r#"{"error": "odd", "error_description": " a\n\tb. "}"#, Rejected, "answers 400: odd: a b")]
#[case(400, "<html>", Unexpected, "an HTML page; check that this is the address of a token endpoint")]
#[case(400, r#"{"error": 7}"#, Unexpected, "no description; check that this is the address")]
#[case(
    404,
    r#"{"error": "not_found"}"#,
    Unexpected,
    "answers 404: not_found; check that this is the address"
)]
#[case(405, "", Unexpected, "answers 405: an empty body; check that this is the address")]
#[case(408, "{}", Transient, "answers 408: no description")]
#[case(
    429,
    r#"{"error": "slow_down"}"#,
    Throttled,
    "answers 429: slow_down; rate limited by the token server"
)]
#[case(500, r#"{"error": "server_error"}"#, Transient, "answers 500: server_error")]
#[case(503, "<html>", Transient, "answers 503: an HTML page")]
#[case(
    200,
    "<html>",
    Unexpected,
    "answers 200, but the body is not a JSON object; check that this is the address"
)]
#[case(200, "{}", Unexpected, "answers 200, but the body contains no `access_token`")]
#[case(
    200,
    r#"{"access_token": "t", "token_type": "mac"}"#,
    Unexpected,
    "contains a `token_type` other than"
)]
#[case(204, "", Unexpected, "answers 204, but the body is not a JSON object")]
#[tokio::test]
async fn refusals_say_what_to_do(
    #[case] status: u16,
    #[case] body: &str,
    #[case] class: ErrorClass,
    #[case] words: &str,
) {
    let (url, requests) = endpoint(status, body).await;
    let error = ask(&client(url.clone()), PATIENT).await.unwrap_err();
    assert_eq!(error.class, class, "{error}");
    assert!(error.message.starts_with(&format!("token request to `{url}` failed: the server ")), "{error}");
    assert!(error.message.contains(words), "{error}");
    // The operator pauses a refused login, even if the server requires a shorter pause.
    let pause = if error.refuses_login { FIRST_LOGIN_PAUSE } else { Duration::from_secs(7) };
    assert_eq!(error.retry_after, Some(pause));
    assert_eq!(error.refuses_login, error.message.contains("three times an hour"));
    assert_eq!(requests.lock().len(), 1, "nothing is repeated here");
}

#[rstest]
#[case::garbage("SSH-2.0\r\n", Then::Close, Unexpected, "is not HTTP")]
#[case::cut("", Then::Close, Transient, "closed before the answer was complete")]
#[case::hangs("", Then::Hang, Transient, "within 600ms, the provider's `limits.timeout`: raise it")]
#[case::body_hangs(
    "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
    Then::Hang,
    Transient,
    "within 600ms, the provider's `limits.timeout`: raise it"
)]
#[case::endless(
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    Then::Endless,
    Unexpected,
    "larger than 64 KiB"
)]
#[case::redirect(
    "HTTP/1.1 302 Found\r\nlocation: https://sso/?session=1\r\n\r\n",
    Then::Close,
    Unexpected,
    "redirects to `https://sso` (status 302), which is not followed"
)]
#[tokio::test]
async fn a_request_that_is_not_answered_well_leaves_nothing(
    #[case] answer: &str,
    #[case] then: Then,
    #[case] class: ErrorClass,
    #[case] words: &str,
) {
    let timeout = if matches!(then, Then::Hang) { Duration::from_millis(600) } else { PATIENT };
    let url = test_server::raw(answer, then).await;
    let error = ask(&client(url), timeout).await.unwrap_err();
    assert_eq!(error.class, class, "{error}");
    assert!(error.message.starts_with("token request to `http://127.0.0.1:"), "{error}");
    assert!(error.message.contains(words), "{error}");
}

/// An endpoint with these answers, in this order, and the requests that it receives.
async fn endpoint_with_answers(answers: &[(u16, &str)]) -> (Url, Requests) {
    let answers = answers.iter().map(|(status, body)| (*status, (*body).to_owned()));
    let answers = Arc::new(Mutex::new(answers.collect::<VecDeque<_>>()));
    let requests = Requests::default();
    let desk = move |State(requests): State<Requests>, headers: HeaderMap, body: Bytes| async move {
        requests.lock().push((headers, String::from_utf8(body.to_vec()).unwrap()));
        let (status, body) = answers.lock().pop_front().unwrap();
        (StatusCode::from_u16(status).unwrap(), body)
    };
    let router = Router::new().route("/oauth/token", post(desk)).with_state(Arc::clone(&requests));
    (test_server::serve(router).await.join("oauth/token").unwrap(), requests)
}

/// The forms of a user's token requests, in order, if the endpoint gives these answers.
async fn asked_for_with(answers: &[(u16, &str)]) -> (Vec<String>, Vec<Result<(), BackendError>>) {
    let (url, requests) = endpoint_with_answers(answers).await;
    let http = HttpClient::new(&test_server::http_config(PATIENT)).unwrap();
    let login = PasswordLogin {
        token_url: &url,
        client_id: "cf",
        username: "alice",
        password: &SECRET.into(),
        login_hint: None,
    };
    let endpoint = TokenEndpoint::of_user(&login, &http).unwrap();
    let mut outcomes = Vec::new();
    while requests.lock().len() < answers.len() {
        outcomes.push(endpoint.request(&http).await.map(drop));
    }
    let forms = requests.lock().iter().map(|(_, form)| form.clone()).collect();
    (forms, outcomes)
}

const FIRST: &str = r#"{"access_token": "t", "refresh_token": "r-1"}"#;
const SECOND: &str = r#"{"access_token": "t", "refresh_token": "r-2"}"#;
const BY_PASSWORD: &str = "grant_type=password&username=alice&password=hunter+2%2F%2B";
const BY_FIRST: &str = "grant_type=refresh_token&refresh_token=r-1";
const BY_SECOND: &str = "grant_type=refresh_token&refresh_token=r-2";

#[rstest]
#[case::lasts(&[(200, FIRST), (200, FIRST), (200, FIRST)], &[BY_PASSWORD, BY_FIRST, BY_FIRST])]
#[case::is_not_repeated(&[(200, FIRST), (200, GRANT), (200, GRANT)], &[BY_PASSWORD, BY_FIRST, BY_FIRST])]
#[case::is_replaced(&[(200, FIRST), (200, SECOND), (200, SECOND)], &[BY_PASSWORD, BY_FIRST, BY_SECOND])]
#[case::does_not_come(&[(200, GRANT), (200, GRANT)], &[BY_PASSWORD, BY_PASSWORD])]
#[case::is_over(
    &[(200, FIRST), (401, r#"{"error": "invalid_token"}"#), (200, SECOND), (200, GRANT)],
    &[BY_PASSWORD, BY_FIRST, BY_PASSWORD, BY_SECOND]
)]
#[case::is_dead(
    &[(200, FIRST), (500, r#"{"error": "server_error"}"#), (200, SECOND), (200, GRANT)],
    &[BY_PASSWORD, BY_FIRST, BY_PASSWORD, BY_SECOND]
)]
#[case::is_unknown(
    &[(200, FIRST), (400, r#"{"error": "invalid_grant"}"#), (200, GRANT), (200, GRANT)],
    &[BY_PASSWORD, BY_FIRST, BY_PASSWORD, BY_PASSWORD]
)]
#[tokio::test]
async fn a_refresh_token_stands_for_the_password(#[case] answers: &[(u16, &str)], #[case] expected: &[&str]) {
    let (forms, outcomes) = asked_for_with(answers).await;
    assert_eq!(forms, expected);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

/// An outage of the server does not show whether the refresh token is valid.
#[rstest]
#[case(503, "<html>", Transient)]
#[case(429, "", Throttled)]
#[tokio::test]
async fn a_refresh_token_outlasts_an_outage(
    #[case] status: u16,
    #[case] body: &str,
    #[case] class: ErrorClass,
) {
    let (forms, outcomes) = asked_for_with(&[(200, FIRST), (status, body), (200, GRANT)]).await;
    assert_eq!(forms, [BY_PASSWORD, BY_FIRST, BY_FIRST]);
    let classes: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err().map(|e| e.class)).collect();
    assert_eq!(classes, [None, Some(class), None]);
}

#[tokio::test]
async fn a_refresh_token_that_the_server_repeats_is_hidden() {
    let refused = r#"{"error": "server_error", "error_description": "no way with r-1"}"#;
    let (_, outcomes) = asked_for_with(&[(200, FIRST), (503, refused)]).await;
    let error = outcomes[1].as_ref().unwrap_err();
    assert!(error.message.ends_with("server_error: no way with [redacted]"), "{error}");
}

/// Such a client needs no refresh token (section 4.4.3).
#[tokio::test]
async fn a_client_that_logs_in_by_itself_takes_no_refresh_token() {
    let (url, requests) = endpoint_with_answers(&[(200, FIRST), (200, GRANT)]).await;
    let http = HttpClient::new(&test_server::http_config(PATIENT)).unwrap();
    let endpoint = TokenEndpoint::of_client(&client(url), &http).unwrap();
    for _ in 0..2 {
        endpoint.request(&http).await.unwrap();
    }
    let requests = requests.lock();
    assert!(requests.iter().all(|(_, form)| form == "grant_type=client_credentials"));
}

/// A valid token works at the remote side, even if the token server requires a pause.
#[rstest]
#[case(429)]
#[case(503)]
#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_does_not_speak_for_the_remote_side(#[case] status: u16) {
    let (url, _) = endpoint(status, "").await;
    let http = HttpClient::new(&test_server::http_config(PATIENT)).unwrap();
    let error = Tokens::of_client(&client(url), &http).unwrap().current(&http).await.unwrap_err();
    assert_eq!((error.retry_after, http.paused()), (Some(Duration::from_secs(7)), None));
}

#[tokio::test]
async fn nobody_is_there() {
    let error = ask(&client(test_server::refusing_address()), PATIENT).await.unwrap_err();
    assert_eq!(error.class, Transient);
    assert!(error.message.contains("connection refused: check address and port"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gets_no_secret() {
    let url = test_server::tls(&Certificate::valid_for("127.0.0.1"), None).await;
    let error = ask(&client(url), PATIENT).await.unwrap_err();
    assert_eq!(error.class, Untrusted);
    assert!(error.message.contains("set `tls.caBundle`"), "{error}");
}

#[rstest]
#[case("https://169.254.169.254/token", "`tokenUrl`: `169.254.169.254` is a cloud's metadata address")]
#[case("http://10.1.2.3/token", "`tokenUrl`: plain http to `10.1.2.3` is refused")]
#[case("https://login?key=hunter2", "`tokenUrl` contains a query or a fragment")]
#[case("https://me:hunter2@login", "`tokenUrl` contains a user or a password")]
#[tokio::test]
async fn refuses_addresses_at_once(#[case] url: Url, #[case] words: &str) {
    let error = ask(&client(url), PATIENT).await.unwrap_err();
    assert_eq!(error.class, Rejected);
    assert!(error.message.contains(words) && !error.message.contains("hunter2"), "{error}");
}

#[rstest]
#[case("error")]
#[case("error_description")]
#[tokio::test]
async fn whatever_a_server_repeats_is_hidden(#[case] field: &str) {
    let login = BASE64_STANDARD.encode(format!("op%3A1+%C3%A9:{ENCODED}"));
    let body = json!({field: format!("no {SECRET}, {ENCODED} or Basic {login}")}).to_string();
    let (url, _) = endpoint(401, &body).await;
    let error = ask(&client(url), PATIENT).await.unwrap_err();
    assert!(error.message.contains("no [redacted], [redacted] or Basic [redacted]"), "{error}");
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let (url, _) = endpoint(200, GRANT).await;
    let mut login = client(url);
    let http = HttpClient::new(&test_server::http_config(PATIENT)).unwrap();
    let tokens = Tokens::of_client(&login, &http).unwrap();
    let token = tokens.current(&http).await.unwrap();
    login.token_url = "https://me:hunter2@login/token?key=hunter2".parse().unwrap();
    let shown = format!("{login:?} {tokens:?} {token:?}");
    assert!(shown.contains("https://login/token") && shown.contains("/oauth/token"), "{shown}");
    for secret in ["hunter", "t0k3n"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
