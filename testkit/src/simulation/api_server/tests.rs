//! The model behind a `kube::Client`, and what its owner controls. The comparison with the real server is in
//! `testkit/tests/model_api_server/`.

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
            panic!("a create does not begin a watch");
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
    assert!(stream.try_next().is_none(), "the client knows the version already");
    assert_eq!(create_secret(&server, "a").0, 201);
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

/// The code and the answer of a request.
fn ask(server: &ApiServer, call: &Call) -> (u16, Value) {
    match server.answer(call) {
        Answer::Complete { code, body } => (code, serde_json::from_str(&body).unwrap()),
        Answer::Watch(_) => panic!("{} begins a watch", call.target),
    }
}

fn create_secret(server: &ApiServer, name: &str) -> (u16, Value) {
    let target = "/api/v1/namespaces/default/secrets";
    ask(server, &Call::new(Method::POST, target).with_body(&json!({"metadata": {"name": name}})))
}

#[test]
fn a_page_of_a_compacted_version_is_gone() {
    let server = server();
    ["a", "b", "c"].iter().for_each(|name| assert_eq!(create_secret(&server, name).0, 201));
    let page = |token: &Value| {
        let token = token.as_str().unwrap_or_default();
        ask(&server, &Call::new(Method::GET, format!("/api/v1/secrets?limit=1&continue={token}")))
    };
    let (_, first) = page(&Value::Null);
    assert_eq!(create_secret(&server, "aa").0, 201);
    let (_, second) = page(&first["metadata"]["continue"]);
    assert_eq!(second["items"][0]["metadata"]["name"], "b", "a page shows the version of the first one");

    server.compact();
    let (code, expired) = page(&first["metadata"]["continue"]);
    assert_eq!((code, &expired["reason"]), (410, &json!("Expired")));
    let (_, inconsistent) = page(&expired["metadata"]["continue"]);
    assert_eq!(inconsistent["items"][0]["metadata"]["name"], "aa");
}

#[test]
fn hooks_change_and_refuse_writes() {
    let server = server();
    server.add_mutating_hook("labels", Arc::new(|_, object| object["metadata"]["labels"]["a"] = "b".into()));
    let refuse = |review: &Review<'_>, _: &Value| match review.verb {
        Verb::Create if review.name == "b" => Err((403, "no".to_owned())),
        _ => Ok(()),
    };
    server.add_validating_hook("names", Arc::new(refuse));
    assert_eq!(create_secret(&server, "a").1["metadata"]["labels"]["a"], "b");
    let (code, refused) = create_secret(&server, "b");
    assert_eq!(
        (code, &refused["message"]),
        (403, &json!("admission webhook \"names\" denied the request: no"))
    );
    assert!(server.remove_hook("names") && server.remove_hook("labels") && !server.remove_hook("labels"));
    assert_eq!(create_secret(&server, "b").1["metadata"].get("labels"), None);
}

#[test]
fn events_expire_an_hour_after_the_last_write() {
    let now = Arc::new(Mutex::new("2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap()));
    let read = Arc::clone(&now);
    let server = ApiServer::new(&definitions(), Arc::new(move || *read.lock()), 7);
    let target = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"},
        "type": "Normal", "reason": "A", "action": "A", "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "a", "reportingInstance": "a",
    });
    assert_eq!(ask(&server, &Call::new(Method::POST, target).with_body(&event)).0, 201);
    let wait = |minutes: i64| *now.lock() += SignedDuration::from_mins(minutes);
    wait(59);
    assert_eq!(server.expire_events(), 0);
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:59:00.000000Z"}});
    let patch = Call::new(Method::PATCH, format!("{target}/a")).with_body(&series);
    assert_eq!(ask(&server, &patch.with_content_type("application/merge-patch+json")).0, 200);
    wait(59);
    assert_eq!(server.expire_events(), 0);
    wait(1);
    assert_eq!(server.expire_events(), 1);
    assert!(server.objects("events").is_empty());
}

#[test]
fn requests_that_are_not_modelled_are_refused_and_recorded() {
    let server = server();
    let calls = [
        Call::new(Method::GET, "/api/v1/configmaps"),
        Call::new(Method::DELETE, "/api/v1/namespaces/default/secrets"),
        Call::new(Method::GET, "/api/v1/secrets?watch=true&sendInitialEvents=true"),
        Call::new(Method::POST, "/api/v1/namespaces/default/secrets")
            .with_body(&json!({"metadata": {"name": "a", "finalizers": ["orphan"]}})),
    ];
    for (at, call) in calls.iter().enumerate() {
        assert_eq!(ask(&server, call).0, 501, "{}", call.target);
        assert_eq!(server.unmodelled().len(), at + 1);
    }
    assert_eq!(create_secret(&server, "a").0, 201);
    let apply = Call::new(Method::PATCH, "/api/v1/namespaces/default/secrets/a?fieldManager=a");
    for content_type in ["application/apply-patch+yaml", "application/strategic-merge-patch+json"] {
        assert_eq!(ask(&server, &apply.clone().with_content_type(content_type)).0, 501);
    }
    let foreground = Call::new(Method::DELETE, "/api/v1/namespaces/default/secrets/a")
        .with_body(&json!({"propagationPolicy": "Foreground"}));
    assert_eq!(ask(&server, &foreground).0, 501);
}

#[test]
fn the_seed_determines_all_names_and_uids() {
    let run = |seed| {
        let clock: Clock = Arc::new(|| Timestamp::UNIX_EPOCH);
        let server = ApiServer::new(&definitions(), clock, seed);
        let body = json!({"metadata": {"generateName": "a-"}});
        let target = "/api/v1/namespaces/default/secrets";
        ask(&server, &Call::new(Method::POST, target).with_body(&body)).1
    };
    assert_eq!(run(1), run(1));
    let [one, other] = [run(1), run(2)];
    assert_ne!(one["metadata"]["uid"], other["metadata"]["uid"]);
    assert_ne!(one["metadata"]["name"], other["metadata"]["name"]);
}
