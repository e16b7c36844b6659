//! A ServiceKey can't be moved to another provider or instance. Its consumers can move to a second ServiceKey without a
//! gap.

use kube::api::{Patch, PatchParams};
use rstest::rstest;
use serde_json::json;
use servicekey_operator::api::{KeyProvider, ServiceKey};
use testkit::broker::{FakeBroker, Instance};

use crate::support::stage::{Stage, condition, entries};

const FORMER: &str = "app-db";
const NEXT: &str = "app-db-v2";

/// Creates two instances, and a provider for each.
async fn two_of_everything() -> Stage {
    let instance = Instance::new("training-app-db", "postgresql", "small");
    let other = Instance::new("training-app-db-v2", "postgresql", "small");
    let broker = FakeBroker::builder().without_instances().instance(instance.clone()).instance(other);
    let stage = Stage::set_for(broker.start().await.unwrap(), instance).await;
    stage.create::<KeyProvider>(stage.provider_manifest("second")).await;
    stage
}

#[rstest]
#[case::instance("/spec/instance/id", "training-app-db-v2", "`instance` can't be changed")]
#[case::provider("/spec/providerRef/name", "second", "`providerRef` can't be changed")]
#[tokio::test(flavor = "multi_thread")]
async fn consumers_move_to_a_second_servicekey(
    #[case] field: &str,
    #[case] value: &str,
    #[case] refusal: &str,
) {
    let stage = two_of_everything().await;
    let _operator = stage.start_operator().await;
    stage.create_key(FORMER).await;
    stage.wait_ready(FORMER).await;
    let held = entries(&stage.secrets().get(FORMER).await.unwrap());

    let mut manifest = stage.key_manifest(FORMER);
    *manifest.pointer_mut(field).unwrap() = json!(value);
    let (parameters, change) = (PatchParams::default(), Patch::Merge(&manifest));
    let refused = stage.keys().patch(FORMER, &parameters, &change).await.unwrap_err().to_string();
    assert!(refused.contains(refusal) && refused.contains("a second ServiceKey"), "{refused}");

    manifest["metadata"]["name"] = json!(NEXT);
    stage.create::<ServiceKey>(manifest).await;
    let next = stage.wait_ready(NEXT).await;
    assert_eq!(stage.broker.bindings().len(), 2, "both keys work while consumers are switched over");
    let former = stage.keys().get(FORMER).await.unwrap();
    assert_eq!(condition(&former, "Ready"), Some("True"));
    assert!(entries(&stage.secrets().get(FORMER).await.unwrap()) == held, "the former Secret changed");

    stage.delete_key(FORMER).await;
    stage.wait_gone(FORMER).await;
    let bindings = stage.broker.bindings();
    let [binding] = bindings.as_slice() else { panic!("expected exactly one key: {bindings:#?}") };
    assert_eq!(next.status.unwrap().key.unwrap().id, binding.id.to_string());
    stage.assert_secret_holds(NEXT, &binding.credentials, &binding.id).await;
}
