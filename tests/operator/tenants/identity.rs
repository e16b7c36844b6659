//! A remote key is read, revoked and released only for the ServiceKey whose mark it bears.

use serde_json::json;
use testkit::broker::FakeBroker;

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenants, instance_of_broker},
};

pub const ABUSES: &[Abuse] = &[abuse!(
    another_tenants_secret_is_out_of_reach,
    Actor::Outsider,
    "creates a ServiceKey that names a ClusterKeyProvider which does not admit its namespace",
    "no key is created; the condition says `ProviderNotAllowed`",
)];

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_secret_is_out_of_reach() {
    let tenants = Tenants::meet(Actor::Outsider).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    let provider = tenants.add_cluster_broker(&broker).await;
    tenants.victim.ask_cluster_provider(&provider, "creds", instance_of_broker(), json!({})).await;
    tenants.victim.wait_ready("creds").await;
    tenants.attacker.ask_cluster_provider(&provider, "creds", instance_of_broker(), json!({})).await;
    tenants.attacker.wait_key("creds", false, servicekey_operator::api::Reason::ProviderNotAllowed).await;
    assert_eq!(broker.bindings().len(), 1);
}
