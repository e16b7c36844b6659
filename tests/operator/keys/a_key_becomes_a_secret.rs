//! Applying a ServiceKey creates its Secret; deleting the ServiceKey leaves nothing behind.

use kube::api::DeleteParams;

use crate::support::stage::{Stage, entries};

#[tokio::test(flavor = "multi_thread")]
async fn apply_makes_a_secret_and_delete_leaves_nothing() {
    let stage = Stage::set().await;
    let _operator = stage.start_operator().await;

    stage.create_key("monitoring-creds").await;
    let key = stage.wait_ready("monitoring-creds").await;
    let bindings = stage.broker.bindings();
    assert_eq!(bindings.len(), 1);
    let status = key.status.unwrap();
    assert_eq!(status.binding.unwrap().name, "monitoring-creds");
    assert_eq!(status.key.unwrap().id, bindings[0].id.to_string());

    let secret = stage.secrets().get("monitoring-creds").await.unwrap();
    let entries = entries(&secret);
    for entry in ["hostname", "port", "username", "password"] {
        let there = &bindings[0].credentials[entry];
        let text = there.as_str().map_or_else(|| there.to_string(), str::to_owned);
        assert_eq!(entries[entry], text, "{entry}");
    }

    stage.keys().delete("monitoring-creds", &DeleteParams::default()).await.unwrap();
    stage.wait_gone("monitoring-creds").await;
    assert_eq!(stage.broker.bindings().len(), 0);
    assert!(stage.secrets().get_opt("monitoring-creds").await.unwrap().is_none());
}
