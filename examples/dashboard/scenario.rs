//! The events of the picture: the operator creates, rotates and revokes keys, the broker refuses some of them, and a
//! provider is unreachable.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{KeyProvider, ServiceKey, custom_resource_definitions},
    testing::{
        AddressPolicy, Health, HealthThresholds, HttpServer, Metrics, Operator, Options, Restrictions, client,
    },
};
use testkit::{
    broker::{FakeBroker, Fault, Login, Route, StatusCode},
    control_plane::ControlPlane,
};
use tokio::{task::AbortHandle, time::sleep};

const NAMESPACE: &str = "training";
const SECOND: Duration = Duration::from_secs(1);
/// The number of keys that the operator creates, one a second.
const KEYS: u32 = 24;

/// A control plane, a broker and the operator. Dropping the stage stops them.
pub struct Stage {
    operator: AbortHandle,
    server: HttpServer,
    client: Client,
    broker: FakeBroker,
    _plane: ControlPlane,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.operator.abort();
    }
}

impl Stage {
    /// # Errors
    /// If one of them can't be started.
    pub async fn set() -> anyhow::Result<Self> {
        let plane = ControlPlane::builder().start().await?;
        plane.install_crds(&custom_resource_definitions()).await?;
        let broker = FakeBroker::builder().login(Login::None).start().await?;
        let metrics = Metrics::default();
        metrics.set_leader(true);
        let options = Options {
            cluster_resource_namespace: NAMESPACE.to_owned(),
            namespaces: None,
            concurrency: 32,
            check_interval: 5 * SECOND,
            addresses: AddressPolicy::admitting(["127.0.0.0/8".parse()?]),
            service_account_token: PathBuf::new(),
            ibm_cloud_settling: servicekey_operator::testing::IbmCloudConfig::SETTLING,
            secrets: Restrictions::default(),
        };
        let client = client(plane.config_as(plane.admin_user()), &metrics)?;
        let operator = Operator::new(client, options).with_metrics(metrics.clone());
        let operator = tokio::spawn(operator.run(std::future::pending())).abort_handle();
        let health = Health::new(&metrics, HealthThresholds::default());
        let server = HttpServer::start(([127, 0, 0, 1], 0).into(), metrics, health)?;
        Ok(Self { operator, server, client: plane.admin(), broker, _plane: plane })
    }

    /// The address at which the operator serves its metrics.
    pub fn metrics_address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Plays all events.
    ///
    /// # Errors
    /// If the API server refuses a request.
    pub async fn play(&self) -> anyhow::Result<()> {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await?;
        sleep(5 * SECOND).await;
        self.create_provider("brokers", &self.broker.url()).await?;
        for number in 1..=KEYS {
            self.disturb(number);
            self.create_key("brokers", number).await?;
            sleep(SECOND).await;
        }
        self.create_provider("away", "http://127.0.0.1:1").await?;
        self.create_key("away", KEYS + 1).await?;
        sleep(5 * SECOND).await;
        self.rotate_all().await?;
        sleep(15 * SECOND).await;
        for number in 1..=KEYS / 2 {
            let name = name(number);
            self.keys().delete(&name, &DeleteParams::default()).await.context("can't delete a ServiceKey")?;
            sleep(SECOND).await;
        }
        sleep(15 * SECOND).await;
        // The scenario causes these violations on purpose.
        drop(self.broker.take_violations());
        Ok(())
    }

    /// Injects a fault into the broker before some of the keys.
    fn disturb(&self, number: u32) {
        let fault = |status, words: &str| Fault::Status(status, json!({"description": words}));
        match number {
            6 | 7 => {
                self.broker.inject(fault(StatusCode::BAD_REQUEST, "the quota is used up").on(Route::Bind))
            }
            11 => self.broker.inject(fault(StatusCode::SERVICE_UNAVAILABLE, "in trouble").on(Route::Bind)),
            15 => {
                let too_many = fault(StatusCode::TOO_MANY_REQUESTS, "slow down").on(Route::Bind);
                self.broker.inject(too_many.retry_after(6));
            }
            20 => self.broker.inject(Fault::Delay(2 * SECOND).on(Route::Bind)),
            _ => {}
        }
    }

    fn keys(&self) -> Api<ServiceKey> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn create_provider(&self, name: &str, url: &str) -> anyhow::Result<()> {
        let provider = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "KeyProvider",
            "metadata": {"name": name},
            "spec": {"openServiceBroker": {"url": url}, "limits": {"timeout": "5s", "concurrency": 2}},
        });
        let provider: KeyProvider = serde_json::from_value(provider)?;
        Api::namespaced(self.client.clone(), NAMESPACE).create(&PostParams::default(), &provider).await?;
        Ok(())
    }

    async fn create_key(&self, provider: &str, number: u32) -> anyhow::Result<()> {
        let key = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {"name": name(number)},
            "spec": {
                "providerRef": {"name": provider},
                "instance": {"id": "training-app-db", "offering": "postgresql", "plan": "small"},
                "rotation": {"overlap": "0s"},
            },
        });
        let key: ServiceKey = serde_json::from_value(key)?;
        self.keys().create(&PostParams::default(), &key).await?;
        Ok(())
    }

    async fn rotate_all(&self) -> anyhow::Result<()> {
        let request: Value = json!({"metadata": {"annotations": {"servicekeys.dev/rotate": "now"}}});
        for key in self.keys().list(&kube::api::ListParams::default()).await? {
            let patch = Patch::Merge(&request);
            self.keys().patch(&key.name_any(), &PatchParams::default(), &patch).await?;
        }
        Ok(())
    }
}

fn name(number: u32) -> String {
    format!("key-{number}")
}
