//! Users may change the deletion policy of a ServiceKey until it is gone, with every kind of remote side.

use kube::api::ObjectMeta;
use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::{cloud_foundry::FakeCloudFoundry, ibm_cloud::FakeIbmCloud};

use crate::support::{
    foundry::{by_password, key_of_foundry, password},
    ibm::{by_api_key, key_of_ibm},
    stage::{Running, Stage},
};

const NAME: &str = "monitoring-creds";

#[derive(Clone, Copy, Debug)]
enum Side {
    Broker,
    Foundry,
    Ibm,
}

/// A ServiceKey that was deleted while no operator was running and its provider was missing.
struct Deletion {
    stage: Stage,
    foundry: FakeCloudFoundry,
    ibm: FakeIbmCloud,
    provider: KeyProvider,
}

impl Deletion {
    async fn begin(side: Side, policy: &str) -> Self {
        let stage = Stage::set().await;
        let foundry = FakeCloudFoundry::builder().start().await.unwrap();
        let ibm = FakeIbmCloud::builder().start().await.unwrap();
        let (provider, mut manifest) = match side {
            Side::Broker => ("broker", stage.key_manifest(NAME)),
            Side::Foundry => {
                stage.add_foundry(&foundry, password(), by_password()).await;
                ("foundry", key_of_foundry(NAME))
            }
            Side::Ibm => {
                stage.add_ibm(&ibm, by_api_key()).await;
                ("ibm", key_of_ibm(NAME))
            }
        };
        manifest["spec"]["deletionPolicy"] = json!(policy);
        let operator = stage.start_operator().await;
        stage.create::<ServiceKey>(manifest).await;
        stage.wait_ready(NAME).await;
        drop(operator);
        let provider = stage.api::<KeyProvider>().get(provider).await.unwrap();
        let deletion = Self { stage, foundry, ibm, provider };
        assert_eq!(deletion.remote_keys(), 1);
        let name = deletion.provider.metadata.name.as_deref().unwrap();
        deletion.stage.delete_by_force(deletion.stage.api::<KeyProvider>(), name).await;
        deletion.stage.delete_key(NAME).await;
        deletion
    }

    async fn start_operator(&self) -> Running {
        self.stage.start_operator().await
    }

    async fn waits(&self) {
        self.stage.wait_key(NAME, Reason::ProviderNotFound).await;
    }

    async fn switch_to(&self, policy: &str) {
        self.stage.change_key(NAME, json!({ "deletionPolicy": policy })).await;
    }

    async fn restore_provider(&self) {
        let name = self.provider.metadata.name.clone();
        let metadata = ObjectMeta { name, ..ObjectMeta::default() };
        let provider = KeyProvider { metadata, status: None, ..self.provider.clone() };
        let manifest: Value = serde_json::to_value(provider).unwrap();
        self.stage.create::<KeyProvider>(manifest).await;
    }

    fn remote_keys(&self) -> usize {
        self.stage.broker.bindings().len() + self.foundry.keys().len() + self.ibm.live_keys().len()
    }

    /// Waits until the ServiceKey is gone, and fails unless its Secret is gone too and this many keys are left.
    async fn ends_with(&self, keys: usize) {
        self.stage.wait_gone(NAME).await;
        assert_eq!(self.remote_keys(), keys);
        assert!(self.stage.secrets().get_opt(NAME).await.unwrap().is_none());
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_to_stay_after_all_stays(#[values(Side::Broker, Side::Foundry, Side::Ibm)] side: Side) {
    let deletion = Deletion::begin(side, "Delete").await;
    let _operator = deletion.start_operator().await;
    deletion.waits().await;
    deletion.switch_to("Retain").await;
    deletion.ends_with(1).await;
    deletion.stage.wait_event(NAME, "KeysLeftBehind").await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_to_go_after_all_is_revoked(
    #[values(Side::Broker, Side::Foundry, Side::Ibm)] side: Side,
) {
    let deletion = Deletion::begin(side, "Retain").await;
    deletion.switch_to("Delete").await;
    let _operator = deletion.start_operator().await;
    deletion.waits().await;
    assert_eq!(deletion.remote_keys(), 1);
    deletion.restore_provider().await;
    deletion.ends_with(0).await;
}
