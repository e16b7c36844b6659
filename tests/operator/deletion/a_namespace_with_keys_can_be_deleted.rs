//! Deleting a namespace revokes its keys, and completes.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};

use crate::support::stage::Stage;

#[tokio::test]
async fn a_namespace_with_its_own_provider_ends_without_a_key_left() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator_with_lasting_rights().await;
    for name in ["one", "two", "three"] {
        stage.create_key(name).await;
    }
    stage.wait_all_ready(3).await;
    assert_eq!(stage.broker.bindings().len(), 3);

    let namespaces: Api<Namespace> = Api::all(stage.client.clone());
    namespaces.delete(&stage.namespace, &DeleteParams::default()).await.unwrap();

    stage.wait(namespaces, &stage.namespace, "gone", |namespace| namespace.is_none()).await;
    assert_eq!(stage.broker.bindings().len(), 0);
}
