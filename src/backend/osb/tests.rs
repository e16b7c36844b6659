//! Tests of the client with small brokers that give the answers of the test.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::Method;
use futures::{FutureExt, future::join_all};
use parking_lot::Mutex;
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    BindResourceObject, Broker, BrokerConfig,
    fake_broker::{
        FakeBroker, KEY, PARAMETER, SECRET, binding_path, catalog, config, connect, keeps_its_secrets,
        request, request_for,
    },
};
use crate::backend::{
    Accepted, Author, Backend, BackendError, Bound,
    ErrorClass::{
        self, Conflict, Forbidden, Gone, OrphanPossible, Rejected, Throttled, Transient, Unexpected,
        Unusable, Withheld,
    },
    Fetched, HttpConfig, KeyRequest, KnownSecrets, Names, Parameters, PlanIds, Progress, RemoteOperation,
    Unbound,
    test_server::{self, Does, Then},
};
use crate::wipe::SecretValues;

#[tokio::test]
async fn binds_with_all_that_the_spec_asks_for() {
    let fake = FakeBroker::answering(201, KEY);
    let Bound::Issued(key) = fake.start().await.bind(&request()).await.unwrap() else {
        panic!("it is made at once")
    };
    assert_eq!(key.credentials.expose()["password"], "s3cret");
    assert_eq!(key.facts.id, request().identity.binding_id().to_string());
    assert_eq!(key.facts.expires_at, Some("2027-01-01T00:00:00Z".parse().unwrap()));
    assert!(!format!("{key:?}").contains("s3cret"));

    let call = fake.call();
    assert_eq!(call.method, Method::PUT);
    assert_eq!(call.uri.to_string(), format!("{}?accepts_incomplete=true", binding_path()));
    assert_eq!(
        serde_json::from_slice::<Value>(&call.body).unwrap(),
        json!({
            "service_id": "s-1",
            "plan_id": "p-1",
            "context": {"platform": "kubernetes", "namespace": "training", "clusterid": "cluster-1"},
            "parameters": {"passphrase": PARAMETER, "size": 3},
        })
    );
    let header = |name: &str| call.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("x-broker-api-version"), "2.17");
    assert_eq!(header("authorization"), "Basic YWRtaW46aHVudGVyMg==");
    assert_eq!(header("content-type"), "application/json");
    assert!(header("x-broker-api-originating-identity").starts_with("kubernetes "));
    header("x-broker-api-request-identity").parse::<Uuid>().unwrap();
}

#[tokio::test]
async fn leaves_out_what_there_is_none_of() {
    let fake = FakeBroker::answering(200, KEY);
    let mut request = request();
    request.parameters = Parameters::default();
    request.owner.cluster_id = None;
    fake.start().await.bind(&request).await.unwrap();
    let body: Value = serde_json::from_slice(&fake.call().body).unwrap();
    assert_eq!(body.get("parameters"), None);
    assert_eq!(body["context"], json!({"platform": "kubernetes", "namespace": "training"}));
}

#[tokio::test]
async fn names_the_version_that_the_provider_asks_for() {
    let fake = FakeBroker::answering(412, "{}");
    let url = test_server::serve(fake.router()).await;
    let config =
        BrokerConfig { api_version: "2.13".to_owned().into(), ..config(url, Duration::from_secs(20)) };
    let error = Broker::new(&config).unwrap().bind(&request()).await.unwrap_err();
    assert!(error.message.contains("does not support version 2.13"), "{error}");
    assert!(error.message.contains("set `openServiceBroker.apiVersion`"), "{error}");
    let versions = fake.calls().into_iter().map(|call| call.headers["x-broker-api-version"].clone());
    assert_eq!(versions.collect::<Vec<_>>(), ["2.13", "2.13"]);
}

#[rstest]
#[case(Some("app-1"), Some("client-1"), json!({"app_guid": "app-1", "credential_client_id": "client-1"}))]
#[case(None, Some("client-1"), json!({"credential_client_id": "client-1"}))]
#[tokio::test]
async fn says_what_the_key_is_for(
    #[case] app_guid: Option<&str>,
    #[case] credential_client_id: Option<&str>,
    #[case] sent: Value,
) {
    let fake = FakeBroker::answering(201, KEY);
    let url = test_server::serve(fake.router()).await;
    let bind_resource = BindResourceObject {
        app_guid: app_guid.map(str::to_owned),
        credential_client_id: credential_client_id.map(str::to_owned),
    };
    let config = BrokerConfig { bind_resource: Some(bind_resource), ..config(url, Duration::from_secs(20)) };
    Broker::new(&config).unwrap().bind(&request()).await.unwrap();
    let body: Value = serde_json::from_slice(&fake.call().body).unwrap();
    assert_eq!(body["bind_resource"], sent);
}

#[tokio::test]
async fn every_request_has_an_identity_of_its_own() {
    let fake = FakeBroker::answering(201, KEY);
    let broker = fake.start().await;
    broker.bind(&request()).await.unwrap();
    broker.bind(&request()).await.unwrap();
    let mut ids: Vec<_> =
        fake.calls().iter().map(|call| call.headers["x-broker-api-request-identity"].clone()).collect();
    let calls = ids.len();
    ids.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
    ids.dedup();
    assert_eq!((calls, ids.len()), (3, 3));
    assert!(
        !fake.calls()[0].headers.contains_key("x-broker-api-originating-identity"),
        "a catalog belongs to no ServiceKey"
    );
}

const LOGIN_ECHOED: &str = r#"{"description": "no hunter2 (YWRtaW46aHVudGVyMg==)"}"#;
const WORDS: &str = r#"{"description": "no hunter2 for correct horse (YWRtaW46aHVudGVyMg==).\n Sorry."}"#;

#[rstest]
#[case(202, r#"{"operation": 7}"#, OrphanPossible, "contains an `operation` that is not a string")]
#[case(202, "", OrphanPossible, "answers 202, but the body is not a JSON object")]
#[case(204, "", OrphanPossible, "the broker answers 204: an empty body")]
#[case(201, r#"{"credentials": "s3cret"}"#, Unusable, "contains `credentials` that are not an object")]
#[case(201, r#"{"credentials": ["s3cret"]}"#, Unusable, "contains `credentials` that are not an object")]
#[case(201, "{}", Unusable, "contains no `credentials`")]
#[case(201, r#"{"credentials": {"load": NaN}}"#, Unusable, "is not JSON")]
#[case(200, r#"{"credentials": {"load": Infinity}}"#, Unusable, "is not JSON")]
#[case(201, "s3cret", Unusable, "answers 201, but the body is not JSON")]
#[case(201, "", Unusable, "is not JSON")]
#[case(200, r#"{"credentials": null}"#, Withheld, "contains no `credentials`")]
#[case(200, "{}", Withheld, "contains no `credentials`")]
#[case(200, "", Unusable, "is not JSON")]
#[case(200, "<html>", Unexpected, "is not JSON")]
#[case(400, WORDS, Rejected, "answers 400: no [redacted] for [redacted] ([redacted]). Sorry")]
#[case(401, "<html>hunter2", Forbidden, "answers 401: an HTML page; check the provider's login")]
#[case(403, "hunter2", Forbidden, "a body that is not JSON; the login may not do this")]
#[case(404, "{}", Gone, "no description; check `instance.id`")]
#[case(408, "{}", Transient, "408")]
#[case(409, "{}", Conflict, "created with other parameters")]
#[case(
    404,
    "<html>",
    Unexpected,
    "the answer 404 does not have the form of a broker's: an HTML page; check `url`"
)]
#[case(410, "", Gone, "410")]
#[case(412, "{}", Rejected, "does not support version 2.17")]
#[case(422, r#"{"error": "AsyncRequired"}"#, Rejected, "creates keys of this plan only in the background")]
#[case(
    422,
    r#"{"error": "ConcurrencyError"}"#,
    Transient,
    "another operation on the instance is in progress"
)]
#[case(422, r#"{"error": "RequiresApp"}"#, Rejected, "for applications only")]
#[case(429, "{}", Throttled, "rate limited by the broker")]
#[case(500, WORDS, OrphanPossible, "answers 500: no [redacted]")]
#[case(503, "", OrphanPossible, "answers 503")]
#[tokio::test]
async fn binds_that_fail(
    #[case] status: u16,
    #[case] body: &str,
    #[case] class: ErrorClass,
    #[case] words: &str,
) {
    let broker = FakeBroker::answering(status, body).start().await;
    let error = broker.bind(&request()).await.unwrap_err();
    assert_eq!(error.class, class, "{error}");
    assert!(error.message.starts_with("bind failed: ") && error.message.contains(words), "{error}");
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    keeps_its_secrets(&error);
    let again = broker.bind(&request()).await.unwrap_err();
    assert_eq!(again.message, error.message, "the same failure has the same message");
}

#[rstest]
#[case::garbage("SSH-2.0\r\n", Then::Close, OrphanPossible, "is not HTTP")]
#[case::cut("", Then::Close, OrphanPossible, "closed before the answer was complete")]
#[case::hangs("", Then::Hang, OrphanPossible, "within 600ms, the provider's `limits.timeout`: raise it")]
#[case::endless_success(
    "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n",
    Then::Endless,
    Unusable,
    "is larger than 1 MiB"
)]
#[case::endless_refusal(
    "HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n",
    Then::Endless,
    Forbidden,
    "answers 403"
)]
#[case::redirect(
    "HTTP/1.1 301 Moved\r\nlocation: https://sso/\r\n\r\n",
    Then::Close,
    Unexpected,
    "redirects to"
)]
#[tokio::test]
async fn binds_that_are_not_answered_well(
    #[case] answer: &str,
    #[case] then: Then,
    #[case] class: ErrorClass,
    #[case] words: &str,
) {
    let timeout = Duration::from_millis(if matches!(then, Then::Hang) { 600 } else { 20_000 });
    let broker = connect(test_server::raw(answer, then).await, timeout);
    broker.knows(&catalog()).await;
    let error = broker.bind(&request()).await.unwrap_err();
    assert_eq!(error.class, class, "{error}");
    assert!(error.message.contains(words), "{error}");
    keeps_its_secrets(&error);
}

/// A server may compress, mark or encode a body in its own way, although the request does not permit it.
#[rstest]
#[case::gzip(compressed(br#"{"credentials": {"password": "s3cret"}}"#), Ok("s3cret"))]
#[case::byte_order_mark([b"\xef\xbb\xbf".as_slice(), br#"{"credentials": {"password": "s3cret"}}"#].concat(), Ok("s3cret"))]
#[case::latin_1(b"{\"credentials\": {\"password\": \"gr\xfcn\"}}".to_vec(), Ok("gr\u{fc}n"))]
#[case::bomb(compressed(&vec![b' '; 2 << 20]), Err("is larger than 1 MiB"))]
#[case::cut(compressed(KEY.as_bytes())[..20].to_vec(), Err("is compressed and can't be decompressed"))]
#[tokio::test]
async fn odd_encodings_are_decoded(#[case] body: Vec<u8>, #[case] expected: Result<&str, &str>) {
    let router = axum::Router::new().fallback(move || {
        let body = body.clone();
        async move { (http::StatusCode::CREATED, body) }
    });
    let broker = connect(test_server::serve(router).await, Duration::from_secs(20));
    broker.knows(&catalog()).await;
    match (broker.bind(&request()).await, expected) {
        (Ok(Bound::Issued(key)), Ok(password)) => assert_eq!(key.credentials.expose()["password"], password),
        (Err(error), Err(words)) => assert!(error.message.contains(words), "{error}"),
        (outcome, expected) => panic!("{outcome:?} instead of {expected:?}"),
    }
}

fn compressed(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    io::Write::write_all(&mut encoder, text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_bind_that_was_not_sent_leaves_nothing() {
    let broker = connect(test_server::refusing_address(), Duration::from_secs(20));
    broker.knows(&catalog()).await;
    let error = broker.bind(&request()).await.unwrap_err();
    assert_eq!(error.class, Transient);
    assert!(error.message.starts_with("bind failed: no connection to `http://127.0.0.1:"), "{error}");
}

#[rstest]
#[case(200, KEY, "found")]
#[case(404, "{}", "absent")]
#[case(410, "gone", "absent")]
#[case(404, "<html>", "Unexpected")]
#[case(404, "", "Unexpected")]
#[case(200, "{}", "not retrievable")]
#[case(200, r#"{"credentials": "s3cret"}"#, "not retrievable")]
#[case(200, "<html>", "Unexpected")]
#[case(403, "{}", "Forbidden")]
#[case(500, "{}", "Transient")]
#[case(501, "{}", "not retrievable")]
#[tokio::test]
async fn fetches(#[case] status: u16, #[case] body: &str, #[case] expected: &str) {
    let fake = FakeBroker::answering(status, body);
    let outcome = match fake.start().await.fetch(&request()).await {
        Ok(Fetched::Found(key)) => {
            assert_eq!(key.credentials.expose()["password"], "s3cret");
            "found".to_owned()
        }
        Ok(Fetched::Absent) => "absent".to_owned(),
        Ok(Fetched::NotRetrievable) => "not retrievable".to_owned(),
        Err(error) => format!("{:?}", error.class),
    };
    assert_eq!(outcome, expected);
    let call = fake.call();
    assert_eq!(call.method, Method::GET);
    assert_eq!(call.uri.to_string(), format!("{}?service_id=s-1&plan_id=p-1", binding_path()));
}

/// A broker that can't show a binding counts as having it.
#[rstest]
#[case::there(200, KEY, true)]
#[case::gone(410, "{}", false)]
#[case::not_shown(501, "{}", true)]
#[tokio::test]
async fn confirms_that_a_key_exists(#[case] status: u16, #[case] body: &str, #[case] exists: bool) {
    let broker = FakeBroker::answering(status, body).start().await;
    let found = Backend::OpenServiceBroker(Box::new(broker)).find_key(&request()).await.unwrap();
    let expected = exists.then(|| request().identity.binding_id().to_string());
    assert_eq!(found.map(|facts| facts.id), expected);
}

#[tokio::test]
async fn does_not_ask_for_what_is_shown_only_once() {
    let fake = FakeBroker::answering(200, KEY);
    let fetched = fake.start().await.fetch(&request_for("mail", "once")).await.unwrap();
    assert!(matches!(fetched, Fetched::NotRetrievable));
    assert_eq!(fake.calls().len(), 1, "only the catalog");
}

#[rstest]
#[case::the_same_key(200, KEY, "found")]
#[case::a_key_that_was_gone(201, KEY, "found")]
#[case::without_credentials(200, "{}", "not shown")]
#[case::in_the_background(202, "{}", "not shown")]
#[case::made_from_others(409, "{}", "not shown")]
#[case::refused(400, "{}", "not shown")]
#[case::no_instance(404, "{}", "not shown")]
#[case::known_already(500, "{}", "not shown")]
#[case::a_web_page(200, "<html>", "Unexpected")]
#[case::a_web_page_of_404(404, "<html>", "Unexpected")]
#[case::login(401, "{}", "Forbidden")]
#[case::too_often(429, "{}", "Throttled")]
#[case::gateway(503, "{}", "OrphanPossible")]
#[tokio::test]
async fn repeats_a_bind(#[case] status: u16, #[case] body: &str, #[case] expected: &str) {
    let fake = FakeBroker::answering(status, body);
    let broker = fake.start().await;
    let created_with = |plan: &str| {
        let ids = PlanIds { service_id: "s-2".to_owned(), plan_id: plan.to_owned() };
        KeyRequest { plan_ids: Some(ids), ..request_for("mail", "once") }
    };
    let other = broker.repeat(&created_with("p-old")).await.unwrap();
    assert!(matches!(other, Fetched::NotRetrievable), "another plan is another key");
    let outcome = match broker.repeat(&created_with("p-3")).await {
        Ok(Fetched::Found(_)) => "found".to_owned(),
        Ok(Fetched::Absent) => "absent".to_owned(),
        Ok(Fetched::NotRetrievable) => "not shown".to_owned(),
        Err(error) => format!("{:?}", error.class),
    };
    assert_eq!(outcome, expected);
    let call = fake.call();
    assert_eq!(call.method, Method::PUT);
    assert_eq!(call.uri.query(), Some("accepts_incomplete=false"));
    let body: Value = serde_json::from_slice(&call.body).unwrap();
    assert_eq!((&body["service_id"], &body["plan_id"]), (&json!("s-2"), &json!("p-3")));
}

#[rstest]
#[case(200, "{}", None)]
#[case(200, "garbage", None)]
#[case(410, "<html>", None)]
#[case(404, "<html>", Some(Unexpected))]
#[case(202, "[]", Some(Unexpected))]
#[case(204, "", Some(Unexpected))]
#[case(400, "{}", Some(Rejected))]
#[case(401, "{}", Some(Forbidden))]
#[case(404, "{}", Some(Gone))]
#[case(422, r#"{"error": "ConcurrencyError"}"#, Some(Transient))]
#[case(429, "{}", Some(Throttled))]
#[case(500, WORDS, Some(Transient))]
#[tokio::test]
async fn unbinds(#[case] status: u16, #[case] body: &str, #[case] class: Option<ErrorClass>) {
    let fake = FakeBroker::answering(status, body);
    let outcome = fake.start().await.unbind(&request()).await;
    assert_eq!(outcome.as_ref().err().map(|error| error.class), class);
    if let Err(error) = &outcome {
        keeps_its_secrets(error);
    }
    let call = fake.call();
    assert_eq!(call.method, Method::DELETE);
    let query = "service_id=s-1&plan_id=p-1&accepts_incomplete=true";
    assert_eq!(call.uri.to_string(), format!("{}?{query}", binding_path()));
}

#[rstest]
#[case("s-9", "p-9", "service_id=s-9&plan_id=p-9")]
#[case("db", "p-9", "service_id=s-1&plan_id=p-9")]
#[tokio::test]
async fn unbinds_what_the_catalog_has_forgotten(
    #[case] offering: &str,
    #[case] plan: &str,
    #[case] query: &str,
) {
    let fake = FakeBroker::answering(200, "{}");
    fake.start().await.unbind(&request_for(offering, plan)).await.unwrap();
    assert!(fake.call().uri.query().unwrap().starts_with(query));
}

#[rstest]
#[case(200, "{}", Unexpected, "answers 200, but the body is not a catalog")]
#[case(200, "hunter2", Unexpected, "is not a catalog")]
#[case(204, "", Unexpected, "answers 204")]
#[case(401, LOGIN_ECHOED, Forbidden, "check the provider's login")]
#[case(403, LOGIN_ECHOED, Forbidden, "the login may not")]
#[case(404, "<html>", Unexpected, "check that `url` is the broker's base address")]
#[case(412, LOGIN_ECHOED, Rejected, "version 2.17")]
#[case(500, LOGIN_ECHOED, Transient, "answers 500: no [redacted] ([redacted])")]
#[tokio::test]
async fn brokers_without_a_catalog(
    #[case] status: u16,
    #[case] body: &str,
    #[case] class: ErrorClass,
    #[case] words: &str,
) {
    let fake = FakeBroker::answering(201, KEY).with_catalog(status, body);
    let broker = fake.start().await;
    let (check, bind) = (broker.check().await.unwrap_err(), broker.bind(&request()).await.unwrap_err());
    for error in [check, bind] {
        assert_eq!(error.class, class, "{error}");
        assert!(error.message.starts_with("catalog failed: ") && error.message.contains(words), "{error}");
        keeps_its_secrets(&error);
    }
    assert!(fake.calls().iter().all(|call| call.method == Method::GET), "no key was created");
}

#[tokio::test]
async fn one_catalog_for_fifty_binds() {
    let fake = FakeBroker::answering(201, KEY);
    let broker = fake.start().await;
    let request = request();
    let outcomes = join_all((0..50).map(|_| broker.bind(&request))).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(fake.calls().iter().filter(|call| call.uri.path().ends_with("/catalog")).count(), 1);
}

#[tokio::test]
async fn the_check_fills_the_cache() {
    let fake = FakeBroker::answering(201, KEY);
    let broker = fake.start().await;
    broker.check().await.unwrap();
    broker.bind(&request()).await.unwrap();
    assert_eq!(fake.calls().len(), 2);
}

#[rstest]
#[case(|request: &mut KeyRequest| request.instance.id = None, Rejected, "needs `instance.id`; create")]
#[case(|request: &mut KeyRequest| request.instance.offering = None, Rejected, "needs `instance.offering`; create")]
#[case(|request: &mut KeyRequest| request.instance.plan = Some(String::new()), Rejected, "needs `instance.plan`; create")]
#[case(|request: &mut KeyRequest| request.instance.id = Some("..".to_owned()), Rejected, "with the right `instance.id`")]
#[case(|request: &mut KeyRequest| request.instance.plan = Some("closed".to_owned()), Rejected, "creates no keys for plan `closed`")]
#[case(|request: &mut KeyRequest| request.instance.plan = Some("big".to_owned()), Gone, "again with another `instance.plan`: one of `archive`, `closed`, `small`")]
#[tokio::test]
async fn what_no_broker_needs_to_be_asked(
    #[case] change: fn(&mut KeyRequest),
    #[case] class: ErrorClass,
    #[case] words: &str,
) {
    let fake = FakeBroker::answering(201, KEY);
    let mut request = request();
    change(&mut request);
    let broker = fake.start().await;
    let bound = broker.bind(&request).await.unwrap_err();
    let checked = broker.check_instance(&request.instance).await.unwrap_err();
    for error in [bound, checked] {
        assert_eq!(error.class, class);
        assert!(error.message.contains(words), "{error}");
    }
    assert!(fake.calls().iter().all(|call| call.method == Method::GET));
}

#[tokio::test]
async fn the_query_of_the_url_is_sent_with_each_call_and_never_shown() {
    let fake = FakeBroker::answering(
        400,
        r#"{"description": "no tenant=a&key=open%20barley, that is open barley"}"#,
    );
    let mut url = test_server::serve(fake.router()).await.join("prefix/").unwrap();
    url.set_query(Some("tenant=a&key=open%20barley"));
    let broker = connect(url, Duration::from_secs(20));
    let error = broker.bind(&request()).await.unwrap_err();
    let poll = broker.poll(&request(), RemoteOperation::Unbind, Some("task")).await.unwrap_err();
    let unbind = broker.unbind(&request()).await.unwrap_err();
    for shown in [&error, &poll, &unbind].map(|error| format!("{error} {error:?} {broker:?}")) {
        assert!(!shown.contains("barley") && !shown.contains("tenant=a"), "{shown}");
    }
    let (query, plan) = ("tenant=a&key=open%20barley", "service_id=s-1&plan_id=p-1");
    let queries: Vec<_> = fake.calls().into_iter().map(|call| call.uri.query().unwrap().to_owned()).collect();
    assert_eq!(
        queries,
        [
            query.to_owned(),
            format!("{query}&accepts_incomplete=true"),
            format!("{query}&{plan}&operation=task"),
            format!("{query}&{plan}&accepts_incomplete=true"),
        ]
    );
}

#[test]
fn a_parameter_of_the_api_is_no_part_of_the_url() {
    let config = config("http://127.0.0.1?plan_id=hunter2".parse().unwrap(), Duration::from_secs(20));
    let error = Broker::new(&config).unwrap_err();
    assert_eq!(error.class, Rejected);
    assert!(
        error.message.contains("`url` contains `plan_id`") && !error.message.contains("hunter2"),
        "{error}"
    );
}

#[rstest]
#[case("https://169.254.169.254", "`url`: `169.254.169.254` is a cloud's metadata address, which is refused")]
#[case("http://broker.example.com", "`url`: plain http to `broker.example.com` is refused")]
fn refuses_addresses_at_once(#[case] url: url::Url, #[case] words: &str) {
    let config = BrokerConfig { http: HttpConfig::default(), ..config(url, Duration::ZERO) };
    let error = Broker::new(&config).unwrap_err();
    assert_eq!(error.class, Rejected);
    assert!(error.message.contains(words), "{error}");
}

#[tokio::test]
async fn asks_for_no_work_in_the_background_whose_result_it_could_not_read() {
    let fake = FakeBroker::answering(202, "{}");
    let error = fake.start().await.bind(&request_for("mail", "once")).await.unwrap_err();
    assert_eq!(error.class, OrphanPossible);
    assert!(error.message.contains("although it can't show the credentials afterwards"), "{error}");
    assert_eq!(fake.call().uri.query(), Some("accepts_incomplete=false"));
}

#[rstest]
#[case("{}", None)]
#[case(r#"{"operation": "task 10/%"}"#, Some("task 10/%"))]
#[tokio::test]
async fn takes_note_of_work_in_the_background(#[case] body: &str, #[case] token: Option<&str>) {
    let accepted = Accepted {
        token: token.map(str::to_owned),
        retry_after: Some(Duration::from_secs(7)),
        longest: Some(Duration::from_secs(90)),
        first_look: Duration::from_millis(500),
    };
    let broker = FakeBroker::answering(202, body).start().await;
    assert!(matches!(broker.bind(&request()).await, Ok(Bound::Accepted(work)) if work == accepted));
    assert!(matches!(broker.unbind(&request()).await, Ok(Unbound::Accepted(work)) if work == accepted));
}

#[rstest]
#[case(200, r#"{"state": "in progress", "description": "hunter2, 7 %"}"#, Ok("running: [redacted], 7 %"))]
#[case(200, r#"{"state": "succeeded"}"#, Ok("succeeded"))]
#[case(
    200,
    r#"{"state": "failed", "description": "no room for correct horse"}"#,
    Ok("failed: no room for [redacted]")
)]
#[case(200, r#"{"state": "failed"}"#, Ok("failed: no description"))]
#[case(200, r#"{"state": "on holiday"}"#, Err("contains a `state` that the specification does not define"))]
#[case(200, "<html>", Err("is not a JSON object"))]
#[case(404, "<html>", Err("the answer 404 does not"))]
#[case(410, "", Ok("failed: the broker does not have this binding"))]
#[case(404, "{}", Ok("failed: the broker does not have this binding"))]
#[case(401, "{}", Err("check the provider's login"))]
#[case(500, "{}", Err("answers 500"))]
#[tokio::test]
async fn asks_how_far_a_bind_is(
    #[case] status: u16,
    #[case] body: &str,
    #[case] expected: Result<&str, &str>,
) {
    let fake = FakeBroker::answering(status, body);
    let progress = fake.start().await.poll(&request(), RemoteOperation::Bind, Some("task 10/%")).await;
    let query = "service_id=s-1&plan_id=p-1&operation=task+10%2F%25";
    assert_eq!(fake.call().uri.to_string(), format!("{}/last_operation?{query}", binding_path()));
    match (progress, expected) {
        (Ok(Progress::Running { said, retry_after }), Ok(expected)) => {
            assert_eq!(format!("running: {}", said.unwrap_or_default()), expected);
            assert_eq!(retry_after, Some(Duration::from_secs(7)));
        }
        (Ok(Progress::Succeeded), Ok(expected)) => assert_eq!(expected, "succeeded"),
        (Ok(Progress::Failed { said, leaves_orphan: true }), Ok(expected)) => {
            assert_eq!(format!("failed: {said}"), expected)
        }
        (Err(error), Err(words)) => {
            assert!(error.message.starts_with("last operation failed: "), "{error}");
            assert!(error.message.contains(words), "{error}");
        }
        (progress, expected) => panic!("{progress:?} instead of {expected:?}"),
    }
}

#[rstest]
#[case(Some("open sesame"), "no [redacted] here")]
#[case(None, "a message that is not shown, because the secrets to redact in it can't be read now")]
#[tokio::test]
async fn what_it_was_told_before_is_hidden_too(#[case] known: Option<&'static str>, #[case] words: &str) {
    let body = json!({"state": "in progress", "description": "no open sesame here"}).to_string();
    let mut request = request();
    request.known = KnownSecrets::new(move || {
        async move { known.map(|known| SecretValues::new(vec![json!({"deep": [known]})])) }.boxed()
    });
    let broker = FakeBroker::answering(500, &body).start().await;
    let error = broker.unbind(&request).await.unwrap_err();
    assert_eq!(error.message, format!("unbind failed: the broker answers 500: {words}"));
    let broker = FakeBroker::answering(200, &body).start().await;
    let progress = broker.poll(&request, RemoteOperation::Unbind, None).await.unwrap();
    assert!(matches!(&progress, Progress::Running { said: Some(said), .. } if said == words), "{progress:?}");
}

#[tokio::test]
async fn what_it_was_told_before_is_looked_up_only_where_words_are_shown() {
    let mut request = request();
    request.known = KnownSecrets::new(|| panic!("nobody needs them"));
    for (status, body) in [(500, "<html>"), (400, "{}"), (404, ""), (200, "{}")] {
        let broker = FakeBroker::answering(status, body).start().await;
        assert_eq!(broker.unbind(&request).await.is_ok(), status == 200);
    }
}

#[tokio::test]
async fn a_key_that_is_gone_is_what_an_unbind_is_for() {
    let fake = FakeBroker::answering(410, "<html>");
    let progress = fake.start().await.poll(&request(), RemoteOperation::Unbind, None).await.unwrap();
    assert_eq!(progress, Progress::Succeeded);
    assert_eq!(fake.call().uri.query(), Some("service_id=s-1&plan_id=p-1"));
}

#[rstest]
#[case("small", true)]
#[case("archive", false)]
#[tokio::test]
async fn names_the_predecessor_where_the_plan_allows_it(#[case] plan: &str, #[case] named: bool) {
    let fake = FakeBroker::answering(201, KEY);
    let first = request().identity;
    let mut request = request_for("db", plan);
    request.identity.sequence = request.identity.sequence.next();
    request.predecessor = Some(first);
    fake.start().await.bind(&request).await.unwrap();
    let body: Value = serde_json::from_slice(&fake.call().body).unwrap();
    let expected = named.then(|| json!(first.binding_id()));
    assert_eq!(body.get("predecessor_binding_id"), expected.as_ref());
}

/// A predecessor that the broker no longer has would otherwise block every later key.
#[rstest]
#[case("small", &[true, false])]
#[case("archive", &[false])]
#[tokio::test]
async fn a_predecessor_that_is_refused_is_left_out(#[case] plan: &str, #[case] named: &[bool]) {
    let fake = FakeBroker::answering(400, r#"{"description": "no such predecessor"}"#);
    let mut request = request_for("db", plan);
    request.predecessor = Some(request.identity);
    request.identity.sequence = request.identity.sequence.next();
    let error = fake.start().await.bind(&request).await.unwrap_err();
    assert_eq!(error.class, Rejected);
    let binds = fake.calls().into_iter().filter(|call| call.method == Method::PUT);
    let bodies = binds.map(|call| serde_json::from_slice::<Value>(&call.body).unwrap());
    let asked: Vec<_> = bodies.map(|body| body.get("predecessor_binding_id").is_some()).collect();
    assert_eq!(asked, named);
}

/// Records everything that this thread logs, at the finest level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_logs_nor_debug_show_a_secret() {
    let fake = FakeBroker::answering(201, KEY);
    let broker = fake.start().await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With a single subscriber, a thread without one would decide for all threads whether a line is of interest.
    let _another = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let guard = tracing::subscriber::set_default(subscriber);
    broker.bind(&request()).await.unwrap();
    drop(guard);

    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    let shown = format!("{log} {broker:?} {:?}", request());
    assert!(log.contains("request_id="), "{log}");
    for secret in [SECRET, PARAMETER, "s3cret", "YWRtaW46aHVudGVyMg"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn calls_can_be_spawned() {
    let broker = FakeBroker::answering(201, KEY).start().await;
    tokio::spawn(async move { broker.bind(&request()).await }).await.unwrap().unwrap();
}

/// Resolves every name to 127.0.0.1, and later to 127.0.0.2.
#[derive(Debug, Default)]
struct MovingBroker(AtomicBool);

impl Names for MovingBroker {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let last = if self.0.load(Ordering::SeqCst) { 2 } else { 1 };
        Ok(vec![IpAddr::from([127, 0, 0, last])])
    }
}

#[tokio::test]
async fn a_tenants_broker_that_moves_proves_itself_before_it_gets_a_bind() {
    let body = catalog().to_string();
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    let old = test_server::raw(head + &body, Then::Close).await;
    let names = Arc::<MovingBroker>::default();
    let author = Author::Tenant { namespace: "training".to_owned() };
    let mut http = test_server::http_config(Duration::from_secs(20));
    http.addresses = http.addresses.for_author(author).with_names(Arc::clone(&names) as Arc<dyn Names>);
    let url = format!("http://broker.example:{}/prefix/", old.port().unwrap()).parse().unwrap();
    let broker = Broker::new(&BrokerConfig { http, ..config(url, Duration::ZERO) }).unwrap();
    broker.check().await.unwrap();

    names.0.store(true, Ordering::SeqCst);
    let unreachable = broker.bind(&request()).await.unwrap_err();
    assert_eq!(unreachable.class, Transient, "nothing was sent: {unreachable}");

    let new = FakeBroker::answering(201, KEY);
    let listener = tokio::net::TcpListener::bind(("127.0.0.2", old.port().unwrap())).await.unwrap();
    let router = new.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    assert!(matches!(broker.bind(&request()).await, Ok(Bound::Issued(_))));
    let calls: Vec<_> = new.calls().into_iter().map(|call| call.method).collect();
    assert_eq!(calls, [Method::GET, Method::PUT], "one catalog for the proof, and the bind");
}

fn noted(plan: &str) -> KeyRequest {
    let ids = PlanIds { service_id: "s-1".to_owned(), plan_id: plan.to_owned() };
    KeyRequest { plan_ids: Some(ids), ..request() }
}

#[rstest]
#[case::no_catalog(503, "")]
#[case::an_empty_catalog(200, r#"{"services": []}"#)]
#[tokio::test]
async fn unbinds_by_the_noted_ids_without_a_catalog(#[case] status: u16, #[case] body: &str) {
    let fake = FakeBroker::answering(200, "{}").with_catalog(status, body);
    let unbound = fake.start().await.unbind(&noted("p-old")).await.unwrap();
    assert!(matches!(unbound, Unbound::Gone));
    let calls = fake.calls();
    assert_eq!(calls.len(), 1, "no request for the catalog");
    assert_eq!(calls[0].uri.query(), Some("service_id=s-1&plan_id=p-old&accepts_incomplete=true"));
}

#[tokio::test]
async fn binds_with_no_ids_but_those_that_are_noted() {
    let fake = FakeBroker::answering(201, KEY);
    let broker = fake.start().await;
    let error = broker.bind(&noted("p-old")).await.unwrap_err();
    assert_eq!(error.class, Transient, "{error}");
    assert!(fake.calls().iter().all(|call| call.method == Method::GET), "nothing was created");
    broker.bind(&noted("p-1")).await.unwrap();
}

#[tokio::test]
async fn fetches_by_the_noted_ids_also_where_the_plan_was_withdrawn() {
    let fake = FakeBroker::answering(200, KEY);
    let fetched = fake.start().await.fetch(&noted("p-withdrawn")).await.unwrap();
    assert!(matches!(fetched, Fetched::Found(_)));
    assert_eq!(fake.call().uri.query(), Some("service_id=s-1&plan_id=p-withdrawn"));
}

#[tokio::test]
async fn an_unbind_that_is_refused_is_sent_with_what_the_catalog_says_now() {
    let fake = FakeBroker::answering(400, "{}");
    let error = fake.start().await.unbind(&noted("p-old")).await.unwrap_err();
    assert_eq!(error.class, Rejected, "{error}");
    let plans: Vec<_> = fake.calls().iter().filter_map(|call| call.uri.query().map(str::to_owned)).collect();
    assert_eq!(plans.len(), 2, "{plans:?}");
    assert!(plans[0].contains("plan_id=p-old") && plans[1].contains("plan_id=p-1"), "{plans:?}");
}

/// The server cuts the kept connection of the catalog during the bind, so the client sends the bind again.
async fn binds_twice(second: Does) -> Result<Bound, BackendError> {
    let catalog = Does::Answers(200, catalog().to_string().leak());
    let (url, counts) = test_server::scripted(&[catalog, Does::Cuts, second]).await;
    let broker = connect(url, Duration::from_secs(20));
    broker.check().await.unwrap();
    test_server::settle().await;
    let bound = broker.bind(&request()).await;
    assert_eq!(*counts.lock(), [2, 1], "requests on each connection");
    bound
}

/// The first bind may still take effect, even after the revocation of the key.
#[tokio::test]
async fn a_bind_that_was_sent_twice_says_so() {
    let Bound::Repeated(bound) = binds_twice(Does::Answers(201, KEY)).await.unwrap() else {
        panic!("the first request is not reported");
    };
    assert!(matches!(*bound, Bound::Issued(key) if key.credentials.expose()["password"] == "s3cret"));
    let Bound::Repeated(bound) = binds_twice(Does::Answers(202, "{}")).await.unwrap() else {
        panic!("the first request is not reported");
    };
    assert!(matches!(*bound, Bound::Accepted(_)));
}

#[rstest]
#[case::shown_once(Does::Answers(200, "{}"))]
#[case::malformed(Does::Answers(201, "[]"))]
#[case::refused(Does::Answers(400, "{}"))]
#[case::in_conflict(Does::Answers(409, "{}"))]
#[case::at_work(Does::Answers(422, r#"{"error": "ConcurrencyError"}"#))]
#[case::limited(Does::Answers(429, "{}"))]
#[case::refused_login(Does::Answers(401, "{}"))]
#[case::failed(Does::Answers(500, "{}"))]
#[case::cut(Does::Cuts)]
#[tokio::test]
async fn a_bind_that_was_sent_twice_in_vain_is_a_lost_one(#[case] second: Does) {
    assert_eq!(binds_twice(second).await.unwrap_err().class, OrphanPossible);
}
