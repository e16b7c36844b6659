//! A tenant delays only itself.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, Reason, ServiceKey};
use testkit::{
    broker::{self, FakeBroker, Gate, Moment},
    cloud_foundry::{self, FakeCloudFoundry},
    ibm_cloud::{self, FakeIbmCloud},
};

use super::{
    abuse::{Abuse, Actor},
    harness::{
        Tenant, Tenants, broker_login, broker_spec, foundry_spec, ibm_spec, instance_by_name,
        instance_of_broker, key_manifest,
    },
};
use crate::support::{foundry, ibm, stage::PATIENCE};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        hanging_providers_keep_no_other_from_being_checked,
        Actor::Editor,
        "creates 40 KeyProviders with `timeout: 10m` whose broker never answers the check",
        "they get no more slots for checks than stay free; a new provider of another tenant becomes `Ready` meanwhile",
    ),
    abuse!(
        hanging_providers_keep_no_other_from_being_loaded,
        Actor::Editor,
        "creates 40 KeyProviders whose broker never answers the check, which fill its share of the slots",
        "the next provider of either tenant is loaded at once: one reports that its login is missing, keys of the \
         other are created",
    ),
    abuse!(
        a_burst_at_a_shared_broker_delays_a_key_by_a_round,
        Actor::Editor,
        "creates 1,000 ServiceKeys of a ClusterKeyProvider for a broker",
        "the namespaces take turns: the bind of another tenant's only key comes after the bind in progress and one \
         more",
    ),
    abuse!(
        a_burst_at_a_shared_foundry_delays_a_key_by_a_round,
        Actor::Editor,
        "creates 100 ServiceKeys of a ClusterKeyProvider for a Cloud Foundry",
        "the namespaces take turns: another tenant's only key comes after the one in progress and one more",
    ),
    abuse!(
        a_burst_at_a_shared_ibm_cloud_delays_a_key_by_a_round,
        Actor::Editor,
        "creates 100 ServiceKeys of a ClusterKeyProvider for IBM Cloud",
        "the namespaces take turns: another tenant's only key comes after the one in progress and one more",
    ),
    abuse!(
        a_burst_takes_no_more_workers_than_its_turn,
        Actor::KeyWriter,
        "creates 300 ServiceKeys that can't become ready, before an operator with `--concurrency 1` starts",
        "the namespaces take turns: another tenant's ServiceKey is among the first that are reconciled",
    ),
    abuse!(
        open_requests_of_one_namespace_are_limited,
        Actor::RemoteSide,
        "leaves 300 binds of a KeyProvider with `concurrency: 1000` and `timeout: 10m` without an answer",
        "66 calls are in flight, and the others wait; another tenant's key is created",
    ),
];

/// The limits of shared providers in these tests. With one call at a time, the order of calls shows whose turn it was.
fn one_at_a_time() -> Value {
    json!({"concurrency": 1, "timeout": "10m", "requestsPerSecond": 1000})
}

/// The limit of one namespace's calls in flight: each counts 256 KiB of its 16.5 MiB.
const OPEN_REQUESTS: usize = 66;

impl Tenant {
    /// Creates many ServiceKeys that differ only in their names.
    async fn burst(&self, count: usize, provider: Value, instance: Value) {
        let keys: Vec<ServiceKey> = (0..count)
            .map(|number| {
                let name = format!("burst-{number}");
                let manifest = key_manifest(&name, provider.clone(), instance.clone(), json!({}));
                serde_json::from_value(manifest).unwrap()
            })
            .collect();
        let (api, parameters) = (self.keys(), PostParams::default());
        let created = stream::iter(&keys).map(|key| api.create(&parameters, key)).buffer_unordered(16);
        let _: Vec<_> = created.try_collect().await.unwrap();
    }

    /// Creates a KeyProvider with the right login for this broker.
    async fn add_broker(&self, name: &str, broker: &FakeBroker, limits: Value) {
        let mut spec = broker_spec(broker);
        spec["limits"] = limits;
        spec["openServiceBroker"]["auth"] =
            json!({"basic": {"secretRef": {"name": format!("{name}-login")}}});
        let login = format!("{name}-login");
        self.add_provider(name, spec, Some((&login, broker_login()))).await;
    }
}

impl Tenants {
    /// Creates providers of the attacker whose checks hang, more than one namespace gets slots for.
    async fn hang_in_checks(&self, broker: &FakeBroker) {
        for number in 0..40 {
            self.attacker.add_broker(&format!("hanging-{number}"), broker, json!({"timeout": "10m"})).await;
        }
    }

    /// Waits until this many ServiceKeys are in the queue of the shared provider.
    async fn wait_for_queue(&self, depth: usize) {
        let metrics = &self.operator.as_ref().unwrap();
        let reached = async {
            while metrics.total("servicekeys_provider_queue_depth") != depth as f64 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| {
            panic!("{} wait, not {depth}", metrics.total("servicekeys_provider_queue_depth"))
        });
    }

    /// The number of the attacker's keys that were created before the victim's only key.
    fn ahead_of_the_victim(&self, creations: &[String]) -> usize {
        let of_victim = |body: &String| body.contains(&self.victim.namespace);
        creations.iter().position(of_victim).expect("the victim's key was created")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_providers_keep_no_other_from_being_checked() {
    /// The limit of one namespace's checks in progress: as many of the 64 slots as stay free.
    const CHECKS: usize = 32;
    /// The time after which an unanswered check ends.
    const CHECK_DEADLINE: Duration = Duration::from_secs(30);
    let tenants = Tenants::meet(Actor::Editor).await;
    let (hostile, honest) =
        (FakeBroker::builder().start().await.unwrap(), FakeBroker::builder().start().await.unwrap());
    let held = hostile.gate(broker::Route::Catalog, Moment::BeforeEffect);
    let began = Instant::now();
    tenants.hang_in_checks(&hostile).await;
    // More checks than the 16 that an earlier version allowed for all namespaces together.
    held.wait_for_arrivals(17).await.unwrap();
    tenants.victim.add_broker("own", &honest, json!({})).await;
    tenants.victim.wait_provider("own", true, Reason::Available).await;
    // After this time, the checks that ended have freed slots for others.
    let arrivals = held.arrivals();
    assert!(arrivals <= CHECKS || began.elapsed() >= CHECK_DEADLINE, "{arrivals} checks of one namespace");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_providers_keep_no_other_from_being_loaded() {
    let tenants = Tenants::meet(Actor::Editor).await;
    let (hostile, honest) =
        (FakeBroker::builder().start().await.unwrap(), FakeBroker::builder().start().await.unwrap());
    let held = hostile.gate(broker::Route::Catalog, Moment::BeforeEffect);
    tenants.hang_in_checks(&hostile).await;
    held.wait_for_arrivals(17).await.unwrap();
    tenants.attacker.add_provider("incomplete", broker_spec(&honest), None).await;
    tenants.attacker.wait_provider("incomplete", false, Reason::LoginSecretMissing).await;
    tenants.victim.add_broker("own", &honest, json!({})).await;
    let key = key_manifest("creds", json!({"name": "own"}), instance_of_broker(), json!({}));
    tenants.victim.create::<ServiceKey>(key).await;
    tenants.victim.wait_ready("creds").await;
}

/// While one creation of the attacker's burst is blocked, the others and the victim's only key wait in the queue. Once
/// the creation is released, the namespaces take turns.
async fn a_burst_delays_by_a_round(
    tenants: &Tenants,
    (burst, provider, instance): (usize, &str, Value),
    held: Gate,
    creations: impl Fn() -> Vec<String>,
) {
    let reference = json!({"kind": "ClusterKeyProvider", "name": provider});
    tenants.attacker.burst(burst, reference, instance.clone()).await;
    held.wait_for_arrival().await.unwrap();
    tenants.victim.ask_cluster_provider(provider, "creds", instance, json!({})).await;
    tenants.wait_for_queue(burst).await;

    held.release();
    tenants.victim.wait_ready("creds").await;
    let ahead = tenants.ahead_of_the_victim(&creations());
    assert!(ahead <= 2, "{ahead} of {burst} came first: more than the one in flight, and one turn");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_at_a_shared_broker_delays_a_key_by_a_round() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    tenants.start_operator(|_| ());
    let broker = FakeBroker::builder().start().await.unwrap();
    let mut spec = broker_spec(&broker);
    spec["limits"] = one_at_a_time();
    let provider = tenants.add_cluster_provider(spec, ("broker-login", broker_login())).await;
    let held = broker.gate(broker::Route::Bind, Moment::BeforeEffect);
    let creations = || {
        let binds = broker.calls().into_iter().filter(|call| call.route == broker::Route::Bind);
        binds.map(|call| json!(call.body).to_string()).collect()
    };
    a_burst_delays_by_a_round(&tenants, (1000, &provider, instance_of_broker()), held, creations).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_at_a_shared_foundry_delays_a_key_by_a_round() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    tenants.start_operator(|_| ());
    let foundry = FakeCloudFoundry::builder().start().await.unwrap();
    let mut spec = foundry_spec(&foundry);
    spec["limits"] = one_at_a_time();
    let provider = tenants.add_cluster_provider(spec, ("cf-login", foundry::password())).await;
    let held = foundry.gate(cloud_foundry::Route::Create, Moment::BeforeEffect);
    let creations = || {
        let calls = foundry.calls().into_iter().filter(|call| call.route == cloud_foundry::Route::Create);
        calls.map(|call| json!(call.body).to_string()).collect()
    };
    a_burst_delays_by_a_round(&tenants, (100, &provider, instance_by_name()), held, creations).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_at_a_shared_ibm_cloud_delays_a_key_by_a_round() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    tenants.start_operator(|_| ());
    let ibm = FakeIbmCloud::builder().start().await.unwrap();
    let mut spec = ibm_spec(&ibm);
    spec["limits"] = one_at_a_time();
    let provider = tenants.add_cluster_provider(spec, ("ibm-login", json!({"apikey": ibm::API_KEY}))).await;
    let held = ibm.gate(ibm_cloud::Route::CreateKey, Moment::BeforeEffect);
    let creations = || {
        let calls = ibm.calls().into_iter().filter(|call| call.route == ibm_cloud::Route::CreateKey);
        calls.map(|call| json!(call.body).to_string()).collect()
    };
    a_burst_delays_by_a_round(&tenants, (100, &provider, instance_by_name()), held, creations).await;
}

/// All ServiceKeys wait when the operator starts, and each causes one write of its status. The resource versions of
/// these writes show their order.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_takes_no_more_workers_than_its_turn() {
    const BURST: usize = 300;
    let mut tenants = Tenants::meet_alone(Actor::KeyWriter).await;
    // Lists are ordered by name, so the second namespace would come last in a plain queue.
    let (mut first, mut second) = (&tenants.attacker, &tenants.victim);
    if first.namespace > second.namespace {
        (first, second) = (second, first);
    }
    let absent = json!({"kind": "ClusterKeyProvider", "name": "absent"});
    first.burst(BURST, absent.clone(), instance_of_broker()).await;
    second.create::<ServiceKey>(key_manifest("creds", absent, instance_of_broker(), json!({}))).await;
    let (first, second) = (first.keys(), second.keys());
    tenants.start_operator(|options| options.concurrency = 1);

    let version = |key: &ServiceKey| key.resource_version().unwrap().parse::<u64>().unwrap();
    let told = |key: Option<&ServiceKey>| {
        key.is_some_and(|key| key.status.as_ref().is_some_and(|status| !status.conditions.is_empty()))
    };
    let single = crate::support::stage::wait(second, "creds", "reconciled", told).await.unwrap();
    for number in 0..BURST {
        crate::support::stage::wait(first.clone(), &format!("burst-{number}"), "reconciled", told).await;
    }
    let burst = first.list(&ListParams::default()).await.unwrap().items;
    let ahead = burst.iter().filter(|key| version(key) < version(&single)).count();
    assert_eq!(burst.len(), BURST);
    assert!(ahead <= 10, "{ahead} of {BURST} came first");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_requests_of_one_namespace_are_limited() {
    let mut tenants = Tenants::meet_alone(Actor::RemoteSide).await;
    tenants.start_operator(|_| ());
    let (hostile, honest) =
        (FakeBroker::builder().start().await.unwrap(), FakeBroker::builder().start().await.unwrap());
    let limits = json!({"concurrency": 1000, "timeout": "10m", "requestsPerSecond": 10000});
    tenants.attacker.add_broker("hostile", &hostile, limits).await;
    tenants.victim.add_broker("own", &honest, json!({})).await;
    tenants.attacker.wait_provider("hostile", true, Reason::Available).await;
    tenants.victim.wait_provider("own", true, Reason::Available).await;
    let held = hostile.gate(broker::Route::Bind, Moment::BeforeEffect);
    tenants.attacker.burst(300, json!({"name": "hostile"}), instance_of_broker()).await;
    held.wait_for_arrivals(OPEN_REQUESTS).await.unwrap();
    let key = key_manifest("creds", json!({"name": "own"}), instance_of_broker(), json!({}));
    tenants.victim.create::<ServiceKey>(key).await;
    tenants.victim.wait_ready("creds").await;
    assert_eq!(held.arrivals(), OPEN_REQUESTS);
    let providers = tenants.attacker.api::<KeyProvider>();
    assert!(providers.get("hostile").await.is_ok());
}
