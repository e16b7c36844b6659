//! The id of an instance is enough if its broker shows the instance's offering and plan. Also: the context that the
//! broker receives.

use serde_json::json;
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::broker::{Catalog, FakeBroker, Fault, Instance, Offering, Plan, Route, StatusCode};

use crate::support::{conditions::Reports, stage::Stage};

const NAME: &str = "monitoring-creds";

impl Stage {
    /// Creates a ServiceKey that names only the instance's id.
    async fn create_bare_key(&self, name: &str) {
        let mut manifest = self.key_manifest(name);
        manifest["spec"]["instance"] = json!({"id": self.instance.id});
        self.create::<ServiceKey>(manifest).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_enough_and_is_looked_up_once() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    for number in 0..20 {
        stage.create_bare_key(&format!("key-{number}")).await;
    }
    stage.wait_all_ready(20).await;
    assert_eq!(stage.broker.count(Route::FetchInstance), 1);
    assert_eq!(stage.broker.count(Route::Catalog), 1);
    assert_eq!(stage.broker.count(Route::Bind), 20);

    // Revoking a key requires no lookup of its instance.
    assert!(stage.broker.forget_instance(&stage.instance.id));
    drop(operator);
    let _operator = stage.start_operator().await;
    stage.delete_and_leave_nothing("key-7").await;
    assert_eq!(stage.broker.count(Route::Unbind), 0, "an instance that is gone has no keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_nobody_knows_is_reported() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    assert!(stage.broker.forget_instance(&stage.instance.id));
    stage.create_bare_key(NAME).await;
    let key = stage.wait_key(NAME, Reason::InstanceNotFound).await;
    key.says("the broker has no instance `training-app-db`, or is still creating it; check `instance.id`");
    stage.delete_and_leave_nothing(NAME).await;
}

/// An HTML page of a proxy in front of the broker proves nothing about the instance.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_page_is_no_missing_instance() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    stage.broker.inject(Fault::Html(StatusCode::NOT_FOUND).on(Route::FetchInstance));
    stage.create_bare_key(NAME).await;
    stage
        .wait_key(NAME, Reason::UnexpectedAnswer)
        .await
        .says("instance failed: the answer 404 does not have the form of a broker's: an HTML page");
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.delete_and_leave_nothing(NAME).await;
    assert_eq!(stage.broker.count(Route::Unbind), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_tell_is_not_asked() {
    let silent = Offering { instances_retrievable: false, ..Offering::new("offering-1", "postgresql") };
    let catalog = Catalog::new([silent.plan(Plan::new("plan-1", "small"))]);
    let stage = Stage::set_with(FakeBroker::builder().catalog(catalog).start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_bare_key(NAME).await;
    let key = stage.wait_key(NAME, Reason::BindRejected).await;
    key.says("create the ServiceKey again with `instance.offering` and `instance.plan`");
    assert!(key.is_stalled());
    assert_eq!(stage.broker.count(Route::FetchInstance), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_catalog_costs_one_request() {
    let catalog = Catalog::training().crowded(2_000);
    let instance = Instance::new("training-app-db", "postgresql", "small");
    let broker = FakeBroker::builder().catalog(catalog).start().await.unwrap();
    let stage = Stage::set_for(broker, instance).await;
    let _operator = stage.start_operator().await;
    for number in 0..10 {
        stage.create_key(&format!("key-{number}")).await;
    }
    stage.wait_all_ready(10).await;
    assert_eq!(stage.broker.count(Route::Catalog), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_told_where_the_key_is_wanted() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let mut manifest = stage.key_manifest(NAME);
    manifest["spec"]["instance"]["annotations"] = json!({"example.com/cost-center": "4711"});
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready(NAME).await;
    let context = &stage.broker.bindings()[0].context;
    assert_eq!(context["platform"], "kubernetes");
    assert_eq!(context["namespace"], json!(stage.namespace));
    assert_eq!(context["instance_annotations"], json!({"example.com/cost-center": "4711"}));
}

/// Specification: "Originating Identity". The revocation after a lost answer is not a request of any user.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asked_is_named_and_nobody_for_a_clean_up() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    stage.broker.inject(Fault::Cut.on(Route::Bind).after_effect());
    let key = stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.delete_and_leave_nothing(NAME).await;

    let calls = stage.broker.calls();
    let askers = |route| {
        let of_route = calls.iter().filter(move |call| call.route == route);
        of_route
            .map(|call| call.originating_identity.as_ref().map(|user| user.uid.clone()))
            .collect::<Vec<_>>()
    };
    let uid = key.metadata.uid;
    assert_eq!(askers(Route::Bind), [uid.clone(), uid.clone()]);
    let unbinds = askers(Route::Unbind);
    assert_eq!((unbinds.first(), unbinds.last()), (Some(&None), Some(&uid)), "a clean-up names no user");
    let counted = "servicekeys_orphan_mitigations_total{backend=\"OpenServiceBroker\"} 1";
    assert!(operator.metrics.text().contains(counted), "{}", operator.metrics.text());
}
