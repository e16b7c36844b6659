//! An instance that is named by its id and completely gone does not block a deletion. An instance that the login may
//! not see does.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::{ConditionType, Reason, ServiceKey};
use testkit::ibm_cloud::{Access, FakeIbmCloud, Instance, Route};

use crate::support::{
    conditions::Reports,
    ibm::{INSTANCE, IbmStage, KEY},
};

/// A stage whose account has the usual instance, and this many others.
async fn stage(others: usize) -> IbmStage {
    let mut ibm = FakeIbmCloud::builder();
    for number in 0..others {
        ibm = ibm.instance(Instance::new(format!("other-{number}")));
    }
    IbmStage::set_with(ibm.start().await.unwrap()).await
}

impl IbmStage {
    async fn ask_by_id(&self, fields: Value) {
        let mut fields = fields;
        fields["instance"] = json!({"id": self.ibm.instance_guid(INSTANCE).unwrap()});
        self.create_key_with(KEY, fields).await;
        let ready = self.wait_ready_with_the_one_key(KEY).await;
        assert_eq!(ready.status.unwrap().instance_place, Some(self.ibm.account_id()));
    }
}

/// The status contains the account, so a restarted operator still knows it.
#[rstest]
#[case::a_role(json!({}))]
#[case::a_service_id_of_its_own(json!({"ibmCloud": {"access": {"roles": ["Writer"]}}}))]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_with_its_instance(#[case] fields: Value, #[values(false, true)] restarts: bool) {
    let stage = stage(1).await;
    let mut operator = stage.start_operator().await;
    stage.ask_by_id(fields).await;
    assert!(stage.ibm.forget_instance(INSTANCE));
    if restarts {
        drop(operator);
        operator = stage.start_operator().await;
    }
    stage.delete_and_leave_no_key(KEY).await;
    assert_eq!((stage.ibm.policies(), stage.ibm.service_ids()), (vec![], vec![]));
    drop(operator);
}

/// The Secret contains only credentials that no longer work.
#[tokio::test(flavor = "multi_thread")]
async fn a_living_service_key_says_that_its_instance_is_gone() {
    let stage = stage(1).await;
    let _operator = stage.start_operator_checking(Duration::from_millis(500)).await;
    stage.ask_by_id(json!({})).await;
    assert!(stage.ibm.forget_instance(INSTANCE));
    let is_told = |key: Option<&ServiceKey>| {
        let of = |type_| key.and_then(|key| key.condition(type_)).map(|condition| condition.reason.as_str());
        (of(ConditionType::Ready), of(ConditionType::Rotating))
            == (Some(Reason::KeyLost.as_str()), Some(Reason::InstanceNotFound.as_str()))
    };
    stage.wait(stage.keys(), KEY, "reporting that its instance is gone", is_told).await;
    assert_eq!(stage.count(&[Route::CreateKey]), 1);
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_known_of_an_instance_whose_account_is_out_of_sight() {
    let stage = stage(0).await;
    let _operator = stage.start_operator().await;
    stage.ask_by_id(json!({})).await;
    assert!(stage.ibm.forget_instance(INSTANCE));
    stage.delete_key(KEY).await;
    let is_told = |key: Option<&ServiceKey>| {
        let ready = key.and_then(|key| key.condition(ConditionType::Ready));
        ready.is_some_and(|ready| ready.message.contains("does not exist, or the login may not see it"))
    };
    stage.wait(stage.keys(), KEY, "reporting that its instance may be invisible", is_told).await;
    stage.abandon(KEY).await;
    stage.wait_gone(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_known_of_an_instance_that_the_login_may_not_see() {
    let stage = stage(1).await;
    let _operator = stage.start_operator().await;
    stage.ask_by_id(json!({})).await;
    stage.ibm.change_access("alice", Access::None);
    stage.delete_key(KEY).await;
    stage.wait_key(KEY, Reason::RevokeFailed).await.says("answers 403");
    assert_eq!(stage.ibm.live_keys().len(), 1);
    stage.ibm.change_access("alice", Access::Full);
    stage.wait_gone(KEY).await;
    assert_eq!(stage.ibm.live_keys(), []);
}
