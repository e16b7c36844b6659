//! The setup in which all cases run at the same time: one namespace, one operator, and for each case a provider and a
//! broker of its own.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use servicekey_operator::{
    api::{KeyProvider, ServiceKey, custom_resource_definitions},
    testing::{AddressRules, Network, Operator, Options, Restrictions},
};
use testkit::control_plane::ControlPlane;
use tokio::task::AbortHandle;

use crate::witness::Witness;

/// The operator's timeout of one request. Its last revocation after an unanswered bind comes after this time.
const TIMEOUT: &str = "5s";

pub struct Stage {
    client: Client,
    namespace: String,
    pub keys: Witness<ServiceKey>,
    providers: Witness<KeyProvider>,
    operator: AbortHandle,
    // The last field to drop: all others use it.
    _plane: ControlPlane,
}

impl Stage {
    pub async fn set() -> Self {
        let plane = ControlPlane::builder().start().await.unwrap();
        plane.install_crds(&custom_resource_definitions()).await.unwrap();
        let (client, namespace) = (plane.admin(), plane.namespace("conformance").await.unwrap());
        let options = Options {
            cluster_resource_namespace: namespace.clone(),
            namespaces: Some([namespace.clone()].into()),
            concurrency: 64,
            check_interval: std::time::Duration::from_secs(600),
            addresses: AddressRules { allow: loopback(), disclose: loopback(), ..AddressRules::default() }
                .into(),
            service_account_token: PathBuf::new(),
            ibm_cloud_settling: servicekey_operator::testing::IbmCloudConfig::SETTLING,
            secrets: Restrictions::default(),
            verify_networks: Vec::new(),
        };
        let operator = Operator::new(plane.admin(), options).run(std::future::pending());
        Self {
            keys: Witness::of(Api::namespaced(client.clone(), &namespace)),
            providers: Witness::of(Api::namespaced(client.clone(), &namespace)),
            operator: tokio::spawn(operator).abort_handle(),
            client,
            namespace,
            _plane: plane,
        }
    }

    pub fn key_api(&self) -> Api<ServiceKey> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn secret_api(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a provider for the broker at this address, and waits until it is ready.
    pub async fn create_provider(&self, name: &str, url: &str) {
        let provider = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "KeyProvider",
            "metadata": {"name": name},
            "spec": {"openServiceBroker": {"url": url}, "limits": {"timeout": TIMEOUT}},
        });
        let api: Api<KeyProvider> = Api::namespaced(self.client.clone(), &self.namespace);
        let provider = serde_json::from_value(provider).unwrap();
        api.create(&PostParams::default(), &provider).await.unwrap();
        let ready = |provider: &KeyProvider| {
            let conditions = provider.status.iter().flat_map(|status| &status.conditions);
            conditions.clone().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        self.providers.wait(name, "ready", |history| history.versions.iter().any(ready)).await;
    }

    /// Creates a ServiceKey of this provider, by the same name.
    pub async fn create_key(&self, name: &str, instance: &str, offering: &str, plan: &str) {
        let key = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {"name": name},
            "spec": {
                "providerRef": {"name": name},
                "instance": {"id": instance, "offering": offering, "plan": plan},
                // A replaced key is revoked at once.
                "rotation": {"overlap": "0s"},
            },
        });
        let key = serde_json::from_value(key).unwrap();
        self.key_api().create(&PostParams::default(), &key).await.unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.operator.abort();
    }
}

/// The network of the broker.
fn loopback() -> Vec<Network> {
    vec!["127.0.0.0/8".parse().unwrap()]
}
