//! A ServiceKey that its tenant makes too large to be read still counts against limits, and the operator never acts on
//! it.

use std::time::Duration;

use kube::{Api, ResourceExt, api::DeleteParams};
use serde_json::{Value, json};
use servicekey_operator::api::{ClusterKeyProvider, ConditionType, Reason, ServiceKey, marks};
use testkit::cloud_foundry::{Call, FakeCloudFoundry, Route};
use tokio::time::sleep;

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenants, foundry_spec, instance_by_name},
};
use crate::support::{
    conditions::Reports,
    foundry::{self, INSTANCE},
    stage::wait,
};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        finalizers_that_can_not_be_read_hide_no_key,
        Actor::KeyWriter,
        "pads the finalizers of its only ServiceKey beyond 16 KiB, where `maxKeys` is 1 and orphans are revoked, and \
         waits for a restart",
        "the ServiceKey reports `InvalidSpec`, keeps its slot, its key and its provider, and is deleted once it can be \
         read",
    ),
    abuse!(
        an_annotation_of_the_operators_domain_takes_no_room,
        Actor::KeyWriter,
        "writes an annotation `servicekeys.dev/pad` of 262,100 bytes, and `servicekeys.dev/rotate` of 200 KiB",
        "the first is not read, the second counts as absent: the ServiceKey is served, and keeps its slot",
    ),
    abuse!(
        an_instance_that_can_not_be_read_takes_its_place,
        Actor::KeyWriter,
        "creates a ServiceKey whose `instance.annotations` take 786 KiB, and deletes it",
        "it reports `InvalidSpec`, also after a restart, and counts until it is gone; no key is created",
    ),
];

/// An attacker that may have one ServiceKey of a ClusterKeyProvider with `orphans: Delete`.
struct OnePlace {
    tenants: Tenants,
    foundry: FakeCloudFoundry,
    provider: String,
}

impl OnePlace {
    async fn give() -> Self {
        let foundry = FakeCloudFoundry::builder().start().await.unwrap();
        let mut tenants = Tenants::meet_alone(Actor::KeyWriter).await;
        start(&mut tenants);
        let mut spec = foundry_spec(&foundry);
        spec["cloudFoundry"]["orphans"] = json!("Delete");
        spec["rules"] = json!([{"maxKeys": 1}]);
        let provider = tenants.add_cluster_provider(spec, ("cf-login", foundry::password())).await;
        Self { tenants, foundry, provider }
    }

    async fn ask(&self, name: &str, instance: Value) {
        self.tenants.attacker.ask_cluster_provider(&self.provider, name, instance, json!({})).await;
    }

    fn restart(&mut self) {
        self.tenants.operator = None;
        start(&mut self.tenants);
    }

    /// Fails unless `first` occupies the only slot, and has the only key.
    async fn assert_first_counts(&self, second: &str) {
        // The oldest ServiceKey counts first, and times of creation are in whole seconds.
        sleep(Duration::from_secs(1)).await;
        self.ask(second, instance_by_name()).await;
        self.tenants.attacker.wait_key(second, false, Reason::LimitExceeded).await;
        let lists = |calls: &[Call]| calls.iter().filter(|call| call.route == Route::Keys).count();
        let before = lists(&self.foundry.calls());
        self.foundry.wait_for_calls(|calls| lists(calls) >= before + 4).await.unwrap();
    }

    /// Fails unless `first` protects its provider, whose deletion completes after the last ServiceKey.
    async fn assert_first_holds_the_provider(&self) {
        let providers: Api<ClusterKeyProvider> = Api::all(self.tenants.admin.clone());
        providers.delete(&self.provider, &DeleteParams::default()).await.unwrap();
        let first = format!("`{}/first`", self.tenants.attacker.namespace);
        let held = |provider: Option<&ClusterKeyProvider>| {
            let why = provider.and_then(|provider| provider.condition(ConditionType::Reconciling));
            why.is_some_and(|why| why.reason == Reason::InUse.as_str() && why.message.contains(&first))
        };
        wait(providers, &self.provider, "protected", held).await;
    }

    async fn patch(&self, name: &str, patch: Value) {
        self.tenants.attacker.patch::<ServiceKey>(name, patch).await;
    }

    /// Waits until `Stalled` of `first` has the reason `InvalidSpec` and this text.
    async fn wait_stalled(&self, words: &str) -> ServiceKey {
        let says = |key: Option<&ServiceKey>| {
            let stalled = key.and_then(|key| key.condition(ConditionType::Stalled));
            stalled
                .is_some_and(|why| why.reason == Reason::InvalidSpec.as_str() && why.message.contains(words))
        };
        wait(self.tenants.attacker.keys(), "first", "stalled", says).await.unwrap()
    }
}

fn start(tenants: &mut Tenants) {
    tenants.start_operator(|options| options.check_interval = Duration::from_millis(200));
}

/// The operator's finalizer among 20 KiB of others.
fn padded_finalizers() -> Value {
    let others = (0..400).map(|number| format!("example.com/{number:0>40}"));
    others.chain([marks::FINALIZER.to_owned()]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_that_can_not_be_read_hide_no_key() {
    let mut cluster = OnePlace::give().await;
    cluster.ask("first", instance_by_name()).await;
    cluster.tenants.attacker.wait_ready("first").await;
    let key = cluster.foundry.live_keys().remove(0);

    cluster.patch("first", json!({"metadata": {"finalizers": padded_finalizers()}})).await;
    let words = "`metadata.finalizers` takes more than 16 KiB as JSON; shorten it";
    let padded = cluster.wait_stalled(words).await;
    assert!(padded.is(true, Reason::Available), "its key works: {padded:?}");
    cluster.assert_first_counts("second").await;
    cluster.restart();
    cluster.assert_first_counts("third").await;
    cluster.assert_first_holds_the_provider().await;

    // The operator neither revokes the key based on the incomplete object nor forgets it.
    cluster.tenants.attacker.delete_key("first").await;
    cluster.restart();
    cluster.wait_stalled(words).await;
    assert_eq!(cluster.foundry.live_keys().iter().map(|key| &key.guid).collect::<Vec<_>>(), [&key.guid]);
    let stored = cluster.tenants.attacker.keys().get("first").await.unwrap();
    assert_eq!(
        stored.finalizers().len(),
        401,
        "the operator does not overwrite finalizers that it did not read"
    );

    for name in ["second", "third"] {
        cluster.tenants.attacker.delete_key(name).await;
    }
    cluster.patch("first", json!({"metadata": {"finalizers": [marks::FINALIZER]}})).await;
    cluster.tenants.attacker.wait_gone("first").await;
    assert_eq!(cluster.foundry.live_keys().len(), 0);
    let providers: Api<ClusterKeyProvider> = Api::all(cluster.tenants.admin.clone());
    wait(providers, &cluster.provider, "gone", |provider| provider.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotation_of_the_operators_domain_takes_no_room() {
    let mut cluster = OnePlace::give().await;
    cluster.ask("first", instance_by_name()).await;
    let first = cluster.tenants.attacker.wait_ready("first").await;
    let pad = json!({"servicekeys.dev/pad": "x".repeat(262_100)});
    cluster.patch("first", json!({"metadata": {"annotations": pad}})).await;
    cluster.assert_first_counts("second").await;
    cluster.restart();
    cluster.assert_first_counts("third").await;
    let rotate = json!({"servicekeys.dev/pad": null, "servicekeys.dev/rotate": "x".repeat(200_000)});
    cluster.patch("first", json!({"metadata": {"annotations": rotate}})).await;
    cluster.restart();
    cluster.assert_first_counts("fourth").await;
    let served = cluster.tenants.attacker.wait_ready("first").await;
    assert!(!served.is_stalled(), "{served:?}");
    assert_eq!(served.status.unwrap().key, first.status.unwrap().key);
    cluster.assert_first_holds_the_provider().await;
    cluster.tenants.attacker.delete_key("first").await;
    cluster.tenants.attacker.wait_gone("first").await;
    assert_eq!(cluster.foundry.live_keys().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_can_not_be_read_takes_its_place() {
    let mut cluster = OnePlace::give().await;
    let annotation = |number| (format!("example.com/{number}"), Value::from("<".repeat(4096)));
    let annotations: serde_json::Map<_, _> = (0..32).map(annotation).collect();
    let guid = cluster.foundry.instance_guid(INSTANCE).unwrap();
    cluster.ask("first", json!({"id": guid, "annotations": annotations})).await;
    let words = "`spec.instance` takes more than 256 KiB as JSON; shorten it";
    let refused = cluster.wait_stalled(words).await;
    assert!(refused.is(false, Reason::InvalidSpec), "{refused:?}");
    assert_eq!(refused.finalizers(), Vec::<String>::new());
    cluster.assert_first_counts("second").await;
    cluster.restart();
    cluster.assert_first_counts("third").await;
    assert_eq!(cluster.foundry.live_keys().len(), 0);

    cluster.tenants.attacker.delete_key("first").await;
    cluster.tenants.attacker.wait_gone("first").await;
    cluster.tenants.attacker.wait_ready("second").await;
}
