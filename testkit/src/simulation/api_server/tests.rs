//! The model behind a `kube::Client`, and what its owner controls. The comparison with the real server is in
//! `tests/model_api_server.rs`.

use std::{fs, path::Path};

use futures::{FutureExt as _, StreamExt as _};
use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};

use super::*;

fn definitions() -> Definitions {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path| serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    Definitions::new(&files.into_iter().map(read).collect::<Vec<Value>>()).unwrap()
}

fn server() -> ApiServer {
    let clock: Clock = Arc::new(|| "2026-01-01T00:00:00.5Z".parse().unwrap());
    ApiServer::new(&definitions(), clock, 7)
}

fn secret(name: &str) -> Secret {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    Secret { metadata, ..Secret::default() }
}

#[tokio::test]
async fn a_client_of_kube_uses_the_model() {
    let server = server();
    let secrets: Api<Secret> = Api::namespaced(server.client("test"), "default");
    for name in ["a", "b", "c"] {
        secrets.create(&PostParams::default(), &secret(name)).await.unwrap();
    }
    let conflict = secrets.create(&PostParams::default(), &secret("a")).await.unwrap_err();
    assert!(matches!(conflict, kube::Error::Api(status) if status.code == 409));
    let page = secrets.list_metadata(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((page.items.len(), page.metadata.remaining_item_count), (2, Some(1)));

    let mut events =
        watcher(secrets.clone(), watcher::Config::default().page_size(2)).applied_objects().boxed();
    for name in ["a", "b", "c"] {
        assert_eq!(events.next().await.unwrap().unwrap().metadata.name.as_deref(), Some(name));
    }
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    secrets.patch("b", &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
    let changed = events.next().await.unwrap().unwrap();
    assert_eq!(changed.metadata.labels.unwrap().get("a").map(String::as_str), Some("b"));
    secrets.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(server.objects("secrets").len(), 2);
    assert_eq!(server.unmodelled(), Vec::<String>::new());
}

#[test]
fn the_owner_controls_the_delivery_of_a_watch() {
    let server = server();
    let namespace = |name: &str| {
        let body = json!({"metadata": {"name": name}});
        let Answer::Complete { code, .. } =
            server.answer(&Call::new(Method::POST, "/api/v1/namespaces").with_body(&body))
        else {
            panic!("a create is no watch");
        };
        assert_eq!(code, 201);
    };
    let begin = |version: u64| {
        let target =
            format!("/api/v1/namespaces?watch=true&allowWatchBookmarks=true&resourceVersion={version}");
        let Answer::Watch(stream) = server.answer(&Call::new(Method::GET, target)) else {
            panic!("it is a watch")
        };
        stream
    };
    let old = server.resource_version();
    let mut stream = begin(old);
    let id = server.watches()[0].id;
    server.pause_watch(id);
    namespace("a");
    namespace("b");
    assert!(stream.try_next().is_none());
    server.deliver(id, 1);
    assert!(stream.try_next().is_some_and(|line| line.starts_with(br#"{"type":"ADDED""#)));
    assert!(stream.try_next().is_none());
    server.resume_watch(id);
    assert!(stream.try_next().is_some());
    server.send_bookmarks();
    assert!(stream.try_next().is_some_and(|line| line.starts_with(br#"{"type":"BOOKMARK""#)));
    namespace("c");
    server.end_watches();
    assert_eq!(stream.next().now_or_never(), Some(None), "an event that was not delivered is lost");

    server.compact();
    let mut stream = begin(old);
    let line = stream.next().now_or_never().flatten().unwrap();
    let event: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(stream.next().now_or_never(), Some(None));
    assert!(server.watches().is_empty());
}
