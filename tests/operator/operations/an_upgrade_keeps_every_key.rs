//! The current definitions and the current operator continue with the objects of each release. The operator creates no
//! key again and loses none, and every object that was once accepted stays valid.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::api::{ClusterKeyProvider, KeyProvider, ServiceKey, custom_resource_definitions};
use testkit::{
    broker::{FakeBroker, Instance, Route},
    cloud_foundry::{self, FakeCloudFoundry},
    control_plane::ControlPlane,
    ibm_cloud::{self, FakeIbmCloud},
};

use crate::support::{
    evidence::settled,
    foundry::INSTANCE,
    release::{Release, UNSERVED, urls},
    stage::{Running, Stage, condition},
};

/// A cluster as a release left it, with its remote sides.
struct Upgrade {
    stage: Stage,
    foundry: FakeCloudFoundry,
    ibm: FakeIbmCloud,
    release: Release,
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_release_are_taken_over() {
    let releases = Release::all();
    assert!(!releases.is_empty());
    for release in releases {
        let upgrade = Upgrade::of(release).await;
        upgrade.stage.plane.install_crds(&custom_resource_definitions()).await.unwrap();
        upgrade.assert_all_is_valid().await;
        upgrade.assert_keys_stay().await;
        upgrade.assert_keys_go().await;
    }
}

impl Upgrade {
    async fn of(release: Release) -> Self {
        let plane: &'static ControlPlane =
            Box::leak(Box::new(ControlPlane::builder().start().await.unwrap()));
        plane.install_crds(&release.definitions).await.unwrap();
        let namespaces: Api<Namespace> = Api::all(plane.admin());
        for name in [&release.remote.namespace, UNSERVED] {
            let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
            namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        }
        let (broker, foundry, ibm) = tokio::join!(
            FakeBroker::builder().start(),
            FakeCloudFoundry::builder().start(),
            FakeIbmCloud::builder().start()
        );
        let stage = Stage {
            plane,
            client: plane.admin(),
            namespace: release.remote.namespace.clone(),
            broker: broker.unwrap(),
            instance: Instance::new("training-app-db", "postgresql", "small"),
        };
        let mut upgrade = Self { stage, foundry: foundry.unwrap(), ibm: ibm.unwrap(), release };
        let renamed = upgrade.make_remote_keys().await;
        upgrade.rename(&renamed);
        upgrade.store_objects().await;
        upgrade
    }

    /// Creates the keys of the release, with their names and marks. Returns the identifiers that remote sides choose
    /// themselves, before and now.
    async fn make_remote_keys(&self) -> Vec<(String, String)> {
        let Self { stage, foundry, ibm, release } = self;
        for key in &release.remote.bindings {
            let path = format!("v2/service_instances/{}/service_bindings/{}", key.instance, key.id);
            let user = json!({"username": "alice", "uid": "u-1", "groups": ["dev"], "extra": {}});
            let user = STANDARD.encode(user.to_string());
            let made = reqwest::Client::new()
                .put(format!("{}/{path}", stage.broker.url()))
                .basic_auth("operator", Some("broker-password"))
                .header("X-Broker-API-Version", "2.17")
                .header("X-Broker-API-Request-Identity", uuid::Uuid::new_v4().to_string())
                .header("X-Broker-API-Originating-Identity", format!("kubernetes {user}"))
                .json(&key.body)
                .send();
            let made = made.await.unwrap();
            assert!(made.status().is_success(), "{}", made.text().await.unwrap());
        }
        let mut renamed: Vec<_> =
            urls(&stage.broker, foundry, ibm).map(|(name, url)| (name.to_owned(), url)).into();
        for key in &release.remote.foundry_keys {
            let labels = key.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let made = foundry.add_labelled_key(INSTANCE, &key.name, labels).unwrap();
            let annotations = key.annotations.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            assert!(foundry.annotate(&made.guid, annotations));
            renamed.push((key.guid.clone(), made.guid));
        }
        for key in &release.remote.ibm_keys {
            let made = ibm.add_key_of_role(INSTANCE, &key.name, "Reader").unwrap();
            renamed.push((key.guid.clone(), made.guid));
            renamed.extend(key.role.clone().zip(made.role));
        }
        renamed
    }

    fn rename(&mut self, renamed: &[(String, String)]) {
        let text = json!(self.release.objects).to_string();
        let text = renamed.iter().fold(text, |text, (before, after)| text.replace(before, after));
        self.release.objects = serde_json::from_str(&text).unwrap();
    }

    /// Stores the objects unchanged, except for the version of the Secret in a status: the stored Secret has a new
    /// version.
    async fn store_objects(&self) {
        let plane = self.stage.plane;
        for secret in self.release.of_kind("Secret") {
            plane.store("secrets", secret).await.unwrap();
        }
        for object in &self.release.objects {
            let mut object = object.clone();
            let resource = match object["kind"].as_str().unwrap() {
                "ServiceKey" => "servicekeys.dev/servicekeys",
                "KeyProvider" => "servicekeys.dev/keyproviders",
                "ClusterKeyProvider" => "servicekeys.dev/clusterkeyproviders",
                _ => continue,
            };
            if let Some(name) = object["status"]["secret"]["name"].as_str() {
                let secret = self.stage.secrets().get(name).await.unwrap();
                object["status"]["secret"]["resourceVersion"] = json!(secret.resource_version());
            }
            plane.store(resource, &object).await.unwrap();
        }
    }

    /// The API server prunes nothing, and every object can still be edited in unrelated fields.
    async fn assert_all_is_valid(&self) {
        let unserved = self
            .release
            .objects
            .iter()
            .filter(|object| object["metadata"]["namespace"] != self.stage.namespace);
        for stored in unserved {
            let (kind, name) =
                (stored["kind"].as_str().unwrap(), stored["metadata"]["name"].as_str().unwrap());
            let api = self.api_of(kind);
            let now = serde_json::to_value(api.get(name).await.unwrap()).unwrap();
            assert!(
                contains(&now["spec"], &stored["spec"]),
                "{kind} `{name}` lost a field:\n{now:#}\n{stored:#}"
            );
            let edit = match kind {
                "ServiceKey" => json!({"metadata": {"labels": {"seen": "yes"}}, "spec": {"suspend": true}}),
                _ => json!({"metadata": {"labels": {"seen": "yes"}}, "spec": {"limits": {"timeout": "31s"}}}),
            };
            let edited =
                api.patch(name, &PatchParams::default().validation_strict(), &Patch::Merge(&edit)).await;
            edited.unwrap_or_else(|error| panic!("{kind} `{name}` can no longer be edited: {error}"));
        }
    }

    fn api_of(&self, kind: &str) -> Api<DynamicObject> {
        let client = self.stage.client.clone();
        match kind {
            "ServiceKey" => Api::namespaced_with(client, UNSERVED, &ApiResource::erase::<ServiceKey>(&())),
            "KeyProvider" => Api::namespaced_with(client, UNSERVED, &ApiResource::erase::<KeyProvider>(&())),
            _ => Api::all_with(client, &ApiResource::erase::<ClusterKeyProvider>(&())),
        }
    }

    /// The ServiceKeys that the operator served, ready or not.
    fn served(&self) -> Vec<&str> {
        let served = self.release.of_kind("ServiceKey");
        let served = served.filter(|key| key["metadata"]["namespace"] == self.stage.namespace);
        served.map(|key| key["metadata"]["name"].as_str().unwrap()).collect()
    }

    /// The number of keys that were requested.
    fn asked_for(&self) -> [usize; 3] {
        [
            self.stage.broker.count(Route::Bind),
            self.foundry.count(cloud_foundry::Route::Create),
            self.ibm.count(ibm_cloud::Route::CreateKey),
        ]
    }

    /// Starts the current operator with a clock one minute after the record, before the times that the statuses
    /// announce.
    async fn start_operator(&self) -> Running {
        let then = self.release.remote.recorded_at + SignedDuration::from_mins(1);
        self.stage.start_operator_ahead(then.duration_since(Timestamp::now())).await
    }

    /// The operator sends no request for the existing keys, and continues to serve them.
    async fn assert_keys_stay(&self) {
        let stage = &self.stage;
        let before = self.asked_for();
        let operator = self.start_operator().await;
        // Once this key is ready, the operator has reconciled all others.
        stage.create_key("new").await;
        stage.wait_ready("new").await;
        for name in self.served() {
            let key = stage.keys().get(name).await.unwrap();
            let ready = if name == "paused" { "False" } else { "True" };
            assert_eq!(condition(&key, "Ready"), Some(ready), "{key:#?}");
        }
        let writes = stage.plane.audit().requests(&operator.user).unwrap().writes();
        let others = writes.only(|request| {
            ["servicekeys", "secrets", "keyproviders"].contains(&request.resource.as_str())
                && request.name != "new"
                && request.verb != "create"
        });
        assert_eq!(others.len(), 0, "existing objects must stay unchanged:\n{others}");

        for name in self.served().into_iter().filter(|name| *name != "paused") {
            let key = settled(stage, name).await;
            let was = self.release.of_kind("ServiceKey").find(|key| key["metadata"]["name"] == name).unwrap();
            let is = serde_json::to_value(&key.status.unwrap().key).unwrap();
            assert_eq!(is, was["status"]["key"], "`{name}` has another key");
        }
        for was in self.release.of_kind("Secret") {
            let was: Secret = serde_json::from_value(was.clone()).unwrap();
            let is = stage.secrets().get(&was.name_any()).await.unwrap();
            // `assert_eq` would print the entries.
            assert!(is.data == was.data, "the Secret `{}` was changed", was.name_any());
        }
        let [broker, foundry, ibm] = before;
        assert_eq!(self.asked_for(), [broker + 1, foundry, ibm], "only one key is new");
    }

    /// The operator revokes the keys of deleted ServiceKeys by the identities from the release, and keeps those with
    /// `Retain`.
    async fn assert_keys_go(&self) {
        let stage = &self.stage;
        let _operator = self.start_operator().await;
        let resume = Patch::Merge(json!({"spec": {"suspend": false}}));
        stage.keys().patch("paused", &PatchParams::default(), &resume).await.unwrap();
        for name in self.served().into_iter().chain(["new"]) {
            stage.keys().delete(name, &DeleteParams::default()).await.unwrap();
        }
        for name in self.served().into_iter().chain(["new"]) {
            stage.wait_gone(name).await;
        }
        let left: Vec<_> = stage.broker.bindings().iter().map(|binding| binding.id.to_string()).collect();
        let retained =
            self.release.of_kind("ServiceKey").find(|key| key["metadata"]["name"] == "retained").unwrap();
        assert_eq!(json!(left), json!([retained["status"]["key"]["id"]]));
        assert_eq!((self.foundry.keys(), self.ibm.live_keys()), (vec![], vec![]));
        assert!(stage.secrets().get_opt("retained").await.unwrap().is_some());
        assert!(stage.secrets().get_opt("rotating-creds").await.unwrap().is_none());
    }
}

/// Whether `whole` contains all of `part`; it may also contain defaults.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|there| contains(there, value)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        _ => whole == part,
    }
}
