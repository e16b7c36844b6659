//! Namespaces and the garbage collector: refusals at once, and the states that the controllers settle in.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::{
    pair::{Pair, call, get},
    plane,
};

/// The time limit for the controllers.
const PATIENCE: Duration = Duration::from_secs(30);

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

async fn pair(seed: u64, namespace: &str) -> Pair {
    let mut pair = Pair::new(plane().await.admin(), seed);
    pair.send(call(Method::POST, "/api/v1/namespaces", &named(namespace))).await;
    pair
}

/// Waits until the real server has an object or lacks it.
async fn wait(pair: &Pair, path: &str, is_right: impl Fn(u16, &Value) -> bool) {
    let right = async {
        loop {
            let (code, answer) = pair.ask_real(&get(path)).await;
            if is_right(code, &answer) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, right).await.unwrap_or_else(|_| panic!("{path} does not settle"));
}

#[tokio::test]
async fn namespaces_get_the_same_answers() {
    let namespace = "model-namespaces";
    let mut pair = pair(2, namespace).await;
    let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
    for (path, body) in [
        ("/api/v1/namespaces/model-absent/secrets", named("a")),
        ("/apis/servicekeys.dev/v1alpha1/namespaces/model-absent/servicekeys", Value::Null),
        ("/api/v1/namespaces", named(namespace)),
        ("/api/v1/namespaces", named("No.Name")),
        ("/api/v1/namespaces", named("no.name")),
        (&secrets, named("b")),
        (&secrets, json!({"metadata": {"name": "a", "finalizers": ["example.com/a"]}})),
        (&secrets, json!({"metadata": {"name": "v", "resourceVersion": "1"}})),
        (&secrets, json!({"metadata": {}})),
        (&secrets, json!({"metadata": {"name": "o", "ownerReferences": [{"kind": "A"}]}})),
    ] {
        let body = if body.is_null() { key("a", json!([])) } else { body };
        pair.send(call(Method::POST, path, &body)).await;
    }
    let path = format!("/api/v1/namespaces/{namespace}");
    let labels = json!({"metadata": {"labels": {"a": "b", "kubernetes.io/metadata.name": "other"}}});
    for patch in [labels, json!({"spec": {"finalizers": []}}), json!({"status": {"phase": "Terminating"}})] {
        pair.send(
            call(Method::PATCH, path.as_str(), &patch).with_content_type("application/merge-patch+json"),
        )
        .await;
    }
    pair.send(call(Method::DELETE, "/api/v1/namespaces/default", &json!({}))).await;
    pair.send(call(Method::DELETE, path.as_str(), &json!({"preconditions": {"uid": "none"}}))).await;
    pair.send(call(Method::DELETE, path.as_str(), &json!({"preconditions": {"resourceVersion": "1"}}))).await;
    pair.send(get("/api/v1/namespaces?labelSelector=a%3Db")).await;
    pair.watch(get("/api/v1/namespaces?labelSelector=a%3Db")).await;
    pair.watch(get(format!("{secrets}?"))).await;
    let deleted = call(Method::DELETE, path.as_str(), &json!({}));
    pair.send(deleted).await;
    pair.send(call(Method::POST, secrets.as_str(), &named("c"))).await;
    pair.send(call(Method::POST, "/api/v1/namespaces", &named(namespace))).await;

    let _ = pair.model.finalize_namespaces();
    wait(&pair, &format!("{secrets}/b"), |code, _| code == 404).await;
    wait(&pair, &format!("{secrets}/a"), |_, answer| answer["metadata"].get("deletionTimestamp").is_some())
        .await;
    pair.send(get(format!("{secrets}/a"))).await;
    let freed = json!({"metadata": {"finalizers": null}});
    let freed = call(Method::PATCH, format!("{secrets}/a"), &freed);
    pair.send(freed.with_content_type("application/merge-patch+json")).await;
    assert_eq!(pair.model.finalize_namespaces(), 1);
    wait(&pair, &path, |code, _| code == 404).await;
    pair.send(get(path.as_str())).await;
    pair.send(get(secrets.as_str())).await;
    // The namespace controller of the real server adds conditions to the namespace, in updates of its own.
    pair.compare_events_but(|event| event["object"]["status"]["phase"] == "Terminating").await;
    pair.assert_equal("namespaces");
}

#[tokio::test]
async fn quotas_refuse_the_same() {
    let namespace = "model-quotas";
    let mut pair = pair(6, namespace).await;
    let quotas = format!("/api/v1/namespaces/{namespace}/resourcequotas");
    let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
    let hard = json!({"count/secrets": "1"});
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": hard}});
    let (_, created) = pair.ask_real(&call(Method::POST, quotas.as_str(), &quota)).await;
    // The plane has no controller that fills the status. The model needs none.
    let status = json!({"hard": hard, "used": {"count/secrets": "0"}});
    let filled = json!({"metadata": created["metadata"], "spec": {"hard": hard}, "status": status});
    pair.ask_real(&call(Method::PUT, format!("{quotas}/few/status"), &filled)).await;
    let _ = pair.model.answer(&call(Method::POST, quotas.as_str(), &quota));
    // The server reads quotas from a cache. A dry run does not count.
    let counted = async {
        let probe = call(Method::POST, format!("{secrets}?dryRun=All"), &named("probe"));
        while pair.ask_real(&probe).await.0 != 201 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap();
    for (name, query, expected) in
        [("a", "", 201), ("b", "?dryRun=All", 403), ("b", "", 403), ("a", "", 403), ("A", "", 422)]
    {
        let (code, _) = pair.send(call(Method::POST, format!("{secrets}{query}"), &named(name))).await;
        assert_eq!(code, expected);
    }
    pair.assert_equal("quotas");
}

fn key(name: &str, owners: Value) -> Value {
    json!({
        "apiVersion": "servicekeys.dev/v1alpha1", "kind": "ServiceKey",
        "metadata": {"name": name, "ownerReferences": owners},
        "spec": {"providerRef": {"name": "a"}, "instance": {"id": "a"}},
    })
}

#[tokio::test]
async fn garbage_is_collected_the_same() {
    let namespace = "model-garbage";
    let mut pair = pair(3, namespace).await;
    let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
    let keys = format!("/apis/servicekeys.dev/v1alpha1/namespaces/{namespace}/servicekeys");
    let owner = |name: &str| {
        json!({
            "apiVersion": "servicekeys.dev/v1alpha1", "kind": "ServiceKey", "name": name,
            "uid": format!("§uid:ServiceKey/{name}:0§"), "controller": name == "a",
        })
    };
    pair.send(call(Method::POST, keys.as_str(), &key("a", json!([])))).await;
    pair.send(call(Method::POST, keys.as_str(), &key("b", json!([])))).await;
    pair.send(call(Method::POST, keys.as_str(), &key("child", json!([owner("a")])))).await;
    for (name, owners, finalizers) in [
        ("of-a", json!([owner("a")]), json!([])),
        ("of-both", json!([owner("a"), owner("b")]), json!([])),
        ("of-child", json!([owner("child")]), json!([])),
        ("held", json!([owner("a")]), json!(["example.com/a"])),
        ("of-b", json!([owner("b")]), json!([])),
    ] {
        let secret = json!({"metadata": {"name": name, "ownerReferences": owners, "finalizers": finalizers}});
        pair.send(call(Method::POST, secrets.as_str(), &secret)).await;
    }
    pair.send(call(Method::DELETE, format!("{keys}/a"), &json!({}))).await;
    assert_eq!(pair.model.collect_garbage(), 4);
    for name in ["of-a", "of-child"] {
        wait(&pair, &format!("{secrets}/{name}"), |code, _| code == 404).await;
    }
    let lost_an_owner =
        |_, answer: &Value| answer["metadata"]["ownerReferences"].as_array().unwrap().len() == 1;
    wait(&pair, &format!("{secrets}/of-both"), lost_an_owner).await;
    wait(&pair, &format!("{secrets}/held"), |_, answer| {
        answer["metadata"].get("deletionTimestamp").is_some()
    })
    .await;
    pair.send(get(secrets.as_str())).await;
    pair.send(get(keys.as_str())).await;
    pair.assert_equal("garbage");
}

#[tokio::test]
async fn a_watch_at_an_old_version_fails_the_same() {
    let namespace = "model-old-watch";
    let mut pair = pair(4, namespace).await;
    pair.send(call(Method::POST, format!("/api/v1/namespaces/{namespace}/secrets"), &named("a"))).await;
    pair.model.compact();
    pair.watch(get("/apis/servicekeys.dev/v1alpha1/servicekeys?resourceVersion=1")).await;
    let of_one = format!("/api/v1/namespaces/{namespace}/secrets?resourceVersion=0");
    pair.watch(get(of_one)).await;
    pair.compare_events().await;
    pair.assert_equal("old watches");
}

#[tokio::test]
async fn writes_without_a_change_get_the_same_versions() {
    let namespace = "model-no-change";
    let mut pair = pair(5, namespace).await;
    let keys = format!("/apis/servicekeys.dev/v1alpha1/namespaces/{namespace}/servicekeys");
    let nothing = json!({"metadata": {}});
    let annotated = json!({"metadata": {"annotations": {"a": "b"}}});
    let status = json!({"status": {"observedGeneration": -1}});
    for (name, steps) in [
        (
            "a",
            vec![
                ("", &nothing),
                ("", &nothing),
                ("/status", &nothing),
                ("/status", &nothing),
                ("", &nothing),
            ],
        ),
        (
            "b",
            vec![
                ("", &annotated),
                ("", &annotated),
                ("/status", &nothing),
                ("/status", &status),
                ("", &nothing),
            ],
        ),
        ("c", vec![("/status", &status), ("/status", &status), ("", &nothing), ("", &annotated)]),
        ("d", vec![("/status", &nothing), ("", &nothing), ("", &annotated), ("/status", &status)]),
    ] {
        pair.send(call(Method::POST, keys.as_str(), &key(name, json!([])))).await;
        for (part, patch) in steps {
            let request = call(Method::PATCH, format!("{keys}/{name}{part}"), patch);
            pair.send(request.with_content_type("application/merge-patch+json")).await;
        }
    }
    pair.assert_equal("writes without a change");
}
