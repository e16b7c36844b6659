//! The cache lags behind a deletion. The operator must not revoke a key again because the cache still shows its
//! ServiceKey.

use futures::future::join_all;
use kube::{Api, api::DeleteParams};
use servicekey_operator::api::ServiceKey;
use testkit::broker::Route;

use crate::support::stage::Stage;

/// Large enough that some deletions overlap with watch events about others.
const KEYS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_deleted_together_are_revoked_once_each() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;
    let names: Vec<_> = (0..KEYS).map(|number| format!("key-{number}")).collect();
    join_all(names.iter().map(|name| stage.create_key(name))).await;
    join_all(names.iter().map(|name| stage.wait_ready(name))).await;
    assert_eq!(stage.broker.count(Route::Bind), KEYS);

    let keys: Api<ServiceKey> = stage.keys();
    let delete = DeleteParams::default();
    for deleted in join_all(names.iter().map(|name| keys.delete(name, &delete))).await {
        deleted.unwrap();
    }
    join_all(names.iter().map(|name| stage.wait_gone(name))).await;
    assert_eq!(stage.broker.bindings().len(), 0);
    // Once a later ServiceKey is ready, the operator has finished all earlier work and made all its calls.
    stage.create_key("last").await;
    stage.wait_ready("last").await;
    assert_eq!(stage.broker.count(Route::Unbind), KEYS);
}
