//! The cache lags behind a deletion: what it still shows must not be revoked again.

use futures::future::join_all;
use kube::{Api, api::DeleteParams};
use servicekey_operator::api::ServiceKey;
use testkit::broker::Route;

use crate::support::stage::Stage;

/// Enough that some deletions overlap with what the watches tell of others.
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
    // Only an operator that is done with everything has made all the calls that it makes.
    stage.create_key("last").await;
    stage.wait_ready("last").await;
    assert_eq!(stage.broker.count(Route::Unbind), KEYS);
}
