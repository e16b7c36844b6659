//! Answers of every kind, whole and in pieces, good and bad.

use std::{convert::Infallible, io};

use futures::{future, stream};
use http::Request;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Client,
    client::Body as RequestBody,
    core::{DeserializeGuard, ObjectList, WatchEvent},
};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use tower::Service;

use super::{bounds::Excess, *};
use crate::{api::ServiceKey, runtime::kubernetes::api_request};

const KEYS: &str = "/apis/servicekeys.dev/v1alpha1/namespaces/a/servicekeys";
const PASSWORD: &str = "correct-horse";

/// An API server behind the guard. It answers every request with this body, in pieces of this size.
#[derive(Clone)]
struct FakeApiServer {
    status: u16,
    body: Vec<u8>,
    piece: usize,
}

impl Service<Request<RequestBody>> for FakeApiServer {
    type Response = Response<GuardedBody<Frames>>;
    type Error = Infallible;
    type Future = future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let asked = api_request(request.method(), request.uri());
        let pieces: Vec<_> = self.body.chunks(self.piece.max(1)).map(<[u8]>::to_vec).collect();
        let frames = stream::iter(
            pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece)))),
        );
        let body = Frames(Box::pin(frames));
        future::ready(Ok(guarded(asked, Response::builder().status(self.status).body(body).unwrap())))
    }
}

struct Frames(stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        futures::Stream::poll_next(self.0.as_mut(), context)
    }
}

fn get(uri: &str) -> Request<Vec<u8>> {
    Request::get(uri).body(Vec::new()).unwrap()
}

fn client(status: u16, body: impl Into<Vec<u8>>, piece: usize) -> Client {
    Client::new(FakeApiServer { status, body: body.into(), piece }, "a")
}

/// The part of an answer that passes.
async fn passes(uri: &str, body: &[u8], piece: usize) -> Result<String, String> {
    let mut server = FakeApiServer { status: 200, body: body.to_vec(), piece };
    let answer = server.call(Request::get(uri).body(RequestBody::empty()).unwrap()).await.unwrap();
    let mut body = answer.into_body();
    let mut passed = Vec::new();
    while let Some(frame) = future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        passed.extend(frame.map_err(|error| error.to_string())?.into_data().unwrap());
    }
    Ok(String::from_utf8(passed).unwrap())
}

fn key(name: &str, parameters: &str) -> String {
    format!(
        r#"{{"apiVersion":"servicekeys.dev/v1alpha1","kind":"ServiceKey","metadata":{{"name":"{name}","namespace":"a","uid":"u","resourceVersion":"7","generation":3,"labels":{{"a":"b"}},"annotations":{{"a":"b","servicekeys.dev/rotate":"1","servicekeys.dev/omitted":"[]"}},"managedFields":[{deep}]}},"spec":{{"providerRef":{{"kind":"KeyProvider","name":"p"}},"instance":{{"id":"i"}},"parameters":{parameters},"keyName":"n"}}}}"#,
        deep = nested(150),
    )
}

fn nested(levels: usize) -> String {
    let mut text = r#"{"a":"#.repeat(levels - 1);
    text += "{}";
    text += &"}".repeat(levels - 1);
    text
}

fn list(items: &[String]) -> String {
    format!(
        "{{\"apiVersion\":\"v1\",\"items\":[{}],\"kind\":\"ServiceKeyList\",\
         \"metadata\":{{\"continue\":\"\",\"resourceVersion\":\"9\"}}}}",
        items.join(",")
    )
}

fn omitted(key: &ServiceKey) -> Vec<(String, Excess)> {
    omissions(&key.metadata).into_iter().map(|omission| (omission.path, omission.excess)).collect()
}

async fn listed(body: String) -> Vec<ServiceKey> {
    let list: ObjectList<DeserializeGuard<ServiceKey>> =
        client(200, body, 1000).request(get(KEYS)).await.unwrap();
    list.items.into_iter().map(|item| item.0.unwrap()).collect()
}

#[tokio::test]
async fn a_deep_object_hides_no_other() {
    let (deep, large) = (nested(5000), json!({"a": "x".repeat(PARAMETERS.bytes)}).to_string());
    let many = format!("{{\"a\":[{}]}}", vec![r#"{"":0}"#; 1_000].join(","));
    let keys = [
        ("deep", deep.as_str()),
        ("large", &large),
        ("many", &many),
        ("odd", r#"{"a":1e999}"#),
        ("good", r#"{"a":1}"#),
    ];
    let keys = listed(list(&keys.map(|(name, parameters)| key(name, parameters)))).await;
    let parameters = |excess| vec![("spec.parameters".to_owned(), excess)];
    let notes: Vec<_> = keys.iter().map(|key| (key.metadata.name.clone().unwrap(), omitted(key))).collect();
    let expected = [
        ("deep", parameters(Excess::Levels)),
        ("large", parameters(Excess::Bytes)),
        ("many", parameters(Excess::Values)),
        ("odd", parameters(Excess::Value)),
        ("good", vec![]),
    ];
    assert_eq!(notes, expected.map(|(name, notes)| (name.to_owned(), notes)));
    for key in &keys {
        assert_eq!(key.spec.key_name.as_deref(), Some("n"), "the member after the omitted one is missing");
        assert_eq!((key.metadata.generation, key.metadata.uid.as_deref()), (Some(3), Some("u")));
        assert_eq!(key.metadata.annotations.as_ref().unwrap()["servicekeys.dev/rotate"], "1");
        assert!(key.metadata.managed_fields.is_none());
    }
    assert_eq!(Value::Object(keys[4].spec.parameters.clone()), json!({"a": 1}));
}

#[rstest]
#[case::at_the_bound(PARAMETERS.levels, PARAMETERS.bytes, vec![])]
#[case::deeper(PARAMETERS.levels + 1, 2000, vec![Excess::Levels])]
#[case::larger(1, PARAMETERS.bytes + 1, vec![Excess::Bytes])]
#[tokio::test]
async fn parameters_pass_up_to_their_bounds(
    #[case] levels: usize,
    #[case] bytes: usize,
    #[case] expected: Vec<Excess>,
) {
    let text = nested(levels);
    let separator = if levels == 1 { "" } else { "," };
    let without_filler = text.len() + r#""b":"""#.len() + separator.len();
    let filler = "x".repeat(bytes - without_filler);
    let parameters = text.replacen('{', &format!(r#"{{"b":"{filler}"{separator}"#), 1);
    assert_eq!(parameters.len(), bytes);
    let keys = listed(list(&[key("k", &parameters)])).await;
    let found: Vec<_> = omitted(&keys[0]).into_iter().map(|(_, excess)| excess).collect();
    assert_eq!(found, expected);
}

/// If a tenant fills one part of a ServiceKey, all other parts still pass.
#[rstest]
#[case::annotations_of_the_operators_domain("/metadata/annotations", json!({"servicekeys.dev/pad": "x".repeat(262_100)}), &[])]
#[case::annotations_that_are_read(
    "/metadata/annotations",
    json!({"servicekeys.dev/rotate": "x".repeat(131_000), "servicekeys.dev/abandon": "x".repeat(131_000)}),
    &["metadata.annotations"]
)]
#[case::finalizers("/metadata/finalizers", json!(vec!["example.com/x"; 1500]), &["metadata.finalizers"])]
#[case::the_instance("/spec/instance", json!({"annotations": {"a": "<".repeat(131_072)}}), &["spec.instance"])]
#[case::most_of_the_instance("/spec/instance", json!({"id": "i", "annotations": {"a": "x".repeat(262_000)}}), &[])]
#[case::the_template("/spec/secret/template", json!({"data": {"a": "x".repeat(300_000)}}), &["spec.secret"])]
#[case::sources_of_parameters("/spec/parametersFrom", json!(vec![0; 6_000]), &["spec.parametersFrom"])]
#[case::the_status("/status/conditions", json!(vec![json!({}); 6_000]), &["status"])]
#[tokio::test]
async fn a_part_pushes_no_other_out(#[case] part: &str, #[case] value: Value, #[case] expected: &[&str]) {
    let mut key = json!({
        "apiVersion": "servicekeys.dev/v1alpha1",
        "kind": "ServiceKey",
        "metadata": {"annotations": {"servicekeys.dev/rotate": "1"}, "finalizers": ["f"], "name": "k", "uid": "u"},
        "spec": {
            "instance": {"id": "i"},
            "parametersFrom": [],
            "providerRef": {"name": "p"},
            "secret": {"name": "s", "template": {}},
        },
        "status": {"conditions": [], "key": {"sequence": 2}},
    });
    let full = key.clone();
    *key.pointer_mut(part).unwrap() = value;
    let text = key.to_string().replace('<', "\\u003c");
    let passed = passes(&format!("{KEYS}/k"), text.as_bytes(), 4096).await.unwrap();
    let passed: Value = serde_json::from_str(&passed).unwrap();
    let meta = serde_json::from_value(passed["metadata"].clone()).unwrap();
    let noted: Vec<_> = omissions(&meta).into_iter().map(|omission| omission.path).collect();
    assert_eq!(noted, expected);
    // All other parts pass.
    let rotate = "/metadata/annotations/servicekeys.dev~1rotate";
    let filled = [
        "/metadata/finalizers",
        "/spec/instance",
        "/spec/parametersFrom",
        "/spec/secret/template",
        "/status",
    ];
    for place in filled
        .into_iter()
        .chain([rotate])
        .filter(|place| !part.starts_with(place) && !place.starts_with(part))
    {
        assert_eq!(passed.pointer(place), full.pointer(place), "{place}");
    }
    for place in ["/metadata/name", "/metadata/uid", "/spec/providerRef/name", "/spec/secret/name"] {
        assert_eq!(passed.pointer(place), full.pointer(place), "{place}");
    }
}

#[tokio::test]
async fn it_does_not_matter_how_an_answer_arrives() {
    let keys = [key("a", r#"{"x":"\"]}\\\u00e9"}"#), key("b", &nested(40)), key("c", "{}")];
    let answers = [(KEYS.to_owned(), list(&keys)), (format!("{KEYS}/a"), keys[0].clone()), {
        let event = |key: &String| format!("{{\"type\":\"ADDED\",\"object\":{key}}}\n");
        (format!("{KEYS}?watch=true"), keys.iter().map(event).collect())
    }];
    for (uri, body) in answers {
        let whole = passes(&uri, body.as_bytes(), usize::MAX).await.unwrap();
        assert!(whole.contains(r#"{"x":"\"]}\\\u00e9"}"#), "{whole}");
        for piece in (1..80).chain([1000]) {
            assert_eq!(
                passes(&uri, body.as_bytes(), piece).await.as_ref(),
                Ok(&whole),
                "in pieces of {piece}"
            );
        }
        for end in 0..body.len() {
            let mut pieces = passes(&uri, &body.as_bytes()[..end], 17).await;
            if let Ok(passed) = &mut pieces {
                assert!(uri.contains("watch"), "an answer that ends at {end} passed: {passed}");
                assert!(whole.starts_with(passed.as_str()) && (passed.is_empty() || passed.ends_with('\n')));
            }
        }
    }
}

#[tokio::test]
async fn a_watch_goes_on_after_a_bad_object() {
    let deep = format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", key("deep", &nested(4000)));
    let good = format!("{{\"type\":\"MODIFIED\",\"object\":{}}}\n", key("good", "{}"));
    let bookmark = "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"ServiceKey\",\"apiVersion\":\"servicekeys.dev/v1alpha1\",\"metadata\":{\"resourceVersion\":\"12\"}}}\n";
    let gone = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"status\":\"Failure\",\"message\":\"too old\",\"reason\":\"Expired\",\"code\":410}}\n";
    let body = format!("{deep}{good}{bookmark}{gone}");
    let passed = passes(&format!("{KEYS}?watch=1"), body.as_bytes(), 100).await.unwrap();
    let events = passed.lines().map(|line| serde_json::from_str::<WatchEvent<ServiceKey>>(line).unwrap());
    let told: Vec<_> = events
        .map(|event| match event {
            WatchEvent::Added(key) | WatchEvent::Modified(key) | WatchEvent::Deleted(key) => {
                format!("{} {}", key.metadata.name.as_deref().unwrap(), omitted(&key).len())
            }
            WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version.clone(),
            WatchEvent::Error(status) => status.code.to_string(),
        })
        .collect();
    assert_eq!(told, ["deep 1", "good 0", "12", "410"]);
}

#[rstest]
#[case::words(KEYS, "upstream error: correct-horse")]
#[case::a_list_with_garbage(KEYS, r#"{"items":[{"a":"correct-horse"} {}],"kind":"x"}"#)]
#[case::a_list_that_is_cut_off(KEYS, r#"{"items":[{"a":"correct-horse"}"#)]
#[case::a_list_with_more_behind(KEYS, r#"{"items":[]} correct-horse"#)]
#[case::nothing(KEYS, "")]
#[case::a_secret_that_is_cut_off("/api/v1/namespaces/a/secrets/s", r#"{"data":{"password":"correct-horse"#)]
#[case::a_secret_that_is_no_json("/api/v1/namespaces/a/secrets/s", "password: correct-horse")]
#[case::a_secret_that_is_a_text("/api/v1/namespaces/a/secrets/s", r#""correct-horse""#)]
#[case::a_number_out_of_range("/api/v1/namespaces/a/secrets/s", r#"{"correct-horse":1e999}"#)]
#[case::a_line_of_a_watch(
    "/api/v1/secrets?watch=true",
    "{\"type\":\"correct-horse\",\"object\":{\"a\" 1}}\n"
)]
#[tokio::test]
async fn what_is_no_json_fails_and_is_not_quoted(#[case] uri: &str, #[case] body: &str) {
    let error = passes(uri, body.as_bytes(), 9).await.unwrap_err();
    assert!(error.starts_with("the API server's answer to `") && error.contains("can't be read"), "{error}");
    assert!(!error.contains(PASSWORD), "{error}");
    if !uri.contains("watch") {
        let error = client(200, body, 9).request::<Value>(get(uri)).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
    }
}

#[rstest]
#[case::words(502, "bad gateway correct-horse", "HTTP 502, with 25 bytes that are not a `Status`")]
#[case::other_json(500, r#"{"password":"correct-horse"}"#, "HTTP 500, with 28 bytes that are not a `Status`")]
#[case::no_body(503, "", "HTTP 503, with 0 bytes that are not a `Status`")]
#[case::a_status(
    404,
    r#"{"kind":"Status","message":"no such key","reason":"NotFound","code":404}"#,
    "no such key"
)]
#[tokio::test]
async fn of_a_refusal_only_a_status_passes(#[case] status: u16, #[case] body: &str, #[case] said: &str) {
    let error = client(status, body, 7).request::<Value>(get(KEYS)).await.unwrap_err();
    let kube::Error::Api(refusal) = &error else { panic!("{error:?}") };
    assert_eq!((refusal.code, refusal.message.as_str()), (status, said));
    assert!(!format!("{error:?}").contains(PASSWORD), "{error:?}");
}

#[tokio::test]
async fn a_refusal_without_end_is_cut() {
    let body = format!("{{\"message\":\"{}\",\"reason\":\"x\"}}", "é".repeat(5000));
    let error = client(403, body, 4096).request::<Value>(get(KEYS)).await.unwrap_err();
    let kube::Error::Api(refusal) = error else { panic!("{error:?}") };
    assert_eq!(refusal.message.chars().count(), 2049);
    let error = client(403, vec![b'x'; 10 << 20], 4096).request::<Value>(get(KEYS)).await.unwrap_err();
    assert!(error.to_string().contains("10485760 bytes"), "{error}");
}

/// The operator may write back a Secret that it read by name, so the data of other writers passes too.
#[tokio::test]
async fn a_secret_passes_as_a_whole() {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "s",
            "labels": {"a": "b"},
            "annotations": {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}],
        },
        "data": {"password": "eA==", "large": "YWFh".repeat(200_000)},
        "type": "Opaque",
    });
    let mut sent = secret.clone();
    sent["metadata"]["managedFields"] = serde_json::from_str(&format!("[{}]", nested(100))).unwrap();
    let read: Secret =
        client(200, sent.to_string(), 5000).request(get("/api/v1/namespaces/a/secrets/s")).await.unwrap();
    assert!(serde_json::to_value(&read).unwrap() == secret);
}

/// A tenant may write `managedFields` of any size or form. The guard drops those, and the Secret passes without them.
#[rstest]
#[case::as_the_api_server_writes_it(writers(json!({"f:data": {".": {}, "f:password": {}}})), true)]
#[case::deep(writers(serde_json::from_str(&nested(14)).unwrap()), true)]
#[case::too_deep(writers(serde_json::from_str(&nested(15)).unwrap()), false)]
#[case::much_too_deep(writers(serde_json::from_str(&nested(120)).unwrap()), false)]
#[case::large(writers(json!({"f:a": "x".repeat(32 << 10)})), false)]
#[case::of_many_values(writers(json!(vec![0; 2_000])), false)]
#[case::of_a_time_that_can_not_be_read(json!([{"manager": "m", "time": "9999-12-31T23:59:59Z"}]), false)]
#[case::of_another_form(json!([{"manager": 7}]), false)]
#[case::no_list(json!({}), false)]
#[tokio::test]
async fn who_wrote_a_secret_passes_within_a_bound(#[case] record: Value, #[case] passes: bool) {
    let meta = |record: &Value| json!({"metadata": {"name": "s", "managedFields": record, "uid": "u"}});
    let sent = meta(&record).to_string();
    for method in ["GET", "POST", "PUT", "PATCH"] {
        let uri = format!("/api/v1/namespaces/a/secrets{}", if method == "POST" { "" } else { "/s" });
        let request = Request::builder().method(method).uri(uri).body(Vec::new()).unwrap();
        let read: Secret = client(200, sent.clone(), 77).request(request).await.unwrap();
        let expected = serde_json::from_value(meta(if passes { &record } else { &Value::Null })).unwrap();
        assert_eq!(read, expected, "{method}");
    }
    let listed: ObjectList<Secret> =
        client(200, list(&[sent]), 77).request(get("/api/v1/namespaces/a/secrets")).await.unwrap();
    assert_eq!(listed.items[0].metadata.managed_fields, None);
}

fn writers(fields: Value) -> Value {
    json!([{"manager": "m", "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields}])
}

#[tokio::test]
async fn of_a_list_of_secrets_only_small_metadata_passes() {
    let item = |name: &str, bytes: usize| {
        json!({"metadata": {"name": name, "annotations": {"a": "x".repeat(bytes)}, "labels": {"a": "b"}}})
            .to_string()
    };
    let passed =
        passes("/api/v1/secrets", list(&[item("small", 9), item("large", 40 << 10)]).as_bytes(), 999).await;
    let passed: Value = serde_json::from_str(&passed.unwrap()).unwrap();
    assert_eq!(passed["items"][0]["metadata"]["annotations"], json!({"a": "xxxxxxxxx"}));
    let large = &passed["items"][1]["metadata"];
    let bound = ObjectBounds::for_resource("secrets", true).whole;
    let note = serde_json::to_string(&[Omission {
        path: "metadata.annotations".to_owned(),
        excess: Excess::Bytes,
        bound,
    }]);
    assert_eq!(large["annotations"], json!({"servicekeys.dev/omitted": note.unwrap()}));
    assert_eq!(large["labels"], json!({"a": "b"}));
}

/// The operator then can't say whether the pod uses a Secret, so the note has to pass.
#[tokio::test]
async fn a_pod_that_is_too_large_hides_no_other() {
    let pod = |name: &str, bytes: usize| {
        let environment = json!([{"name": "A", "value": "x".repeat(bytes)}]);
        let spec = json!({"containers": [{"name": "app", "env": environment}]});
        json!({"metadata": {"name": name}, "spec": spec}).to_string()
    };
    let body = list(&[pod("large", 200 << 10), pod("small", 100 << 10)]);
    let passed = passes("/api/v1/namespaces/a/pods", body.as_bytes(), 999).await.unwrap();
    let passed: Value = serde_json::from_str(&passed).unwrap();
    let [large, small] = [0, 1].map(|item| &passed["items"][item]);
    assert_eq!(large["spec"], json!({}));
    assert!(large["metadata"]["annotations"]["servicekeys.dev/omitted"].as_str().unwrap().contains("spec"));
    assert!(small["spec"]["containers"][0]["env"][0]["value"].as_str().unwrap().len() == 100 << 10);
}

/// The guard buffers one object, however large the answer is.
#[test]
fn an_object_without_end_takes_no_memory() {
    let mut splitter = splitter(ApiRequest { verb: "list", resource: "servicekeys" });
    splitter.push(br#"{"items":[{"metadata":{"name":"k","managedFields":[{"a":""#).unwrap();
    let passed: usize = (0..1000).map(|_| splitter.push(&[b'x'; 10_000]).unwrap().len()).sum();
    splitter.push(br#""}]},"spec":{"parameters":{"a":""#).unwrap();
    let more: usize = (0..1000).map(|_| splitter.push(&[b'x'; 10_000]).unwrap().len()).sum();
    splitter.push(br#""},"other":["#).unwrap();
    let still: usize = (0..1000).map(|_| splitter.push(&b"1,".repeat(5000)).unwrap().len()).sum();
    assert_eq!((passed, more, still), (0, 0, 0));
    let object = splitter.push(br#"1],"keyName":"n"},"status":{}}"#).unwrap();
    let object: Value = serde_json::from_slice(&object).unwrap();
    assert_eq!(object["spec"], json!({"keyName": "n"}));
    assert!(object.to_string().len() < 1000, "{object}");
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_harmless_object_passes_unchanged(
        parameters in prop::collection::btree_map(any::<String>(), json_value(), 0..5),
        labels in prop::collection::btree_map("[a-z]{1,9}", "[a-z]{0,9}", 0..5),
        piece in 1_usize..200,
        pretty in any::<bool>(),
    ) {
        let parameters: Value = Value::Object(parameters.into_iter().collect());
        let key = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {"name": "k", "annotations": {"servicekeys.dev/rotate": "é\n"}},
            "spec": {"providerRef": {"name": "p"}, "instance": {"id": "i"}, "parameters": parameters,
                     "secret": {"labels": labels}},
        });
        let text = if pretty { serde_json::to_vec_pretty(&key).unwrap() } else { serde_json::to_vec(&key).unwrap() };
        let passed = futures::executor::block_on(passes(&format!("{KEYS}/k"), &text, piece)).unwrap();
        let (sent, read): (ServiceKey, ServiceKey) =
            (serde_json::from_slice(&text).unwrap(), serde_json::from_str(&passed).unwrap());
        prop_assert_eq!(sent, read);
    }

    #[test]
    fn garbage_never_passes_as_json_and_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        brackets in "[\\[\\]{}\":,a1\\\\ ]{0,80}",
        piece in 1_usize..40,
    ) {
        for body in [&bytes, brackets.as_bytes()] {
            for uri in [KEYS, &format!("{KEYS}/k"), &format!("{KEYS}?watch=true")] {
                if let Ok(passed) = futures::executor::block_on(passes(uri, body, piece)) {
                    for line in passed.lines() {
                        prop_assert!(serde_json::from_str::<Value>(line).is_ok(), "{}", line);
                    }
                }
            }
        }
    }
}

/// A broken connection stays the client's own error, because a watch decides by it how to continue.
#[tokio::test]
async fn a_connection_that_breaks_is_told_as_it_is() {
    struct Broken;

    impl Body for Broken {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
        }
    }

    let passage = Some(Passage::Answer(splitter(ApiRequest { verb: "watch", resource: "secrets" })));
    let asked = ApiRequest { verb: "watch", resource: "secrets" };
    let mut body = GuardedBody { body: Broken, asked, passage };
    let frame = future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.unwrap();
    let error = frame.unwrap_err().downcast::<io::Error>().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}
