//! The operator reads, revokes and releases a remote key only for the ServiceKey in the key's mark.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{Reason, ServiceKey, marks},
    testing::{Entries, Layout},
};
use testkit::{broker::FakeBroker, cloud_foundry::FakeCloudFoundry, ibm_cloud::FakeIbmCloud};

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenant, Tenants, instance_by_name, instance_of_broker},
};
use crate::support::stage::{entries, wait};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        another_tenants_secret_is_out_of_reach,
        Actor::Outsider,
        "creates a ServiceKey that names a ClusterKeyProvider which does not admit its namespace",
        "no key is created; the condition has the reason `ProviderNotAllowed`",
    ),
    abuse!(
        a_forged_id_reads_no_key_of_a_cloud_foundry,
        Actor::Editor,
        "annotates its Secret with the GUID of another tenant's key at a Cloud Foundry, and removes an entry",
        "the operator restores the entry from the tenant's own key; the status keeps the own GUID",
    ),
    abuse!(
        a_forged_id_reads_no_key_of_ibm_cloud,
        Actor::Editor,
        "annotates its Secret with the GUID of another tenant's key at IBM Cloud, and removes an entry",
        "the operator restores the entry from the tenant's own key; the status keeps the own GUID",
    ),
    abuse!(
        a_forged_id_revokes_no_key_of_a_broker,
        Actor::Editor,
        "annotates its Secret with another tenant's binding id, and deletes its ServiceKey",
        "the tenant's own binding is deleted, the other one stays",
    ),
    abuse!(
        a_forged_id_revokes_no_key_of_a_cloud_foundry,
        Actor::Editor,
        "annotates its Secret with the GUID and name of another tenant's key at a Cloud Foundry, and deletes its \
         ServiceKey",
        "the tenant's own key is revoked, the other one stays",
    ),
    abuse!(
        a_forged_id_revokes_no_key_of_ibm_cloud,
        Actor::Editor,
        "annotates its Secret with the GUID and name of another tenant's key at IBM Cloud, and deletes its ServiceKey",
        "the tenant's own key is revoked, the other one stays",
    ),
    abuse!(
        a_forged_id_releases_no_key_of_a_cloud_foundry,
        Actor::Editor,
        "does the same with `deletionPolicy: Retain`, which removes the mark of a key of a Cloud Foundry",
        "the tenant's own key loses its mark, the other one keeps it",
    ),
    abuse!(
        a_forged_id_renames_no_key_of_ibm_cloud,
        Actor::Editor,
        "does the same with `deletionPolicy: Retain`, which renames a key of IBM Cloud",
        "the tenant's own key is renamed, the other one is not",
    ),
    abuse!(
        a_restored_status_reads_and_revokes_no_key_of_a_cloud_foundry,
        Actor::Editor,
        "has a backup restored whose status names another tenant's key at a Cloud Foundry, removes an entry of its \
         Secret, and deletes its ServiceKey",
        "the operator restores the entry from the tenant's own key, which is then revoked; the other one stays",
    ),
    abuse!(
        a_restored_status_reads_and_revokes_no_key_of_ibm_cloud,
        Actor::Editor,
        "has a backup restored whose status names another tenant's key at IBM Cloud, removes an entry of its Secret, \
         and deletes its ServiceKey",
        "the operator restores the entry from the tenant's own key, which is then revoked; the other one stays",
    ),
    abuse!(
        a_forged_secret_causes_no_call_to_a_broker,
        Actor::Outsider,
        "creates a Secret with the operator's marks and another tenant's binding id, and deletes its ServiceKey",
        "the ServiceKey is never ready, and the broker gets no request",
    ),
    abuse!(
        a_forged_secret_causes_no_call_to_a_cloud_foundry,
        Actor::Outsider,
        "creates a Secret with the operator's marks and the GUID of another tenant's key at a Cloud Foundry, and \
         deletes its ServiceKey",
        "the ServiceKey is never ready, and the Cloud Foundry gets no request",
    ),
    abuse!(
        a_forged_secret_causes_no_call_to_ibm_cloud,
        Actor::Outsider,
        "creates a Secret with the operator's marks and the GUID of another tenant's key at IBM Cloud, and deletes its \
         ServiceKey",
        "the ServiceKey is never ready, and IBM Cloud gets no request",
    ),
    abuse!(
        a_forged_finalizer_causes_no_call,
        Actor::Outsider,
        "creates a ServiceKey with the operator's finalizer and a forged Secret, and deletes it",
        "the broker gets no request; the deletion waits until the namespace is admitted or the key is abandoned",
    ),
    abuse!(
        a_namespace_that_is_no_longer_admitted_revokes_only_its_own_key_of_a_cloud_foundry,
        Actor::Editor,
        "annotates its Secret with the GUID of another tenant's key at a Cloud Foundry after its namespace is no \
         longer admitted, and deletes its ServiceKey",
        "the tenant's own key is revoked, the other one stays",
    ),
    abuse!(
        a_namespace_that_is_no_longer_admitted_revokes_only_its_own_key_of_ibm_cloud,
        Actor::Editor,
        "annotates its Secret with the GUID of another tenant's key at IBM Cloud after its namespace is no longer \
         admitted, and deletes its ServiceKey",
        "the tenant's own key is revoked, the other one stays",
    ),
    abuse!(
        a_copied_secret_gives_nobody_the_key_of_a_living_service_key,
        Actor::Editor,
        "creates a Secret with all marks of another tenant's Secret, as if from a backup, and a ServiceKey for it, and \
         deletes both",
        "the ServiceKey is refused with `SecretConflict`, the other tenant's key stays",
    ),
    abuse!(
        a_copied_secret_revokes_no_key_that_was_left_at_a_broker,
        Actor::Editor,
        "does the same with the marks of a ServiceKey that was deleted and left its key at the broker behind",
        "the ServiceKey is refused with `NotPermitted`, the key stays",
    ),
    abuse!(
        a_copied_secret_revokes_no_key_that_was_left_at_a_cloud_foundry,
        Actor::Editor,
        "does the same with the marks of a ServiceKey that was deleted and left its key at a Cloud Foundry behind",
        "the mark of that key names another namespace: the ServiceKey is refused with `SecretConflict`, the key stays",
    ),
    abuse!(
        a_copied_secret_revokes_no_key_that_was_left_at_ibm_cloud,
        Actor::Editor,
        "does the same with the marks of a ServiceKey that was deleted and left its key at IBM Cloud behind",
        "the ServiceKey is refused with `NotPermitted`, the key stays",
    ),
    abuse!(
        a_restored_status_goes_on_with_no_key_that_was_left,
        Actor::Editor,
        "has a backup restored whose status says that its ServiceKey continues with the keys of one that was deleted \
         and left its key at the broker behind, and deletes its ServiceKey",
        "the broker gets no request; the deletion waits until the key is abandoned",
    ),
];

/// The operator is at rest if it does nothing for this long.
const REST: Duration = Duration::from_secs(2);
/// The name of each tenant's ServiceKey and Secret.
const NAME: &str = "creds";

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_secret_is_out_of_reach() {
    let tenants = Tenants::meet(Actor::Outsider).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    let provider = tenants.add_cluster_broker(&broker).await;
    tenants.victim.ask_cluster_provider(&provider, NAME, instance_of_broker(), json!({})).await;
    tenants.victim.wait_ready(NAME).await;
    tenants.attacker.ask_cluster_provider(&provider, NAME, instance_of_broker(), json!({})).await;
    tenants.attacker.wait_key(NAME, false, Reason::ProviderNotAllowed).await;
    assert_eq!(broker.bindings().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_id_reads_no_key_of_a_cloud_foundry() {
    Scene::set(Side::foundry().await, Actor::Editor).await.reads_by_a_forged_id().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_id_reads_no_key_of_ibm_cloud() {
    Scene::set(Side::ibm().await, Actor::Editor).await.reads_by_a_forged_id().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_id_revokes_no_key_of_a_broker() {
    Scene::set(Side::broker().await, Actor::Editor).await.revokes_by_a_forged_id().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_id_revokes_no_key_of_a_cloud_foundry() {
    Scene::set(Side::foundry().await, Actor::Editor).await.revokes_by_a_forged_id().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_id_revokes_no_key_of_ibm_cloud() {
    Scene::set(Side::ibm().await, Actor::Editor).await.revokes_by_a_forged_id().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_id_releases_no_key_of_a_cloud_foundry() {
    Scene::set(Side::foundry().await, Actor::Editor).await.releases_by_a_forged_id().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_id_renames_no_key_of_ibm_cloud() {
    Scene::set(Side::ibm().await, Actor::Editor).await.releases_by_a_forged_id().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_status_reads_and_revokes_no_key_of_a_cloud_foundry() {
    Scene::set(Side::foundry().await, Actor::Editor).await.uses_a_restored_status().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_status_reads_and_revokes_no_key_of_ibm_cloud() {
    Scene::set(Side::ibm().await, Actor::Editor).await.uses_a_restored_status().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_secret_causes_no_call_to_a_broker() {
    Scene::set(Side::broker().await, Actor::Outsider).await.forges_a_secret().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_secret_causes_no_call_to_a_cloud_foundry() {
    Scene::set(Side::foundry().await, Actor::Outsider).await.forges_a_secret().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_secret_causes_no_call_to_ibm_cloud() {
    Scene::set(Side::ibm().await, Actor::Outsider).await.forges_a_secret().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_finalizer_causes_no_call() {
    let scene = Scene::set(Side::broker().await, Actor::Outsider).await;
    let attacker = &scene.tenants.attacker;
    let calls = scene.side.calls();
    let mut manifest = scene.manifest(json!({}));
    manifest["metadata"]["finalizers"] = json!([marks::FINALIZER]);
    let key: ServiceKey = attacker.create(manifest).await;
    scene.forge_secret(&key).await;
    attacker.wait_key(NAME, false, Reason::ProviderNotAllowed).await;
    attacker.delete_key(NAME).await;
    attacker.wait_says(NAME, "the operator revokes the key as soon as this is corrected").await;
    assert_eq!(scene.side.calls(), calls);

    attacker
        .patch::<ServiceKey>(NAME, json!({"metadata": {"annotations": {marks::ABANDON_ANNOTATION: "true"}}}))
        .await;
    attacker.wait_gone(NAME).await;
    assert_eq!(scene.side.calls(), calls);
    scene.assert_victim_keeps_its_key().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_no_longer_admitted_revokes_only_its_own_key_of_a_cloud_foundry() {
    Scene::set(Side::foundry().await, Actor::Editor).await.revokes_when_no_longer_admitted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_no_longer_admitted_revokes_only_its_own_key_of_ibm_cloud() {
    Scene::set(Side::ibm().await, Actor::Editor).await.revokes_when_no_longer_admitted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_secret_gives_nobody_the_key_of_a_living_service_key() {
    for side in [Side::broker().await, Side::foundry().await, Side::ibm().await] {
        let scene = Scene::set(side, Actor::Editor).await;
        let uid = scene.tenants.victim.keys().get(NAME).await.unwrap().uid().unwrap();
        scene.copy_secret(&uid).await;
        scene.tenants.attacker.wait_key(NAME, false, Reason::SecretConflict).await;
        scene.attacker_deletes_its_key().await;
        scene.assert_victim_keeps_its_key().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_secret_revokes_no_key_that_was_left_at_a_broker() {
    Scene::set(Side::broker().await, Actor::Editor).await.is_refused_a_key_that_was_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_secret_revokes_no_key_that_was_left_at_ibm_cloud() {
    Scene::set(Side::ibm().await, Actor::Editor).await.is_refused_a_key_that_was_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_secret_revokes_no_key_that_was_left_at_a_cloud_foundry() {
    Scene::set(Side::foundry().await, Actor::Editor).await.is_refused_a_key_that_was_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_status_goes_on_with_no_key_that_was_left() {
    let scene = Scene::set(Side::broker().await, Actor::Editor).await;
    let uid = scene.victim_leaves_its_key().await;
    let calls = scene.side.calls();
    let attacker = &scene.tenants.attacker;
    let mut manifest = scene.manifest(json!({"suspend": true}));
    manifest["metadata"]["finalizers"] = json!([marks::FINALIZER]);
    attacker.create::<ServiceKey>(manifest).await;
    // Only users who restore backups may write a status.
    let keys: Api<ServiceKey> = Api::namespaced(scene.tenants.admin.clone(), &attacker.namespace);
    let status = Patch::Merge(json!({"status": {"formerUid": uid}}));
    keys.patch_status(NAME, &PatchParams::default(), &status).await.unwrap();
    attacker.patch::<ServiceKey>(NAME, json!({"spec": {"suspend": false}})).await;
    attacker.wait_key(NAME, false, Reason::NotPermitted).await;
    attacker.delete_key(NAME).await;
    attacker.wait_says(NAME, "the operator revokes the key as soon as this is corrected").await;
    assert_eq!(scene.side.calls(), calls);
    attacker
        .patch::<ServiceKey>(NAME, json!({"metadata": {"annotations": {marks::ABANDON_ANNOTATION: "true"}}}))
        .await;
    attacker.wait_gone(NAME).await;
    assert_eq!(scene.side.calls(), calls);
    assert_eq!(scene.side.keys(), std::slice::from_ref(&scene.theirs));
}

/// The administrator may permit what the tenants may not do alone: the restore of the victim's own backup.
#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_may_permit_that_restored_service_keys_go_on() {
    for side in [Side::broker().await, Side::ibm().await] {
        let scene = Scene::set(side, Actor::Editor).await;
        let victim = &scene.tenants.victim;
        let mut secret = victim.api::<Secret>().get(NAME).await.unwrap();
        let key = victim.keys().get(NAME).await.unwrap();
        let metadata = &mut secret.metadata;
        (metadata.uid, metadata.resource_version, metadata.owner_references) = (None, None, None);
        metadata.managed_fields = None;
        scene.victim_leaves_its_key().await;
        victim.create::<Secret>(serde_json::to_value(&secret).unwrap()).await;
        let mut manifest = scene.manifest(serde_json::to_value(&key.spec).unwrap());
        manifest["metadata"]["finalizers"] = json!([marks::FINALIZER]);
        victim.create::<ServiceKey>(manifest).await;
        victim.wait_key(NAME, false, Reason::NotPermitted).await;

        let rules = json!({"rules": [{"restore": "Allow"}]});
        scene.tenants.change_cluster_provider(&scene.provider, rules).await;
        let ready = victim.wait_ready(NAME).await;
        assert_eq!(ready.status.unwrap().former_uid, key.metadata.uid);
        assert_eq!(scene.tenants.secret_of(victim, NAME).await["password"], scene.theirs.password);
        victim.delete_key(NAME).await;
        victim.wait_gone(NAME).await;
        assert_eq!(scene.side.keys(), []);
    }
}

/// The remote side where both tenants have keys.
pub enum Side {
    Broker(FakeBroker),
    Foundry(FakeCloudFoundry),
    Ibm(FakeIbmCloud),
}

/// A key as the remote side stores it.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteKey {
    pub id: String,
    pub name: String,
    pub password: String,
    /// Whether the key has a mark of its owner; keys of a broker never have one.
    pub is_marked: bool,
}

impl Side {
    pub async fn broker() -> Self {
        Self::Broker(FakeBroker::builder().start().await.unwrap())
    }

    pub async fn foundry() -> Self {
        Self::Foundry(FakeCloudFoundry::builder().start().await.unwrap())
    }

    pub async fn ibm() -> Self {
        Self::Ibm(FakeIbmCloud::builder().start().await.unwrap())
    }

    async fn add_provider(&self, tenants: &Tenants) -> String {
        match self {
            Self::Broker(broker) => tenants.add_cluster_broker(broker).await,
            Self::Foundry(foundry) => tenants.add_cluster_foundry(foundry).await,
            Self::Ibm(ibm) => tenants.add_cluster_ibm(ibm).await,
        }
    }

    fn instance(&self) -> Value {
        match self {
            Self::Broker(_) => instance_of_broker(),
            Self::Foundry(_) | Self::Ibm(_) => instance_by_name(),
        }
    }

    /// The keys that are not revoked.
    pub fn keys(&self) -> Vec<RemoteKey> {
        let password = |credentials: &serde_json::Map<String, Value>| {
            credentials["password"].as_str().unwrap().to_owned()
        };
        match self {
            Self::Broker(broker) => {
                let keys = broker.bindings().into_iter().map(|binding| RemoteKey {
                    id: binding.id.to_string(),
                    name: String::new(),
                    password: password(&binding.credentials),
                    is_marked: false,
                });
                keys.collect()
            }
            Self::Foundry(foundry) => {
                let keys = foundry.live_keys().into_iter().map(|key| RemoteKey {
                    id: key.guid,
                    name: key.name,
                    password: password(&key.credentials.unwrap_or_default()),
                    is_marked: key.labels.contains_key("servicekeys.dev/owner"),
                });
                keys.collect()
            }
            Self::Ibm(ibm) => {
                let keys = ibm.live_keys().into_iter().map(|key| RemoteKey {
                    is_marked: key.name.contains("-sk"),
                    password: password(&key.credentials),
                    id: key.guid,
                    name: key.name,
                });
                keys.collect()
            }
        }
    }

    /// The number of requests so far.
    pub fn calls(&self) -> usize {
        match self {
            Self::Broker(broker) => broker.calls().len(),
            Self::Foundry(foundry) => foundry.calls().len(),
            Self::Ibm(ibm) => ibm.calls().len(),
        }
    }
}

/// Two tenants. The victim has a key through a ClusterKeyProvider.
pub struct Scene {
    pub tenants: Tenants,
    pub side: Side,
    pub provider: String,
    pub theirs: RemoteKey,
}

impl Scene {
    pub async fn set(side: Side, attacker: Actor) -> Self {
        let tenants = Tenants::meet(attacker).await;
        let provider = side.add_provider(&tenants).await;
        let fields = json!({"keyName": "theirs"});
        tenants.victim.ask_cluster_provider(&provider, NAME, side.instance(), fields).await;
        let id = tenants.victim.wait_ready(NAME).await.status.unwrap().key.unwrap().id;
        let theirs = side.keys().into_iter().find(|key| key.id == id).unwrap();
        Self { tenants, side, provider, theirs }
    }

    fn manifest(&self, fields: Value) -> Value {
        let provider = json!({"kind": "ClusterKeyProvider", "name": self.provider});
        super::harness::key_manifest(NAME, provider, self.side.instance(), fields)
    }

    /// Creates a key of the attacker.
    pub async fn attacker_has_a_key(&self, fields: Value) -> RemoteKey {
        self.tenants.attacker.create::<ServiceKey>(self.manifest(fields)).await;
        let id = self.tenants.attacker.wait_ready(NAME).await.status.unwrap().key.unwrap().id;
        self.side.keys().into_iter().find(|key| key.id == id).unwrap()
    }

    /// Writes the other tenant's id and name into the marks of the attacker's Secret, and waits until the operator
    /// could have used them.
    async fn forge_marks(&self) {
        let forged = json!({
            "servicekeys.dev/key-id": self.theirs.id,
            "servicekeys.dev/key-name": self.theirs.name,
        });
        self.tenants.attacker.patch::<Secret>(NAME, json!({"metadata": {"annotations": forged}})).await;
        // Proves that nothing happens, which no watch can show.
        tokio::time::sleep(REST).await;
    }

    /// Removes an entry of the attacker's Secret, and returns the entries that the operator restores.
    async fn remove_an_entry(&self) -> BTreeMap<String, String> {
        let attacker = &self.tenants.attacker;
        attacker.patch::<Secret>(NAME, json!({"data": {"password": null}})).await;
        let is_whole =
            |secret: Option<&Secret>| secret.is_some_and(|secret| entries(secret).contains_key("password"));
        entries(&wait(attacker.secrets(), NAME, "repaired", is_whole).await.unwrap())
    }

    async fn reads_by_a_forged_id(&self) {
        let own = self.attacker_has_a_key(json!({"keyName": "own"})).await;
        self.forge_marks().await;
        assert_eq!(self.remove_an_entry().await["password"], own.password);
        let told = self.tenants.attacker.wait_ready(NAME).await.status.unwrap().key.unwrap();
        assert_eq!((told.sequence, told.id), (1, own.id));
        self.assert_victim_keeps_its_key().await;
    }

    async fn revokes_by_a_forged_id(&self) {
        self.attacker_has_a_key(json!({"keyName": "own"})).await;
        self.forge_marks().await;
        self.attacker_deletes_its_key().await;
        assert_eq!(self.side.keys(), std::slice::from_ref(&self.theirs));
        self.assert_victim_keeps_its_key().await;
    }

    async fn releases_by_a_forged_id(&self) {
        let own = self.attacker_has_a_key(json!({"keyName": "own", "deletionPolicy": "Retain"})).await;
        self.forge_marks().await;
        self.attacker_deletes_its_key().await;
        let left = self.side.keys().into_iter().find(|key| key.id == own.id).unwrap();
        assert!(own.is_marked && !left.is_marked, "{left:?}");
        self.assert_victim_keeps_its_key().await;
    }

    async fn uses_a_restored_status(&self) {
        let own = self.attacker_has_a_key(json!({"keyName": "own"})).await;
        // Only users who restore backups may write a status.
        let keys: Api<ServiceKey> =
            Api::namespaced(self.tenants.admin.clone(), &self.tenants.attacker.namespace);
        let status = json!({"status": {"key": {"id": self.theirs.id, "name": self.theirs.name}}});
        keys.patch_status(NAME, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        // Proves that nothing happens, which no watch can show.
        tokio::time::sleep(REST).await;
        assert_eq!(self.remove_an_entry().await["password"], own.password);
        self.attacker_deletes_its_key().await;
        assert_eq!(self.side.keys(), std::slice::from_ref(&self.theirs));
        self.assert_victim_keeps_its_key().await;
    }

    async fn forges_a_secret(&self) {
        let attacker = &self.tenants.attacker;
        let calls = self.side.calls();
        let key: ServiceKey = attacker.create(self.manifest(json!({"keyName": "own"}))).await;
        attacker.wait_key(NAME, false, Reason::ProviderNotAllowed).await;
        self.forge_secret(&key).await;
        // Proves that nothing happens, which no watch can show.
        tokio::time::sleep(REST).await;
        attacker.wait_key(NAME, false, Reason::ProviderNotAllowed).await;
        assert!(attacker.keys().get(NAME).await.unwrap().status.unwrap().key.is_none());
        self.attacker_deletes_its_key().await;
        assert_eq!(self.side.calls(), calls);
        self.assert_victim_keeps_its_key().await;
    }

    /// Creates the Secret that the operator would have written if the other tenant's key were the first key of this
    /// ServiceKey. The administrator creates it, because the API server of these tests refuses such an owner reference
    /// from tenants. Other API servers accept it.
    async fn forge_secret(&self, key: &ServiceKey) {
        let secret = self.forged_secret(&key.uid().unwrap(), true);
        let secrets: Api<Secret> =
            Api::namespaced(self.tenants.admin.clone(), &self.tenants.attacker.namespace);
        secrets.create(&PostParams::default(), &secret).await.unwrap();
    }

    /// The Secret that the operator would have written if the other tenant's key were the first key of the ServiceKey
    /// with this UID.
    fn forged_secret(&self, uid: &str, is_owned: bool) -> Secret {
        let owner = json!([{
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "name": NAME,
            "uid": uid,
            "controller": true,
        }]);
        let mut secret: Secret = serde_json::from_value(json!({
            "metadata": {
                "name": NAME,
                "labels": {(marks::MANAGED_BY_LABEL): marks::MANAGED_BY, (marks::OWNER_UID_LABEL): uid},
                "ownerReferences": if is_owned { owner } else { json!([]) },
            },
            "type": "Opaque",
            "data": {"password": "Z3Vlc3NlZA=="},
        }))
        .unwrap();
        let layout = Layout { type_: "Opaque".to_owned(), ..Layout::default() };
        let forged = [
            ("servicekeys.dev/sequence", "1".to_owned()),
            ("servicekeys.dev/key-id", self.theirs.id.clone()),
            ("servicekeys.dev/key-name", self.theirs.name.clone()),
            ("servicekeys.dev/created-at", Timestamp::now().to_string()),
            ("servicekeys.dev/layout", layout.digest()),
            ("servicekeys.dev/inputs", "0".repeat(32)),
            ("servicekeys.dev/content", Entries::from_secret(&secret).digest(&uid.parse().unwrap())),
        ];
        let forged = forged.into_iter().map(|(name, value)| (name.to_owned(), value));
        secret.metadata.annotations = Some(forged.collect());
        secret
    }

    /// Deletes the victim's ServiceKey, abandons its key, and returns its UID.
    async fn victim_leaves_its_key(&self) -> String {
        let victim = &self.tenants.victim;
        let uid = victim.keys().get(NAME).await.unwrap().uid().unwrap();
        let abandon = json!({"metadata": {"annotations": {marks::ABANDON_ANNOTATION: "true"}}});
        victim.patch::<ServiceKey>(NAME, abandon).await;
        victim.delete_key(NAME).await;
        victim.wait_gone(NAME).await;
        assert_eq!(self.side.keys(), std::slice::from_ref(&self.theirs));
        uid
    }

    /// Creates the Secret of the ServiceKey with this UID, and the attacker's ServiceKey for it.
    async fn copy_secret(&self, uid: &str) {
        let attacker = &self.tenants.attacker;
        let secret = self.forged_secret(uid, false);
        attacker.create::<Secret>(serde_json::to_value(&secret).unwrap()).await;
        let mut manifest = self.manifest(json!({}));
        manifest["metadata"]["finalizers"] = json!([marks::FINALIZER]);
        attacker.create::<ServiceKey>(manifest).await;
    }

    async fn is_refused_a_key_that_was_left(&self) {
        let uid = self.victim_leaves_its_key().await;
        self.copy_secret(&uid).await;
        let reason = match self.side {
            Side::Broker(_) | Side::Ibm(_) => Reason::NotPermitted,
            // The key's marks name its owner.
            Side::Foundry(_) => Reason::SecretConflict,
        };
        self.tenants.attacker.wait_key(NAME, false, reason).await;
        self.attacker_deletes_its_key().await;
        assert_eq!(self.side.keys(), std::slice::from_ref(&self.theirs));
    }

    async fn revokes_when_no_longer_admitted(&self) {
        self.attacker_has_a_key(json!({"keyName": "own"})).await;
        let admitted = json!({"allowedNamespaces": {"names": [self.tenants.victim.namespace]}});
        self.tenants.change_cluster_provider(&self.provider, admitted).await;
        self.forge_marks().await;
        self.attacker_deletes_its_key().await;
        assert_eq!(self.side.keys(), std::slice::from_ref(&self.theirs));
        self.assert_victim_keeps_its_key().await;
    }

    async fn attacker_deletes_its_key(&self) {
        self.tenants.attacker.delete_key(NAME).await;
        self.tenants.attacker.wait_gone(NAME).await;
    }

    async fn assert_victim_keeps_its_key(&self) {
        assert!(self.side.keys().contains(&self.theirs), "{:#?}", self.side.keys());
        let victim: &Tenant = &self.tenants.victim;
        assert_eq!(self.tenants.secret_of(victim, NAME).await["password"], self.theirs.password);
        victim.wait_ready(NAME).await;
    }
}
