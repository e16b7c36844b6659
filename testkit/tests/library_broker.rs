//! The brokers on other authors' libraries start, answer as documented, and leave nothing behind.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use testkit::{
    broker::Work,
    library_broker::{Kind, LibraryBroker},
};

const KINDS: [Kind; 5] =
    [Kind::Python, Kind::PythonRouted, Kind::PythonInBackground, Kind::Go, Kind::GoInBackground];

async fn bind(broker: &LibraryBroker, password: &str) -> (u16, Value) {
    let path = "v2/service_instances/training-app-db/service_bindings/one?accepts_incomplete=true";
    let body = json!({"service_id": "offering-database", "plan_id": "plan-database-small"});
    let answer = reqwest::Client::new()
        .put(format!("{}/{path}", broker.url()))
        .basic_auth("operator", Some(password))
        .header("X-Broker-API-Version", "2.17")
        .json(&body)
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

#[tokio::test]
async fn each_kind_makes_one_binding_at_its_pace() {
    for kind in KINDS {
        let broker = LibraryBroker::start(kind, "operator", "right").await.unwrap();
        assert_eq!(bind(&broker, "wrong").await.0, 401, "{kind:?}");
        let (status, body) = bind(&broker, "right").await;
        let state = broker.state().await.unwrap();
        let binding = &state.bindings["one"];
        if kind.is_in_background() {
            assert_eq!((status, binding.work), (202, Some(Work::Bind)), "{kind:?}");
            broker.release().await.unwrap();
        } else {
            assert_eq!((status, binding.work), (201, None), "{kind:?}");
            assert_eq!(body["credentials"], Value::Object(binding.credentials.clone()));
        }
        let (status, body) = bind(&broker, "right").await;
        assert_eq!(status, 200, "{kind:?}");
        assert_eq!(body["credentials"], Value::Object(binding.credentials.clone()));
        let state = broker.state().await.unwrap();
        assert_eq!((state.made, state.bindings.len(), state.bindings["one"].work), (1, 1, None), "{kind:?}");
        assert!(!format!("{state:?}").contains(binding.credentials["password"].as_str().unwrap()));

        let url = broker.url().to_owned();
        drop(broker);
        reqwest::get(url).await.unwrap_err();
    }
}
