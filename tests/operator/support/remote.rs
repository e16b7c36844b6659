//! One stage for each kind of remote side, behind one interface: for tests that hold at all of them.

use std::ops::Deref;

use serde_json::{Map, Value};
use servicekey_operator::api::ServiceKey;
use testkit::{
    Gate, Moment,
    broker::{self, CredentialsRecipe, FakeBroker},
    cloud_foundry::{self, FakeCloudFoundry, Pace},
    ibm_cloud::{self, FakeIbmCloud},
};

use crate::support::{evidence::requested_bindings, foundry::FoundryStage, ibm::IbmStage, stage::Stage};

/// A kind of remote side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    Broker,
    CloudFoundry,
    /// A Cloud Foundry whose broker creates and deletes keys in the background, and reports the end at the second poll.
    CloudFoundryJobs,
    IbmCloud,
}

/// A call by which the operator creates, reads or deletes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteCall {
    /// Looks for a key of the same identity before it creates one. A broker has no such call.
    Find,
    Create,
    /// Reads the credentials.
    Read,
    Revoke,
}

/// A key, as the remote side has it.
#[derive(Debug)]
pub struct RemoteKey {
    pub id: String,
    /// 1 for the first key that this remote side ever created, 2 for the next one.
    pub number: u64,
    pub credentials: Map<String, Value>,
}

/// A stage with one remote side, and a ready-made ServiceKey for it.
pub enum RemoteStage {
    Broker(Stage),
    CloudFoundry(FoundryStage),
    IbmCloud(IbmStage),
}

impl Deref for RemoteStage {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        match self {
            Self::Broker(stage) => stage,
            Self::CloudFoundry(stage) => stage,
            Self::IbmCloud(stage) => stage,
        }
    }
}

impl RemoteStage {
    pub async fn set(remote: Remote) -> Self {
        Self::set_with(remote, CredentialsRecipe::default()).await
    }

    /// A remote side whose keys have these credentials.
    pub async fn set_with(remote: Remote, credentials: CredentialsRecipe) -> Self {
        match remote {
            Remote::Broker => {
                let broker = FakeBroker::builder().credentials(credentials).start().await.unwrap();
                Self::Broker(Stage::set_with(broker).await)
            }
            Remote::CloudFoundry => {
                let foundry = FakeCloudFoundry::builder().credentials(credentials).start().await.unwrap();
                Self::CloudFoundry(FoundryStage::set_with(foundry).await)
            }
            Remote::CloudFoundryJobs => {
                let foundry = FakeCloudFoundry::builder().credentials(credentials).pace(Pace::looks(2));
                Self::CloudFoundry(FoundryStage::set_with(foundry.start().await.unwrap()).await)
            }
            Remote::IbmCloud => {
                let ibm = FakeIbmCloud::builder().credentials(credentials).start().await.unwrap();
                Self::IbmCloud(IbmStage::set_with(ibm).await)
            }
        }
    }

    /// Waits until the provider is ready. The check of an IBM Cloud also lists all keys, as a search for one key does, so
    /// that list has to be over.
    pub async fn wait_for_its_provider(&self) {
        match self {
            Self::Broker(stage) => stage.wait_for_provider("broker").await,
            Self::CloudFoundry(stage) => stage.wait_for_provider("foundry").await,
            Self::IbmCloud(stage) => {
                use ibm_cloud::{Call, Route};
                stage.wait_for_provider("ibm").await;
                let is_listed = |call: &Call| call.route == Route::Keys && call.status.is_some();
                stage.ibm.wait_for_calls(|calls| calls.iter().any(is_listed)).await.unwrap();
            }
        }
    }

    pub fn manifest(&self, name: &str) -> Value {
        match self {
            Self::Broker(stage) => stage.key_manifest(name),
            Self::CloudFoundry(stage) => stage.manifest(name),
            Self::IbmCloud(stage) => stage.manifest(name),
        }
    }

    /// Creates a ServiceKey with this `spec.rotation`.
    pub async fn create_with_rotation(&self, name: &str, rotation: Value) -> ServiceKey {
        let mut manifest = self.manifest(name);
        manifest["spec"]["rotation"] = rotation;
        self.create(manifest).await
    }

    /// Holds these calls.
    pub fn gate(&self, call: RemoteCall, moment: Moment) -> Gate {
        match self {
            Self::Broker(stage) => {
                use broker::Route;
                let route = match call {
                    RemoteCall::Find => panic!("a broker has no call that finds a key"),
                    RemoteCall::Create => Route::Bind,
                    RemoteCall::Read => Route::Fetch,
                    RemoteCall::Revoke => Route::Unbind,
                };
                stage.broker.gate(route, moment)
            }
            Self::CloudFoundry(stage) => {
                use cloud_foundry::Route;
                let route = match call {
                    RemoteCall::Find => Route::Keys,
                    RemoteCall::Create => Route::Create,
                    RemoteCall::Read => Route::Details,
                    RemoteCall::Revoke => Route::Delete,
                };
                stage.foundry.gate(route, moment)
            }
            Self::IbmCloud(stage) => {
                use ibm_cloud::Route;
                let route = match call {
                    RemoteCall::Find => Route::Keys,
                    RemoteCall::Create => Route::CreateKey,
                    RemoteCall::Read => Route::Key,
                    RemoteCall::Revoke => Route::DeleteKey,
                };
                stage.ibm.gate(route, moment)
            }
        }
    }

    /// The keys that the remote side has, oldest first.
    pub fn remote_keys(&self) -> Vec<RemoteKey> {
        match self {
            Self::Broker(stage) => {
                let keys = stage.broker.bindings().into_iter();
                keys.map(|key| RemoteKey {
                    id: key.id.to_string(),
                    number: key.number,
                    credentials: key.credentials,
                })
                .collect()
            }
            Self::CloudFoundry(stage) => {
                let keys = stage.foundry.keys().into_iter();
                keys.map(|key| RemoteKey {
                    id: key.guid,
                    number: key.number,
                    credentials: key.credentials.unwrap_or_default(),
                })
                .collect()
            }
            Self::IbmCloud(stage) => {
                let keys = stage.ibm.live_keys().into_iter();
                keys.map(|key| RemoteKey { id: key.guid, number: key.number, credentials: key.credentials })
                    .collect()
            }
        }
    }

    /// Fails unless the remote side has exactly this one key, counted from the first it ever created, the status names
    /// it, and the Secret contains its credentials.
    pub async fn assert_only_key(&self, service_key: &ServiceKey, number: u64) {
        let keys = self.remote_keys();
        let [key] = keys.as_slice() else { panic!("expected exactly one key: {keys:#?}") };
        assert_eq!(key.number, number, "the remote side created another number of keys");
        if let (Self::Broker(stage), 1) = (self, number) {
            let requested = requested_bindings(&stage.broker);
            assert!(requested.iter().eq([&key.id]), "other bindings were requested: {requested:?}");
        }
        let name = service_key.metadata.name.as_deref().unwrap();
        assert_eq!(service_key.status.as_ref().unwrap().key.as_ref().unwrap().id, key.id);
        self.assert_secret_holds(name, &key.credentials, key).await;
    }

    /// Waits until the ServiceKey is gone, and fails unless its keys and its Secret are gone too.
    pub async fn assert_nothing_left(&self, name: &str) {
        self.wait_gone(name).await;
        let keys = self.remote_keys();
        assert!(keys.is_empty(), "keys are left: {keys:#?}");
        assert!(self.secrets().get_opt(name).await.unwrap().is_none(), "the Secret is left");
        if let Self::Broker(stage) = self {
            let requested = requested_bindings(&stage.broker);
            assert!(requested.len() <= 1, "several bindings were requested: {requested:?}");
        }
    }
}
