//! Records the objects that the current release leaves in a cluster, so that later releases can test an upgrade from
//! it: see `an_upgrade_keeps_every_key`. This is a step of making a release:
//! `RECORD_RELEASE=1 cargo test --test operator a_release_is_recorded` writes the record to `tests/releases/`.

use std::{collections::BTreeSet, env, fs, path::Path};

use jiff::Timestamp;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use servicekey_operator::api::{ClusterKeyProvider, KeyProvider, ServiceKey, custom_resource_definitions};
use testkit::{broker::FakeBroker, cloud_foundry::FakeCloudFoundry, ibm_cloud::FakeIbmCloud};

use crate::support::{
    foundry::{by_password, key_of_foundry, password},
    ibm::{by_api_key, key_of_ibm},
    release::{BrokerKey, FoundryKey, IbmKey, Release, Remote, UNSERVED, urls},
    stage::{Stage, wait},
};

/// The recorded objects together contain every field of every spec.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_has_every_field() {
    let release = record().await;
    for definition in custom_resource_definitions() {
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
        let mut missing = BTreeSet::new();
        let specs: Vec<_> =
            release.of_kind(&definition.spec.names.kind).map(|object| &object["spec"]).collect();
        assert!(!specs.is_empty(), "no {}", definition.spec.names.kind);
        find_missing("spec", &schema["openAPIV3Schema"]["properties"]["spec"], &specs, &mut missing);
        if definition.spec.names.kind == "KeyProvider" {
            assert!(missing.remove("spec.ibmCloud.auth.trustedProfile"), "a KeyProvider can't have one");
        }
        assert_eq!(missing, BTreeSet::new(), "of a {}", definition.spec.names.kind);
    }
    if env::var_os("RECORD_RELEASE").is_some() {
        release.write();
    }
}

/// Collects the paths of the fields that are in none of the values.
fn find_missing(path: &str, schema: &Value, values: &[&Value], missing: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let found: Vec<_> = values.iter().filter_map(|value| value.get(name)).collect();
        if found.is_empty() {
            missing.insert(path);
        } else {
            find_missing(&path, field, &found, missing);
        }
    }
    if schema["items"].is_object() {
        let items: Vec<_> = values.iter().filter_map(|value| value.as_array()).flatten().collect();
        find_missing(&format!("{path}[]"), &schema["items"], &items, missing);
    }
}

/// Records keys at all three kinds of remote side, with an operator that maintains them. Also records, in a namespace
/// that no operator serves, all manifests that the API server must accept.
async fn record() -> Release {
    let (foundry, ibm) = tokio::join!(FakeCloudFoundry::builder().start(), FakeIbmCloud::builder().start());
    let (foundry, ibm) = (foundry.unwrap(), ibm.unwrap());
    let stage = Stage::set_with(FakeBroker::builder().start().await.unwrap()).await;
    stage.add_foundry(&foundry, password(), by_password()).await;
    stage.add_ibm(&ibm, by_api_key()).await;
    let operator = stage.start_operator().await;
    stage.make_keys().await;
    drop(operator);

    let remote = Remote {
        recorded_at: Timestamp::now(),
        namespace: stage.namespace.clone(),
        bindings: stage.broker.bindings().into_iter().map(|binding| stage.as_asked_for(binding)).collect(),
        foundry_keys: foundry.keys().into_iter().map(of_foundry).collect(),
        ibm_keys: ibm.live_keys().into_iter().map(of_ibm).collect(),
    };
    let objects = json!([stage.all_objects().await, stage.all_manifests().await].concat());
    // The ports change with every run.
    let urls = urls(&stage.broker, &foundry, &ibm);
    let objects = urls.iter().fold(objects.to_string(), |text, (name, url)| {
        text.replace(&format!("\"{url}\""), &format!("\"{name}\""))
    });
    Release {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        definitions: custom_resource_definitions().into(),
        objects: serde_json::from_str(&objects).unwrap(),
        remote,
    }
}

fn of_foundry(key: testkit::cloud_foundry::Key) -> FoundryKey {
    FoundryKey { guid: key.guid, name: key.name, labels: key.labels, annotations: key.annotations }
}

fn of_ibm(key: testkit::ibm_cloud::Key) -> IbmKey {
    IbmKey { guid: key.guid, name: key.name, role: key.role }
}

impl Stage {
    /// Creates ServiceKeys of different kinds, and waits until all have the state to record.
    async fn make_keys(&self) {
        let extra = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "extra"},
            "stringData": {"params.json": "{\"pool\": 5}"},
        });
        self.create::<k8s_openapi::api::core::v1::Secret>(extra).await;
        let more = [
            ("plain", json!({})),
            (
                "rotating",
                json!({
                    "parameters": {"permissions": "read-only"},
                    "parametersFrom": [{"secretKeyRef": {"name": "extra", "key": "params.json"}}],
                    "secret": {
                        "name": "rotating-creds",
                        "labels": {"team": "data"},
                        "annotations": {"reloader.stakater.com/match": "true"},
                        "template": {"data": {"URL": "postgresql://{{ username }}:{{ password | urlencode }}@{{ hostname }}/app"}},
                        "previous": "Include",
                    },
                    "rotation": {"every": "720h", "overlap": "24h"},
                }),
            ),
            ("retained", json!({"deletionPolicy": "Retain", "secret": {"deletionPolicy": "Retain"}})),
            ("paused", json!({"suspend": true})),
        ];
        for (name, more) in more {
            let mut manifest = self.key_manifest(name);
            manifest["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            self.create::<ServiceKey>(manifest).await;
        }
        self.create::<ServiceKey>(key_of_foundry("of-foundry")).await;
        self.create::<ServiceKey>(key_of_ibm("of-ibm")).await;
        self.wait_all_ready(5).await;
        let rotate = Patch::Merge(json!({"metadata": {"annotations": {"servicekeys.dev/rotate": "1"}}}));
        self.keys().patch("rotating", &PatchParams::default(), &rotate).await.unwrap();
        let rotated = |key: &ServiceKey| {
            let status = key.status.as_ref().unwrap();
            status.previous_keys.len() == 1 && status.operation.is_none()
        };
        wait(self.keys(), "rotating", "rotated", |key| key.is_some_and(rotated)).await;
    }

    /// A binding as the operator requested it.
    fn as_asked_for(&self, binding: testkit::broker::Binding) -> BrokerKey {
        let catalog = self.broker.catalog();
        let offering = catalog.find(&self.instance.offering).unwrap();
        let plan = offering.find(&self.instance.plan).unwrap();
        BrokerKey {
            id: binding.id.to_string(),
            instance: binding.instance,
            body: json!({
                "service_id": offering.id,
                "plan_id": plan.id,
                "context": binding.context,
                "parameters": binding.parameters,
            }),
        }
    }

    /// All objects of the namespace that concern the operator, as the API server stores them.
    async fn all_objects(&self) -> Vec<Value> {
        let kinds = [
            ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&()),
            ApiResource::erase::<KeyProvider>(&()),
            ApiResource::erase::<ServiceKey>(&()),
        ];
        let mut objects = Vec::new();
        for kind in kinds {
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &kind);
            let listed = api.list(&ListParams::default()).await.unwrap().items;
            objects.extend(listed.into_iter().map(|object| as_stored(object, &kind)));
        }
        objects
    }

    /// The manifests in `tests/good_manifests/` as the API server completes them in a dry run.
    async fn all_manifests(&self) -> Vec<Value> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good_manifests");
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut objects = Vec::new();
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            // If a file has several documents, the later ones are edits of the first.
            let manifest: Value = serde_saphyr::from_str(text.split("\n---\n").next().unwrap()).unwrap();
            let name = file.file_stem().unwrap().to_str().unwrap().replace('_', "-");
            for manifest in in_every_kind(manifest, &name) {
                objects.push(self.as_accepted(manifest).await);
            }
        }
        objects
    }

    /// The object that the API server creates from a manifest, moved to the namespace that no operator serves.
    async fn as_accepted(&self, manifest: Value) -> Value {
        let dry_run = PatchParams { dry_run: true, ..PatchParams::apply("test") }.validation_strict();
        let kind = match manifest["kind"].as_str().unwrap() {
            "ServiceKey" => ApiResource::erase::<ServiceKey>(&()),
            "KeyProvider" => ApiResource::erase::<KeyProvider>(&()),
            _ => ApiResource::erase::<ClusterKeyProvider>(&()),
        };
        let api: Api<DynamicObject> = if kind.kind == "ClusterKeyProvider" {
            Api::all_with(self.client.clone(), &kind)
        } else {
            Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
        };
        let name = manifest["metadata"]["name"].as_str().unwrap();
        let mut object = api.patch(name, &dry_run, &Patch::Apply(&manifest)).await.unwrap();
        object.metadata.namespace = object.metadata.namespace.map(|_| UNSERVED.to_owned());
        as_stored(object, &kind)
    }
}

/// A provider may be of either kind. Only a ClusterKeyProvider names the namespaces that may use it, and may use the
/// operator's own identity.
fn in_every_kind(mut manifest: Value, name: &str) -> Vec<Value> {
    manifest["metadata"]["name"] = json!(name);
    if manifest["kind"] == "ServiceKey" {
        return vec![manifest];
    }
    let mut namespaced = manifest.clone();
    namespaced["kind"] = json!("KeyProvider");
    let spec = namespaced["spec"].as_object_mut().unwrap();
    spec.remove("allowedNamespaces");
    spec.remove("rules");
    manifest["kind"] = json!("ClusterKeyProvider");
    if namespaced["spec"].pointer("/ibmCloud/auth/trustedProfile").is_some() {
        return vec![manifest];
    }
    vec![namespaced, manifest]
}

/// The object in the form in which it can be stored again.
fn as_stored(mut object: DynamicObject, kind: &ApiResource) -> Value {
    object.metadata.managed_fields = None;
    object.types =
        Some(kube::core::TypeMeta { api_version: kind.api_version.clone(), kind: kind.kind.clone() });
    serde_json::to_value(object).unwrap()
}
