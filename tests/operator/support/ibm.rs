//! A stage with an IBM Cloud, and the KeyProvider `ibm` with its login.

use std::{ops::Deref, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::ibm_cloud::{FakeIbmCloud, Key, Route};

use crate::support::{conditions::wait_for, stage::Stage};

pub const KEY: &str = "monitoring-creds";
pub const INSTANCE: &str = "training-app-db";
pub const API_KEY: &str = "ibm-api-key";
/// How long the operator under test assumes that IBM Cloud may not show a new key.
pub const SETTLING: Duration = Duration::from_secs(12);

/// A stage with an IBM Cloud; its broker is not used.
pub struct IbmStage {
    stage: Stage,
    pub ibm: FakeIbmCloud,
}

impl Deref for IbmStage {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

impl IbmStage {
    pub async fn set() -> Self {
        Self::set_with(FakeIbmCloud::builder().start().await.unwrap()).await
    }

    pub async fn set_with(ibm: FakeIbmCloud) -> Self {
        Self::logged_in_by(ibm, by_api_key()).await
    }

    /// Logs in with this `auth` in the provider.
    pub async fn logged_in_by(ibm: FakeIbmCloud, auth: Value) -> Self {
        let stage = Stage::set().await;
        stage.add_ibm(&ibm, auth).await;
        Self { stage, ibm }
    }

    /// A ServiceKey for the tutorial's instance.
    pub fn manifest(&self, name: &str) -> Value {
        key_of_ibm(name)
    }

    pub async fn create_key(&self, name: &str) -> ServiceKey {
        self.create(self.manifest(name)).await
    }

    /// Creates a ServiceKey with further fields in its spec.
    pub async fn create_key_with(&self, name: &str, fields: Value) -> ServiceKey {
        let mut manifest = self.manifest(name);
        manifest["spec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.create(manifest).await
    }

    pub async fn wait_ibm(&self, ready: bool, reason: Reason) -> KeyProvider {
        wait_for(self.api::<KeyProvider>(), "ibm", ready, reason).await
    }

    /// Fails unless the Secret contains the key's credentials and the status names the key.
    pub async fn assert_holds(&self, service_key: &ServiceKey, key: &Key) {
        let name = service_key.metadata.name.as_deref().unwrap();
        let told = service_key.status.as_ref().unwrap().key.as_ref().unwrap();
        assert_eq!((told.id.as_str(), told.name.as_deref()), (key.guid.as_str(), Some(key.name.as_str())));
        self.assert_secret_holds(name, &key.credentials, key).await;
    }

    /// Waits until the ServiceKey is ready, and fails unless exactly one key is alive and belongs to it.
    pub async fn wait_ready_with_the_one_key(&self, name: &str) -> ServiceKey {
        let ready = self.wait_ready_with_id(name).await;
        let keys = self.ibm.live_keys();
        let [key] = keys.as_slice() else { panic!("expected exactly one key: {keys:#?}") };
        self.assert_holds(&ready, key).await;
        ready
    }

    /// Deletes the ServiceKey, and fails unless all its keys are deleted.
    pub async fn delete_and_leave_no_key(&self, name: &str) {
        self.delete_key(name).await;
        self.wait_gone(name).await;
        assert_eq!(self.ibm.live_keys(), []);
        assert!(self.secrets().get_opt(name).await.unwrap().is_none());
    }

    /// The number of calls of all these routes.
    pub fn count(&self, routes: &[Route]) -> usize {
        routes.iter().map(|route| self.ibm.count(*route)).sum()
    }

    /// The routes that were called after this many calls.
    pub fn routes_since(&self, calls: usize) -> Vec<Route> {
        self.ibm.calls().split_off(calls).into_iter().map(|call| call.route).collect()
    }
}

impl Stage {
    /// Creates the KeyProvider `ibm` with this `auth`, and a login Secret with an API key.
    pub async fn add_ibm(&self, ibm: &FakeIbmCloud, auth: Value) {
        let login = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "ibm-login"},
            "stringData": {"apikey": API_KEY},
        });
        self.create::<Secret>(login).await;
        let provider = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "KeyProvider",
            "metadata": {"name": "ibm"},
            "spec": {
                "ibmCloud": {"auth": auth, "iamUrl": ibm.iam_url(), "resourceControllerUrl": ibm.url()},
                "limits": {"timeout": "5s", "requestsPerSecond": 1000},
            },
        });
        self.create::<KeyProvider>(provider).await;
    }
}

/// A ServiceKey for the tutorial's instance.
pub fn key_of_ibm(name: &str) -> Value {
    json!({
        "apiVersion": "servicekeys.dev/v1alpha1",
        "kind": "ServiceKey",
        "metadata": {"name": name},
        "spec": {"providerRef": {"name": "ibm"}, "instance": {"name": INSTANCE}, "keyName": name},
    })
}

pub fn by_api_key() -> Value {
    json!({"apiKey": {"secretRef": {"name": "ibm-login"}}})
}
