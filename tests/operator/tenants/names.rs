//! Names of keys, and what messages reveal about other tenants.

use serde_json::json;
use servicekey_operator::api::{Reason, ServiceKey};

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenants, instance_by_name},
    identity::{Scene, Side},
};
use crate::support::{conditions::Reports, stage::wait};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        the_name_of_the_next_key_can_not_be_taken,
        Actor::Editor,
        "takes the name `<keyName>-2` of another tenant's key at a Cloud Foundry, and the other tenant requests a \
         rotation",
        "the rotation succeeds: the next key has a name that follows from the ServiceKey's UID",
    ),
    abuse!(
        a_taken_name_tells_nothing_of_its_owner_at_a_cloud_foundry,
        Actor::Editor,
        "requests a key with the name of another tenant's key at a Cloud Foundry",
        "`KeyConflict`, whose message names neither the ServiceKey nor its namespace",
    ),
    abuse!(
        a_taken_name_tells_nothing_of_its_owner_at_ibm_cloud,
        Actor::Editor,
        "requests the adoption of another tenant's key at IBM Cloud",
        "it is refused, and the message contains neither the namespace nor the UID in the key's name",
    ),
];

/// The name of the victim's ServiceKey, which no other tenant may learn.
const PROJECT: &str = "merger-of-the-year";

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_the_next_key_can_not_be_taken() {
    let scene = Scene::set(Side::foundry().await, Actor::Editor).await;
    scene.attacker_has_a_key(json!({"keyName": "theirs-2"})).await;
    let victim = &scene.tenants.victim;
    let rotate = json!({"metadata": {"annotations": {"servicekeys.dev/rotate": "now"}}});
    victim.patch::<ServiceKey>("creds", rotate).await;
    let is_rotated = |key: Option<&ServiceKey>| {
        let key = key.and_then(|key| key.status.as_ref()?.key.as_ref());
        key.is_some_and(|key| key.sequence == 2)
    };
    let key = wait(victim.keys(), "creds", "rotated", is_rotated).await.unwrap();
    let name = key.status.unwrap().key.unwrap().name.unwrap();
    assert!(name.starts_with("theirs-2-"), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_tells_nothing_of_its_owner_at_a_cloud_foundry() {
    let scene = Scene::set(Side::foundry().await, Actor::Editor).await;
    let Scene { tenants, provider, .. } = &scene;
    let fields = json!({"keyName": "shared-name"});
    tenants.victim.ask_cluster_provider(provider, PROJECT, instance_by_name(), fields.clone()).await;
    tenants.victim.wait_ready(PROJECT).await;
    tenants.attacker.ask_cluster_provider(provider, "creds", instance_by_name(), fields).await;
    let refused = tenants.attacker.wait_key("creds", false, Reason::KeyConflict).await;
    refused.says("which belongs to a ServiceKey of another namespace or cluster");
    assert_tells_nothing(tenants, &refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_tells_nothing_of_its_owner_at_ibm_cloud() {
    let scene = Scene::set(Side::ibm().await, Actor::Editor).await;
    let Scene { tenants, provider, .. } = &scene;
    tenants.victim.ask_cluster_provider(provider, PROJECT, instance_by_name(), json!({})).await;
    tenants.victim.wait_ready(PROJECT).await;
    tenants.change_cluster_provider(provider, json!({"rules": [{"adoption": "Allow"}]})).await;
    // Without `keyName`, the key's name consists of the namespace and the name.
    let name = format!("{}-{PROJECT}", tenants.victim.namespace);
    let fields = json!({"keyName": name, "adoption": "IfExists"});
    tenants.attacker.ask_cluster_provider(provider, "creds", instance_by_name(), fields).await;
    let is_refused = |key: Option<&ServiceKey>| key.is_some_and(Reports::is_stalled);
    let refused = wait(tenants.attacker.keys(), "creds", "refused", is_refused).await.unwrap();
    let uid = tenants.victim.keys().get(PROJECT).await.unwrap().metadata.uid.unwrap();
    assert!(!refused.message().contains(&uid), "{}", refused.message());
}

async fn assert_tells_nothing(tenants: &Tenants, refused: &ServiceKey) {
    let uid = tenants.victim.keys().get(PROJECT).await.unwrap().metadata.uid.unwrap();
    for secret in [tenants.victim.namespace.as_str(), PROJECT, &uid] {
        assert!(!refused.message().contains(secret), "`{secret}` is in: {}", refused.message());
    }
}
