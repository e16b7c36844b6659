//! Counts the cost of a key: calls at the broker, and requests in the audit log of the API server.

use std::time::Duration;

use futures::future::join_all;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use servicekey_operator::api::KeyProvider;
use testkit::{broker::Route, control_plane::Requests};

use crate::support::stage::{Running, Stage};

/// The operator is at rest if it sends no request for this long.
const REST: Duration = Duration::from_secs(20);
const MANY: usize = 200;

#[tokio::test]
async fn a_key_costs_one_bind_three_writes_and_one_rehearsal() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.wait_for_provider("broker").await;
    settle(&stage, &operator).await;
    let before = stage.plane.audit().requests(&operator.user).unwrap();

    stage.create_key("monitoring-creds").await;
    stage.wait_ready("monitoring-creds").await;
    settle(&stage, &operator).await;

    let requests = since(&stage, &operator, &before);
    let told: Vec<_> = requests
        .iter()
        .map(|request| {
            let subresource = Some(request.subresource.as_str()).filter(|part| !part.is_empty());
            let what: Vec<_> = [request.resource.as_str()].into_iter().chain(subresource).collect();
            let dry = if request.is_dry_run() { " (dry run)" } else { "" };
            format!("{} {}{dry}", request.verb, what.join("/"))
        })
        .collect();
    assert_eq!(
        told,
        ["create secrets (dry run)", "patch servicekeys", "create secrets", "update servicekeys/status",],
        "{requests}"
    );
    let calls = stage.broker.calls();
    let of_keys: Vec<_> = calls.iter().filter(|call| call.route != Route::Catalog).collect();
    assert_eq!(of_keys.len(), 1, "{of_keys:#?}");
    assert_eq!(of_keys[0].route, Route::Bind);
    assert_eq!(
        stage.broker.count(Route::Catalog),
        1,
        "the provider's check reads the catalog, and keys reuse it"
    );
}

#[tokio::test]
async fn deleting_a_key_costs_one_unbind_and_two_writes() {
    let stage = Stage::set().await;
    let operator = stage.start_operator().await;
    stage.create_key("monitoring-creds").await;
    stage.wait_ready("monitoring-creds").await;
    settle(&stage, &operator).await;
    let before = stage.plane.audit().requests(&operator.user).unwrap();
    let calls = stage.broker.calls().len();

    stage.keys().delete("monitoring-creds", &DeleteParams::default()).await.unwrap();
    stage.wait_gone("monitoring-creds").await;
    settle(&stage, &operator).await;

    let requests = since(&stage, &operator, &before);
    let verbs: Vec<_> = requests.iter().map(|request| request.verb.as_str()).collect();
    assert_eq!(verbs, ["delete", "patch"], "the Secret and the finalizer:\n{requests}");
    assert_eq!(stage.broker.count(Route::Unbind), 1);
    assert_eq!(stage.broker.calls().len(), calls + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_keys_cost_nothing_at_rest_nor_after_a_restart() {
    let stage = Stage::set().await;
    allow_more_requests(&stage).await;
    let operator = stage.start_operator().await;
    let names: Vec<_> = (0..MANY).map(|number| format!("key-{number}")).collect();
    join_all(names.iter().map(|name| stage.create_key(name))).await;
    stage.wait_all_ready(MANY).await;
    settle(&stage, &operator).await;
    assert_eq!(stage.broker.count(Route::Bind), MANY, "one for each key");

    let before = stage.plane.audit().requests(&operator.user).unwrap();
    let calls = stage.broker.calls().len();
    tokio::time::sleep(REST).await;
    let requests = since(&stage, &operator, &before);
    assert!(requests.is_empty(), "the operator sent requests at rest:\n{requests}");
    assert_eq!(stage.broker.calls().len(), calls);

    drop(operator);
    let operator = stage.start_operator().await;
    tokio::time::sleep(REST).await;
    let requests = since(&stage, &operator, &Requests::default());
    assert!(requests.clone().writes().is_empty(), "after a restart the operator wrote:\n{requests}");
    let reads: Vec<_> = requests.iter().map(|request| request.name.as_str()).collect();
    assert_eq!(reads, ["broker-login"], "only the provider is loaded:\n{requests}");
    assert_eq!(stage.broker.calls().len(), calls + 1);
    assert_eq!(stage.broker.calls()[calls].route, Route::Catalog, "only the provider is checked");

    // Damage to a Secret proves that the operator still watches the keys.
    let damage = json!({"stringData": {"password": "guessed"}});
    let damaged =
        stage.secrets().patch("key-7", &PatchParams::default(), &Patch::Merge(&damage)).await.unwrap();
    stage
        .wait(stage.secrets(), "key-7", "repaired", |secret| {
            secret.is_some_and(|secret| secret.data != damaged.data)
        })
        .await;
}

/// The provider's own limit of fifty requests a second would make this test slow.
async fn allow_more_requests(stage: &Stage) {
    let change = json!({"spec": {"limits": {"requestsPerSecond": 1000}}});
    let providers = stage.api::<KeyProvider>();
    providers.patch("broker", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
}

/// Waits until the operator has finished all work after the last change: until the audit log shows no further request.
async fn settle(stage: &Stage, operator: &Running) {
    let mut seen = usize::MAX;
    loop {
        let asked = since(stage, operator, &Requests::default()).len();
        if asked == seen {
            return;
        }
        seen = asked;
        // Proves that nothing happens, which no watch can show.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn since(stage: &Stage, operator: &Running, before: &Requests) -> Requests {
    let requests = stage.plane.audit().requests(&operator.user).unwrap();
    requests.besides_watches_and_events().since(before)
}
