//! `spec.suspend: true` stops all work on one ServiceKey, and the status says so. Other ServiceKeys continue, and this
//! one continues once it is resumed.

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::broker::Route;

use crate::support::{conditions::wait_for, stage::Stage};

const NAME: &str = "monitoring-creds";

impl Stage {
    async fn suspend(&self, suspend: bool) {
        self.change_key(NAME, json!({ "suspend": suspend })).await;
    }

    /// Counts the calls for other keys. Creates and deletes another ServiceKey first, so that the operator has finished
    /// all earlier work.
    async fn calls_besides_those_of_another(&self) -> usize {
        let another = "reporting-creds";
        self.create_key(another).await;
        self.wait_ready(another).await;
        self.delete_key(another).await;
        self.wait_gone(another).await;
        // One bind and one unbind of the other ServiceKey.
        self.broker.calls().iter().filter(|call| call.route != Route::Catalog).count() - 2
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_until_it_may_go_on() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.suspend(true).await;
    wait_for(stage.keys(), NAME, true, Reason::Suspended).await;

    stage.secrets().delete(NAME, &DeleteParams::default()).await.unwrap();
    let rotate = Patch::Merge(json!({"metadata": {"annotations": {"servicekeys.dev/rotate": "now"}}}));
    stage.keys().patch(NAME, &PatchParams::default(), &rotate).await.unwrap();
    assert_eq!(stage.calls_besides_those_of_another().await, 1, "only its own bind, before it was suspended");
    assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none());

    stage.suspend(false).await;
    let next =
        |key: &ServiceKey| key.status.as_ref().unwrap().key.as_ref().is_some_and(|key| key.sequence == 2);
    stage.wait(stage.keys(), NAME, "on the next key", |key| key.is_some_and(next)).await;
    stage.delete_and_leave_nothing(NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_until_it_may_go_on() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.suspend(true).await;
    stage.delete_key(NAME).await;
    stage.wait_key(NAME, Reason::Suspended).await;
    assert_eq!(stage.broker.count(Route::Unbind), 0);
    assert_eq!(stage.broker.bindings().len(), 1);

    stage.suspend(false).await;
    stage.wait_gone(NAME).await;
    assert_eq!(stage.broker.bindings(), []);
}
