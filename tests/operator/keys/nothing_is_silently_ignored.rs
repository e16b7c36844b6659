//! The operator reports each setting that this version does not support, and creates no key that would differ from the
//! spec.

use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::broker::Route;

use crate::support::{
    conditions::Reports,
    stage::{Stage, condition},
};

#[rstest]
#[case::adoption(
    json!({"adoption": "IfExists", "keyName": "by-hand"}),
    Reason::InvalidSpec,
    "`spec.adoption: IfExists` is only for keys of Cloud Foundry or IBM Cloud, and KeyProvider `broker` creates other keys"
)]
#[case::ibm_cloud(
    json!({"ibmCloud": {"role": "Writer"}}),
    Reason::InvalidSpec,
    "`spec.ibmCloud` is only for keys of IBM Cloud, and KeyProvider `broker` creates other keys"
)]
#[tokio::test]
async fn a_field_that_means_nothing_here_stops_the_key(
    #[case] fields: Value,
    #[case] expected: Reason,
    #[case] words: &str,
) {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let mut manifest = stage.key_manifest("monitoring-creds");
    manifest["spec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    stage.create::<ServiceKey>(manifest).await;

    let key = stage.wait_key("monitoring-creds", expected).await;
    key.says(words);
    assert_eq!(condition(&key, "Stalled"), Some("True"));
    assert_eq!(stage.broker.count(Route::Bind), 0);
    stage.delete_and_leave_nothing("monitoring-creds").await;
}
