//! The condition reports every fault of a broker, no key is left behind, and the operator recovers automatically with
//! the broker.
//!
//! Each fault lasts until its condition appears. So there are few failed attempts, and the next one follows soon.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::Reason;
use testkit::broker::{FakeBroker, Fault, Injection, Login, ReservedPort, Route, Rule, StatusCode};

use crate::support::{
    conditions::Reports,
    stage::{Running, Stage},
};

const NAME: &str = "monitoring-creds";
/// The provider's time limit for a request, in tests with a slower broker.
const TIMEOUT: &str = "1s";
const LATE: Duration = Duration::from_secs(3);

fn status(code: u16, body: Value) -> Fault {
    Fault::Status(StatusCode::from_u16(code).unwrap(), body)
}

fn sorry(code: u16) -> Fault {
    status(code, json!({"description": "the disk is full"}))
}

fn html(code: u16) -> Fault {
    Fault::Html(StatusCode::from_u16(code).unwrap())
}

/// Twice the limit of the specification.
fn long_token() -> Fault {
    status(202, json!({"operation": "x".repeat(20_000)}))
}

fn redirect() -> Fault {
    status(307, json!({}))
}

fn to_the_login(redirect: Injection) -> Injection {
    let target = "https://login.example.com/?session=1".parse().unwrap();
    redirect.header("location".parse().unwrap(), target)
}

/// A stage whose provider was available, and whose requests then time out after [`TIMEOUT`].
async fn impatient() -> (Stage, Running) {
    let stage = Stage::set().await;
    stage.change_provider(json!({"limits": {"timeout": TIMEOUT}})).await;
    let operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    (stage, operator)
}

async fn patient() -> (Stage, Running) {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    (stage, operator)
}

async fn a_bind_fails(stage: &Stage, fault: Injection, reason: Reason, words: &str) {
    stage.broker.inject(fault.forever());
    stage.create_key(NAME).await;
    stage.wait_key(NAME, reason).await.says(words);

    stage.broker.clear_faults();
    let key = stage.wait_ready_with_the_only_key(NAME).await;
    assert!(!key.is_stalled());
    stage.delete_and_leave_nothing(NAME).await;
}

#[rstest]
#[case::cut_before(Fault::Cut.on(Route::Bind), Reason::BindFailed, "closed before the answer was complete")]
#[case::cut_after(Fault::Cut.on(Route::Bind).after_effect(), Reason::BindFailed, "closed before the answer")]
#[case::cut_in_body(Fault::CutInBody.on(Route::Bind), Reason::BindFailed, "no complete answer")]
#[case::internal_error(sorry(500).on(Route::Bind), Reason::BindFailed, "answers 500: the disk is full")]
#[case::error_after_effect(sorry(500).on(Route::Bind).after_effect(), Reason::BindFailed, "answers 500")]
#[case::unavailable(sorry(503).on(Route::Bind), Reason::BindFailed, "answers 503: the disk is full")]
#[case::bad_gateway(html(502).on(Route::Bind), Reason::BindFailed, "answers 502: an HTML page")]
#[case::long_token(
    long_token().on(Route::Bind),
    Reason::BindFailed,
    "answers 202, but the body contains an `operation` of more than 10,000 characters"
)]
#[case::redirect(
    to_the_login(redirect().on(Route::Bind)),
    Reason::UnexpectedAnswer,
    "redirects to `https://login.example.com` (status 307), which is not followed; set the final address"
)]
#[case::busy(
    status(422, json!({"error": "ConcurrencyError"})).on(Route::Bind),
    Reason::RemoteUnreachable,
    "another operation on the instance is in progress"
)]
#[case::too_many_requests(sorry(429).on(Route::Bind), Reason::RateLimited, "rate limited by the broker")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bind_that_fails_is_tried_again(
    #[case] fault: Injection,
    #[case] reason: Reason,
    #[case] words: &str,
) {
    let (stage, _operator) = patient().await;
    a_bind_fails(&stage, fault, reason, words).await;
}

/// These credentials fit into no Secret, so another attempt would end in the same way.
#[rstest]
#[case::credentials_of_2_mib(
    Fault::credentials(&json!({"password": "x".repeat(2 * 1024 * 1024)})).on(Route::Bind).after_effect()
)]
#[case::big_body(Fault::BigBody.on(Route::Bind))]
#[case::endless_body(Fault::EndlessBody.on(Route::Bind).after_effect())]
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_too_large_are_revoked_once(#[case] fault: Injection) {
    let (stage, _operator) = patient().await;
    stage.broker.inject(fault.forever());
    stage.create_key(NAME).await;
    let key = stage.wait_key(NAME, Reason::CredentialsUnusable).await;
    key.says("is larger than 1 MiB; key 1 was revoked");
    assert!(key.is_stalled());
    assert_eq!(stage.broker.bindings(), []);
    assert_eq!(stage.broker.count(Route::Bind), 1);

    stage.broker.clear_faults();
    tries_again_on_request(&stage).await;
}

async fn tries_again_on_request(stage: &Stage) {
    let again = json!({"metadata": {"annotations": {"servicekeys.dev/rotate": "now"}}});
    stage.keys().patch(NAME, &PatchParams::default(), &Patch::Merge(again)).await.unwrap();
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.delete_and_leave_nothing(NAME).await;
}

/// The next answer would probably have the same fault. The operator revokes the key that may have been created, and
/// waits hours before the next attempt.
#[rstest]
#[case::web_page(html(201).on(Route::Bind).after_effect(), "answers 201, but the body is not JSON", 1)]
#[case::no_credentials(Fault::Body(json!({})).on(Route::Bind), "contains no `credentials`", 1)]
#[case::list(Fault::credentials(&json!(["a"])).on(Route::Bind).after_effect(), "`credentials` that are not an object", 1)]
#[case::text(Fault::credentials(&json!("a")).on(Route::Bind).after_effect(), "`credentials` that are not an object", 1)]
#[case::null(Fault::credentials(&Value::Null).on(Route::Bind).after_effect(), "contains no `credentials`", 1)]
#[case::number(Fault::credentials(&json!(42)).on(Route::Bind).after_effect(), "`credentials` that are not an object", 1)]
#[case::nan(
    Fault::Text(StatusCode::CREATED, r#"{"credentials": {"load": NaN}}"#.to_owned()).on(Route::Bind).after_effect(),
    "answers 201, but the body is not JSON",
    1
)]
#[case::empty_success(status(200, json!({})).on(Route::Bind), "answers 200, but the body contains no `credentials`", 2)]
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_can_not_be_read_are_revoked_once(
    #[case] fault: Injection,
    #[case] words: &str,
    #[case] binds: usize,
) {
    let (stage, _operator) = patient().await;
    stage.broker.inject(fault.forever());
    stage.create_key(NAME).await;
    let key = stage.wait_key(NAME, Reason::CredentialsUnusable).await;
    key.says(words);
    key.says("key 1 was revoked");
    assert!(key.is_stalled());
    assert_eq!(stage.broker.bindings(), []);
    assert_eq!(stage.broker.count(Route::Bind), binds);

    stage.broker.clear_faults();
    tries_again_on_request(&stage).await;
}

#[rstest]
#[case::slow(Fault::Delay(LATE).on(Route::Bind).after_effect())]
#[case::hangs_before(Fault::Hang.on(Route::Bind))]
#[case::hangs_after(Fault::Hang.on(Route::Bind).after_effect())]
#[case::drips(Fault::Drip(Duration::from_millis(100)).on(Route::Bind))]
#[tokio::test(flavor = "multi_thread")]
async fn a_bind_that_takes_too_long_is_tried_again(#[case] fault: Injection) {
    let (stage, _operator) = impatient().await;
    a_bind_fails(&stage, fault, Reason::BindFailed, "within 1s").await;
}

/// A person has to solve these problems and then change the ServiceKey. Until then tools stop waiting.
#[rstest]
#[case::bad_request(sorry(400), Reason::BindRejected, "answers 400: the disk is full")]
#[case::forbidden(sorry(403), Reason::Unauthorized, "ask the administrator of the broker for permission")]
#[case::no_instance(sorry(404), Reason::InstanceNotFound, "check `instance.id`")]
#[case::conflict(sorry(409), Reason::KeyConflict, "a key with this id exists, created with other parameters")]
#[case::asynchronous(status(422, json!({"error": "AsyncRequired"})), Reason::BindRejected, "only in the background")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bind_that_is_refused_stalls_and_is_tried_again(
    #[case] fault: Fault,
    #[case] reason: Reason,
    #[case] words: &str,
) {
    let (stage, _operator) = patient().await;
    stage.broker.inject(fault.clone().on(Route::Bind).forever());
    stage.create_key(NAME).await;
    assert!(stage.wait_key(NAME, reason).await.is_stalled());
    stage.broker.clear_faults();
    stage.wait_ready(NAME).await;
    stage.delete_and_leave_nothing(NAME).await;

    a_bind_fails(&stage, fault.on(Route::Bind).after_effect(), reason, words).await;
}

/// The key was created, but its answer did not arrive. The operator knows the key's identity, which is enough to revoke
/// it.
#[rstest]
#[case::cut(Fault::Cut)]
#[case::internal_error(sorry(500))]
#[case::no_credentials(Fault::Body(json!({})))]
#[case::bad_request(sorry(400))]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_answer_was_lost_is_revoked(#[case] fault: Fault) {
    let (stage, _operator) = patient().await;
    stage.broker.inject(fault.on(Route::Bind).after_effect().forever());
    stage.create_key(NAME).await;
    stage.broker.wait_until(|bindings| bindings.len() == 1).await.unwrap();
    stage.delete_and_leave_nothing(NAME).await;
}

/// The provider reports the fault too, and is the first to notice that the broker has recovered.
#[rstest]
#[case::internal_error(sorry(500).on(Route::Catalog), Reason::RemoteUnreachable, "answers 500: the disk is full")]
#[case::too_many_requests(sorry(429).on(Route::Catalog), Reason::RateLimited, "rate limited by the broker")]
#[case::cut(Fault::Cut.on(Route::Catalog), Reason::RemoteUnreachable, "closed before the answer was complete")]
#[case::cut_in_body(Fault::CutInBody.on(Route::Catalog), Reason::RemoteUnreachable, "no complete answer")]
#[case::forbidden(sorry(403).on(Route::Catalog), Reason::Unauthorized, "the login may not do this")]
#[case::not_found(html(404).on(Route::Catalog), Reason::UnexpectedAnswer, "check that `url` is the broker's base")]
#[case::web_page(html(200).on(Route::Catalog), Reason::UnexpectedAnswer, "answers 200, but the body is not a catalog")]
#[case::no_catalog(Fault::Body(json!({})).on(Route::Catalog), Reason::UnexpectedAnswer, "is not a catalog")]
#[case::big_body(Fault::BigBody.on(Route::Catalog), Reason::UnexpectedAnswer, "is not a catalog")]
#[case::endless_body(Fault::EndlessBody.on(Route::Catalog), Reason::UnexpectedAnswer, "is larger than 16 MiB")]
#[case::redirect(to_the_login(redirect().on(Route::Catalog)), Reason::UnexpectedAnswer, "set the final address")]
#[case::slow(Fault::Delay(LATE).on(Route::Catalog), Reason::RemoteUnreachable, "within 1s")]
#[case::hangs(Fault::Hang.on(Route::Catalog), Reason::RemoteUnreachable, "within 1s")]
#[case::drips(Fault::Drip(Duration::from_millis(100)).on(Route::Catalog), Reason::RemoteUnreachable, "within 1s")]
#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_fails_is_tried_again(
    #[case] fault: Injection,
    #[case] reason: Reason,
    #[case] words: &str,
) {
    let stage = Stage::set().await;
    if words.contains(TIMEOUT) {
        stage.change_provider(json!({"limits": {"timeout": TIMEOUT}})).await;
    }
    stage.broker.inject(fault.forever());
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_provider(reason).await.says(words);
    stage.wait_key(NAME, reason).await.says(words);
    assert_eq!(stage.broker.count(Route::Bind), 0);

    stage.broker.clear_faults();
    stage.wait_for_provider("broker").await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_is_found_when_it_is_up() {
    let stage = Stage::set().await;
    let port = ReservedPort::take().unwrap();
    stage.change_provider(json!({"openServiceBroker": {"url": port.url()}})).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    let words = "connection refused: check address and port, and whether the server is running";
    stage.wait_provider(Reason::RemoteUnreachable).await.says(words);
    stage.wait_key(NAME, Reason::RemoteUnreachable).await.says(words);

    let broker = FakeBroker::builder().port(port).start().await.unwrap();
    stage.wait_for_provider("broker").await;
    stage.wait_ready(NAME).await;
    assert_eq!(broker.bindings().len(), 1);
    stage.delete_key(NAME).await;
    stage.wait_gone(NAME).await;
    assert_eq!(broker.bindings(), []);
    assert_eq!(stage.broker.calls(), []);
}

#[rstest]
#[case::nobody_is_there(|_: &str| ReservedPort::take().unwrap().url(), "connection refused")]
#[case::https_to_plain_http(|url: &str| url.replace("http:", "https:"), "it does not speak TLS: check scheme")]
#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_is_corrected_wakes_its_keys(#[case] wrong: fn(&str) -> String, #[case] words: &str) {
    let stage = Stage::set().await;
    stage.change_provider(json!({"openServiceBroker": {"url": wrong(&stage.broker.url())}})).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_key(NAME, Reason::RemoteUnreachable).await.says(words);

    stage.change_provider(json!({"openServiceBroker": {"url": stage.broker.url()}})).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.wait_for_provider("broker").await;
}

/// An administrator may change the login at the broker first, and the Secret some time later.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_changes_at_the_broker_is_asked_for() {
    let (stage, _operator) = patient().await;
    stage.broker.tolerate(Rule::Login);
    stage.broker.change_login(Login::basic("operator", "another-password"));
    stage.create_key(NAME).await;
    let key = stage.wait_key(NAME, Reason::Unauthorized).await;
    key.says("the broker answers 401: the login is missing or wrong; check the provider's login");
    assert!(key.is_stalled());

    stage.change_secret("broker-login", json!({"password": "another-password"})).await;
    stage.wait_ready_with_the_only_key(NAME).await;

    // The same while the operator revokes the key. This time the broker's login is changed back.
    stage.broker.change_login(Login::basic("operator", "a-third-password"));
    stage.delete_key(NAME).await;
    stage.wait_key(NAME, Reason::RevokeFailed).await.says("check the provider's login");
    stage.broker.change_login(Login::basic("operator", "another-password"));
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_asks_to_be_left_alone_is() {
    let wanted = Duration::from_secs(3);
    let (stage, _operator) = patient().await;
    stage.broker.inject(sorry(429).on(Route::Bind).retry_after(wanted.as_secs()));
    let began = Instant::now();
    stage.create_key(NAME).await;
    stage.wait_ready(NAME).await;
    assert!(began.elapsed() >= wanted, "the operator repeated the request after {:?}", began.elapsed());
    assert_eq!(stage.broker.count(Route::Bind), 2);
}

/// The message is the same at every attempt, so that the status is not written again and no user is notified again.
#[tokio::test(flavor = "multi_thread")]
async fn a_trouble_that_stays_is_written_down_once() {
    let (stage, operator) = patient().await;
    stage.broker.inject(sorry(500).on(Route::Bind).forever());
    stage.create_key(NAME).await;
    let binds = |count| {
        move |calls: &[testkit::broker::Call]| {
            calls.iter().filter(|call| call.route == Route::Bind && call.status.is_some()).count() == count
        }
    };
    stage.broker.wait_for_calls(binds(3)).await.unwrap();
    let requests = stage.plane.audit().requests(&operator.user).unwrap().writes();
    let statuses = requests.of("servicekeys").only(|request| request.subresource == "status");
    assert_eq!(statuses.len(), 1, "{statuses}");
    stage.wait_event(NAME, "BindFailed").await;
}

async fn a_revocation_fails(stage: &Stage, fault: Injection, words: &str) {
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.broker.inject(fault.forever());
    stage.delete_key(NAME).await;
    let key = stage.wait_key(NAME, Reason::RevokeFailed).await;
    key.says(words);
    key.says("the operator retries until the key is revoked");
    key.says("to leave the key at the remote side, annotate the ServiceKey");
    key.says("`servicekeys.dev/abandon: \"true\"`");

    stage.broker.clear_faults();
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings(), []);
    assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none());
}

#[rstest]
#[case::cut_before(Fault::Cut.on(Route::Unbind), "closed before the answer was complete")]
#[case::cut_after(Fault::Cut.on(Route::Unbind).after_effect(), "closed before the answer was complete")]
#[case::internal_error(sorry(500).on(Route::Unbind), "unbind failed: the broker answers 500: the disk is full")]
#[case::error_after_effect(sorry(500).on(Route::Unbind).after_effect(), "answers 500")]
#[case::bad_gateway(html(502).on(Route::Unbind), "answers 502: an HTML page")]
#[case::bad_request(sorry(400).on(Route::Unbind), "answers 400: the disk is full")]
#[case::forbidden(sorry(403).on(Route::Unbind), "ask the administrator of the broker for permission")]
#[case::not_found(sorry(404).on(Route::Unbind), "answers 404")]
#[case::not_found_says_a_gateway(html(404).on(Route::Unbind), "404 does not have the form of a broker's")]
#[case::no_content(status(204, json!({})).on(Route::Unbind), "answers 204")]
#[case::redirect(to_the_login(redirect().on(Route::Unbind)), "set the final address")]
#[case::long_token(long_token().on(Route::Unbind), "an `operation` of more than 10,000 characters")]
#[case::busy(status(422, json!({"error": "ConcurrencyError"})).on(Route::Unbind), "another operation")]
#[case::too_many_requests(sorry(429).on(Route::Unbind), "rate limited by the broker")]
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_fails_is_tried_again(#[case] fault: Injection, #[case] words: &str) {
    let (stage, _operator) = patient().await;
    a_revocation_fails(&stage, fault, words).await;
}

#[rstest]
#[case::slow(Fault::Delay(LATE).on(Route::Unbind).after_effect())]
#[case::hangs_before(Fault::Hang.on(Route::Unbind))]
#[case::hangs_after(Fault::Hang.on(Route::Unbind).after_effect())]
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_takes_too_long_is_tried_again(#[case] fault: Injection) {
    let (stage, _operator) = impatient().await;
    a_revocation_fails(&stage, fault, "within 1s").await;
}

/// The statuses 200 and 410 mean that the key is gone, whatever the body contains.
#[rstest]
#[case::web_page(html(200))]
#[case::gone(html(410))]
#[case::big_body(Fault::BigBody)]
#[case::endless_body(Fault::EndlessBody)]
#[case::cut_in_body(Fault::CutInBody)]
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_confirmed_by_its_status(#[case] fault: Fault) {
    let (stage, _operator) = patient().await;
    stage.create_key(NAME).await;
    stage.wait_ready(NAME).await;
    stage.broker.inject(fault.on(Route::Unbind).after_effect());
    stage.delete_and_leave_nothing(NAME).await;
    assert_eq!(stage.broker.count(Route::Unbind), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_gone_already_is_as_good_as_revoked() {
    let (stage, _operator) = patient().await;
    stage.create_key(NAME).await;
    stage.wait_ready(NAME).await;
    assert!(stage.broker.forget(stage.broker.bindings()[0].id));
    stage.delete_and_leave_nothing(NAME).await;
    assert_eq!(stage.broker.count(Route::Unbind), 1);
}
