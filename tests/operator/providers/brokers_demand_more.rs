//! Some brokers require more of each call than the specification does. The provider's spec defines what they receive.

use kube::api::{Patch, PatchParams};
use serde_json::json;
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::broker::{Call, FakeBroker, Moment, Route, Rule};

use crate::support::{conditions::Reports, rotation::sequence, stage::Stage};

const NAME: &str = "monitoring-creds";

impl Stage {
    /// Waits until the operator has loaded and checked the newest version of the provider.
    async fn wait_for_reload(&self) {
        self.wait(self.api::<KeyProvider>(), "broker", "loaded anew", |provider| {
            let provider = provider.unwrap();
            let observed = provider.status.as_ref().and_then(|status| status.observed_generation);
            observed == provider.metadata.generation
        })
        .await;
        self.wait_for_provider("broker").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_an_older_version_is_spoken_to_in_it() {
    let broker = FakeBroker::builder().api_version("2.13").tolerate(Rule::ApiVersion);
    let stage = Stage::set_with(broker.start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    let provider = stage.wait_provider(Reason::InvalidSpec).await;
    provider.says(
        "the broker does not support version 2.17 of the Open Service Broker API; set `openServiceBroker.apiVersion`",
    );

    stage.change_provider(json!({"openServiceBroker": {"apiVersion": "2.13"}})).await;
    stage.wait_for_provider("broker").await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.delete_and_leave_nothing(NAME).await;
}

/// The `app_guid` of each bind, in the order of arrival.
fn named(stage: &Stage) -> Vec<Option<String>> {
    let binds = stage.broker.calls().into_iter().filter(|call| call.route == Route::Bind);
    let value = |call: Call| call.body?["bind_resource"]["app_guid"].as_str().map(str::to_owned);
    binds.map(value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_told_what_a_key_is_for_and_no_key_is_replaced_for_it() {
    let broker = FakeBroker::builder().demand_bind_resource();
    let stage = Stage::set_with(broker.start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    let key = stage.wait_key(NAME, Reason::BindRejected).await;
    key.says("set `openServiceBroker.bindResource` of the provider");

    stage.change_provider(json!({"openServiceBroker": {"bindResource": {"appGuid": "app-1"}}})).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    let first = named(&stage);
    assert_eq!(first.last(), Some(&Some("app-1".to_owned())));

    // A later key gets the new value; the existing key stays.
    stage.change_provider(json!({"openServiceBroker": {"bindResource": {"appGuid": "app-2"}}})).await;
    stage.wait_for_reload().await;
    stage.create_key("billing-creds").await;
    stage.wait_ready("billing-creds").await;
    assert_eq!(named(&stage)[first.len()..], [Some("app-2".to_owned())]);
    assert_eq!(stage.broker.bindings().len(), 2);

    let rotate = Patch::Merge(json!({"metadata": {"annotations": {"servicekeys.dev/rotate": "now"}}}));
    stage.keys().patch(NAME, &PatchParams::default(), &rotate).await.unwrap();
    let second = |key: Option<&ServiceKey>| key.and_then(sequence) == Some(2);
    stage.wait(stage.keys(), NAME, "rotated", second).await;
    assert_eq!(named(&stage)[first.len() + 1..], [Some("app-2".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_created_for_something_else_before_a_crash_is_revoked() {
    let stage = Stage::set().await;
    stage.change_provider(json!({"openServiceBroker": {"bindResource": {"appGuid": "app-1"}}})).await;
    let gate = stage.broker.gate(Route::Bind, Moment::AfterEffect);
    let killed = stage.start_operator().await;
    stage.create_key(NAME).await;
    gate.wait_for_arrival().await.unwrap();
    drop(killed);
    gate.cut();

    stage.change_provider(json!({"openServiceBroker": {"bindResource": {"appGuid": "app-2"}}})).await;
    let _operator = stage.start_operator().await;
    stage.wait_ready_with_the_only_key(NAME).await;
    let values = ["app-1", "app-2", "app-2"].map(|value| Some(value.to_owned()));
    assert_eq!(named(&stage), values);
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_of_the_url_is_part_of_every_call() {
    let broker = FakeBroker::builder().demand_parameter("tenant", "open-barley");
    let stage = Stage::set_with(broker.start().await.unwrap()).await;
    let url = format!("{}/?tenant=open-barley", stage.broker.url());
    stage.change_provider(json!({"openServiceBroker": {"url": url}})).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    assert!(!stage.everything_public().await.contains("open-barley"));
    stage.delete_and_leave_nothing(NAME).await;
}
