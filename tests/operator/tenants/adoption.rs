//! Adoption of keys: never of a key that another owner may still need.

use serde_json::{Value, json};
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::{
    cloud_foundry::{self, FakeCloudFoundry},
    ibm_cloud::{self, FakeIbmCloud},
};

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenants, foundry_spec, ibm_spec, instance_by_name, key_manifest},
};
use crate::support::{conditions::Reports, foundry, ibm};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        a_key_made_by_hand_at_a_cloud_foundry_stays_with_its_owner,
        Actor::Editor,
        "tries to adopt a key that another team created by hand, through a ClusterKeyProvider of a Cloud Foundry",
        "the key stays unchanged, and nothing is read; the condition has the reason `NotPermitted`",
    ),
    abuse!(
        a_key_made_by_hand_at_ibm_cloud_stays_with_its_owner,
        Actor::Editor,
        "tries to adopt a key that another team created by hand, through a ClusterKeyProvider of IBM Cloud",
        "the key stays unchanged, and nothing is read; the condition has the reason `NotPermitted`",
    ),
    abuse!(
        what_one_namespace_may_take_over_another_may_not,
        Actor::KeyWriter,
        "tries to adopt a key where the rule permits it only to another namespace",
        "the condition has the reason `NotPermitted`; the other namespace adopts the key",
    ),
    abuse!(
        a_conflict_is_not_turned_into_an_adoption,
        Actor::KeyWriter,
        "creates a ServiceKey with `adoption: Never`, and changes it to `IfExists` when the key conflicts",
        "the key stays unchanged; the condition has the reason `NotPermitted`",
    ),
    abuse!(
        a_key_of_another_cluster_is_not_adopted_at_a_cloud_foundry,
        Actor::Editor,
        "requests the adoption of a key at a Cloud Foundry that a namespace of the same name has in another cluster",
        "`KeyConflict`; the key keeps its marks",
    ),
    abuse!(
        a_key_of_another_cluster_is_not_adopted_at_ibm_cloud,
        Actor::Editor,
        "requests the adoption of a key at IBM Cloud that a ServiceKey has in another cluster",
        "`KeyConflict`; the key keeps its name",
    ),
];

const BY_HAND: &str = "made-by-hand";

fn take_over() -> Value {
    json!({"keyName": BY_HAND, "adoption": "IfExists"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_by_hand_at_a_cloud_foundry_stays_with_its_owner() {
    let foundry = FakeCloudFoundry::builder().start().await.unwrap();
    let by_hand = foundry.add_key(foundry::INSTANCE, BY_HAND).unwrap();
    let tenants = Tenants::meet(Actor::Editor).await;
    let provider = tenants.add_cluster_foundry(&foundry).await;
    tenants.attacker.ask_cluster_provider(&provider, "creds", instance_by_name(), take_over()).await;
    let refused = tenants.attacker.wait_key("creds", false, Reason::NotPermitted).await;
    refused.says("to adopt existing keys: no rule in `spec.rules` has `adoption: Allow` for it");
    assert!(refused.is_stalled());
    assert_eq!(foundry.keys(), [by_hand]);
    assert_eq!(foundry.count(cloud_foundry::Route::Details), 0);

    // The rule that the message names is sufficient.
    tenants.change_cluster_provider(&provider, json!({"rules": [{"adoption": "Allow"}]})).await;
    tenants.attacker.wait_ready("creds").await;
    assert_eq!(foundry.keys().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_by_hand_at_ibm_cloud_stays_with_its_owner() {
    let ibm = FakeIbmCloud::builder().start().await.unwrap();
    let by_hand = ibm.add_key(ibm::INSTANCE, BY_HAND).unwrap();
    let tenants = Tenants::meet(Actor::Editor).await;
    let provider = tenants.add_cluster_ibm(&ibm).await;
    // A rule about something else permits no adoption.
    tenants.change_cluster_provider(&provider, json!({"rules": [{"maxKeys": 5}]})).await;
    tenants.attacker.ask_cluster_provider(&provider, "creds", instance_by_name(), take_over()).await;
    let refused = tenants.attacker.wait_key("creds", false, Reason::NotPermitted).await;
    refused.says("`spec.rules[0].adoption` is `Deny`");
    assert_eq!(ibm.keys(), [by_hand]);
    let routes = [ibm_cloud::Route::Key, ibm_cloud::Route::RenameKey, ibm_cloud::Route::CreateKey];
    assert_eq!(routes.map(|route| ibm.count(route)), [0, 0, 0]);

    tenants.change_cluster_provider(&provider, json!({"rules": [{"adoption": "Allow"}]})).await;
    tenants.attacker.wait_ready("creds").await;
    assert_eq!(ibm.live_keys().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_namespace_may_take_over_another_may_not() {
    let foundry = FakeCloudFoundry::builder().start().await.unwrap();
    let by_hand = foundry.add_key(foundry::INSTANCE, BY_HAND).unwrap();
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    let provider = tenants.add_cluster_foundry(&foundry).await;
    let rules = json!([{"namespaces": {"names": [tenants.victim.namespace]}, "adoption": "Allow"}]);
    tenants.change_cluster_provider(&provider, json!({"rules": rules})).await;
    tenants.attacker.ask_cluster_provider(&provider, "creds", instance_by_name(), take_over()).await;
    tenants.attacker.wait_key("creds", false, Reason::NotPermitted).await;
    assert_eq!(foundry.keys(), [by_hand]);
    tenants.victim.ask_cluster_provider(&provider, "creds", instance_by_name(), take_over()).await;
    tenants.victim.wait_ready("creds").await;
    tenants.attacker.wait_key("creds", false, Reason::NotPermitted).await;
    assert_eq!(foundry.keys().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_not_turned_into_an_adoption() {
    let foundry = FakeCloudFoundry::builder().start().await.unwrap();
    let by_hand = foundry.add_key(foundry::INSTANCE, BY_HAND).unwrap();
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    let provider = tenants.add_cluster_foundry(&foundry).await;
    let named = json!({"keyName": BY_HAND});
    tenants.attacker.ask_cluster_provider(&provider, "creds", instance_by_name(), named).await;
    tenants.attacker.wait_key("creds", false, Reason::KeyConflict).await;
    tenants.attacker.patch::<ServiceKey>("creds", json!({"spec": {"adoption": "IfExists"}})).await;
    tenants.attacker.wait_key("creds", false, Reason::NotPermitted).await;
    assert_eq!(foundry.keys(), [by_hand]);
    tenants.attacker.delete_key("creds").await;
    tenants.attacker.wait_gone("creds").await;
    assert_eq!(foundry.count(cloud_foundry::Route::Delete), 0);
}

const OWNER: &str = "6f1d3c1a-3f43-4d0c-9d5e-5f3f0c5f8a01";
const OTHER_CLUSTER: &str = "1a2b3c4d-3f43-4d0c-9d5e-5f3f0c5f8a01";

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_cluster_is_not_adopted_at_a_cloud_foundry() {
    let tenants = Tenants::meet(Actor::Editor).await;
    let foundry = FakeCloudFoundry::builder().start().await.unwrap();
    let labels = [
        ("servicekeys.dev/managed-by", "servicekey-operator"),
        ("servicekeys.dev/owner", OWNER),
        ("servicekeys.dev/cluster", OTHER_CLUSTER),
    ];
    let theirs = foundry.add_labelled_key(foundry::INSTANCE, "shared-name", labels).unwrap();
    let told = [
        ("servicekeys.dev/namespace", tenants.attacker.namespace.as_str()),
        ("servicekeys.dev/name", "creds"),
        ("servicekeys.dev/sequence", "1"),
    ];
    assert!(foundry.annotate(&theirs.guid, told));
    let theirs = foundry.key(&theirs.guid).unwrap();

    let login = ("cf-login", foundry::password());
    tenants.attacker.add_provider("own", foundry_spec(&foundry), Some(login)).await;
    ask_for_adoption(&tenants).await;
    let refused = tenants.attacker.wait_key("creds", false, Reason::KeyConflict).await;
    refused.says("which belongs to a ServiceKey of another namespace or cluster");
    tenants.attacker.delete_key("creds").await;
    tenants.attacker.wait_gone("creds").await;
    assert_eq!(foundry.keys(), [theirs]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_cluster_is_not_adopted_at_ibm_cloud() {
    let tenants = Tenants::meet(Actor::Editor).await;
    let ibm = FakeIbmCloud::builder().start().await.unwrap();
    let name = format!("shared-name-sk{}-{OWNER}-1", &OTHER_CLUSTER[..8]);
    let theirs = ibm.add_key(ibm::INSTANCE, &name).unwrap();
    let login = ("ibm-login", json!({"apikey": ibm::API_KEY}));
    tenants.attacker.add_provider("own", ibm_spec(&ibm), Some(login)).await;
    ask_for_adoption(&tenants).await;
    let refused = tenants.attacker.wait_key("creds", false, Reason::KeyConflict).await;
    refused.says("bears the mark of another ServiceKey, here or in another cluster");
    tenants.attacker.delete_key("creds").await;
    tenants.attacker.wait_gone("creds").await;
    assert_eq!(ibm.keys(), [theirs]);
}

async fn ask_for_adoption(tenants: &Tenants) {
    let fields = json!({"keyName": "shared-name", "adoption": "IfExists"});
    let manifest = key_manifest("creds", json!({"name": "own"}), instance_by_name(), fields);
    tenants.attacker.create::<ServiceKey>(manifest).await;
}
