//! The operator revokes a key by the ids that it was created with, even if the catalog and the instance have changed
//! since.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use servicekey_operator::api::ServiceKey;
use testkit::broker::{Fault, Moment, Route, Rule, StatusCode};

use crate::support::stage::{Stage, wait};

const NAME: &str = "monitoring-creds";
const OFFERING: &str = "offering-postgresql-7b1f";
const SMALL: &str = "plan-postgresql-small-1c9d";

impl Stage {
    /// The pairs of offering and plan ids that the unbinds contained.
    fn ids_of_unbinds(&self) -> Vec<String> {
        let unbinds = self.broker.calls().into_iter().filter(|call| call.route == Route::Unbind);
        unbinds.map(|call| call.path.split_once('?').unwrap().1.to_owned()).collect()
    }

    /// A stage with a key, whose operator has ended.
    async fn with_a_key() -> (Self, ServiceKey) {
        let stage = Self::set().await;
        let operator = stage.start_operator().await;
        stage.create_key(NAME).await;
        let key = stage.wait_ready(NAME).await;
        drop(operator);
        (stage, key)
    }

    /// A stage whose operator ended before it received the answer to a bind that took effect.
    async fn with_a_bind_without_an_answer() -> Self {
        let stage = Self::set().await;
        let operator = stage.start_operator().await;
        stage.wait_for_provider("broker").await;
        let held = stage.broker.gate(Route::Bind, Moment::AfterEffect);
        stage.create_key(NAME).await;
        stage.broker.wait_until(|bindings| bindings.len() == 1).await.unwrap();
        drop(operator);
        drop(held);
        stage
    }

    /// Deletes the ServiceKey with a restarted operator, which has read the catalog again.
    async fn delete_after_a_restart(&self) {
        let _operator = self.start_operator().await;
        self.wait_for_provider("broker").await;
        self.delete_and_leave_nothing(NAME).await;
    }
}

fn by(plan: &str) -> String {
    format!("service_id={OFFERING}&plan_id={plan}&accepts_incomplete=true")
}

fn recorded(key: &ServiceKey) -> Value {
    serde_json::to_value(&key.status.as_ref().unwrap().key).unwrap()["planIds"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_plan_that_was_renamed_is_revoked() {
    let (stage, key) = Stage::with_a_key().await;
    assert_eq!(recorded(&key), json!({"serviceId": OFFERING, "planId": SMALL}));
    assert!(stage.broker.rename_plan("postgresql", "small", "tiny"));
    stage.delete_after_a_restart().await;
    assert_eq!(stage.ids_of_unbinds(), [by(SMALL)]);
    stage.broker.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_plan_that_was_withdrawn_is_revoked() {
    let (stage, _) = Stage::with_a_key().await;
    assert!(stage.broker.withdraw_plan("postgresql", "small"));
    stage.delete_after_a_restart().await;
    assert_eq!(stage.ids_of_unbinds(), [by(SMALL)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_plan_whose_id_was_changed_is_revoked_and_its_successor_has_the_new_one() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.create_rotating(json!({"overlap": "0s"})).await;
    drop(operator);
    assert!(stage.broker.change_plan_id("postgresql", "small", "plan-new"));
    let _operator = stage.start_operator().await;
    stage.request_rotation(json!("now")).await;
    let key = stage.wait_settled_with(2).await;
    assert_eq!(recorded(&key)["planId"], "plan-new");
    stage.delete_and_leave_nothing(NAME).await;
    // The operator revokes twice if it created the key soon after its start.
    let mut unbinds = stage.ids_of_unbinds();
    unbinds.dedup();
    assert_eq!(unbinds, [by(SMALL), by("plan-new")]);
    stage.broker.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_needs_no_catalog() {
    let (stage, _) = Stage::with_a_key().await;
    stage
        .broker
        .inject(Fault::Status(StatusCode::SERVICE_UNAVAILABLE, json!({})).on(Route::Catalog).forever());
    let _operator = stage.start_operator().await;
    stage.delete_and_leave_nothing(NAME).await;
    assert_eq!(stage.ids_of_unbinds(), [by(SMALL)]);
}

/// The operator records the ids before the key exists: the process dies before the answer to the bind.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_during_the_bind_loses_no_ids() {
    let stage = Stage::with_a_bind_without_an_answer().await;
    assert!(stage.broker.withdraw_plan("postgresql", "small"));
    stage.delete_key(NAME).await;
    let _operator = stage.start_operator().await;
    stage.wait_gone(NAME).await;
    assert!(stage.broker.bindings().is_empty());
    assert!(stage.ids_of_unbinds().iter().all(|ids| *ids == by(SMALL)), "{:?}", stage.ids_of_unbinds());
}

/// The next process reads a changed catalog. It revokes the key that the first process may have created by that key's
/// own ids.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_during_the_bind_loses_no_ids_where_the_next_key_has_others() {
    let stage = Stage::with_a_bind_without_an_answer().await;
    assert!(stage.broker.change_plan_id("postgresql", "small", "plan-new"));
    let _operator = stage.start_operator().await;
    let key = stage.wait_ready(NAME).await;
    assert_eq!(recorded(&key)["planId"], "plan-new");
    assert_eq!((stage.ids_of_unbinds(), stage.broker.bindings().len()), (vec![by(SMALL)], 1));
    stage.delete_and_leave_nothing(NAME).await;
    assert_eq!(stage.ids_of_unbinds().pop(), Some(by("plan-new")));
    stage.broker.assert_clean();
}

/// Every user who may write the ServiceKey may forge the annotation. The operator ignores it for a key that is in the
/// status.
#[tokio::test(flavor = "multi_thread")]
async fn forged_ids_are_not_sent() {
    let (stage, _) = Stage::with_a_key().await;
    let forged = json!({"serviceId": "other", "planId": "other"}).to_string();
    let patch = json!({
        "metadata": {"annotations": {"servicekeys.dev/plan-ids": forged}},
        "status": {"key": {"planIds": null}},
    });
    stage.keys().patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    stage.keys().patch_status(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    stage.delete_after_a_restart().await;
    assert_eq!(stage.ids_of_unbinds(), [by(SMALL)]);
    stage.broker.assert_clean();
}

/// Some brokers identify a binding by the current plan of its instance.
#[tokio::test(flavor = "multi_thread")]
async fn the_present_plan_of_an_instance_that_was_moved_is_read() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_rotating(json!({"overlap": "0s"})).await;
    stage.broker.go_by_instances();
    stage.broker.tolerate(Rule::OfferingAndPlan);
    assert!(stage.broker.move_instance(&stage.instance.id, "rotating"));
    stage.request_rotation(json!("now")).await;
    let key = stage.wait_settled_with(2).await;
    assert_eq!(recorded(&key)["planId"], "plan-postgresql-rotating-52aa");
    stage.delete_and_leave_nothing(NAME).await;
}

/// Keys of an earlier release have no ids in their status.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_recorded_ids_is_revoked_by_the_catalog() {
    let (stage, _) = Stage::with_a_key().await;
    stage.forget_ids().await;
    stage.delete_after_a_restart().await;
    assert_eq!(stage.ids_of_unbinds(), [by(SMALL)]);
    stage.broker.assert_clean();
}

impl Stage {
    /// Removes the ids from the status and the annotations of the ServiceKey.
    async fn forget_ids(&self) {
        let status = Patch::Merge(json!({"status": {"key": {"planIds": null}}}));
        self.keys().patch_status(NAME, &PatchParams::default(), &status).await.unwrap();
        let annotation =
            Patch::Merge(json!({"metadata": {"annotations": {"servicekeys.dev/plan-ids": null}}}));
        self.keys().patch(NAME, &PatchParams::default(), &annotation).await.unwrap();
        let forgot = |key: Option<&ServiceKey>| key.is_some_and(|key| recorded(key).is_null());
        wait(self.keys(), NAME, "without ids", forgot).await;
    }
}
