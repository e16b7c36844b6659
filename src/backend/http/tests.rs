//! The client against well-behaved and misbehaving servers.

use std::{
    collections::VecDeque, error::Error, io, iter::successors, net::IpAddr, num::NonZeroUsize, sync::Arc,
    time::Duration,
};

use axum::{Router, http::HeaderMap, routing::get};
use futures::future::{join_all, select_all};
use parking_lot::Mutex;
use reqwest::{
    Method,
    header::{AUTHORIZATION, HeaderValue},
};
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use url::Url;

use super::{
    AddressPolicy, AddressRules, Author, ClientCertificate, HttpClient, HttpConfig, HttpFailure,
    HttpFailureKind, Names, Request, Response, response::LARGEST_BODY,
};
use crate::backend::{
    ErrorClass, MemoryBudget,
    test_server::{self, Certificate, Does, Then},
};

const OK: Does = Does::Answers(200, "{}");
const PATIENT: Duration = Duration::from_secs(20);
const IMPATIENT: Duration = Duration::from_millis(1500);

async fn send(config: &HttpConfig, url: &Url) -> Result<Response, HttpFailure> {
    // The environment of the tests may have a proxy.
    HttpClient::in_environment(config, |_| None)
        .unwrap()
        .send(Request::new(Method::GET, "/", url.clone()))
        .await
}

fn message(outcome: Result<Response, HttpFailure>) -> HttpFailure {
    match outcome {
        Ok(response) => response.body().unwrap_err(),
        Err(failure) => failure,
    }
}

fn not_sent(failure: &HttpFailure, words: &str) {
    assert!(failure.kind == HttpFailureKind::NotSent && failure.message.contains(words), "{failure:?}");
}

fn unresolved(failure: &HttpFailure, words: &str) {
    assert!(failure.kind == HttpFailureKind::Unresolved && failure.message.contains(words), "{failure:?}");
}

fn untrusted(failure: &HttpFailure, words: &str) {
    assert!(failure.kind == HttpFailureKind::Untrusted && failure.message.contains(words), "{failure:?}");
}

fn maybe_sent(failure: &HttpFailure, words: &str) {
    assert!(failure.kind == HttpFailureKind::MaybeSent && failure.message.contains(words), "{failure:?}");
}

fn unusable(failure: &HttpFailure, words: &str) {
    assert!(failure.kind == HttpFailureKind::Unusable && failure.message.contains(words), "{failure:?}");
}

fn excessive(failure: &HttpFailure, words: &str) {
    assert!(failure.kind == HttpFailureKind::Excessive && failure.message.contains(words), "{failure:?}");
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
            excessive(&failure, "is larger than 1 MiB");
        }
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const TEN_BYTES_IN_FULL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789";
const TEN_BYTES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";

#[rstest]
#[case::no_answer("", Then::Hang, "within 1.5s, the provider's `limits.timeout`: raise it")]
#[case::body_hangs(TEN_BYTES, Then::Hang, "within 1.5s, the provider's `limits.timeout`: raise it")]
#[case::cut_before_the_answer("", Then::Close, "closed before the answer was complete")]
#[case::cut_in_the_head("HTTP/1.1 200 OK\r\ncontent-", Then::Close, "closed before the answer was complete")]
#[case::cut_in_the_body(TEN_BYTES, Then::Close, "closed before the answer was complete")]
#[tokio::test]
async fn what_happened_is_unknown(#[case] answer: &str, #[case] then: Then, #[case] words: &str) {
    let url = test_server::raw(answer, then).await;
    let timeout = if words.contains("1.5s") { IMPATIENT } else { PATIENT };
    maybe_sent(&message(send(&test_server::http_config(timeout), &url).await), words);
}

#[tokio::test]
async fn what_came_is_no_answer() {
    let url = test_server::raw("SSH-2.0-OpenSSH_9.6\r\n", Then::Close).await;
    let failure = message(send(&test_server::http_config(PATIENT), &url).await);
    unusable(&failure, "the answer is not HTTP");
}

const REFUSAL: &str = "HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n";

#[rstest]
#[case::success(CHUNKED, "is larger than 1 MiB")]
#[case::refusal(REFUSAL, "is larger than 64 KiB")]
#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end(#[case] answer: &str, #[case] words: &str) {
    let url = test_server::raw(answer, Then::Endless).await;
    excessive(&message(send(&test_server::http_config(PATIENT), &url).await), words);
}

#[rstest]
#[case::few(9_000, true)]
#[case::many(20_000, false)]
#[tokio::test]
async fn answers_of_many_values_are_not_read(#[case] lists: usize, #[case] read: bool) {
    let answer = format!("[{}]", vec!["[]"; lists].join(","));
    let url = test_server::serve(Router::new().route("/", get(move || async move { answer }))).await;
    let response = send(&test_server::http_config(PATIENT), &url).await.unwrap();
    match response.body() {
        Ok(_) => assert!(read),
        Err(failure) => {
            assert!(!read);
            excessive(&failure, "contains more than 20000 values");
        }
    }
}

#[tokio::test]
async fn a_call_that_others_need_the_room_of_is_given_up() {
    let budget = MemoryBudget::new(600 << 10, 600 << 10);
    let config = |name| HttpConfig { answers: budget.share(name), ..test_server::http_config(PATIENT) };
    let (hanging, url) =
        (test_server::raw("", Then::Hang).await, test_server::raw(TEN_BYTES_IN_FULL, Then::Close).await);
    let hostile = config("hostile");
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let (config, url) = (hostile.clone(), hanging.clone());
            tokio::spawn(async move { send(&config, &url).await.map(drop) })
        })
        .collect();
    while budget.held() < 512 << 10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(send(&config("honest"), &url).await.unwrap().status, 200);
    let (given_up, _, others) = select_all(calls).await;
    maybe_sent(
        &given_up.unwrap().unwrap_err(),
        "the operator ran out of memory for answers and canceled this request",
    );
    assert!(!others[0].is_finished(), "one is enough");
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
    assert_eq!(failure.kind, HttpFailureKind::Redirected, "{failure:?}");
    let message = &failure.message;
    assert!(message.contains(&format!("redirects{words}")) && message.contains("307"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn nobody_listens() {
    let url = test_server::refusing_address();
    not_sent(&message(send(&test_server::http_config(PATIENT), &url).await), "connection refused");
}

#[tokio::test]
async fn the_name_is_unknown() {
    let url = "https://no-such-host.invalid/path?hunter2".parse().unwrap();
    let failure = message(send(&test_server::http_config(PATIENT), &url).await);
    unresolved(&failure, "`no-such-host.invalid` can't be resolved");
    assert!(!failure.to_string().contains("hunter2"));
}

#[tokio::test]
async fn names_of_refused_addresses_are_not_connected_to() {
    let url = "https://localhost:1".parse().unwrap();
    unresolved(&message(send(&HttpConfig::default(), &url).await), "`localhost` is at a loopback address");
}

#[tokio::test]
async fn refused_addresses_are_not_connected_to() {
    let mut url = test_server::silent().await;
    let failure = message(send(&HttpConfig::default(), &url).await);
    assert!(
        failure.kind == HttpFailureKind::Refused && failure.message.contains("plain http"),
        "{failure:?}"
    );
    url.set_scheme("https").unwrap();
    let failure = message(send(&HttpConfig::default(), &url).await);
    assert!(failure.kind == HttpFailureKind::Refused && failure.message.contains("loopback"), "{failure:?}");
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
#[case::authority(
    Certificate::of_an_authority("127.0.0.1"),
    true,
    "(`CA:TRUE`), which a server must not present: issue"
)]
#[case::unknown_authority(
    Certificate::of_an_authority("127.0.0.1"),
    false,
    "(`CA:TRUE`), which a server must not present"
)]
#[tokio::test]
async fn wrong_certificates(#[case] certificate: Certificate, #[case] trusted: bool, #[case] words: &str) {
    let url = test_server::tls(&certificate, None).await;
    let config = if trusted { trusting(&certificate) } else { test_server::http_config(PATIENT) };
    untrusted(&message(send(&config, &url).await), words);
}

/// How a call of the next test fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailingCall {
    ConnectionRefused,
    NoTls,
    Untrusted,
    CutBody,
    NoHttp,
    Redirected,
}

/// The log shows causes. They contain neither the query of a URL, which may be a login, nor a header.
#[rstest]
#[tokio::test]
async fn no_cause_holds_a_query_or_a_secret(
    #[values(
        FailingCall::ConnectionRefused,
        FailingCall::NoTls,
        FailingCall::Untrusted,
        FailingCall::CutBody,
        FailingCall::NoHttp,
        FailingCall::Redirected
    )]
    fails: FailingCall,
) {
    let redirect = "HTTP/1.1 307 Go\r\nlocation: https://a.example?key=hunter2\r\ncontent-length: 0\r\n\r\n";
    let mut url = match fails {
        FailingCall::ConnectionRefused => test_server::refusing_address(),
        FailingCall::NoTls => test_server::raw("HTTP/1.1 400 Bad Request\r\n\r\n", Then::Close).await,
        FailingCall::Untrusted => test_server::tls(&Certificate::valid_for("127.0.0.1"), None).await,
        FailingCall::CutBody => test_server::raw(TEN_BYTES, Then::Close).await,
        FailingCall::NoHttp => test_server::raw("hunter2\r\n\r\n", Then::Close).await,
        FailingCall::Redirected => test_server::raw(redirect, Then::Close).await,
    };
    if fails == FailingCall::NoTls {
        url.set_scheme("https").unwrap();
    }
    url.set_query(Some("secret=hunter2"));
    let request =
        Request::new(Method::GET, "/", url).header(AUTHORIZATION, HeaderValue::from_static("Bearer hunter2"));
    let client = HttpClient::in_environment(&test_server::http_config(PATIENT), |_| None).unwrap();
    let failure = message(client.send(request).await);
    let error = failure.clone().into_error("bind", ErrorClass::Transient);
    let mut shown = format!("{failure:?} {error:?}");
    for root in [&failure as &dyn Error, &error] {
        let causes: Vec<_> = successors(Some(root), |cause| (*cause).source()).collect();
        // The transport itself follows no redirect.
        assert_eq!(causes.len() > 1, fails != FailingCall::Redirected, "{shown}");
        causes.iter().for_each(|cause| shown.push_str(&format!(" {cause} {cause:?}")));
    }
    if let Some(cause) = &failure.source {
        shown.push_str(&super::error_text::describe_causes(&**cause));
    }
    assert!(!shown.contains("hunter2") && !shown.contains("secret="), "{shown}");
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
    not_sent(
        &message(send(&test_server::http_config(IMPATIENT), &url).await),
        "timed out after half of `limits.timeout`",
    );
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

    // Only the proxy can resolve this name.
    let url = "https://no-such-host.invalid".parse().unwrap();
    not_sent(&message(client.send(Request::new(Method::GET, "/", url)).await), "(`HTTPS_PROXY` is set)");
    let metadata = "https://169.254.169.254".parse().unwrap();
    let failure = message(client.send(Request::new(Method::GET, "/", metadata)).await);
    assert!(failure.kind == HttpFailureKind::Refused, "{failure:?}");
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

/// The client of a tenant's provider. For a tenant, loopback is a private network like any other.
fn of_tenant(rules: AddressRules, timeout: Duration, proxy: Option<&Url>) -> HttpClient {
    tenant_who_resolves_by(None, rules, timeout, proxy)
}

fn tenant_who_resolves_by(
    names: Option<Arc<dyn Names>>,
    rules: AddressRules,
    timeout: Duration,
    proxy: Option<&Url>,
) -> HttpClient {
    let author = Author::Tenant { namespace: "training".to_owned() };
    let addresses = AddressPolicy::from(AddressRules { allow: loopback(), ..rules }).for_author(author);
    let addresses = match names {
        Some(names) => addresses.with_names(names),
        None => addresses,
    };
    let config = HttpConfig { addresses, ..test_server::http_config(timeout) };
    let proxy = proxy.map(Url::to_string);
    HttpClient::in_environment(&config, |name| (name == "HTTPS_PROXY").then(|| proxy.clone()).flatten())
        .unwrap()
}

fn loopback() -> Vec<super::Network> {
    vec!["127.0.0.0/8".parse().unwrap()]
}

/// A request whose answer is a proof if it is `{}`.
fn proving(url: &Url) -> Request {
    plain(url).proving(|response| response.status == 200 && response.body() == Ok(b"{}"))
}

fn plain(url: &Url) -> Request {
    Request::new(Method::GET, "/", url.clone())
}

const PROOF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
const UNAUTHORIZED: &str =
    "HTTP/1.1 401 Unauthorized\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret";

/// The message for this server if the cause is withheld.
fn withheld(url: &Url) -> HttpFailure {
    let origin = super::path::origin(url);
    HttpFailure::new(
        HttpFailureKind::Withheld,
        format!(
            "no valid answer from `{origin}`; a KeyProvider shows the cause only for public addresses, or after the \
         first valid answer: check name, address, port, TLS and login, or ask the administrator for the operator's \
         log"
        ),
    )
}

#[rstest]
#[case::html("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", Then::Close)]
#[case::refusal(UNAUTHORIZED, Then::Close)]
#[case::redirect("HTTP/1.1 302 Go\r\nlocation: https://10.0.0.1/\r\ncontent-length: 0\r\n\r\n", Then::Close)]
#[case::asks_for_peace("HTTP/1.1 503 No\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n", Then::Close)]
#[case::no_http("SSH-2.0-OpenSSH_9.6\r\n", Then::Close)]
#[case::closed("", Then::Close)]
#[case::hangs("", Then::Hang)]
#[case::endless(CHUNKED, Then::Endless)]
#[tokio::test]
async fn a_tenant_is_told_the_same_whatever_a_private_address_answers(
    #[case] answer: &str,
    #[case] then: Then,
) {
    let url = test_server::raw(answer, then).await;
    let client = of_tenant(AddressRules::default(), IMPATIENT, None);
    assert_eq!(client.send(proving(&url)).await.unwrap_err(), withheld(&url));
    assert_eq!(client.paused(), None, "the wish of an unknown server to be left alone would show");
}

#[rstest]
#[case::nobody_listens("http://127.0.0.1:1")]
#[case::name_is_unknown("https://no-such-host.invalid")]
#[case::name_is_refused("https://refused.example")]
#[tokio::test]
async fn a_tenant_is_told_the_same_where_there_is_no_answer(#[case] url: Url) {
    let names = Scripted::always("169.254.169.254");
    let client = match url.host_str() {
        Some("refused.example") => {
            tenant_who_resolves_by(Some(names), AddressRules::default(), PATIENT, None)
        }
        _ => of_tenant(AddressRules::default(), PATIENT, None),
    };
    assert_eq!(client.send(proving(&url)).await.unwrap_err(), withheld(&url));
}

#[tokio::test]
async fn a_tenant_is_told_the_same_where_tls_fails() {
    let trusted = Certificate::valid_for("127.0.0.1");
    let untrusted = test_server::tls(&trusted, None).await;
    let client = of_tenant(AddressRules::default(), PATIENT, None);
    assert_eq!(client.send(proving(&untrusted)).await.unwrap_err(), withheld(&untrusted));
    let mut no_tls = test_server::raw(PROOF, Then::Close).await;
    no_tls.set_scheme("https").unwrap();
    assert_eq!(client.send(proving(&no_tls)).await.unwrap_err(), withheld(&no_tls));
}

#[tokio::test]
async fn an_administrator_is_told_everything_and_so_is_a_tenant_where_that_is_admitted() {
    let url = test_server::raw(UNAUTHORIZED, Then::Close).await;
    let disclosed = AddressRules { disclose: loopback(), ..AddressRules::default() };
    for client in [
        HttpClient::in_environment(&test_server::http_config(PATIENT), |_| None).unwrap(),
        of_tenant(disclosed, PATIENT, None),
    ] {
        let response = client.send(proving(&url)).await.unwrap();
        assert_eq!((response.status.as_u16(), response.body()), (401, Ok(&b"secret"[..])));
    }
}

/// A server that gives these answers, one for each connection.
async fn in_turn(address: &str, answers: &'static [&'static str]) -> Url {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn what_has_proved_itself_is_shown_and_nothing_goes_there_before() {
    let url = in_turn("127.0.0.1:0", &[PROOF, UNAUTHORIZED]).await;
    let client = of_tenant(AddressRules::default(), PATIENT, None);
    let failure = client.send(plain(&url)).await.unwrap_err();
    assert!(failure.kind == HttpFailureKind::Unproved, "{failure:?}");
    assert_eq!(
        client.send(proving(&url)).await.unwrap().status,
        200,
        "the first connection is that of the proof"
    );
    assert_eq!(client.send(plain(&url)).await.unwrap().body(), Ok(&b"secret"[..]));
    not_sent(&client.send(plain(&url)).await.unwrap_err(), "connection refused");
}

#[tokio::test]
async fn a_proof_counts_for_one_port() {
    let client = of_tenant(AddressRules::default(), PATIENT, None);
    let own = test_server::raw(PROOF, Then::Close).await;
    assert_eq!(client.send(proving(&own)).await.unwrap().status, 200);
    let other = test_server::raw(UNAUTHORIZED, Then::Close).await;
    assert_eq!(client.send(proving(&other)).await.unwrap_err(), withheld(&other));
    assert_eq!(client.send(plain(&other)).await.unwrap_err().kind, HttpFailureKind::Unproved);
}

/// Resolves a name to the next address each time.
#[derive(Debug)]
struct Scripted {
    next: Mutex<VecDeque<IpAddr>>,
    then: IpAddr,
}

impl Scripted {
    fn always(address: &str) -> Arc<Self> {
        Self::first(&[], address)
    }

    fn first(addresses: &[&str], then: &str) -> Arc<Self> {
        let next = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self { next: Mutex::new(next), then: then.parse().unwrap() })
    }
}

impl Names for Scripted {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![self.next.lock().pop_front().unwrap_or(self.then)])
    }
}

#[tokio::test]
async fn a_proof_counts_for_one_address() {
    let own = in_turn("127.0.0.1:0", &[PROOF, UNAUTHORIZED]).await;
    let port = own.port().unwrap();
    let _victim = in_turn(&format!("127.0.0.2:{port}"), &[UNAUTHORIZED, PROOF]).await;
    let url: Url = format!("http://rebinding.example:{port}").parse().unwrap();
    // A request with a proof resolves the name twice: for the disclosed addresses, then for all admitted ones.
    let names = Scripted::first(&["127.0.0.1", "127.0.0.1", "127.0.0.1"], "127.0.0.2");
    let client = tenant_who_resolves_by(Some(names), AddressRules::default(), PATIENT, None);
    assert_eq!(client.send(proving(&url)).await.unwrap().status, 200);
    assert_eq!(client.send(plain(&url)).await.unwrap().body(), Ok(&b"secret"[..]));
    assert_eq!(client.send(plain(&url)).await.unwrap_err().kind, HttpFailureKind::Unproved);
    assert_eq!(client.send(proving(&url)).await.unwrap_err(), withheld(&url));
    assert_eq!(
        client.send(proving(&url)).await.unwrap().status,
        200,
        "the other one has proved itself as well"
    );
}

#[tokio::test]
async fn a_name_that_leads_to_the_api_server_is_refused() {
    let api_server = test_server::silent().await;
    let rules = AddressRules {
        api_server: super::ApiServer::behind([api_server.clone()]).await,
        allow: loopback(),
        ..AddressRules::default()
    };
    let policy = AddressPolicy::from(rules).with_names(Scripted::always("127.0.0.1"));
    let config = HttpConfig { addresses: policy, ..test_server::http_config(PATIENT) };
    let client = HttpClient::in_environment(&config, |_| None).unwrap();
    let url: Url = format!("http://rebinding.example:{}", api_server.port().unwrap()).parse().unwrap();
    unresolved(&client.send(plain(&url)).await.unwrap_err(), "is the API server");
    let refused = client.send(plain(&api_server)).await.unwrap_err();
    assert!(
        refused.kind == HttpFailureKind::Refused && refused.message.contains("is the API server"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn private_addresses_are_refused_to_tenants_where_asked_to() {
    let rules = || AddressRules { deny_private_for_key_providers: true, ..AddressRules::default() };
    let client = of_tenant(rules(), PATIENT, None);
    let refused = client.send(proving(&"https://10.1.2.3".parse().unwrap())).await.unwrap_err();
    assert_eq!(refused.kind, HttpFailureKind::Refused, "{refused:?}");
    let words = &refused.message;
    assert!(words.starts_with("`10.1.2.3` is a private address, which KeyProviders may not use"), "{words}");
    assert!(words.contains("chart value `operator.allowHttpsCidrs` (`--allow-https-cidr`)"), "{words}");

    let names = Scripted::always("10.1.2.3");
    let client = tenant_who_resolves_by(Some(names), rules(), PATIENT, None);
    let url = "https://broker.billing.svc".parse().unwrap();
    let refused = client.send(proving(&url)).await.unwrap_err();
    assert_eq!(refused.kind, HttpFailureKind::Withheld, "{refused:?}");
    let words = &refused.message;
    assert!(words.contains("KeyProviders may not use private addresses here"), "{words}");
    assert!(words.contains("chart value `operator.allowHttpsCidrs`"), "{words}");
    assert!(!words.contains("10.1.2.3"), "the name server's answer is not the tenant's to know: {words}");
}

#[tokio::test]
async fn a_proxy_connects_where_it_likes_and_a_tenant_learns_no_more_by_it() {
    let proxy = test_server::raw("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", Then::Close).await;
    let client = of_tenant(AddressRules::default(), PATIENT, Some(&proxy));
    let url = "https://broker.example.com".parse().unwrap();
    assert_eq!(client.send(proving(&url)).await.unwrap_err(), withheld(&url));
    assert_eq!(client.send(plain(&url)).await.unwrap_err().kind, HttpFailureKind::Unproved);
    for literal in ["https://169.254.169.254", "https://[::ffff:a9fe:a9fe]", "https://[64:ff9b:1::a9fe:a9fe]"]
    {
        let refused = client.send(proving(&literal.parse().unwrap())).await.unwrap_err();
        assert!(refused.kind == HttpFailureKind::Refused, "{refused:?}");
    }
}

#[tokio::test]
async fn a_proof_may_come_over_tls() {
    let certificate = Certificate::valid_for("127.0.0.1");
    let url = test_server::tls(&certificate, None).await;
    let author = Author::Tenant { namespace: "training".to_owned() };
    let addresses = AddressPolicy::admitting(["127.0.0.0/8".parse().unwrap()]).for_author(author);
    let client =
        HttpClient::in_environment(&HttpConfig { addresses, ..trusting(&certificate) }, |_| None).unwrap();
    assert_eq!(client.send(plain(&url)).await.unwrap_err().kind, HttpFailureKind::Unproved);
    assert_eq!(client.send(proving(&url)).await.unwrap().status, 200);
    assert_eq!(client.send(plain(&url)).await.unwrap().status, 200);
}

/// A connection that the server closed while it was idle costs no request: the next one opens another.
#[tokio::test]
async fn a_connection_that_is_closed_while_idle_is_not_used_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (closed, mut parted) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 4096];
            let mut requests = u8::from(stream.read(&mut bytes).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            stream.shutdown().await.unwrap();
            // The client closes its side as soon as it notices.
            while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {
                requests += 1;
            }
            closed.send(requests).unwrap();
        }
    });
    let client = HttpClient::in_environment(&test_server::http_config(PATIENT), |_| None).unwrap();
    for _ in 0..3 {
        let request = Request::new(Method::PUT, "/", url.clone());
        assert_eq!(client.send(request).await.unwrap().status, 200);
        assert_eq!(parted.recv().await, Some(1), "requests on one connection");
    }
}

/// A client with an open connection to this server.
async fn keeping(url: &Url) -> HttpClient {
    let client = HttpClient::in_environment(&test_server::http_config(PATIENT), |_| None).unwrap();
    assert_eq!(client.send(Request::new(Method::GET, "/", url.clone())).await.unwrap().status, 200);
    test_server::settle().await;
    client
}

#[rstest]
#[case(Method::GET, 200)]
#[case(Method::GET, 404)]
#[case(Method::PUT, 201)]
#[case(Method::DELETE, 200)]
#[case(Method::DELETE, 410)]
#[tokio::test]
async fn a_request_on_a_kept_connection_that_is_cut_is_sent_once_more(
    #[case] method: Method,
    #[case] status: u16,
) {
    let (url, counts) = test_server::scripted(&[OK, Does::Cuts, Does::Answers(status, "{}")]).await;
    let client = keeping(&url).await;
    let response = client.send(Request::new(method, "/", url)).await.unwrap();
    assert_eq!((response.status.as_u16(), response.is_repeated), (status, true));
    assert_eq!(*counts.lock(), [2, 1], "requests on each connection");
}

/// Sends a request on the open connection of a server with this script. It counts as one that may have taken effect.
async fn assert_lost(method: Method, script: &[Does], requests: &[usize]) {
    let (url, counts) = test_server::scripted(script).await;
    let client = keeping(&url).await;
    let failure = message(client.send(Request::new(method, "/", url)).await);
    maybe_sent(&failure, "closed before the answer was complete");
    assert_eq!(*counts.lock(), requests, "requests on each connection");
}

/// A refusal of the second request does not show whether the first one took effect.
#[rstest]
#[case::refused(Does::Answers(409, "{}"))]
#[case::not_now(Does::Answers(429, "{}"))]
#[case::unavailable(Does::Answers(503, "{}"))]
#[case::cut(Does::Cuts)]
#[tokio::test]
async fn a_creation_that_is_sent_once_more_without_success_is_a_lost_one(#[case] second: Does) {
    assert_lost(Method::PUT, &[OK, Does::Cuts, second], &[2, 1]).await;
}

#[rstest]
#[case(Method::GET)]
#[case(Method::DELETE)]
#[tokio::test]
async fn no_request_is_sent_three_times(#[case] method: Method) {
    assert_lost(method, &[OK, Does::Cuts, Does::Cuts], &[2, 1]).await;
}

#[rstest]
#[case(Method::POST)]
#[case(Method::PATCH)]
#[tokio::test]
async fn what_may_not_be_done_twice_is_sent_once(#[case] method: Method) {
    assert_lost(method, &[OK, Does::Cuts], &[2]).await;
}

/// A server that cuts new connections has no race with the client.
#[rstest]
#[case(Method::GET)]
#[case(Method::PUT)]
#[case(Method::DELETE)]
#[tokio::test]
async fn a_request_on_a_new_connection_is_sent_once(#[case] method: Method) {
    let (url, counts) = test_server::scripted(&[Does::Cuts]).await;
    let client = HttpClient::in_environment(&test_server::http_config(PATIENT), |_| None).unwrap();
    let failure = message(client.send(Request::new(method, "/", url)).await);
    maybe_sent(&failure, "closed before the answer was complete");
    assert_eq!(*counts.lock(), [1]);
}

/// The client judges each of many concurrent requests by its own connection.
#[tokio::test]
async fn requests_at_the_same_time_are_told_apart() {
    let (url, counts) = test_server::scripted(&[OK, Does::Cuts, Does::Cuts, Does::Cuts]).await;
    let client = keeping(&url).await;
    // One of them uses the open connection, and is sent twice.
    let send = |_| client.send(Request::new(Method::DELETE, "/", url.clone()));
    let outcomes = join_all((0..3).map(send)).await;
    let answered = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(answered, 1, "{outcomes:?}");
    let mut counts = counts.lock().clone();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 1, 2]);
}
