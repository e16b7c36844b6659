//! A key of IBM Cloud may act as a service ID that the operator creates for it, with a policy for the access of its
//! consumer. Both are deleted with the key, whatever happens in between.

use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::Reason;
use testkit::{
    Moment::{self, AfterEffect, BeforeEffect},
    ibm_cloud::{Call, FakeIbmCloud, Fault, Instance, Key, Policy, Quirks, Route, ServiceId},
};

use crate::support::{
    conditions::Reports,
    evidence::settled,
    ibm::{INSTANCE, IbmStage, KEY},
    process::Process,
    stage::entries,
};

const WRITER: &str = "crn:v1:bluemix:public:iam::::serviceRole:Writer";
const VIEWER: &str = "crn:v1:bluemix:public:iam::::role:Viewer";

/// The fields of a ServiceKey that requests its own service ID.
fn own_access() -> Value {
    let bucket =
        json!([{"name": "resourceType", "value": "bucket"}, {"name": "resource", "value": "events"}]);
    json!({"ibmCloud": {"access": {"roles": ["Writer", VIEWER], "resourceAttributes": bucket}}})
}

impl IbmStage {
    /// Fails unless there is exactly one key, the one service ID as which it acts, and one policy for that.
    fn assert_one_of_each(&self) -> (Key, ServiceId, Policy) {
        let (keys, ids, policies) = (self.ibm.live_keys(), self.ibm.service_ids(), self.ibm.policies());
        let ([key], [id], [policy]) = (keys.as_slice(), ids.as_slice(), policies.as_slice()) else {
            panic!("expected exactly one of each: {keys:#?}, {ids:#?}, {policies:#?}")
        };
        assert_eq!((key.service_id(), key.name.as_str()), (Some(id.crn.as_str()), id.name.as_str()));
        assert_eq!(policy.iam_id, id.iam_id);
        (key.clone(), id.clone(), policy.clone())
    }

    async fn delete_and_leave_nothing(&self, name: &str) {
        self.delete_and_leave_no_key(name).await;
        assert_eq!(self.ibm.policies(), []);
        assert_eq!(self.ibm.service_ids(), []);
    }

    /// Waits until the operator has listed all keys, so that later lists are lookups of a single key.
    async fn wait_until_listed(&self) {
        self.wait_for_provider("ibm").await;
        let listed =
            |calls: &[Call]| calls.iter().any(|call| call.route == Route::Keys && call.status.is_some());
        self.ibm.wait_for_calls(listed).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_id_is_made_for_the_key_and_goes_with_it() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.wait_until_listed().await;
    let before = stage.ibm.calls().len();
    stage.create_key_with(KEY, own_access()).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    let made = [Route::ServiceIds, Route::CreateServiceId, Route::CreatePolicy, Route::CreateKey];
    let looked_up = [Route::Instances, Route::Keys, Route::Roles];
    assert_eq!(stage.routes_since(before), [looked_up.as_slice(), &made].concat());

    let (_, id, policy) = stage.assert_one_of_each();
    assert!(id.description.ends_with(&format!("/{KEY}")), "{}", id.description);
    assert_eq!(policy.roles, [WRITER, VIEWER]);
    assert_eq!(stage.ibm.live_keys()[0].role, None, "a role of the key would add to the policy");
    let expected = [
        ("accountId", stage.ibm.account_id()),
        ("serviceName", stage.ibm.instance_crn(INSTANCE).unwrap().split(':').nth(4).unwrap().to_owned()),
        ("serviceInstance", stage.ibm.instance_guid(INSTANCE).unwrap()),
        ("resourceType", "bucket".to_owned()),
        ("resource", "events".to_owned()),
    ];
    assert_eq!(policy.resource.len(), expected.len());
    for (name, value) in expected {
        assert_eq!(policy.attribute(name), Some(value.as_str()));
    }
    let secret = entries(&stage.secrets().get(KEY).await.unwrap());
    assert_eq!(secret["iam_serviceid_crn"], id.crn);

    let before = stage.ibm.calls().len();
    stage.delete_and_leave_nothing(KEY).await;
    let gone = [
        Route::Keys,
        Route::DeleteKey,
        Route::ServiceIds,
        Route::Policies,
        Route::DeletePolicy,
        Route::DeleteServiceId,
    ];
    assert_eq!(stage.routes_since(before), gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_id_that_is_there_already_is_used_and_left_alone() {
    let stage = IbmStage::set().await;
    let id = stage.ibm.add_service_id("monitoring");
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, json!({"ibmCloud": {"access": {"serviceIdCrn": id.crn}}})).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    let key = &stage.ibm.live_keys()[0];
    assert_eq!(
        (key.service_id(), &key.role),
        (Some(id.crn.as_str()), &None),
        "a role would change the service ID"
    );
    stage.delete_and_leave_no_key(KEY).await;
    assert_eq!(stage.ibm.service_ids(), [id]);
    let of_iam = [Route::ServiceIds, Route::Policies, Route::CreatePolicy, Route::CreateServiceId];
    assert_eq!(stage.count(&of_iam), 0);
}

/// Each key has its own service ID, so that the previous key works during the overlap.
#[tokio::test(flavor = "multi_thread")]
async fn each_rotation_makes_the_next_service_id() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, own_access()).await;
    stage.wait_ready(KEY).await;
    let (_, first, _) = stage.assert_one_of_each();
    stage.change_key(KEY, json!({"parameters": {"HMAC": true}, "rotation": {"overlap": "0s"}})).await;
    let is_next = |ids: &[ServiceId]| matches!(ids, [only] if only.id != first.id);
    stage.ibm.wait_for_service_ids(is_next).await.unwrap();
    let (key, next, _) = stage.assert_one_of_each();
    assert!(key.name.ends_with("-2") && next.name.ends_with("-2"), "{} {}", key.name, next.name);
    stage.delete_and_leave_nothing(KEY).await;
}

#[rstest]
#[case::parameters_that_say_otherwise(
    json!({"parameters": {"serviceid_crn": "crn:v1:x"}, "ibmCloud": {"access": {"roles": ["Writer"]}}}),
    "remove it from `parameters`"
)]
#[case::a_role_that_the_service_does_not_have(
    json!({"ibmCloud": {"access": {"roles": ["Writer", "Owner"]}}}),
    "has no role `Owner`; create the ServiceKey again with one of these as `ibmCloud.access.roles`"
)]
#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_is_told_before_anything_is_made(#[case] fields: Value, #[case] says: &str) {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, fields).await;
    let key = stage.wait_key(KEY, Reason::BindRejected).await;
    key.says(says);
    assert!(key.is_stalled());
    assert_eq!(stage.count(&[Route::CreateServiceId, Route::CreatePolicy, Route::CreateKey]), 0);
    stage.delete_and_leave_nothing(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_service_ids_is_told_in_ibms_own_words() {
    let ibm = FakeIbmCloud::builder().service_id_limit(1).start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    let by_hand = stage.ibm.add_service_id("by-hand");
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, own_access()).await;
    let key = stage.wait_key(KEY, Reason::BindRejected).await;
    key.says(
        "creation of the service ID failed: IAM answers 400: The maximum number of 1 service IDs per account",
    );
    assert!(key.is_stalled());
    assert_eq!(stage.count(&[Route::CreatePolicy, Route::CreateKey]), 0);

    stage.delete_and_leave_no_key(KEY).await;
    assert_eq!(stage.ibm.service_ids(), [by_hand]);
}

/// If the last step is refused, the results of the earlier steps stay for the next attempt, and are deleted with the
/// ServiceKey.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_for_a_key_that_is_refused_goes_with_its_service_key() {
    let ibm = FakeIbmCloud::builder().without_instances().instance(Instance::new(INSTANCE).key_limit(1));
    let stage = IbmStage::set_with(ibm.start().await.unwrap()).await;
    let by_hand = stage.ibm.add_key(INSTANCE, "by-hand").unwrap();
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, own_access()).await;
    stage.wait_key(KEY, Reason::BindRejected).await.says("The maximum number of 1 service keys");
    stage.ibm.wait_for_calls(|calls| tried(calls) == 2).await.unwrap();
    assert_eq!((stage.ibm.service_ids().len(), stage.ibm.policies().len()), (1, 1));

    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    assert_eq!(stage.ibm.live_keys(), [by_hand]);
    assert_eq!((stage.ibm.policies(), stage.ibm.service_ids()), (vec![], vec![]));
}

fn tried(calls: &[Call]) -> usize {
    calls.iter().filter(|call| call.route == Route::CreateKey && call.status.is_some()).count()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_leaves_one_of_each(
    #[values(Route::CreateServiceId, Route::CreatePolicy, Route::CreateKey)] route: Route,
    #[values(false, true)] effect: bool,
) {
    let stage = IbmStage::set().await;
    let cut = Fault::Cut.on(route);
    stage.ibm.inject(if effect { cut.after_effect() } else { cut });
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, own_access()).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    stage.assert_one_of_each();
    assert_eq!(stage.ibm.keys().len(), 1, "another key was created first");
    stage.delete_and_leave_nothing(KEY).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_deletion_leaves_nothing(
    #[values(Route::DeleteKey, Route::Policies, Route::DeletePolicy, Route::DeleteServiceId)] route: Route,
    #[values(false, true)] effect: bool,
) {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, own_access()).await;
    stage.wait_ready(KEY).await;
    // The HTTP client itself repeats a GET or DELETE that failed on a reused connection.
    let cut = Fault::Cut.on(route).times(2);
    stage.ibm.inject(if effect { cut.after_effect() } else { cut });
    stage.delete_and_leave_nothing(KEY).await;
}

/// In some accounts, IBM Cloud deletes the policies of a service ID with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_gone_already_is_no_obstacle() {
    let quirks = Quirks { policies_go_with_service_ids: true, ..Quirks::default() };
    let stage = IbmStage::set_with(FakeIbmCloud::builder().quirks(quirks).start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, own_access()).await;
    stage.wait_ready(KEY).await;
    let (_, _, policy) = stage.assert_one_of_each();
    assert!(stage.ibm.forget_policy(&policy.id));
    stage.delete_and_leave_nothing(KEY).await;
}

/// The service ID takes effect late, after the operator has created another one. Both are deleted with the key.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_id_that_is_made_late_goes_with_the_key() {
    let stage = IbmStage::set().await;
    stage.ibm.inject(Fault::Late.on(Route::CreateServiceId));
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, own_access()).await;
    stage.wait_ready(KEY).await;
    assert_eq!(stage.ibm.release_late(), 1);
    assert_eq!(stage.ibm.service_ids().len(), 2);
    stage.delete_and_leave_nothing(KEY).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_makes_a_key(
    #[values(Route::Keys, Route::ServiceIds, Route::CreateServiceId, Route::CreatePolicy, Route::CreateKey)]
    route: Route,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = IbmStage::set().await;
    let operator = Process::start(&stage).await;
    stage.wait_until_listed().await;
    let gate = stage.ibm.gate(route, moment);
    stage.create_key_with(KEY, own_access()).await;
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    settled(&stage, KEY).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    stage.assert_one_of_each();
    assert_eq!(stage.ibm.keys().len(), 1, "another key was created first");
    stage.delete_and_leave_nothing(KEY).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_revokes_a_key(
    #[values(
        Route::DeleteKey,
        Route::ServiceIds,
        Route::Policies,
        Route::DeletePolicy,
        Route::DeleteServiceId
    )]
    route: Route,
    #[values(BeforeEffect, AfterEffect)] moment: Moment,
) {
    let stage = IbmStage::set().await;
    let operator = Process::start(&stage).await;
    stage.create_key_with(KEY, own_access()).await;
    stage.wait_ready(KEY).await;
    let gate = stage.ibm.gate(route, moment);
    stage.delete_key(KEY).await;
    operator.kill_at(gate).await;

    let _operator = Process::start(&stage).await;
    stage.wait_gone(KEY).await;
    assert_eq!(
        (stage.ibm.live_keys(), stage.ibm.policies(), stage.ibm.service_ids()),
        (vec![], vec![], vec![])
    );
}

/// If the instance was deleted with its keys, the operator still deletes the service ID and the policy.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_id_outlives_no_instance() {
    let stage = IbmStage::set().await;
    let operator = Process::start(&stage).await;
    stage.create_key_with(KEY, own_access()).await;
    stage.wait_ready(KEY).await;
    operator.kill().await;
    stage.ibm.remove_instance(INSTANCE);
    let _operator = Process::start(&stage).await;
    stage.delete_and_leave_nothing(KEY).await;
}
