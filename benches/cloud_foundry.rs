//! `cargo bench --bench cloud_foundry`: measures keys of a Cloud Foundry that answers at once.
//!
//! The results are ratios to a floor from the same run: the same writes to the API server, by a client without logic.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::{
    collections::BTreeMap,
    future,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{KeyProvider, ServiceKey, custom_resource_definitions},
    testing::{AddressPolicy, Operator, Options, Restrictions},
};
use testkit::{cloud_foundry::FakeCloudFoundry, control_plane::ControlPlane};

/// The number of keys created at once.
const MANY: usize = 200;
/// The number of keys deleted one after the other.
const ONE_BY_ONE: usize = 10;
/// Requests in flight while many keys are created.
const IN_FLIGHT: usize = 16;
/// The time limit of each wait.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.install_crds(&custom_resource_definitions()).await.unwrap();
    let stage = Stage::set(plane).await;
    let (floor_ready, floor_gone) = (stage.floor_of_many().await, stage.floor_of_one().await);
    let _operator = tokio::spawn(stage.operator(plane).run(future::pending()));
    stage.ready(vec![stage.create("warm-up").await]).await;

    let began = Instant::now();
    let names = stream::iter(0..MANY)
        .map(|number| async move { stage.create(&format!("key-{number}")).await })
        .buffer_unordered(IN_FLIGHT);
    let names: Vec<_> = names.collect().await;
    stage.ready(names).await;
    let ready = began.elapsed();

    let mut gone = Vec::new();
    for number in 0..ONE_BY_ONE {
        let began = Instant::now();
        stage.delete(&format!("key-{number}")).await;
        gone.push(began.elapsed());
    }
    gone.sort_unstable();
    show(&format!("create → Ready, {MANY} ServiceKeys at once"), ready, floor_ready);
    show(&format!("delete → gone, median of {ONE_BY_ONE}"), gone[ONE_BY_ONE / 2], floor_gone);
}

fn show(what: &str, time: Duration, floor: Duration) {
    let ratio = time.as_secs_f64() / floor.as_secs_f64();
    println!("{what}: {time:.2?}, {ratio:.1} times the floor of {floor:.2?}");
}

/// A namespace, a Cloud Foundry, and a KeyProvider for it.
struct Stage {
    client: Client,
    namespace: String,
    foundry: FakeCloudFoundry,
}

impl Stage {
    async fn set(plane: &ControlPlane) -> &'static Self {
        let namespace = plane.namespace("bench").await.unwrap();
        let foundry = FakeCloudFoundry::builder().start().await.unwrap();
        let stage = Box::leak(Box::new(Self { client: plane.admin(), namespace, foundry }));
        let login = json!({
            "metadata": {"name": "cf-login"},
            "stringData": {"username": "alice", "password": "cf-password"},
        });
        stage.post::<Secret>(login).await;
        let provider = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "KeyProvider",
            "metadata": {"name": "foundry"},
            "spec": {
                "cloudFoundry": {
                    "apiUrl": stage.foundry.url(),
                    "auth": {"password": {"secretRef": {"name": "cf-login"}}},
                    "organization": "acme",
                    "space": "dev",
                },
                "limits": {"requestsPerSecond": 1000},
            },
        });
        stage.post::<KeyProvider>(provider).await;
        stage
    }

    fn operator(&self, plane: &ControlPlane) -> Operator {
        let options = Options {
            cluster_resource_namespace: self.namespace.clone(),
            namespaces: Some([self.namespace.clone()].into()),
            concurrency: 32,
            check_interval: Duration::from_secs(600),
            service_account_token: std::path::PathBuf::new(),
            ibm_cloud_settling: servicekey_operator::testing::IbmCloudConfig::SETTLING,
            addresses: AddressPolicy::admitting(["127.0.0.0/8".parse().unwrap()]),
            secrets: Restrictions::default(),
            verify_networks: Vec::new(),
        };
        Operator::new(plane.admin(), options)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn post<K>(&self, manifest: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + serde::de::DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(manifest).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    async fn create(&self, name: &str) -> String {
        let manifest = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {"name": name},
            "spec": {"providerRef": {"name": "foundry"}, "instance": {"name": "training-app-db"}},
        });
        self.post::<ServiceKey>(manifest).await.name_any()
    }

    /// Waits until all of these are ready.
    async fn ready(&self, names: Vec<String>) {
        let mut missing: std::collections::BTreeSet<_> = names.into_iter().collect();
        let keys = watcher(self.api::<ServiceKey>(), watcher::Config::default()).applied_objects();
        let mut keys = std::pin::pin!(keys);
        let all = tokio::time::timeout(PATIENCE, async {
            while !missing.is_empty() {
                let key = keys.try_next().await.unwrap().unwrap();
                let conditions = key.status.iter().flat_map(|status| &status.conditions);
                if conditions.clone().any(|it| it.type_ == "Ready" && it.status == "True") {
                    missing.remove(&key.name_any());
                }
            }
        });
        all.await.unwrap();
    }

    async fn delete(&self, name: &str) {
        self.api::<ServiceKey>().delete(name, &DeleteParams::default()).await.unwrap();
        let mut changes = std::pin::pin!(watcher::watch_object(self.api::<ServiceKey>(), name));
        let gone = tokio::time::timeout(PATIENCE, async {
            while changes.try_next().await.unwrap().unwrap().is_some() {}
        });
        gone.await.unwrap();
    }

    /// The time that the API server alone needs for many keys: the object and three writes for each.
    async fn floor_of_many(&'static self) -> Duration {
        let began = Instant::now();
        let writes = stream::iter(0..MANY).map(|number| async move {
            let name = format!("floor-{number}");
            self.create(&name).await;
            for write in 0..2 {
                self.annotate(&name, write).await;
            }
            self.api::<Secret>().create(&PostParams::default(), &secret(&name)).await.unwrap();
        });
        writes.buffer_unordered(IN_FLIGHT).for_each(|()| future::ready(())).await;
        let floor = began.elapsed();
        for number in 0..MANY {
            let name = format!("floor-{number}");
            self.api::<ServiceKey>().delete(&name, &DeleteParams::default()).await.unwrap();
            self.api::<Secret>().delete(&name, &DeleteParams::default()).await.unwrap();
        }
        floor
    }

    /// The time that the API server alone needs for the deletion of one key: three writes.
    async fn floor_of_one(&self) -> Duration {
        let mut times = Vec::new();
        for number in 0..ONE_BY_ONE {
            let name = self.create(&format!("floor-one-{number}")).await;
            self.api::<Secret>().create(&PostParams::default(), &secret(&name)).await.unwrap();
            let began = Instant::now();
            self.api::<Secret>().delete(&name, &DeleteParams::default()).await.unwrap();
            self.annotate(&name, 0).await;
            self.delete(&name).await;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        times[ONE_BY_ONE / 2]
    }

    async fn annotate(&self, name: &str, write: usize) {
        let patch =
            Patch::Merge(json!({"metadata": {"annotations": {"example.com/write": write.to_string()}}}));
        self.api::<ServiceKey>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

fn secret(name: &str) -> Secret {
    let entries = BTreeMap::from([("password".to_owned(), "floor".to_owned())]);
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    Secret { metadata, string_data: Some(entries), ..Secret::default() }
}
