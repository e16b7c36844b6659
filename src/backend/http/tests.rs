//! The client against servers that behave, and against those that do not.

use std::{num::NonZeroUsize, time::Duration};

use axum::{Router, http::HeaderMap, routing::get};
use futures::future::join_all;
use reqwest::Method;
use rstest::rstest;
use url::Url;

use super::{ClientCertificate, Failure, HttpClient, HttpConfig, Request, Response, client::LARGEST_BODY};
use crate::backend::test_server::{self, Certificate, Then};

const PATIENT: Duration = Duration::from_secs(20);
const IMPATIENT: Duration = Duration::from_millis(1500);

async fn send(config: &HttpConfig, url: &Url) -> Result<Response, Failure> {
    // Whoever runs the tests may have a proxy.
    HttpClient::in_environment(config, |_| None)
        .unwrap()
        .send(Request::new(Method::GET, "/", url.clone()))
        .await
}

fn message(outcome: Result<Response, Failure>) -> Failure {
    match outcome {
        Ok(response) => response.body().unwrap_err(),
        Err(failure) => failure,
    }
}

fn not_sent(failure: &Failure, words: &str) {
    assert!(matches!(failure, Failure::NotSent(message) if message.contains(words)), "{failure:?}");
}

fn untrusted(failure: &Failure, words: &str) {
    assert!(matches!(failure, Failure::Untrusted(message) if message.contains(words)), "{failure:?}");
}

fn maybe_sent(failure: &Failure, words: &str) {
    assert!(matches!(failure, Failure::MaybeSent(message) if message.contains(words)), "{failure:?}");
}

fn unusable(failure: &Failure, words: &str) {
    assert!(matches!(failure, Failure::Unusable(message) if message.contains(words)), "{failure:?}");
}

#[tokio::test]
async fn says_who_it_is_and_reads_the_answer() {
    let agent = |headers: HeaderMap| async move {
        ([("retry-after", "7")], headers["user-agent"].to_str().unwrap().to_owned())
    };
    let url = test_server::serve(Router::new().route("/", get(agent))).await;
    let response = send(&test_server::http_config(PATIENT), &url).await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.retry_after, Some(Duration::from_secs(7)));
    assert_eq!(
        response.body().unwrap(),
        concat!("servicekey-operator/", env!("CARGO_PKG_VERSION")).as_bytes()
    );
}

#[rstest]
#[case(LARGEST_BODY, true)]
#[case(LARGEST_BODY + 1, false)]
#[case(10 << 20, false)]
#[tokio::test]
async fn bodies_are_capped(#[case] size: usize, #[case] read: bool) {
    let url =
        test_server::serve(Router::new().route("/", get(move || async move { "x".repeat(size) }))).await;
    let response = send(&test_server::http_config(PATIENT), &url).await.unwrap();
    assert_eq!(response.status, 200);
    match response.body() {
        Ok(body) => assert!(read && body.len() == size),
        Err(failure) => {
            assert!(!read);
            unusable(&failure, "is larger than 1 MiB");
        }
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const TEN_BYTES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";

#[rstest]
#[case::no_answer("", Then::Hang, "within 1.5s")]
#[case::body_hangs(TEN_BYTES, Then::Hang, "within 1.5s")]
#[case::cut_before_the_answer("", Then::Close, "closed before the answer was complete")]
#[case::cut_in_the_head("HTTP/1.1 200 OK\r\ncontent-", Then::Close, "closed before the answer was complete")]
#[case::cut_in_the_body(TEN_BYTES, Then::Close, "closed before the answer was complete")]
#[tokio::test]
async fn what_happened_is_unknown(#[case] answer: &str, #[case] then: Then, #[case] words: &str) {
    let url = test_server::raw(answer, then).await;
    let timeout = if words.contains("1.5s") { IMPATIENT } else { PATIENT };
    maybe_sent(&message(send(&test_server::http_config(timeout), &url).await), words);
}

#[rstest]
#[case::endless_body(CHUNKED, Then::Endless, "is larger than 1 MiB")]
#[case::no_http("SSH-2.0-OpenSSH_9.6\r\n", Then::Close, "the answer is not HTTP")]
#[tokio::test]
async fn what_came_is_no_answer(#[case] answer: &str, #[case] then: Then, #[case] words: &str) {
    let url = test_server::raw(answer, then).await;
    unusable(&message(send(&test_server::http_config(PATIENT), &url).await), words);
}

#[rstest]
#[case("https://login.example.com/x?session=hunter2", " to `https://login.example.com`")]
#[case("/elsewhere?session=hunter2", " to `http://127.0.0.1:")]
#[case("::::", "")]
#[tokio::test]
async fn redirects_are_not_followed(#[case] location: &str, #[case] words: &str) {
    let answer = format!("HTTP/1.1 307 Go\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let url = test_server::raw(answer, Then::Close).await;
    let failure = message(send(&test_server::http_config(PATIENT), &url).await);
    let Failure::Redirected(message) = &failure else { panic!("{failure:?}") };
    assert!(message.contains(&format!("redirects{words}")) && message.contains("307"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn nobody_listens() {
    let url = test_server::nobody().await;
    not_sent(&message(send(&test_server::http_config(PATIENT), &url).await), "connection refused");
}

#[tokio::test]
async fn the_name_is_unknown() {
    let url = "https://no-such-host.invalid/path?hunter2".parse().unwrap();
    let failure = message(send(&test_server::http_config(PATIENT), &url).await);
    not_sent(&failure, "`no-such-host.invalid` can't be resolved");
    assert!(!failure.to_string().contains("hunter2"));
}

#[tokio::test]
async fn names_of_refused_addresses_are_not_connected_to() {
    let url = "https://localhost:1".parse().unwrap();
    not_sent(&message(send(&HttpConfig::default(), &url).await), "`localhost` is at a loopback address");
}

#[tokio::test]
async fn refused_addresses_are_not_connected_to() {
    let mut url = test_server::silent().await;
    let failure = message(send(&HttpConfig::default(), &url).await);
    assert!(matches!(&failure, Failure::Refused(message) if message.contains("plain http")), "{failure:?}");
    url.set_scheme("https").unwrap();
    let failure = message(send(&HttpConfig::default(), &url).await);
    assert!(matches!(&failure, Failure::Refused(message) if message.contains("loopback")), "{failure:?}");
}

#[tokio::test]
async fn waiting_for_a_place_does_not_count() {
    let slow = || tokio::time::sleep(Duration::from_millis(300));
    let url = test_server::serve(Router::new().route("/", get(slow))).await;
    let mut config = test_server::http_config(Duration::from_millis(900));
    config.limits.concurrency = NonZeroUsize::MIN;
    let client = HttpClient::new(&config).unwrap();
    // 6 × 300 ms one after the other: twice the deadline of each.
    let outcomes = join_all((0..6).map(|_| client.send(Request::new(Method::GET, "/", url.clone())))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

fn trusting(certificate: &Certificate) -> HttpConfig {
    HttpConfig { ca_bundle: Some(certificate.pem()), ..test_server::http_config(PATIENT) }
}

#[tokio::test]
async fn a_certificate_of_the_bundle_is_trusted() {
    let certificate = Certificate::valid_for("127.0.0.1");
    let url = test_server::tls(&certificate, None).await;
    assert_eq!(send(&trusting(&certificate), &url).await.unwrap().body(), Ok(&b"{}"[..]));
}

#[tokio::test]
async fn a_bundle_with_an_older_authority_of_the_same_name() {
    let url = test_server::tls(&Certificate::valid_for("127.0.0.1"), None).await;
    let failure = message(send(&trusting(&Certificate::valid_for("127.0.0.1")), &url).await);
    untrusted(&failure, "not trusted: set `tls.caBundle`");
}

#[rstest]
#[case::untrusted(Certificate::valid_for("127.0.0.1"), false, "not trusted: set `tls.caBundle`")]
#[case::wrong_name(Certificate::valid_for("broker.example.com"), true, "is for another name")]
#[case::expired(Certificate::expired("127.0.0.1"), true, "has expired")]
#[tokio::test]
async fn wrong_certificates(#[case] certificate: Certificate, #[case] trusted: bool, #[case] words: &str) {
    let url = test_server::tls(&certificate, None).await;
    let config = if trusted { trusting(&certificate) } else { test_server::http_config(PATIENT) };
    untrusted(&message(send(&config, &url).await), words);
}

#[tokio::test]
async fn plain_http_where_tls_is_expected() {
    let mut url = test_server::raw("HTTP/1.1 400 Bad Request\r\n\r\n", Then::Close).await;
    url.set_scheme("https").unwrap();
    not_sent(&message(send(&test_server::http_config(PATIENT), &url).await), "does not speak TLS");
}

#[tokio::test]
async fn a_handshake_that_hangs_is_no_lost_request() {
    let mut url = test_server::silent().await;
    url.set_scheme("https").unwrap();
    not_sent(&message(send(&test_server::http_config(IMPATIENT), &url).await), "no connection in time");
}

#[tokio::test]
async fn shows_its_certificate_to_who_asks() {
    let (server, client) = (Certificate::valid_for("127.0.0.1"), Certificate::valid_for("operator"));
    let url = test_server::tls(&server, Some(&client)).await;
    let mut config = trusting(&server);
    untrusted(&message(send(&config, &url).await), "set `tls.clientCertificate`");

    let identity = |certificate: &Certificate| ClientCertificate {
        cert_pem: certificate.pem(),
        key_pem: certificate.key_pem().into(),
    };
    config.client_certificate = Some(identity(&server));
    untrusted(&message(send(&config, &url).await), "does not accept the operator's certificate");

    config.client_certificate = Some(identity(&client));
    assert_eq!(send(&config, &url).await.unwrap().status, 200);
}

#[tokio::test]
async fn takes_the_proxy_of_the_environment_except_to_admitted_addresses() {
    let proxy = test_server::raw("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", Then::Close).await;
    let variable = |name: &str| (name == "HTTPS_PROXY").then(|| proxy.to_string());
    let certificate = Certificate::valid_for("127.0.0.1");
    let client = HttpClient::in_environment(&trusting(&certificate), variable).unwrap();

    // The proxy is asked for a name that nobody else could resolve.
    let url = "https://no-such-host.invalid".parse().unwrap();
    not_sent(&message(client.send(Request::new(Method::GET, "/", url)).await), "(`HTTPS_PROXY` is set)");
    let metadata = "https://169.254.169.254".parse().unwrap();
    let failure = message(client.send(Request::new(Method::GET, "/", metadata)).await);
    assert!(matches!(failure, Failure::Refused(_)), "{failure:?}");
    let direct = test_server::tls(&certificate, None).await;
    assert_eq!(client.send(Request::new(Method::GET, "/", direct)).await.unwrap().status, 200);
}

#[test]
fn debug_shows_no_secret() {
    let certificate = Certificate::valid_for("operator");
    let identity = ClientCertificate { cert_pem: certificate.pem(), key_pem: certificate.key_pem().into() };
    let config = HttpConfig { client_certificate: Some(identity), ..HttpConfig::default() };
    let client = HttpClient::new(&config).unwrap();
    let shown = format!("{config:?} {client:?}");
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
}
