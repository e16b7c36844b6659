//! Many keys with certificates over a long time: the operator has to replace each key before its certificate ends,
//! although it crashes, and although the broker and the API server are out of order again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use servicekey_operator::api::custom_resource_definitions;
use tokio::{task::JoinSet, time::sleep};

use super::{
    Chance, Journal, Mishap, Process, Requests, Trouble,
    actors::{Actors, Plan},
    api_server::Definitions,
    checks::{is_ready, place, ready, text},
    run::Replica,
    script::Action,
    services::Services,
    sides::SideKind,
    world::World,
};

const HOUR: Duration = Duration::from_secs(3600);
/// The time between two looks at all Secrets.
const STEP: Duration = HOUR;
/// The time between two bookmarks. A client gives up a watch that is silent for five minutes.
const BOOKMARKS: Duration = Duration::from_secs(240);
/// The longest outage of the broker: a weekend.
const LONGEST_OUTAGE: u32 = 48;
/// The shortest time between two outages of the broker, in hours.
const SHORTEST_PAUSE: u32 = 24;
/// The longest time in which the first keys are created, in hours.
const BEGINNING: u32 = 24;

/// The parameters of a simulated year.
#[derive(Clone, Copy, Debug)]
pub struct YearSettings {
    /// The seed.
    pub seed: u64,
    /// The number of ServiceKeys.
    pub keys: usize,
    /// The days that pass.
    pub days: u32,
    /// The life of each certificate, in days.
    pub life: u32,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Year {
    /// The keys that were created: the sum of the numbers of all current keys.
    pub created: u64,
    /// The keys that exist at the end.
    pub alive: usize,
    /// The processes of the operator that were killed.
    pub crashes: u32,
    /// The outages of the broker.
    pub outages: u32,
    /// Their hours together.
    pub outage_hours: u32,
    /// The least time that a certificate in a Secret had left.
    pub least_left: Option<Duration>,
    /// The Secrets that contained a certificate that had ended, and ServiceKeys that were not ready at the end.
    pub failures: BTreeSet<String>,
}

impl fmt::Display for Year {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { created, alive, crashes, outages, outage_hours, least_left, failures } = self;
        writeln!(f, "{created} keys were created, {alive} exist at the end")?;
        writeln!(
            f,
            "{crashes} crashes, {outages} outages of the broker that lasted {outage_hours} hours together"
        )?;
        match least_left.map(|left| left.as_secs() / 3600) {
            Some(hours) => writeln!(f, "each certificate in a Secret had at least {hours} hours left")?,
            None => writeln!(f, "no Secret contained a certificate")?,
        }
        write!(f, "{} failures", failures.len())?;
        failures.iter().try_for_each(|failure| write!(f, "\n  {failure}"))
    }
}

/// Simulates the time. The same settings are the same run, in a process that first called
/// [`seed_process`](super::seed_process). `see` gets the number of each day that has passed.
///
/// # Errors
/// The world can't be built.
pub fn run_year(settings: &YearSettings, see: impl FnMut(u32)) -> Result<Year, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|error| error.to_string())?.block_on(pass(settings, see))
}

async fn pass(settings: &YearSettings, mut see: impl FnMut(u32)) -> Result<Year, String> {
    let chance = Chance::of(settings.seed);
    let crds: Result<Vec<Value>, _> =
        custom_resource_definitions().iter().map(serde_json::to_value).collect();
    let definitions = Definitions::new(&crds.map_err(|error| error.to_string())?)?;
    let life = 24 * settings.life * HOUR;
    let sides = [(SideKind::Broker, "broker", Some(life))];
    let hostility = chance.fork();
    let services = Services::new(Chance::of(settings.seed));
    let world = World::new(&chance, &hostility, &definitions, &sides, services, Journal::begin(false))?;
    world.end_checks();
    let processes = Arc::new(Mutex::new(Vec::new()));
    let plan = Plan {
        keys: (0..settings.keys).map(|number| (number, 0)).collect(),
        is_shared: vec![true],
        waits_for_pods: vec![false; settings.keys],
        follows_parameters: vec![false; settings.keys],
        verify: vec![None; settings.keys],
    };
    let mut actors = Actors::new(Arc::clone(&world), plan, Arc::clone(&processes));
    actors.set_up();
    let mut tasks = JoinSet::new();
    let process = Process::start("operator-0");
    processes.lock().push(process.clone());
    let replica = Replica {
        world: Arc::clone(&world),
        processes: Arc::clone(&processes),
        replica: 0,
        chance: chance.fork(),
    };
    tasks.spawn(replica.live(process, false));
    let tended = Arc::clone(&world);
    tasks.spawn(async move {
        loop {
            sleep(BOOKMARKS).await;
            tended.cluster.send_bookmarks();
        }
    });

    let mut year = Year::default();
    let mut ends = CertificateEnds::default();
    let mut next_outage = BEGINNING + chance.below(240);
    let mut missing = (0..settings.keys).peekable();
    for hour in 0..24 * settings.days {
        let already = settings.keys * usize::try_from(hour + 1).unwrap_or(usize::MAX)
            / usize::try_from(BEGINNING).unwrap_or(1);
        while let Some(key) = missing.next_if(|key| *key < already) {
            actors.act(&Action::Create { key });
        }
        if hour == next_outage {
            let lasts = 1 + chance.below(LONGEST_OUTAGE);
            let mishap = *chance.pick(&[Mishap::NotConnected, Mishap::Refused(503), Mishap::Refused(500)]);
            world.trouble_side(0, Trouble { mishap, percent: 100, lasts: lasts * HOUR, of: Requests::All });
            (year.outages, year.outage_hours) = (year.outages + 1, year.outage_hours + lasts);
            next_outage = hour + lasts + SHORTEST_PAUSE + chance.below(240);
        }
        if chance.percent(2) {
            let mishap = *chance.pick(&[Mishap::NotConnected, Mishap::LostAnswer, Mishap::Refused(503)]);
            let lasts = HOUR / 60 * (1 + chance.below(60));
            world.trouble_cluster(Trouble { mishap, percent: 50, lasts, of: Requests::All });
        }
        if chance.percent(2) {
            year.crashes += 1;
            actors.act(&Action::Crash { replica: 0, effects: chance.below(4) });
        }
        sleep(STEP).await;
        ends.see(&world);
        let left = ends.least_left(world.clock.now(), &mut year.failures);
        year.least_left = year.least_left.into_iter().chain(left).min();
        world.tend_cluster();
        world.cluster.compact();
        if (hour + 1).is_multiple_of(24) {
            see((hour + 1) / 24);
        }
    }
    world.end_trouble();
    sleep(HOUR).await;
    let keys = world.cluster.objects("servicekeys");
    for key in keys.iter().filter(|key| !is_ready(key)) {
        let (namespace, name) = place(key);
        year.failures.insert(format!("{namespace}/{name} is not ready: {}", ready(key)));
    }
    let sequence = |key: &Value| key.pointer("/status/key/sequence").and_then(Value::as_u64);
    year.created = keys.iter().filter_map(sequence).sum();
    year.alive = world.sides[0].keys().len();
    Ok(year)
}

/// The ends of the certificates in all Secrets.
#[derive(Default)]
struct CertificateEnds {
    ends: BTreeMap<(String, String), Timestamp>,
    seen: u64,
}

impl CertificateEnds {
    /// Reads the Secrets that have changed.
    fn see(&mut self, world: &World) {
        let changes = world.cluster.changes_since(self.seen);
        self.seen = world.cluster.resource_version();
        for change in changes.into_iter().filter(|change| change.resource == "secrets") {
            let Some(secret) = change.after else { continue };
            let end = text(&secret, "/data/valid_until")
                .and_then(|text| String::from_utf8(STANDARD.decode(text).ok()?).ok()?.parse().ok());
            if let Some(end) = end {
                self.ends.insert(place(&secret), end);
            }
        }
    }

    /// The least time that one of the certificates has left. Reports those that have ended.
    fn least_left(&self, now: Timestamp, failures: &mut BTreeSet<String>) -> Option<Duration> {
        for ((namespace, name), end) in self.ends.iter().filter(|(_, end)| **end <= now) {
            failures.insert(format!("the certificate in the Secret {namespace}/{name} ended at {end}"));
        }
        let end = self.ends.values().min()?;
        Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
    }
}
