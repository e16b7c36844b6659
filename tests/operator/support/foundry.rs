//! A stage with a Cloud Foundry, and the KeyProvider `foundry` with its login.

use std::ops::Deref;

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use servicekey_operator::{
    api::{KeyProvider, Reason, ServiceKey},
    testing::{Identity, Sequence},
};
use testkit::cloud_foundry::{FakeCloudFoundry, Key, Route};

use crate::support::{conditions::wait_for, stage::Stage};

/// The name of the key and of its ServiceKey.
pub const KEY: &str = "monitoring-creds";
pub const INSTANCE: &str = "training-app-db";
pub const PASSWORD: &str = "cf-password";

/// A stage with a Cloud Foundry; its broker is not used.
pub struct FoundryStage {
    stage: Stage,
    pub foundry: FakeCloudFoundry,
}

impl Deref for FoundryStage {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

impl FoundryStage {
    pub async fn set() -> Self {
        Self::set_with(FakeCloudFoundry::builder().start().await.unwrap()).await
    }

    pub async fn set_with(foundry: FakeCloudFoundry) -> Self {
        Self::logged_in_by(foundry, password(), by_password()).await
    }

    /// Logs in with these entries in the login Secret, and this `auth` in the provider.
    pub async fn logged_in_by(foundry: FakeCloudFoundry, entries: Value, auth: Value) -> Self {
        let stage = Stage::set().await;
        stage.add_foundry(&foundry, entries, auth).await;
        Self { stage, foundry }
    }

    /// A ServiceKey for the tutorial's instance; the key has the ServiceKey's own name.
    pub fn manifest(&self, name: &str) -> Value {
        key_of_foundry(name)
    }

    pub async fn create_key(&self, name: &str) -> ServiceKey {
        self.create(self.manifest(name)).await
    }

    /// Creates a ServiceKey for another instance.
    pub async fn create_key_of(&self, name: &str, instance: Value) -> ServiceKey {
        let mut manifest = self.manifest(name);
        manifest["spec"]["instance"] = instance;
        self.create(manifest).await
    }

    pub async fn wait_foundry(&self, reason: Reason) -> KeyProvider {
        wait_for(self.api::<KeyProvider>(), "foundry", false, reason).await
    }

    /// Fails unless the Secret contains the key's credentials and the status names the key.
    pub async fn assert_holds(&self, service_key: &ServiceKey, key: &Key) {
        let name = service_key.metadata.name.as_deref().unwrap();
        let status = service_key.status.as_ref().unwrap();
        assert_eq!(status.key.as_ref().unwrap().id, key.guid);
        self.assert_secret_holds(name, key.credentials.as_ref().unwrap(), key).await;
    }

    /// Waits until the ServiceKey is ready, and fails unless exactly one key exists and belongs to it.
    pub async fn wait_ready_with_the_one_key(&self, name: &str) -> ServiceKey {
        let ready = self.wait_ready_with_id(name).await;
        let keys = self.foundry.keys();
        let [key] = keys.as_slice() else { panic!("expected exactly one key: {keys:#?}") };
        assert!(key.is_live(), "{key:#?}");
        self.assert_holds(&ready, key).await;
        ready
    }

    /// Deletes the ServiceKey, and fails unless all its keys are deleted.
    pub async fn delete_and_leave_no_key(&self, name: &str) {
        self.delete_key(name).await;
        self.wait_gone(name).await;
        assert_eq!(self.foundry.keys(), []);
        assert!(self.secrets().get_opt(name).await.unwrap().is_none());
    }

    /// The number of calls of all these routes.
    pub fn count(&self, routes: &[Route]) -> usize {
        routes.iter().map(|route| self.foundry.count(*route)).sum()
    }
}

impl Stage {
    /// Creates the KeyProvider `foundry` with this `auth`, and its login Secret with these entries.
    pub async fn add_foundry(&self, foundry: &FakeCloudFoundry, entries: Value, auth: Value) {
        let login = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "cf-login"},
            "stringData": entries,
        });
        self.create::<Secret>(login).await;
        let provider = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "KeyProvider",
            "metadata": {"name": "foundry"},
            "spec": {
                "cloudFoundry": {
                    "apiUrl": foundry.url(),
                    "auth": auth,
                    "organization": "acme",
                    "space": "dev",
                },
                "limits": {"timeout": "5s", "requestsPerSecond": 1000},
            },
        });
        self.create::<KeyProvider>(provider).await;
    }
}

/// The name of a later key of a ServiceKey whose first key has this name.
pub fn later_name(key: &ServiceKey, name: &str, sequence: u32) -> String {
    let owner = key.metadata.uid.as_ref().unwrap().parse().unwrap();
    Identity { owner, sequence: Sequence::new(sequence).unwrap() }.key_name(Some(name), "", "")
}

/// A ServiceKey for the tutorial's instance; the key has the ServiceKey's own name.
pub fn key_of_foundry(name: &str) -> Value {
    json!({
        "apiVersion": "servicekeys.dev/v1alpha1",
        "kind": "ServiceKey",
        "metadata": {"name": name},
        "spec": {"providerRef": {"name": "foundry"}, "instance": {"name": INSTANCE}, "keyName": name},
    })
}

/// The entries of the login Secret for [`by_password`].
pub fn password() -> Value {
    json!({"username": "alice", "password": PASSWORD})
}

pub fn by_password() -> Value {
    json!({"password": {"secretRef": {"name": "cf-login"}}})
}
