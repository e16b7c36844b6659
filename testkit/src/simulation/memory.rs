//! The end of a run: the operator's memory must be as small as that of a new process in the same world.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::{
    Process,
    actors::Actors,
    checks::{Rule, is_staging, place, ready},
    run::LEASE,
    world::World,
};

/// The time in which all ServiceKeys have to disappear after their deletion. Meanwhile each provider is checked.
const LEAVING: Duration = Duration::from_secs(900);
/// The time that a new process gets to fill its tables.
const FILLING: Duration = Duration::from_secs(90);
/// The entries of one table that a ServiceKey may have: one of its own, and one for the former ServiceKey.
const ENTRIES: usize = 2;

/// The samples of which the smallest counts.
const SAMPLES: u32 = 4;
/// The time between two of them.
const BETWEEN_SAMPLES: Duration = Duration::from_secs(15);

/// The processes of the operator that run now, by replica.
type Processes = Arc<Mutex<Vec<Process>>>;
/// The entries of each table, in the replica that has the most.
type Sizes = BTreeMap<&'static str, usize>;

/// Deletes all ServiceKeys, replaces all processes by new ones, and compares the tables. A table may only have more
/// entries than in a new process while there are ServiceKeys, and then only a few for each of them.
pub async fn compare(world: &World, actors: &Actors, processes: &Processes) {
    let keys = world.cluster.objects("servicekeys").len();
    let at_rest = sizes(processes).await;
    actors.delete_all();
    sleep(LEAVING).await;
    for key in world.cluster.objects("servicekeys") {
        let (namespace, name) = place(&key);
        let what = format!("{namespace}/{name} was deleted and is still there: {}", ready(&key));
        world.checks().report(Rule::Settles, what);
    }
    for secret in world.cluster.objects("secrets").iter().filter(|secret| is_staging(secret)) {
        let (namespace, name) = place(secret);
        if !world.checks().is_from_backup(&place(secret)) {
            let what = format!("the Secret {namespace}/{name} is still there after all ServiceKeys are gone");
            world.checks().report(Rule::NoStraySecret, what);
        }
    }
    let emptied = sizes(processes).await;
    let leaving = ENTRIES * world.checks().released_with_keys();
    let killed = processes.lock().clone();
    killed.iter().for_each(Process::end);
    let of_leader = if killed.len() > 1 { LEASE } else { Duration::ZERO };
    sleep(of_leader + FILLING).await;
    let new = sizes(processes).await;
    let mut checks = world.checks();
    for (name, in_new) in new {
        let before = |sizes: &Sizes| sizes.get(name).copied().unwrap_or_default();
        let (full, left) = (before(&at_rest), before(&emptied));
        let due = if name == "departures" { leaving } else { 0 };
        if left > in_new + due {
            let what = format!("{left} {name} after all ServiceKeys are gone, and {in_new} in a new process");
            checks.report(Rule::Forgets, what);
        }
        if full > in_new + ENTRIES * keys + due {
            let what = format!("{full} {name} for {keys} ServiceKeys");
            checks.report(Rule::Forgets, what);
        }
    }
}

/// The smallest sizes within a minute. Requests that are under way at the moment need entries, too.
async fn sizes(processes: &Processes) -> Sizes {
    let mut smallest = sizes_now(processes);
    for _ in 0..SAMPLES {
        sleep(BETWEEN_SAMPLES).await;
        for (name, size) in sizes_now(processes) {
            let least = smallest.entry(name).or_default();
            *least = size.min(*least);
        }
    }
    smallest
}

fn sizes_now(processes: &Processes) -> Sizes {
    let mut sizes = Sizes::new();
    for (name, size) in processes.lock().iter().flat_map(|process| process.tables().read()) {
        let most = sizes.entry(name).or_default();
        *most = size.max(*most);
    }
    sizes
}
