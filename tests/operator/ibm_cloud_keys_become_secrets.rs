//! What `ibmcloud resource service-key-create`, `service-key` and `service-key-delete` do, declared.

use rstest::rstest;
use serde_json::{Value, json};
use testkit::ibm_cloud::{FakeIbmCloud, Instance, Route};

use crate::{
    ibm::{INSTANCE, IbmStage, KEY},
    stage::entries,
};

const AUDITING: &str = "audit-events";

/// The steps of the documentation: a token, the instance by its name, the key, the list of keys, and its deletion.
#[tokio::test(flavor = "multi_thread")]
async fn an_auditing_key_is_made_listed_and_deleted() {
    let ibm = FakeIbmCloud::builder().instance(Instance::auditing(AUDITING)).start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    let _operator = stage.start_operator().await;
    stage.wait_for_provider("ibm").await;
    let before = stage.ibm.calls().len();
    let fields = json!({"instance": {"name": AUDITING}, "ibmCloud": {"role": "Manager"}});
    let asked = stage.ask_for_key_with(KEY, fields).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.routes_since(before), [Route::Instances, Route::Roles, Route::Keys, Route::CreateKey]);
    assert_eq!(stage.count(&[Route::Token]), 1);

    let secret = entries(&stage.secrets().get(KEY).await.unwrap());
    let keys = stage.ibm.live_keys();
    assert_eq!(Some(secret["service_key"].as_str()), keys[0].credentials["service_key"].as_str());
    assert_eq!(keys[0].name, format!("{KEY}-sk-{}-1", asked.metadata.uid.unwrap()));
    assert_eq!(keys[0].role, "crn:v1:bluemix:public:iam::::serviceRole:Manager");
    assert_eq!(Some(keys[0].instance.as_str()), stage.ibm.instance_guid(AUDITING).as_deref());

    let before = stage.ibm.calls().len();
    stage.delete_and_leave_no_key(KEY).await;
    assert_eq!(stage.routes_since(before), [Route::Keys, Route::DeleteKey]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_key_has_a_key_of_its_own() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    let mut keys = Vec::new();
    for name in [KEY, "reporting-creds"] {
        stage.ask_for(name).await;
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
    stage.ask_for_key_with(KEY, json!({"instance": instance})).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.count(&[Route::Instance]), 1);
    stage.delete_and_leave_no_key(KEY).await;
}

#[rstest]
#[case::none(json!({}), "Reader")]
#[case::a_name(json!({"ibmCloud": {"role": "Writer"}}), "Writer")]
#[case::a_crn(json!({"ibmCloud": {"role": "crn:v1:bluemix:public:iam::::serviceRole:Manager"}}), "Manager")]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_the_role_that_is_asked_for(#[case] fields: Value, #[case] role: &str) {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.ask_for_key_with(KEY, fields).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert_eq!(stage.ibm.live_keys()[0].role, format!("crn:v1:bluemix:public:iam::::serviceRole:{role}"));
}

/// What `kubectl describe` shows comes with the key itself. Where the status was lost, it comes from the Secret, and the id
/// from the remote side.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_role_and_creator_and_they_outlast_it() {
    let stage = IbmStage::set().await;
    let operator = stage.start_operator().await;
    stage.ask_for_key_with(KEY, json!({"ibmCloud": {"role": "Manager"}})).await;
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
    assert!(count(Route::Key) <= 1, "one look-up shows its id: {routes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_may_be_the_accounts_own() {
    let instance = Instance::new("own").custom_role("Auditor");
    let ibm = FakeIbmCloud::builder().instance(instance).start().await.unwrap();
    let stage = IbmStage::set_with(ibm).await;
    let _operator = stage.start_operator().await;
    let fields = json!({"instance": {"name": "own"}, "ibmCloud": {"role": "Auditor"}});
    stage.ask_for_key_with(KEY, fields).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert!(stage.ibm.live_keys()[0].role.ends_with(":customRole:Auditor"));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_reach_the_service() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.ask_for_key_with(KEY, json!({"parameters": {"HMAC": true}})).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    assert!(entries(&stage.secrets().get(KEY).await.unwrap()).contains_key("cos_hmac_keys"));
    assert_eq!(json!(stage.ibm.live_keys()[0].parameters), json!({"HMAC": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_parameters_make_the_next_key() {
    let stage = IbmStage::set().await;
    let _operator = stage.start_operator().await;
    stage.ask_for(KEY).await;
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
    stage.ask_for_key_with(KEY, json!({"deletionPolicy": "Retain"})).await;
    stage.wait_ready_with_the_one_key(KEY).await;
    stage.delete_key(KEY).await;
    stage.wait_gone(KEY).await;
    let keys = stage.ibm.live_keys();
    assert_eq!(keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), [KEY]);
}
