//! Of two replicas, one works. The other stands by with full caches, and takes over however the first one ends.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, future::join_all};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use testkit::{
    Moment,
    broker::Route,
    control_plane::{Requests as Asked, User},
    gateway::{Gateway, Method, Requests},
};

use crate::support::{
    evidence::{assert_holds, requested_bindings, settled},
    process::Process,
    stage::{Stage, condition},
};

const LEASE: &str = "servicekey-operator";
const KEY: &str = "monitoring-creds";
const MANY: usize = 60;

/// One of several replicas, and its user at the API server.
struct Replica {
    process: Process,
    user: User,
}

/// The time for which a Lease is respected that is not renewed. A test waits as long for the next leader.
const LEASE_DURATION: &str = "3s";
/// The same for a test with many ServiceKeys: on a busy machine a renewal may take seconds.
const LEASE_DURATION_UNDER_LOAD: &str = "10s";

impl Replica {
    async fn start(stage: &Stage, lease_duration: &str) -> Self {
        let user = stage.operator_user().await;
        let gateway = Gateway::start(stage.plane.client_as(&user)).await.unwrap();
        let flags = [
            "--leader-elect",
            "--lease-duration",
            lease_duration,
            "--cluster-resource-namespace",
            &stage.namespace,
        ];
        Self { process: Process::with(gateway, stage, &flags), user }
    }

    /// Starts a replica and waits until it is the leader.
    async fn leading(stage: &Stage, lease_duration: &str) -> Self {
        let leader = Self::start(stage, lease_duration).await;
        stage
            .wait(stage.api::<Lease>(), LEASE, "held by a replica", |lease| lease.and_then(holder).is_some())
            .await;
        leader
    }

    /// Starts a replica and waits until it stands by: it has read the Lease and filled its caches.
    async fn standing_by(stage: &Stage, lease_duration: &str) -> Self {
        let standby = Self::start(stage, lease_duration).await;
        while !["leases", "servicekeys", "secrets", "keyproviders"]
            .iter()
            .all(|what| standby.has_asked_for(stage, what))
        {
            // The audit log can't be watched.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        standby
    }

    fn requests(&self, stage: &Stage) -> Asked {
        stage.plane.audit().requests(&self.user).unwrap()
    }

    async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.process.http_address().await);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    /// Its metrics of ServiceKeys, without states that have none.
    async fn keys_told(&self) -> Vec<String> {
        let metrics = self.metrics().await;
        let keys = metrics.lines().filter(|line| line.starts_with("servicekeys_keys{"));
        keys.filter(|line| !line.ends_with(" 0.0")).map(str::to_owned).collect()
    }

    fn has_asked_for(&self, stage: &Stage, resource: &str) -> bool {
        !self.requests(stage).of(resource).is_empty()
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

/// Waits until another replica holds the Lease.
async fn wait_for_successor(stage: &Stage, before: &str) -> String {
    let lease = stage.wait(stage.api::<Lease>(), LEASE, "held by another replica", |lease| {
        lease.and_then(holder).is_some_and(|holder| holder != before)
    });
    holder(&lease.await.unwrap()).unwrap().to_owned()
}

async fn current_holder(stage: &Stage) -> String {
    holder(&stage.api::<Lease>().get(LEASE).await.unwrap()).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_fills_its_caches_and_does_nothing_else() {
    let stage = Stage::set().await;
    let leader = Replica::leading(&stage, LEASE_DURATION).await;
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    let standby = Replica::standing_by(&stage, LEASE_DURATION).await;
    let calls = stage.broker.calls().len();
    stage.create_key("another").await;
    stage.wait_ready("another").await;

    let asked = standby.requests(&stage);
    assert!(asked.clone().writes().is_empty(), "a standby wrote:\n{asked}");
    let beyond = asked.clone().besides_watches_and_events().only(|request| request.resource != "leases");
    assert!(beyond.is_empty(), "a standby requested more than its caches need:\n{asked}");
    assert_eq!(stage.broker.calls().len(), calls + 1, "the leader's bind");

    let namespace = &stage.namespace;
    let told = format!(
        "servicekeys_keys{{backend=\"OpenServiceBroker\",provider_namespace=\"{namespace}\",provider=\"broker\",state=\"ready\"}} 2.0"
    );
    assert_eq!(leader.keys_told().await, [told]);
    assert_eq!(standby.keys_told().await, [""; 0], "otherwise the keys would be counted twice");
    assert!(standby.metrics().await.contains("servicekeys_leader 0\n"));

    let before = current_holder(&stage).await;
    leader.process.kill().await;
    wait_for_successor(&stage, &before).await;
    settled(&stage, KEY).await;
    assert!(standby.metrics().await.contains("servicekeys_leader 1\n"));
    let since = standby.requests(&stage).since(&asked);
    let lists = since.clone().only(|request| request.verb == "list" && request.name.is_empty());
    let (of_logins, others): (Vec<_>, Vec<_>) =
        lists.into_iter().partition(|list| list.request_uri.contains("fieldSelector=metadata.namespace"));
    assert!(others.is_empty(), "the standby filled its caches again:\n{since}");
    assert_eq!(of_logins.len(), 1, "one list for all logins of the namespace:\n{since}");
    assert_eq!(stage.broker.count(Route::Bind), 2);
    standby.process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_the_leader_is_followed_by_the_standby() {
    let stage = Stage::set().await;
    let leader = Replica::leading(&stage, LEASE_DURATION_UNDER_LOAD).await;
    let _standby = Replica::standing_by(&stage, LEASE_DURATION_UNDER_LOAD).await;
    let before = current_holder(&stage).await;
    let names: Vec<_> = (0..MANY).map(|number| format!("key-{number}")).collect();
    let (early, late) = names.split_at(MANY / 2);

    join_all(early.iter().map(|name| stage.create_key(name))).await;
    stage.wait_all_ready(MANY / 4).await;
    leader.process.kill().await;
    join_all(late.iter().map(|name| stage.create_key(name))).await;
    wait_for_successor(&stage, &before).await;
    stage.wait_all_ready(MANY).await;

    let keys = stage.keys().list(&ListParams::default()).await.unwrap();
    assert_eq!(keys.items.len(), MANY);
    for key in &keys {
        let id = key.status.as_ref().unwrap().key.as_ref().unwrap().id.parse().unwrap();
        let secret = stage.secrets().get(&key.name_any()).await.unwrap();
        assert_holds(&secret, &stage.broker.binding(id).unwrap());
    }
    assert_eq!(stage.broker.bindings().len(), MANY, "one key each");
    assert_eq!(requested_bindings(&stage.broker).len(), MANY, "no other key was ever requested");

    join_all(names.iter().map(async |name| {
        stage.keys().delete(name, &DeleteParams::default()).await.unwrap();
        stage.wait_gone(name).await;
    }))
    .await;
    assert_eq!(stage.broker.bindings(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_the_leader_gives_up_the_lead() {
    let stage = Stage::set().await;
    let leader = Replica::leading(&stage, LEASE_DURATION).await;
    let standby = Replica::standing_by(&stage, LEASE_DURATION).await;
    let before = current_holder(&stage).await;
    let leases =
        watcher(stage.api::<Lease>(), watcher::Config::default()).default_backoff().applied_objects();
    let mut holders = leases.map(|lease| holder(&lease.unwrap()).map(str::to_owned)).boxed();
    let mut held = vec![holders.next().await.unwrap()];

    assert_eq!(leader.process.terminate().await.code(), Some(0));
    // The Lease may be renewed before the leader ends.
    while held.iter().flatten().all(|holder| *holder == before) {
        held.push(holders.next().await.unwrap());
    }
    held.dedup();
    let after = current_holder(&stage).await;
    assert_eq!(held, [Some(before), None, Some(after)]);

    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    // A standby has no Lease to release.
    let third = Replica::standing_by(&stage, LEASE_DURATION).await;
    let held = current_holder(&stage).await;
    assert_eq!(third.process.terminate().await.code(), Some(0));
    assert_eq!(current_holder(&stage).await, held);
    standby.process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_can_not_renew_ends_by_itself() {
    let stage = Stage::set().await;
    let leader = Replica::leading(&stage, LEASE_DURATION).await;
    let before = current_holder(&stage).await;
    let bind = stage.broker.gate(Route::Bind, Moment::BeforeEffect);
    stage.create_key(KEY).await;
    bind.wait_for_arrival().await.unwrap();

    let _held = [Method::PUT, Method::GET].map(|method| {
        leader.process.gateway.gate(Requests::to(method, "leases/servicekey-operator"), Moment::BeforeEffect)
    });
    let standby = Replica::start(&stage, LEASE_DURATION).await;
    wait_for_successor(&stage, &before).await;
    let (status, log) = leader.process.end().await;
    assert_eq!(status.code(), Some(1), "{log}");
    let said = "error: this replica is no longer the leader: the Lease could not be renewed for 2 s";
    assert!(log.contains(said), "{log}");
    bind.release();

    assert!(condition(&settled(&stage, KEY).await, "Ready") == Some("True"));
    assert_eq!(stage.broker.bindings().len(), 1);
    standby.process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_too_long_makes_room() {
    let stage = Stage::set().await;
    let leader = Replica::leading(&stage, LEASE_DURATION).await;
    let before = current_holder(&stage).await;
    leader.process.pause();
    let _standby = Replica::start(&stage, LEASE_DURATION).await;
    stage.create_key(KEY).await;
    wait_for_successor(&stage, &before).await;
    stage.wait_ready(KEY).await;
    leader.process.go_on();
    let (status, log) = leader.process.end().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("error: this replica is no longer the leader: "), "{log}");

    let ids: BTreeSet<_> = stage.broker.bindings().into_iter().map(|binding| binding.id).collect();
    assert_eq!((ids.len(), requested_bindings(&stage.broker).len()), (1, 1));
    assert_eq!(stage.broker.count(Route::Bind), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_edited_or_deleted_costs_no_leader_its_lead() {
    let stage = Stage::set().await;
    let leader = Replica::leading(&stage, LEASE_DURATION).await;
    let before = current_holder(&stage).await;
    let edit = Patch::Merge(json!({"metadata": {"labels": {"team": "data"}}}));
    stage.api::<Lease>().patch(LEASE, &PatchParams::default(), &edit).await.unwrap();
    let version = |lease: Option<&Lease>| lease.and_then(ResourceExt::resource_version);
    let edited = stage.api::<Lease>().get(LEASE).await.unwrap();
    let renewed =
        stage.wait(stage.api::<Lease>(), LEASE, "renewed", |lease| version(lease) != version(Some(&edited)));
    assert_eq!(renewed.await.unwrap().labels().get("team").map(String::as_str), Some("data"));

    stage.api::<Lease>().delete(LEASE, &DeleteParams::default()).await.unwrap();
    stage.wait(stage.api::<Lease>(), LEASE, "there again", |lease| lease.is_some()).await;
    assert_eq!(current_holder(&stage).await, before);
    stage.create_key(KEY).await;
    stage.wait_ready(KEY).await;
    leader.process.kill().await;
}
