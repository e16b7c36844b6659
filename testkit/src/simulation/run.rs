//! One run: a world, one or two replicas of the operator, and the actors, from a seed to the verdict.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use servicekey_operator::testing::{
    AddressRules, Clock, Election, Metrics, Operator, Options, Restrictions, client_over,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use uuid::Uuid;

use super::{
    Chance, Journal, Process,
    actors::{Actors, Plan, TENANTS},
    api_server::Definitions,
    checks::{Author, Rule, Violation, is_managed, is_ready, is_staging, place, ready, text},
    hostile::HOSTILE,
    kubernetes::Wire,
    memory,
    network::Network,
    script::{self, Event},
    services::{ServiceProber, Services},
    sides::{SideKey, SideKind},
    world::{Happenings, SYSTEM, World},
};

/// The time in which the actors are busy.
const BUSY: Duration = Duration::from_secs(2400);
/// The time within which the world has to settle after the trouble. A login that was refused is tried again after half
/// an hour, and the overlap of a replaced key lasts an hour.
const SETTLING: Duration = Duration::from_secs(6000);
/// The time in which nothing may happen afterwards.
const REST: Duration = Duration::from_secs(3600);
/// The time between two looks of the cluster's controllers.
const TENDING: Duration = Duration::from_secs(10);
/// The looks until work in the background has ended.
const WORK: u32 = 9;
/// The looks between two bookmarks. A client gives up a watch that is silent for five minutes.
const BOOKMARKS: u32 = 24;
/// The interval of the checks of providers.
const CHECK_INTERVAL: Duration = Duration::from_secs(600);
/// The time in which the objects of the hostile tenant disappear.
const EVICTION: Duration = Duration::from_secs(400);
/// How many of 100 runs compare the operator's memory with that of a new process.
const COMPARED: u32 = 25;
/// How many of 100 runs change the Secrets once more after the trouble.
const EDITED: u32 = 50;
/// Separates the chance of deceptions from all other chance.
const DECEPTION: u64 = 0x5eed_dece_9710_0000;
/// Separates the chance of certificates and of late edits from all other chance.
const CERTIFICATES: u64 = 0x5eed_ce27_0000_0000;
/// Separates the chance of pods from all other chance.
const PODS: u64 = 0x5eed_90d5_0000_0000;
/// Separates the chance of followed parameters from all other chance.
const PARAMETERS: u64 = 0x5eed_9a2a_0000_0000;
/// Separates the chance of verified keys from all other chance.
const VERIFICATION: u64 = 0x5eed_7e21_0000_0000;
/// How many of 100 runs have ServiceKeys whose new keys are verified.
const WITH_VERIFICATION: u32 = 30;
/// How many of 100 runs have services that accept each key after the trouble.
const HEALED: u32 = 60;
/// The time between two looks for verifications that go on.
const VERIFYING: Duration = Duration::from_secs(60);
/// The number of these looks. A verification ends after half an hour at the latest.
const LOOKS: u32 = 40;
/// How many of 100 runs have ServiceKeys that follow their parameters.
const WITH_PARAMETERS: u32 = 30;
/// How many of 100 runs have pods.
const WITH_PODS: u32 = 40;
/// The life of a certificate while the actors are busy. A key is replaced an hour after it was created, for half an hour
/// before its certificate ends.
const SHORT_LIFE: Duration = Duration::from_secs(90 * 60);
/// The life of a certificate afterwards, so that the world can come to rest.
pub const LONG_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// The duration of the Lease.
pub const LEASE: Duration = Duration::from_secs(300);

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The seed.
    pub seed: u64,
    /// The events to keep of those that the seed draws, by their numbers; `None`: all.
    pub only: Option<BTreeSet<usize>>,
    /// Whether to print everything that happens.
    pub is_shown: bool,
}

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The rules that were broken, in order.
    pub violations: Vec<Violation>,
    /// The events of the run, with their numbers.
    pub events: Vec<(usize, Event)>,
    /// The digest of everything that happened, and the number of its entries.
    pub digest: (u64, u64),
    /// The last entries of the journal.
    pub journal: Vec<String>,
    /// The virtual time that passed.
    pub time: Duration,
    /// What happened.
    pub happened: Happenings,
    /// The keys that were created and revoked.
    pub keys: (u64, u64),
    /// The most that was spent of each [budget](super::budget::Budgets::most).
    pub most: [usize; 3],
}

/// Runs the operator in the world of a seed.
///
/// Two runs of one seed are equal only if each has a process of its own, which first called
/// [`seed_process`](super::seed_process).
///
/// `crds` are the CustomResourceDefinitions of the operator.
///
/// # Errors
/// The world can't be built.
pub fn run(settings: &Settings, crds: &[Value]) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|error| error.to_string())?.block_on(simulate(settings, crds))
}

async fn simulate(settings: &Settings, crds: &[Value]) -> Result<Outcome, String> {
    let began = Instant::now();
    let chance = Chance::of(settings.seed);
    let definitions = Definitions::new(crds)?;
    let sides = draw_sides(&chance);
    // Chances of their own, so that they change nothing else in a run without them.
    let deception = Chance::of(settings.seed ^ DECEPTION);
    let certificates = Chance::of(settings.seed ^ CERTIFICATES);
    let pods = Chance::of(settings.seed ^ PODS);
    let life = || certificates.percent(30).then_some(SHORT_LIFE);
    let sides: Vec<_> = sides.into_iter().map(|(kind, name)| (kind, name, life())).collect();
    let parameters = Chance::of(settings.seed ^ PARAMETERS);
    let verification = Chance::of(settings.seed ^ VERIFICATION);
    let services = Services::new(verification.fork());
    let plan = draw_plan(&chance, &pods, &parameters, &verification, sides.len());
    let drawn = script::draw(&chance, &plan, BUSY);
    let is_kept = |number: &usize| settings.only.as_ref().is_none_or(|only| only.contains(number));
    let drawn = drawn.into_iter().chain(script::draw_deceptions(&deception, BUSY));
    let drawn = drawn.chain(script::draw_pods(&pods, &plan, BUSY));
    let drawn = drawn.chain(script::draw_parameters(&parameters, &plan, BUSY));
    let drawn = drawn.chain(script::draw_staging(&verification, &plan, BUSY));
    let mut events: Vec<_> = drawn.enumerate().filter(|(number, _)| is_kept(number)).collect();
    events.sort_by_key(|(_, event)| event.at);
    let replicas = if chance.percent(50) { 1 } else { 2 };
    let journal = Journal::begin(settings.is_shown);
    let world = World::new(&chance, &deception, &definitions, &sides, services, journal)?;

    let processes = Arc::new(Mutex::new(Vec::new()));
    let mut actors = Actors::new(Arc::clone(&world), plan, Arc::clone(&processes));
    actors.set_up();
    let mut tasks = JoinSet::new();
    for replica in 0..replicas {
        let process = Process::start(format!("operator-{replica}"));
        processes.lock().push(process.clone());
        let operator = Replica {
            world: Arc::clone(&world),
            processes: Arc::clone(&processes),
            replica,
            chance: chance.fork(),
        };
        tasks.spawn(operator.live(process, replicas > 1));
    }
    let tended = Arc::clone(&world);
    tasks.spawn(async move {
        let mut turns = 0_u32;
        loop {
            sleep(TENDING).await;
            tended.tend_cluster();
            turns += 1;
            if turns.is_multiple_of(WORK) {
                tended.finish_work();
            }
            if turns.is_multiple_of(BOOKMARKS) {
                tended.cluster.send_bookmarks();
            }
        }
    });

    for (number, event) in &events {
        sleep_until(began + event.at).await;
        world.journal.note("event", format_args!("{number}: {:?}", event.what));
        actors.act(&event.what);
        if !world.checks().violations().is_empty() {
            break;
        }
    }
    sleep_until(began + BUSY).await;
    if world.checks().violations().is_empty() {
        world.journal.note("event", "the trouble ends");
        if verification.percent(HEALED) {
            world.services.heal();
        }
        actors.make_peace();
        let leaving = leaving(&world);
        // A namespace that was being deleted is gone some time later, and its providers with it.
        for _ in 0..4 {
            sleep(SETTLING / 8).await;
            actors.make_peace();
        }
        // A time that was set while the clock was ahead comes later. `settled` waits for it.
        if world.clock.delay().is_zero() {
            have_left(&world, &leaving);
        }
        if certificates.percent(EDITED) {
            actors.remove_labels();
        }
        // The overlap of a key that was replaced while the clock was ahead lasts longer by as much.
        sleep(SETTLING / 2 + world.clock.delay()).await;
        for _ in 0..LOOKS {
            if is_verifying(&world) {
                sleep(VERIFYING).await;
            }
        }
        settled(&world);
        if actors.evict_hostile() {
            sleep(EVICTION).await;
        }
        let (calm, is_at_rest) = (world.happenings(), !has_plans(&world));
        sleep(REST).await;
        if is_at_rest {
            rested(&world, calm);
        }
        if deception.percent(COMPARED) {
            memory::compare(&world, &actors, &processes).await;
        }
    }
    drop(tasks);
    for side in &world.sides {
        if let Err(broken) = side.finish() {
            world.checks().report(Rule::Protocol, format!("{}: {broken}", side.name));
        }
    }
    world.check_models();
    let checks = world.checks();
    Ok(Outcome {
        violations: checks.violations().to_vec(),
        events,
        digest: world.journal.digest(),
        journal: world.journal.last(),
        time: began.elapsed(),
        happened: world.happenings(),
        keys: (checks.created, checks.revoked),
        most: checks.most(),
    })
}

fn draw_sides(chance: &Chance) -> Vec<(SideKind, &'static str)> {
    let kinds = [
        (SideKind::Broker, "broker-1"),
        (SideKind::Broker, "broker-2"),
        (SideKind::CloudFoundry, "foundry"),
        (SideKind::IbmCloud, "ibm"),
    ];
    let mut drawn: Vec<_> = kinds.into_iter().filter(|_| chance.percent(45)).collect();
    if drawn.is_empty() {
        drawn.push(*chance.pick(&kinds));
    }
    drawn
}

fn draw_plan(
    chance: &Chance,
    pods: &Chance,
    parameters: &Chance,
    verification: &Chance,
    sides: usize,
) -> Plan {
    let number =
        |end: usize| usize::try_from(chance.below(u32::try_from(end).unwrap_or(1))).unwrap_or_default();
    let count = 1 + number(4);
    let has_pods = pods.percent(WITH_PODS);
    let has_parameters = parameters.percent(WITH_PARAMETERS);
    let verifies = verification.percent(WITH_VERIFICATION);
    let draw_verify = || (verifies && verification.percent(70)).then(|| script::draw_verify(verification));
    Plan {
        keys: (0..count).map(|_| (number(TENANTS.len()), number(sides))).collect(),
        is_shared: (0..sides).map(|_| chance.percent(50)).collect(),
        waits_for_pods: (0..count).map(|_| has_pods && pods.percent(70)).collect(),
        follows_parameters: (0..count).map(|_| has_parameters && parameters.percent(70)).collect(),
        verify: (0..count).map(|_| draw_verify()).collect(),
    }
}

/// A replica of the operator, through all its processes.
pub(super) struct Replica {
    pub(super) world: Arc<World>,
    pub(super) processes: Arc<Mutex<Vec<Process>>>,
    pub(super) replica: usize,
    pub(super) chance: Chance,
}

impl Replica {
    /// Starts the operator again and again. `elects`: there are other replicas.
    pub(super) async fn live(self, mut process: Process, elects: bool) {
        let mut starts = 1;
        loop {
            let name = process.name().to_owned();
            tokio::select! {
                biased;
                () = process.crashed() => {
                    self.world.checks().end(&name);
                    self.world.journal.note(&name, "crashes");
                    self.world.count(|happened| happened.crashes += 1);
                }
                () = self.work(process.clone(), starts, elects) => {
                    self.world.checks().end(&name);
                    self.world.journal.note(&name, "ends");
                    process.end();
                }
            }
            // A container is restarted at once, and later after further crashes.
            let longest = if self.chance.percent(50) { 2000 } else { 30_000 };
            sleep(self.chance.millis(500..longest)).await;
            starts += 1;
            process = Process::start(&name);
            self.processes.lock()[self.replica] = process.clone();
            self.world.journal.note(&name, "starts");
        }
    }

    async fn work(&self, process: Process, start: u32, elects: bool) {
        self.world.checks().start();
        let metrics = Metrics::default();
        let tables = process.tables().clone();
        let client = client_over(Wire::new(Arc::clone(&self.world), process.clone()), &metrics);
        let times = self.world.clock.clone();
        let clock = Clock::new(move || times.now());
        let (title, name) = (process.name().to_owned(), format!("{}_{start}", process.name()));
        let operator = Operator::new(client.clone(), options())
            .with_clock(clock.clone())
            .with_prober(Arc::new(ServiceProber::new(Arc::clone(&self.world), process.clone())))
            .with_transport(Arc::new(Network::new(Arc::clone(&self.world), process)))
            .with_inline_templates()
            .with_metrics(metrics.clone())
            .with_table_sizes(tables);
        if elects {
            let election = Election::new(client, SYSTEM, name, LEASE, metrics, clock);
            let work = |leadership| operator.with_leadership(leadership).run(std::future::pending());
            if let Err(loss) = election.govern(work).await {
                self.world.journal.note(&title, loss);
            }
        } else {
            operator.run(std::future::pending()).await;
        }
    }
}

fn options() -> Options {
    Options {
        cluster_resource_namespace: SYSTEM.to_owned(),
        namespaces: None,
        concurrency: 32,
        check_interval: CHECK_INTERVAL,
        addresses: AddressRules::default().into(),
        service_account_token: PathBuf::new(),
        ibm_cloud_settling: Duration::from_secs(12),
        secrets: Restrictions::default(),
        verify_networks: Vec::new(),
    }
}

/// The UIDs of the ServiceKeys that are being deleted.
fn leaving(world: &World) -> BTreeSet<String> {
    let keys = world.cluster.objects("servicekeys");
    let leaving = keys.iter().filter(|key| text(key, "/metadata/deletionTimestamp").is_some());
    leaving.filter_map(|key| text(key, "/metadata/uid").map(str::to_owned)).collect()
}

/// Checks that deletions which began in the trouble have ended before the hour after which the operator gives up any
/// work of a remote side.
fn have_left(world: &World, expected: &BTreeSet<String>) {
    for key in world.cluster.objects("servicekeys") {
        if text(&key, "/metadata/uid").is_some_and(|uid| expected.contains(uid)) {
            let (namespace, name) = place(&key);
            let what = format!("{namespace}/{name} is being deleted for too long: {}", ready(&key));
            world.checks().report(Rule::Settles, what);
        }
    }
}

/// Whether the operator verifies a key, or has not revoked a key yet that the service did not accept.
fn is_verifying(world: &World) -> bool {
    let keys = world.cluster.objects("servicekeys");
    let states = keys.iter().filter_map(|key| key.pointer("/status/verification"));
    states.into_iter().any(|state| state["revoked"] != true)
}

/// Whether a ServiceKey waits because the service did not accept its last key, and may not accept the next one.
fn waits_for_service(world: &World, key: &Value) -> bool {
    !world.services.are_healed() && key.pointer("/status/verification/retryAt").is_some()
}

/// Whether the operator creates a key later because the service did not accept the last one, or did so and revokes a
/// replaced key at the end of its overlap.
fn has_plans(world: &World) -> bool {
    let has_replaced = |key: &Value| key.pointer("/status/previousKeys").is_some();
    let is_busy =
        |key: &Value| waits_for_service(world, key) || !world.services.are_healed() && has_replaced(key);
    world.cluster.objects("servicekeys").iter().any(is_busy)
}

/// Checks the world after it had time to settle.
fn settled(world: &World) {
    let keys = world.cluster.objects("servicekeys");
    for key in keys.iter().filter(|key| place(key).0 != HOSTILE) {
        let (namespace, name) = place(key);
        let title = format!("{namespace}/{name}");
        if text(key, "/metadata/deletionTimestamp").is_some() {
            world.checks().report(Rule::Settles, format!("{title} is still being deleted: {}", ready(key)));
            continue;
        }
        let waits = waits_for_service(world, key);
        if !is_ready(key) {
            // A key whose certificate has ended stays until another one replaces it.
            let most = usize::from(ended(world, key).is_some());
            let mut checks = world.checks();
            let is_left = |uid: &Uuid| checks.alive_numbers(*uid) > most && !checks.may_stay(*uid);
            if !waits || owners(key).iter().any(is_left) {
                checks.report(Rule::Settles, format!("{title} is not ready: {}", ready(key)));
            }
            continue;
        }
        if let Some(restart) = key.pointer("/status/restart") {
            world
                .checks()
                .report(Rule::RestartsOnce, format!("{title} still has to restart workloads: {restart}"));
        }
        if !has_labels(world, key) {
            let what = format!("{title} is ready, and its Secret was not repaired");
            world.checks().report(Rule::Settles, what);
        }
        // The status of a restored ServiceKey is lost, so the marks in its Secret say when its key ends. Whoever forges
        // them can hide that.
        let may_be_forged = owners(key).len() > 1 && world.checks().was_touched(&place(key));
        if let Some(end) = ended(world, key).filter(|_| !may_be_forged && !waits) {
            let what = format!("{title} is ready, and its certificate ended at {end}");
            world.checks().report(Rule::Expiry, what);
        }
        let uid = text(key, "/metadata/uid").and_then(|uid| uid.parse().ok()).unwrap_or_default();
        if owners(key).len() == 1 && !waits && world.checks().has_other_parameters(uid) {
            let what = format!("{title} is ready, and its key was created from other parameters");
            world.checks().report(Rule::Settles, what);
        }
        let was_robbed = owners(key).into_iter().any(|uid| {
            let checks = world.checks();
            checks.was_robbed(uid) || checks.is_contested(uid)
        });
        if !was_robbed && !holds_living_key(world, key) {
            let what = format!("{title} is ready, and its Secret contains no key that works");
            world.checks().report(Rule::Settles, what);
        }
    }
    let owners: BTreeSet<Uuid> = keys.iter().flat_map(owners).collect();
    let mut checks = world.checks();
    let orphans: Vec<_> = checks
        .alive()
        .filter(|key| key.mark.is_none_or(|(uid, _)| !owners.contains(&uid) && !checks.may_stay(uid)))
        .map(|key| format!("{key:?}"))
        .collect();
    for orphan in orphans {
        checks.report(Rule::NoOrphan, format!("nobody has {orphan}"));
    }
    // A key that stays has lost its mark, so that no scan reports it as an orphan.
    for key in world.sides.iter().flat_map(super::sides::Side::keys) {
        if let Some((uid, sequence)) = key.mark.filter(|(uid, _)| checks.is_retained(*uid)) {
            checks
                .report(Rule::NoOrphan, format!("key {sequence} of the gone ServiceKey {uid} has its mark"));
        }
    }
    for uid in owners {
        let alive = checks.alive_numbers(uid);
        if alive > 1 && !checks.may_stay(uid) {
            checks.report(Rule::Settles, format!("the ServiceKey {uid} still has {alive} keys"));
        }
    }
    for secret in world.cluster.objects("secrets").iter().filter(|secret| is_managed(secret)) {
        let owner = text(secret, "/metadata/labels/servicekeys.dev~1owner-uid").unwrap_or_default();
        let is_owned = keys.iter().any(|key| text(key, "/metadata/uid") == Some(owner));
        if checks.is_from_backup(&place(secret)) {
            continue;
        }
        let (namespace, name) = place(secret);
        if !is_owned {
            checks.report(Rule::NoStraySecret, format!("the Secret {namespace}/{name} has no ServiceKey"));
        } else if is_staging(secret) {
            let what =
                format!("the Secret {namespace}/{name} still contains credentials that are not published");
            checks.report(Rule::NoStraySecret, what);
        }
    }
}

/// Checks that nothing happened but checks of providers.
fn rested(world: &World, calm: Happenings) {
    let now = world.happenings();
    let (calls, writes) =
        (now.remote_changes - calm.remote_changes, now.cluster_changes - calm.cluster_changes);
    if calls > 0 {
        world
            .checks()
            .report(Rule::Rest, format!("{calls} calls changed a remote side within an hour of rest"));
    }
    if writes > 0 {
        world
            .checks()
            .report(Rule::Rest, format!("{writes} writes to the API server within an hour of rest"));
    }
    world.see_cluster(Author::Other);
}

fn owners(key: &Value) -> Vec<Uuid> {
    let uids = ["/metadata/uid", "/status/formerUid"];
    uids.iter().filter_map(|path| text(key, path)?.parse().ok()).collect()
}

/// Whether the Secret of a ServiceKey has the operator's labels.
fn has_labels(world: &World, key: &Value) -> bool {
    let (namespace, name) = place(key);
    let secret = world.cluster.object("secrets", Some(&namespace), &name);
    secret.is_none_or(|secret| is_managed(&secret))
}

fn holds_living_key(world: &World, key: &Value) -> bool {
    living_key(world, key).is_some()
}

/// The end of the certificate in the Secret of a ServiceKey, if it is over.
fn ended(world: &World, key: &Value) -> Option<Timestamp> {
    living_key(world, key)?.ends.filter(|end| *end <= world.clock.now())
}

/// The key that the Secret of a ServiceKey contains, if it works.
fn living_key(world: &World, key: &Value) -> Option<SideKey> {
    let (namespace, name) = place(key);
    let secret = world.cluster.object("secrets", Some(&namespace), &name)?;
    let texts = super::checks::current_texts(&secret);
    let checks = world.checks();
    let mut alive = owners(key).into_iter().flat_map(|uid| checks.alive_of(uid));
    alive.find(|key| texts.contains(&key.secret)).cloned()
}
