//! ServiceKeys wait only for their own provider, and the operator never exceeds the limits of a remote side.

use std::num::NonZeroU32;

use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::broker::{FakeBroker, Fault, Moment, Route, StatusCode};

use crate::support::{conditions::Reports, stage::Stage};

const NAME: &str = "monitoring-creds";
/// Many more than the operator has workers.
const MANY: usize = 500;

impl Stage {
    /// A KeyProvider for this broker, with these limits.
    async fn create_provider(&self, name: &str, broker: &FakeBroker, limits: Value) {
        let mut manifest = self.provider_manifest(name);
        manifest["spec"]["openServiceBroker"]["url"] = json!(broker.url());
        manifest["spec"]["limits"] = limits;
        self.create::<KeyProvider>(manifest).await;
    }

    async fn create_key_of(&self, provider: &str, name: &str) {
        let mut manifest = self.key_manifest(name);
        manifest["spec"]["providerRef"]["name"] = json!(provider);
        self.create::<ServiceKey>(manifest).await;
    }

    async fn create_many_keys_of(&self, provider: &str, count: usize) {
        let keys: Vec<_> = (0..count)
            .map(|number| {
                let mut manifest = self.key_manifest(&format!("{provider}-{number}"));
                manifest["spec"]["providerRef"]["name"] = json!(provider);
                serde_json::from_value::<ServiceKey>(manifest).unwrap()
            })
            .collect();
        let (api, parameters) = (self.keys(), PostParams::default());
        let created = stream::iter(&keys).map(|key| api.create(&parameters, key)).buffer_unordered(32);
        let _: Vec<_> = created.try_collect().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_delays_no_other() {
    let stage = Stage::set().await;
    let dead = FakeBroker::builder().start().await.unwrap();
    let held = dead.gate(Route::Bind, Moment::BeforeEffect);
    stage.create_provider("dead", &dead, json!({"concurrency": 40, "timeout": "10m"})).await;
    let _operator = stage.start_operator().await;
    stage.create_many_keys_of("dead", MANY).await;
    held.wait_for_arrivals(40).await.unwrap();

    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.delete_and_leave_nothing(NAME).await;
    assert_eq!(held.arrivals(), 40, "as many as `limits.concurrency` allows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_requests_is_never_exceeded() {
    let limit = NonZeroU32::new(50).unwrap();
    let broker = FakeBroker::builder().limit(limit).start().await.unwrap();
    let stage = Stage::set_with(broker).await;
    stage.change_provider(json!({"limits": {"requestsPerSecond": 50, "concurrency": 16}})).await;
    let _operator = stage.start_operator().await;
    stage.create_many_keys_of("broker", MANY).await;
    stage.wait_all_ready(MANY).await;
    assert_eq!(stage.broker.count(Route::Bind), MANY);
    assert_eq!(stage.broker.bindings().len(), MANY);
}

/// The pause applies to all requests to the broker, including those for new ServiceKeys.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_asks_to_be_left_alone_is_left_alone() {
    let stage = Stage::set().await;
    let other = FakeBroker::builder().start().await.unwrap();
    stage.create_provider("other", &other, json!({})).await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;

    stage.broker.inject(too_many_requests().on(Route::Bind).retry_after(3600));
    stage.create_key(NAME).await;
    stage.wait_key(NAME, Reason::RateLimited).await.says("answers 429: slow down");
    stage.create_key("next").await;
    stage
        .wait_key("next", Reason::RateLimited)
        .await
        .says("the remote side asked for a pause (429 or 503); retrying at 20");
    stage.change_key(NAME, json!({"parameters": {"permissions": "read-only"}})).await;
    let is_told = |key: Option<&ServiceKey>| {
        key.is_some_and(|key| key.message().contains("the remote side asked for a pause (429 or 503)"))
    };
    stage.wait(stage.keys(), NAME, "reporting the pause", is_told).await;
    assert_eq!(stage.broker.count(Route::Bind), 1);

    stage.create_key_of("other", "elsewhere").await;
    stage.wait_ready("elsewhere").await;

    // A change of the limits creates a new client, which does not know of the pause.
    stage.change_provider(json!({"limits": {"concurrency": 2}})).await;
    stage.wait_ready(NAME).await;
    stage.wait_ready("next").await;
    assert_eq!(stage.broker.count(Route::Bind), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ends_by_itself() {
    let stage = Stage::set().await;
    stage.change_provider(json!({"limits": {"concurrency": 1, "timeout": "10m"}})).await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    let unavailable =
        Fault::Status(StatusCode::SERVICE_UNAVAILABLE, json!({"description": "in maintenance"}));
    stage.broker.inject(unavailable.on(Route::Bind).retry_after(5));
    let held = stage.broker.gate(Route::Bind, Moment::BeforeEffect);
    stage.create_key(NAME).await;
    held.wait_for_arrival().await.unwrap();
    // This ServiceKey waits in the queue, and learns of the pause as soon as it begins.
    stage.create_key("next").await;
    let is_held = |key: Option<&ServiceKey>| key.is_some_and(|key| !key.finalizers().is_empty());
    stage.wait(stage.keys(), "next", "with a finalizer", is_held).await;
    held.release();
    let (failed, _) =
        tokio::join!(stage.wait_key(NAME, Reason::BindFailed), stage.wait_key("next", Reason::RateLimited));
    failed.says("in maintenance");
    assert_eq!(stage.broker.count(Route::Bind), 1);
    assert_eq!(stage.broker.count(Route::Unbind), 0, "the key that may have been created is revoked later");

    stage.wait_ready(NAME).await;
    stage.wait_ready("next").await;
    assert_eq!(stage.broker.count(Route::Bind), 3);
    assert_eq!(stage.broker.bindings().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_first_is_not_hidden() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    let full = Fault::Status(StatusCode::BAD_REQUEST, json!({"description": "the quota is used up"}));
    stage.broker.inject(full.on(Route::Bind));
    stage.broker.inject(too_many_requests().on(Route::Bind).retry_after(3600));
    stage.create_key(NAME).await;
    stage.wait_key(NAME, Reason::BindRejected).await.says("the quota is used up");
    stage.broker.wait_for_calls(|calls| calls.iter().any(|call| call.status == Some(429))).await.unwrap();

    // Once the next ServiceKey reports the pause, the operator has processed the answer for the first one.
    stage.create_key("next").await;
    stage.wait_key("next", Reason::RateLimited).await;
    let key = stage.keys().get(NAME).await.unwrap();
    assert!(key.is(false, Reason::BindRejected), "{:?}", key.status);
    key.says("the quota is used up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_waits_for_its_turn_notices_what_happens_to_it() {
    let stage = Stage::set().await;
    stage.change_provider(json!({"limits": {"concurrency": 1, "timeout": "10m"}})).await;
    let _operator = stage.start_operator().await;
    stage.create_key("patient").await;
    stage.wait_ready("patient").await;
    let held = stage.broker.gate(Route::Bind, Moment::BeforeEffect);
    stage.create_key(NAME).await;
    held.wait_for_arrival().await.unwrap();

    stage.delete_key("patient").await;
    stage.abandon("patient").await;
    stage.wait_gone("patient").await;
    assert_eq!(stage.broker.count(Route::Unbind), 0, "the request was still in the queue");

    held.release();
    stage.wait_ready(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_wait_for_a_dead_provider_move_on_when_it_is_corrected() {
    let stage = Stage::set().await;
    let dead = FakeBroker::builder().start().await.unwrap();
    let held = dead.gate(Route::Bind, Moment::BeforeEffect);
    stage.create_provider("mistaken", &dead, json!({"concurrency": 1, "timeout": "10m"})).await;
    let _operator = stage.start_operator().await;
    stage.create_many_keys_of("mistaken", 3).await;
    held.wait_for_arrival().await.unwrap();

    let correct = json!({"spec": {"openServiceBroker": {"url": stage.broker.url()}}});
    let providers = stage.api::<KeyProvider>();
    providers.patch("mistaken", &PatchParams::default(), &Patch::Merge(correct)).await.unwrap();
    stage.broker.wait_until(|bindings| bindings.len() == 2).await.unwrap();
    assert_eq!(held.arrivals(), 1, "only the request before the correction still waits for the dead broker");
}

fn too_many_requests() -> Fault {
    Fault::Status(StatusCode::TOO_MANY_REQUESTS, json!({"description": "slow down"}))
}
