//! A cluster of its own, with an operator that serves all of it and frequently checks its one ClusterKeyProvider,
//! `remote`.

use std::{path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{ClusterKeyProvider, Orphans, Reason, ServiceKey, custom_resource_definitions},
    testing::{AddressPolicy, Options, Restrictions},
};
use testkit::control_plane::{ControlPlane, User};

use crate::support::{
    conditions::{wait_event, wait_for},
    rights,
    stage::{Running, run_operator, wait},
};

pub const PROVIDER: &str = "remote";
/// The Secret with the provider's login.
pub const LOGIN: &str = "login";

/// A cluster, and a namespace whose keys use the provider.
pub struct Cluster {
    /// `None` while no operator runs.
    operator: Option<Running>,
    user: User,
    options: Options,
    client: Client,
    tenant: String,
    plane: ControlPlane,
}

impl Cluster {
    /// Starts with this remote side in the provider's spec, and these entries in the Secret with its login.
    pub async fn start(remote: Value, login: Value) -> Self {
        let plane = ControlPlane::builder().start().await.unwrap();
        plane.install_crds(&custom_resource_definitions()).await.unwrap();
        let (system, tenant) =
            (plane.namespace("system").await.unwrap(), plane.namespace("tenant").await.unwrap());
        let user = rights::to_serve_cluster(&plane, &system).await;
        let options = Options {
            cluster_resource_namespace: system.clone(),
            namespaces: None,
            concurrency: 32,
            check_interval: Duration::from_millis(200),
            addresses: AddressPolicy::admitting(["127.0.0.0/8".parse().unwrap()]),
            service_account_token: PathBuf::new(),
            ibm_cloud_settling: crate::support::ibm::SETTLING,
            secrets: Restrictions::default(),
            verify_networks: Vec::new(),
        };
        let mut cluster = Self { operator: None, user, options, client: plane.admin(), tenant, plane };
        cluster.start_operator();
        let login = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": LOGIN},
            "stringData": login,
        });
        let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &system);
        secrets.create(&PostParams::default(), &serde_json::from_value(login).unwrap()).await.unwrap();
        let mut provider = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ClusterKeyProvider",
            "metadata": {"name": PROVIDER},
            "spec": {
                "limits": {"timeout": "5s", "requestsPerSecond": 1000},
                "allowedNamespaces": {},
                "rules": [{"adoption": "Allow"}],
            },
        });
        provider["spec"].as_object_mut().unwrap().extend(remote.as_object().unwrap().clone());
        let provider = serde_json::from_value(provider).unwrap();
        cluster.providers().create(&PostParams::default(), &provider).await.unwrap();
        cluster
    }

    fn start_operator(&mut self) {
        self.operator = Some(run_operator(&self.plane, self.user.clone(), self.options.clone()));
    }

    pub fn metrics(&self) -> String {
        self.operator.as_ref().unwrap().metrics.text()
    }

    fn providers(&self) -> Api<ClusterKeyProvider> {
        Api::all(self.client.clone())
    }

    pub fn keys(&self) -> Api<ServiceKey> {
        Api::namespaced(self.client.clone(), &self.tenant)
    }

    /// Creates a ServiceKey for this instance, with further fields in its spec.
    pub async fn ask_for(&self, name: &str, instance: &str, fields: Value) {
        let mut manifest = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {"name": name},
            "spec": {
                "providerRef": {"kind": "ClusterKeyProvider", "name": PROVIDER},
                "instance": {"name": instance},
                "keyName": name,
            },
        });
        manifest["spec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let key = serde_json::from_value(manifest).unwrap();
        self.keys().create(&PostParams::default(), &key).await.unwrap();
    }

    pub async fn wait_ready(&self, name: &str) -> ServiceKey {
        wait_for(self.keys(), name, true, Reason::Available).await
    }

    pub async fn wait_key(&self, name: &str, reason: Reason) -> ServiceKey {
        wait_for(self.keys(), name, false, reason).await
    }

    /// Deletes a ServiceKey while the operator runs.
    pub async fn delete(&self, name: &str) {
        self.keys().delete(name, &DeleteParams::default()).await.unwrap();
        wait(self.keys(), name, "gone", |key| key.is_none()).await;
    }

    /// Deletes a ServiceKey while no operator runs, by removing its finalizer.
    pub async fn delete_by_force(&mut self, name: &str) {
        self.operator = None;
        let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        self.keys().patch(name, &PatchParams::default(), &bare).await.unwrap();
        self.delete(name).await;
        self.start_operator();
    }

    /// Changes only the metadata of the login's Secret.
    pub async fn touch_login(&self) {
        let secrets: Api<Secret> =
            Api::namespaced(self.client.clone(), &self.options.cluster_resource_namespace);
        let touched = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
        secrets.patch(LOGIN, &PatchParams::default(), &touched).await.unwrap();
    }

    pub async fn wait_for_orphans(&self, orphans: Option<Orphans>) {
        let shown = |provider: &ClusterKeyProvider| provider.status.clone().unwrap_or_default().orphans;
        let holds = |provider: Option<&ClusterKeyProvider>| provider.is_some_and(|it| shown(it) == orphans);
        wait(self.providers(), PROVIDER, "with these orphans", holds).await;
    }

    /// Waits for an Event with this reason about the provider, and returns its note.
    pub async fn wait_event(&self, reason: &str) -> String {
        wait_event(Api::namespaced(self.client.clone(), "default"), PROVIDER, reason).await
    }
}

pub fn orphans_named(names: &[&str]) -> Option<Orphans> {
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Some(Orphans { count: u32::try_from(names.len()).unwrap(), names })
}
