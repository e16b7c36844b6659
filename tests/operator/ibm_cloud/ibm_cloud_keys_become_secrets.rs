//! The declarative equivalent of `ibmcloud resource service-key-create`, `service-key` and `service-key-delete`.

use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::{ConditionType, Reason, ServiceKey};
use testkit::ibm_cloud::{FakeIbmCloud, Instance, Route};

use crate::support::{
    conditions::Reports,
    ibm::{INSTANCE, IbmStage, KEY},
    stage::entries,
};

const AUDITING: &str = "audit-events";

/// The steps of IBM's documentation: a token, the instance by its name, the key, the list of keys, and its deletion.
/// The `service_key` stays valid after the key is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn an_auditing_key_is_made_listed_and_deleted() {
    let ibm = FakeIbmCloud::builder().instance(Instance::auditing(AUDITING)).start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("ibm").await;
    let before = stage.ibm.calls().len();
    let fields = json!({"instance": {"name": AUDITING}, "ibmCloud": {"role": "Manager"}});
    let asked = stage.create_key_with(KEY, fields).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.routes_since(before), [Route::Instances, Route::Keys, Route::CreateKey]);
    assert_eq!(stage.count(&[Route::Token]), 1);

    let secret = entries(&stage.secrets().get(KEY).await.unwrap());
    let keys = stage.ibm.live_keys();
    assert_eq!(Some(&secret["service_key"]), stage.ibm.service_key(AUDITING).as_ref());
    assert_eq!(keys[0].name, format!("{KEY}-sk-{}-1", asked.metadata.uid.unwrap()));
    assert_eq!(keys[0].role.as_deref(), Some("crn:v1:bluemix:public:iam::::serviceRole:Manager"));
    assert_eq!(Some(keys[0].instance.as_str()), stage.ibm.instance_guid(AUDITING).as_deref());

    let before = stage.ibm.calls().len();
    stage.delete_and_leave_no_key(KEY).await;
    assert_eq!(stage.routes_since(before), [Route::Keys, Route::DeleteKey]);
    let note = stage.wait_event(KEY, "CredentialRemains").await;
    assert!(note.contains("key 1 was revoked, but its `service_key` remains valid"), "{note}");
}

/// A rotation of either kind returns the same `service_key`.
#[rstest]
#[case::in_order(json!({"overlap": "0s"}), 2)]
#[case::after_making_room(json!({"strategy": "Replace"}), 1)]
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_an_auditing_key_is_told_to_be_ineffective(
    #[case] rotation: Value,
    #[case] living: usize,
) {
    let ibm = FakeIbmCloud::builder().instance(Instance::auditing(AUDITING)).start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    let _operator = stage.start_operator().await;
    let fields = json!({"instance": {"name": AUDITING}, "rotation": rotation});
    stage.create_key_with(KEY, fields).await;
    stage.wait_ready(KEY).await;
    stage.change_key(KEY, json!({"parameters": {"HMAC": true}})).await;
    let is_told = |key: Option<&ServiceKey>| {
        let rotating = key.and_then(|key| key.condition(ConditionType::Rotating));
        rotating.is_some_and(|condition| condition.reason == Reason::RotationIneffective.as_str())
    };
    stage.wait(stage.keys(), KEY, "reporting that the rotation has no effect", is_told).await;
    assert_eq!((stage.ibm.keys().len(), stage.ibm.live_keys().len()), (2, living));
    let secret = entries(&stage.secrets().get(KEY).await.unwrap());
    assert_eq!(Some(&secret["service_key"]), stage.ibm.service_key(AUDITING).as_ref());
    stage.delete_and_leave_no_key(KEY).await;
}

/// Step 6 of IBM's page: the service ID of the key has the roles Administrator and Manager on the instance.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_id_of_an_auditing_key_is_administrator_and_manager() {
    let ibm = FakeIbmCloud::builder().instance(Instance::auditing(AUDITING)).start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    let _operator = stage.start_operator().await;
    let access = json!({"ibmCloud": {"access": {"roles": ["Administrator", "Manager"]}}});
    let fields = json!({"instance": {"name": AUDITING}, "ibmCloud": access["ibmCloud"]});
    stage.create_key_with(KEY, fields).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    let policies = stage.ibm.policies();
    let expected = [
        "crn:v1:bluemix:public:iam::::role:Administrator",
        "crn:v1:bluemix:public:iam::::serviceRole:Manager",
    ];
    assert_eq!(policies.iter().map(|policy| policy.roles.clone()).collect::<Vec<_>>(), [expected]);
    assert_eq!(policies[0].attribute("serviceInstance"), stage.ibm.instance_guid(AUDITING).as_deref());
    assert_eq!(stage.ibm.live_keys()[0].role, None, "the policy grants the key's access");
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_key_has_a_key_of_its_own() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    let mut keys = Vec::new();
    for name in [KEY, "reporting-creds"] {
        stage.create_key(name).await;
        let ready = stage.wait_ready(name).await;
        let key = stage.ibm.key(&ready.status.as_ref().unwrap().key.as_ref().unwrap().id).unwrap();
        stage.assert_holds(&ready, &key).await;
        keys.push(key);
    }
    assert!(keys[0].credentials != keys[1].credentials, "both have the same credentials");

    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    assert_eq!(stage.ibm.live_keys(), [keys.pop().unwrap()]);
}

#[rstest]
#[case::guid("id")]
#[case::crn("crn")]
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_may_be_named_by_its_id(#[case] field: &str) {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    let id = if field == "id" { stage.ibm.instance_guid(INSTANCE) } else { stage.ibm.instance_crn(INSTANCE) };
    let mut instance = json!({});
    instance[field] = json!(id.unwrap());
    stage.create_key_with(KEY, json!({"instance": instance})).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.count(&[Route::Instance]), 1);
    stage.delete_and_leave_no_key(KEY).await;
}

#[rstest]
#[case::the_default(json!({}), Some("Reader"), 1)]
#[case::a_name(json!({"ibmCloud": {"role": "Writer"}}), Some("Writer"), 0)]
#[case::a_crn(json!({"ibmCloud": {"role": "crn:v1:bluemix:public:iam::::serviceRole:Manager"}}), Some("Manager"), 0)]
#[case::none(json!({"ibmCloud": {"role": "NONE"}}), None, 0)]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_the_role_that_is_asked_for(
    #[case] fields: Value,
    #[case] role: Option<&str>,
    #[case] lists_of_roles: usize,
) {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, fields).await;
    let ready = stage.wait_ready_with_the_one_key(KEY).await;
    let expected = role.map(|role| format!("crn:v1:bluemix:public:iam::::serviceRole:{role}"));
    assert_eq!(stage.ibm.live_keys()[0].role, expected);
    assert_eq!(ready.status.unwrap().key.unwrap().role, expected);
    assert_eq!(stage.count(&[Route::Roles]), lists_of_roles);
}

/// Cloud Databases have only platform roles.
#[rstest]
#[case::by_default(json!({}))]
#[case::as_it_is_said(json!({"ibmCloud": {"role": "NONE"}}))]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_service_without_roles_has_none(#[case] fields: Value) {
    let ibm = FakeIbmCloud::builder().without_instances().instance(Instance::database(INSTANCE));
    let stage = IbmStage::set_with(ibm.start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, fields).await;
    let ready = stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!((&stage.ibm.live_keys()[0].role, ready.status.unwrap().key.unwrap().role), (&None, None));
    stage.delete_and_leave_no_key(KEY).await;
}

/// The answer that creates the key contains these fields. If the status is missing, the operator restores them from the
/// Secret, and the id from the remote side.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_role_and_creator_and_they_outlast_it() {
    let stage = IbmStage::set().await;
    let operator = stage.start_operator().await;
    stage.create_key_with(KEY, json!({"ibmCloud": {"role": "Manager"}})).await;
    let told = stage.wait_ready_with_the_one_key(KEY).await.status.unwrap().key.unwrap();
    assert_eq!(told.role.as_deref(), Some("crn:v1:bluemix:public:iam::::serviceRole:Manager"));
    assert!(told.created_by.is_some());
    assert_eq!(told.created_by, stage.ibm.iam_id("alice"));

    drop(operator);
    stage.lose_status(KEY).await;
    let calls = stage.ibm.calls().len();
    let _operator = stage.start_operator().await;
    let again = stage.wait_ready_with_the_one_key(KEY).await.status.unwrap().key.unwrap();
    assert_eq!(again, told);
    let routes = stage.routes_since(calls);
    let count = |route| routes.iter().filter(|called| **called == route).count();
    assert_eq!(count(Route::CreateKey), 0);
    assert!(count(Route::Key) <= 1, "one lookup returns the key's id: {routes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_may_be_the_accounts_own() {
    let instance = Instance::new("own").custom_role("Auditor");
    let ibm = FakeIbmCloud::builder().instance(instance).start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    let _operator = stage.start_operator().await;
    let fields = json!({"instance": {"name": "own"}, "ibmCloud": {"role": "Auditor"}});
    stage.create_key_with(KEY, fields).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert!(stage.ibm.live_keys()[0].role.as_ref().unwrap().ends_with(":customRole:Auditor"));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_reach_the_service() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, json!({"parameters": {"HMAC": true}})).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert!(entries(&stage.secrets().get(KEY).await.unwrap()).contains_key("cos_hmac_keys"));
    assert_eq!(json!(stage.ibm.live_keys()[0].parameters), json!({"HMAC": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_parameters_make_the_next_key() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    let change = json!({"parameters": {"HMAC": true}, "rotation": {"overlap": "0s"}});
    stage.change_key(KEY, change).await;
    let is_next = |keys: &[testkit::ibm_cloud::Key]| {
        let living: Vec<_> = keys.iter().filter(|key| !key.removed).collect();
        living.len() == 1 && living[0].number == 2
    };
    let keys = stage.ibm.wait_until(is_next).await.unwrap();
    assert!(keys[1].name.ends_with("-2"), "{}", keys[1].name);
    stage.delete_and_leave_no_key(KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_stays_loses_its_mark() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.create_key_with(KEY, json!({"deletionPolicy": "Retain"})).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    let keys = stage.ibm.live_keys();
    assert_eq!(keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), [KEY]);
}
