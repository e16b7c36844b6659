//! Random sequences of requests: writes of every resource, reads in every form, and watches.

use fastrand::Rng;
use futures::future::join_all;
use http::Method;
use serde_json::{Map, Value, json};
use testkit::simulation::api_server::Call;

use super::{
    manifests::manifests,
    pair::{Pair, call, get},
    plane,
};

/// The sequences, each with a namespace of its own.
const SEEDS: std::ops::Range<u64> = 0..80;
/// The differences after which a sequence ends.
const MOST_DIFFERENCES: usize = 2;
/// The requests of a sequence.
const REQUESTS: usize = 150;

#[tokio::test]
async fn random_requests_get_the_same_answers_and_events() {
    let plane = plane().await;
    let pairs = join_all(SEEDS.map(|seed| run(plane.admin(), seed))).await;
    let failures: Vec<_> =
        SEEDS.zip(pairs).filter_map(|(seed, pair)| pair.failure(&format!("seed {seed}"))).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

async fn run(client: kube::Client, seed: u64) -> Pair {
    let mut pair = Pair::new(client, seed);
    let mut random = Random { rng: Rng::with_seed(seed), seed, specs: specs() };
    let namespace = random.namespace();
    let manifest = json!({"metadata": {"name": namespace, "labels": {"seed": seed.to_string()}}});
    pair.send(call(Method::POST, "/api/v1/namespaces", &manifest)).await;
    for resource in RESOURCES {
        let path = random.collection(resource);
        // The other sequences have objects of the cluster, too.
        let own = format!("labelSelector=seed%3D{seed}");
        let queries = [
            "",
            "labelSelector=a%3D1",
            "labelSelector=!b,c%20notin%20(1)",
            "fieldSelector=metadata.name%3Da",
        ];
        let queries = if resource.namespaced { queries.to_vec() } else { vec![own.as_str()] };
        pair.send(get(format!("{path}?{}", queries[0]))).await;
        for query in queries {
            let watch = get(format!("{path}?{query}"));
            pair.watch(watch.clone()).await;
            if query.starts_with("labelSelector=a") {
                pair.watch(watch.metadata_only(false)).await;
            }
        }
        if resource.namespaced {
            let Resource { group, plural, .. } = resource;
            let query = format!("fieldSelector=metadata.namespace%3D{namespace}");
            pair.watch(get(format!("/{group}/{plural}?{query}"))).await;
        }
    }
    for _ in 0..REQUESTS {
        let request = random.request();
        let (code, _) = pair.send(request.clone()).await;
        if pair.differences.len() >= MOST_DIFFERENCES {
            // Further ones follow from these.
            return pair;
        }
        if code == 200 && request.target.contains("limit=") {
            pair.send(get(format!("{}&continue=§continue§", request.target))).await;
        }
    }
    pair.compare_events().await;
    pair
}

/// A resource of the sequences.
#[derive(Clone, Copy)]
struct Resource {
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    weight: usize,
}

const RESOURCES: [Resource; 6] = [
    Resource { group: "api/v1", plural: "secrets", kind: "Secret", namespaced: true, weight: 5 },
    Resource { group: CUSTOM, plural: "servicekeys", kind: "ServiceKey", namespaced: true, weight: 6 },
    Resource { group: CUSTOM, plural: "keyproviders", kind: "KeyProvider", namespaced: true, weight: 3 },
    Resource {
        group: CUSTOM,
        plural: "clusterkeyproviders",
        kind: "ClusterKeyProvider",
        namespaced: false,
        weight: 2,
    },
    Resource {
        group: "apis/coordination.k8s.io/v1",
        plural: "leases",
        kind: "Lease",
        namespaced: true,
        weight: 2,
    },
    Resource { group: "apis/events.k8s.io/v1", plural: "events", kind: "Event", namespaced: true, weight: 2 },
];
const CUSTOM: &str = "apis/servicekeys.dev/v1alpha1";

impl Resource {
    fn is_custom(self) -> bool {
        self.group == CUSTOM
    }

    fn api_version(self) -> &'static str {
        self.group.trim_start_matches("apis/").trim_start_matches("api/")
    }
}

/// The kinds and the specs of all manifests.
fn specs() -> Vec<(String, Value)> {
    let all = ["tests/good_manifests", "tests/bad_manifests"].into_iter().flat_map(manifests);
    all.flat_map(|(_, documents)| documents)
        .map(|document| (document["kind"].as_str().unwrap().to_owned(), document["spec"].clone()))
        .filter(|(_, spec)| spec.is_object())
        .collect()
}

struct Random {
    rng: Rng,
    seed: u64,
    specs: Vec<(String, Value)>,
}

impl Random {
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.usize(..choices.len())]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(..100) < percent
    }

    fn namespace(&self) -> String {
        format!("model-random-{}", self.seed)
    }

    fn collection(&self, resource: Resource) -> String {
        let Resource { group, plural, namespaced, .. } = resource;
        if namespaced {
            format!("/{group}/namespaces/{}/{plural}", self.namespace())
        } else {
            format!("/{group}/{plural}")
        }
    }

    fn name(&mut self, resource: Resource) -> String {
        let name = self.one_of(&["a", "a", "b", "b-1", "c"]);
        if resource.namespaced { name.to_owned() } else { format!("{name}.{}", self.seed) }
    }

    fn resource(&mut self) -> Resource {
        let weights: usize = RESOURCES.iter().map(|resource| resource.weight).sum();
        let mut at = self.rng.usize(..weights);
        let found = RESOURCES.into_iter().find(|resource| {
            let here = at < resource.weight;
            at = at.saturating_sub(resource.weight);
            here
        });
        found.unwrap()
    }

    fn request(&mut self) -> Call {
        let resource = self.resource();
        match self.rng.u32(..100) {
            0..25 => self.create(resource),
            25..45 => self.update(resource),
            45..70 => self.patch(resource),
            70..85 => self.delete(resource),
            85..90 => {
                let name = self.name(resource);
                let request = get(format!("{}/{name}", self.collection(resource)));
                if self.chance(40) { request.metadata_only(false) } else { request }
            }
            _ => self.list(resource),
        }
    }

    /// A list; of a resource of the cluster only the objects of this sequence.
    fn list(&mut self, resource: Resource) -> Call {
        if resource.namespaced && self.chance(15) {
            let Resource { group, plural, .. } = resource;
            return get(format!("/{group}/{plural}?fieldSelector=metadata.namespace%3D{}", self.namespace()));
        }
        let mut query = Vec::new();
        if !resource.namespaced {
            query.push(format!("labelSelector=seed%3D{}", self.seed));
        } else if self.chance(40) {
            let selector = self.one_of(&[
                "a%3D1",
                "a",
                "!a",
                "a%20in%20(1,2)",
                "b%20notin%20(1)",
                "a!%3D1",
                "a%20is%201",
            ]);
            query.push(format!("labelSelector={selector}"));
        }
        if self.chance(20) {
            let selector = self.one_of(&[
                "metadata.name%3Da",
                "metadata.name!%3Da",
                "spec.secret.name%3Dx",
                "type%3DOpaque",
            ]);
            // Events have many fields that the model lacks.
            if resource.kind != "Event" {
                query.push(format!("fieldSelector={selector}"));
            }
        }
        if self.chance(20) {
            query.push("resourceVersion=0".to_owned());
        } else if resource.namespaced && self.chance(50) {
            query.push(format!("limit={}", self.rng.u32(1..4)));
        }
        let request = get(format!("{}?{}", self.collection(resource), query.join("&")));
        if self.chance(30) { request.metadata_only(true) } else { request }
    }

    fn write_query(&mut self) -> String {
        match self.rng.u32(..20) {
            0 | 1 => "?dryRun=All".to_owned(),
            2 => "?fieldManager=test".to_owned(),
            _ => String::new(),
        }
    }

    fn create(&mut self, resource: Resource) -> Call {
        let name = self.name(resource);
        let mut object = self.object(resource, &name);
        if self.chance(3) {
            object["metadata"]["name"] = self.one_of(&["", "A", "a..b", "-"]).into();
        }
        if self.chance(3) {
            object["metadata"]["namespace"] = "other".into();
        }
        let mut query = self.write_query();
        if resource.is_custom() && query.is_empty() && self.chance(20) {
            query = "?fieldValidation=Strict".to_owned();
        }
        call(Method::POST, format!("{}{query}", self.collection(resource)), &object)
    }

    fn update(&mut self, resource: Resource) -> Call {
        let name = self.name(resource);
        let mut object = self.object(resource, &name);
        self.add_preconditions(resource, &name, &mut object["metadata"]);
        let status = self.status_part(resource);
        // With an ignored part that does not fit its schema, the server forgets `managedFields`, which counts as a change.
        if !status.is_empty() {
            object["spec"] = json!({});
            object["status"] = self.status();
        } else if resource.is_custom() && self.chance(20) {
            object["status"] = json!({"observedGeneration": 5});
        }
        let query = self.write_query();
        let name = if self.chance(3) { "other".to_owned() } else { name };
        call(Method::PUT, format!("{}/{name}{status}{query}", self.collection(resource)), &object)
    }

    fn status_part(&mut self, resource: Resource) -> &'static str {
        if resource.is_custom() && self.chance(30) { "/status" } else { "" }
    }

    /// A version and a UID: absent, current or outdated.
    fn add_preconditions(&mut self, resource: Resource, name: &str, metadata: &mut Value) {
        let kind = resource.kind;
        match self.rng.u32(..10) {
            0..6 => metadata["resourceVersion"] = format!("§rv:{kind}/{name}:0§").into(),
            6..8 => metadata["resourceVersion"] = format!("§rv:{kind}/{name}:1§").into(),
            _ => {}
        }
        match self.rng.u32(..10) {
            0..5 => metadata["uid"] = format!("§uid:{kind}/{name}:0§").into(),
            5 => metadata["uid"] = format!("§uid:{kind}/{name}:7§").into(),
            _ => {}
        }
    }

    fn patch(&mut self, resource: Resource) -> Call {
        let name = self.name(resource);
        let status = self.status_part(resource);
        let target = format!("{}/{name}{status}{}", self.collection(resource), self.write_query());
        if self.chance(10) {
            let operations = self.one_of(&[
                r#"[{"op": "add", "path": "/metadata/labels", "value": {"a": "1"}}]"#,
                r#"[{"op": "test", "path": "/metadata/name", "value": "z"}]"#,
                r#"[{"op": "replace", "path": "/metadata/finalizers", "value": []}]"#,
            ]);
            let patch: Value = serde_json::from_str(operations).unwrap();
            return call(Method::PATCH, target, &patch).with_content_type("application/json-patch+json");
        }
        let mut patch = json!({"metadata": {}});
        if self.chance(40) {
            self.add_preconditions(resource, &name, &mut patch["metadata"]);
        }
        match self.rng.u32(..10) {
            0 | 1 => patch["metadata"]["finalizers"] = self.finalizers(),
            2 | 3 => patch["metadata"]["labels"] = self.labels(),
            4 => patch["metadata"]["annotations"] = json!({"a": self.one_of(&["1", "2"])}),
            5 => patch["metadata"]["name"] = self.one_of(&["a", "z"]).into(),
            _ if status.is_empty() => {
                let object = self.object(resource, &name);
                for (field, value) in object.as_object().unwrap() {
                    if !matches!(field.as_str(), "apiVersion" | "kind" | "metadata") {
                        patch[field] = value.clone();
                    }
                }
            }
            _ => {}
        }
        if !status.is_empty() {
            patch["status"] = self.status();
        } else if resource.is_custom() && self.chance(10) {
            patch["status"] = json!({"observedGeneration": 5});
        }
        call(Method::PATCH, target, &patch).with_content_type("application/merge-patch+json")
    }

    fn delete(&mut self, resource: Resource) -> Call {
        let name = self.name(resource);
        let mut options = json!({});
        if self.chance(40) {
            let mut preconditions = json!({});
            self.add_preconditions(resource, &name, &mut preconditions);
            options["preconditions"] = preconditions;
        }
        if self.chance(20) {
            options["propagationPolicy"] = "Background".into();
        }
        if self.chance(10) {
            options["dryRun"] = json!(["All"]);
        }
        let request = call(Method::DELETE, format!("{}/{name}", self.collection(resource)), &options);
        if options.as_object().is_some_and(Map::is_empty) {
            Call { body: bytes::Bytes::new(), ..request }
        } else {
            request
        }
    }

    fn labels(&mut self) -> Value {
        let mut labels = json!({});
        for key in ["a", "b", "c"] {
            if self.chance(50) {
                labels[key] = self.one_of(&["1", "2", "1", ""]).into();
            }
        }
        if self.chance(3) {
            labels[self.one_of(&["-", "x", "a/b/c", "A.b/c"])] = self.one_of(&["-", "y"]).into();
        }
        labels
    }

    fn finalizers(&mut self) -> Value {
        let choices = [
            "[]",
            "[\"example.com/a\"]",
            "[\"example.com/a\",\"example.com/b\"]",
            "[\"example.com/b\"]",
            "[]",
        ];
        let rare = ["[\"plain\"]", "[\"-/-\"]", "null"];
        let text = if self.chance(10) { self.one_of(&rare) } else { self.one_of(&choices) };
        serde_json::from_str(text).unwrap()
    }

    fn status(&mut self) -> Value {
        let time = "2026-01-02T03:04:05Z";
        let choices = [
            json!({"observedGeneration": 1}),
            json!({"observedGeneration": 2, "conditions": [
                {"type": "Ready", "status": "True", "reason": "A", "message": "", "lastTransitionTime": time},
            ]}),
            json!({"conditions": [
                {"type": "Ready", "status": "True", "reason": "A", "message": "", "lastTransitionTime": "yesterday"},
            ]}),
            json!({"conditions": [
                {"type": "Ready", "status": "True", "reason": "A", "message": "", "lastTransitionTime": time},
                {"type": "Ready", "status": "False", "reason": "B", "message": "", "lastTransitionTime": time},
            ]}),
            json!({"observedGeneration": "one"}),
            json!({"unknown": {"field": 1}}),
            json!({}),
            json!(null),
        ];
        choices[self.rng.usize(..choices.len())].clone()
    }

    fn object(&mut self, resource: Resource, name: &str) -> Value {
        let mut object = match resource.kind {
            "Secret" => self.secret(),
            "Lease" => self.lease(),
            "Event" => self.event(),
            kind => self.custom(kind),
        };
        object["apiVersion"] = resource.api_version().into();
        object["kind"] = resource.kind.into();
        object["metadata"] = json!({"name": name, "labels": self.labels()});
        if !resource.namespaced {
            object["metadata"]["labels"]["seed"] = self.seed.to_string().into();
        }
        if self.chance(25) {
            object["metadata"]["finalizers"] = self.finalizers();
        }
        object
    }

    fn secret(&mut self) -> Value {
        let choices = [
            json!({}),
            json!({"data": {"a": "YQ=="}}),
            json!({"data": {"a": "YQ==", "b": ""}, "stringData": {"b": "text", "c": ""}}),
            json!({"data": {}, "type": ""}),
            json!({"data": {"a": "YQ=="}, "immutable": true}),
            json!({"data": {"a": "no base64"}}),
            json!({"data": {"a/b": "YQ==", "..": "", ".": "", "..x": ""}}),
            json!({"data": {"a": 1}}),
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "YQ=="}}),
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "YQ==", "tls.key": ""}}),
            json!({"type": "kubernetes.io/basic-auth"}),
            json!({"type": "kubernetes.io/basic-auth", "stringData": {"username": "a"}}),
            json!({"type": "kubernetes.io/ssh-auth", "stringData": {"ssh-privatekey": ""}}),
            json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{}"}}),
            json!({"type": "kubernetes.io/dockerconfigjson", "data": {}}),
            json!({"type": "kubernetes.io/dockercfg"}),
            json!({"type": "kubernetes.io/service-account-token"}),
            json!({"type": "example.com/other", "data": {"a": "YQ=="}}),
        ];
        let common = self.chance(60);
        choices[self.rng.usize(..if common { 4 } else { choices.len() })].clone()
    }

    fn lease(&mut self) -> Value {
        let choices = [
            json!({}),
            json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}),
            json!({"spec": {"holderIdentity": "b", "leaseDurationSeconds": 15, "leaseTransitions": 1,
                "renewTime": "2026-01-02T03:04:05.000006Z", "acquireTime": "2026-01-02T03:04:05.000000Z"}}),
            json!({"spec": {"holderIdentity": "", "leaseDurationSeconds": 15, "leaseTransitions": 1}}),
            json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 0, "leaseTransitions": -1}}),
            json!({"spec": {"leaseDurationSeconds": "x"}}),
        ];
        choices[self.rng.usize(..choices.len())].clone()
    }

    fn event(&mut self) -> Value {
        let mut event = json!({
            "type": "Normal", "reason": "Tested", "action": "Test", "note": "a note",
            "eventTime": "2026-01-02T03:04:05.000006Z",
            "reportingController": "servicekeys.dev/operator", "reportingInstance": "operator-1",
            "regarding": {"kind": "ServiceKey", "name": "a", "namespace": self.namespace()},
        });
        match self.rng.u32(..16) {
            0 => event["type"] = "Other".into(),
            1 => event["reason"] = "".into(),
            2 => event["note"] = "x".repeat(1025).into(),
            3 => event["regarding"]["namespace"] = "other".into(),
            4 => event["eventTime"] = Value::Null,
            5 => event["reportingInstance"] = "x".repeat(129).into(),
            6 | 7 => event["series"] = json!({"count": 2, "lastObservedTime": "2026-01-02T03:05:05.000006Z"}),
            8 => event["reportingController"] = "-".into(),
            9 => event["note"] = "another note".into(),
            _ => {}
        }
        event
    }

    /// A spec from the manifests, sometimes with an error.
    fn custom(&mut self, kind: &str) -> Value {
        let specs: Vec<_> =
            self.specs.iter().filter(|(of, _)| of == kind).map(|(_, spec)| spec.clone()).collect();
        let choices = if self.chance(70) { 5 } else { specs.len() };
        let mut spec = specs[self.rng.usize(..choices)].clone();
        for _ in 0..self.one_of(&[0, 0, 0, 1, 1, 2]) {
            self.spoil(&mut spec);
        }
        json!({ "spec": spec })
    }

    /// Changes one value.
    fn spoil(&mut self, value: &mut Value) {
        let deeper = self.chance(75);
        match value {
            Value::Object(fields) if deeper && !fields.is_empty() => {
                let at = self.rng.usize(..fields.len());
                let (name, child) = fields.iter_mut().nth(at).unwrap();
                let name = name.clone();
                match self.rng.u32(..10) {
                    0 => drop(fields.remove(&name)),
                    1 => drop(fields.insert("unknown".into(), 1.into())),
                    _ => self.spoil(child),
                }
            }
            Value::Array(items) if deeper && !items.is_empty() => {
                let at = self.rng.usize(..items.len());
                match self.rng.u32(..3) {
                    0 => items.push(items[at].clone()),
                    _ => self.spoil(&mut items[at]),
                }
            }
            value => {
                let long = "x".repeat(600);
                let choices = [
                    json!(null),
                    json!(""),
                    json!("a"),
                    json!("A b"),
                    json!(long),
                    json!("https://example.com/%zz"),
                    json!("http://[::1]:80"),
                    json!("1h"),
                    json!(0),
                    json!(-1),
                    json!(1.5),
                    json!(100_000),
                    json!(true),
                    json!([]),
                    json!(["a", "a"]),
                    json!({}),
                    json!({"a": "b"}),
                ];
                *value = choices[self.rng.usize(..choices.len())].clone();
            }
        }
    }
}
