//! The services that the keys are for. The operator logs in to them with new credentials before it publishes these
//! (`spec.rotation.verify`).
//!
//! A service accepts most new keys at once, some of them a while after their creation, and a few of them never. It
//! refuses a key that is revoked. Some logins do not reach it, and some of its answers are lost.

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use servicekey_operator::testing::{Probe, ProbeFailure, Prober};
use tokio::time::{Instant, sleep};

use super::{Chance, Process, sides::SideKey, world::World};

/// How many of 100 keys are accepted late.
const LATE: u32 = 25;
/// How late they are accepted, in seconds.
const DELAY: Range<u32> = 1..60;
/// How many of 100 keys are never accepted.
const DEAD: u32 = 12;
/// How many of 100 logins fail on their way.
const LOST: u32 = 8;
/// The time that a login needs for one direction, in milliseconds.
const LATENCY: Range<u32> = 1..200;
/// The time until the prober gives up a login that failed on its way, in milliseconds.
const SILENCE: Range<u32> = 1..5000;

/// The services of a run.
#[derive(Debug)]
pub struct Services {
    chance: Chance,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the service accepts each key, by the text that only its credentials contain; `None`: never.
    accepted_from: BTreeMap<String, Option<Instant>>,
    /// The services accept each key that exists.
    is_healed: bool,
}

/// The way of a login to the service and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The answer arrives.
    Clear,
    /// The service does not see the login.
    LostBefore,
    /// The service sees the login, and its answer is lost.
    LostAfter,
}

impl Services {
    /// Services whose behaviour is drawn from this chance.
    #[must_use]
    pub fn new(chance: Chance) -> Self {
        Self { chance, state: Mutex::default() }
    }

    /// Decides when the service accepts a key that was just created.
    pub fn see(&self, key: &SideKey) {
        let mut state = self.state.lock();
        if key.secret.is_empty() || state.accepted_from.contains_key(&key.secret) {
            return;
        }
        let from = match self.chance.below(100) {
            kind if kind < DEAD => None,
            kind if kind < DEAD + LATE => Some(Instant::now() + self.chance.seconds(DELAY)),
            _ => Some(Instant::now()),
        };
        state.accepted_from.insert(key.secret.clone(), from);
    }

    /// Lets the services accept each key that exists, and lets no login fail.
    pub fn heal(&self) {
        self.state.lock().is_healed = true;
    }

    /// Whether the services accept each key that exists.
    #[must_use]
    pub fn are_healed(&self) -> bool {
        self.state.lock().is_healed
    }

    /// Whether the service accepts an existing key with this text now.
    #[must_use]
    pub fn accept(&self, secret: &str) -> bool {
        let state = self.state.lock();
        let from = state.accepted_from.get(secret).copied().flatten();
        state.is_healed || from.is_some_and(|from| from <= Instant::now())
    }

    fn way(&self) -> (Way, Duration) {
        let is_lost = self.chance.percent(LOST) && !self.are_healed();
        let way = match (is_lost, self.chance.percent(50)) {
            (false, _) => Way::Clear,
            (true, true) => Way::LostBefore,
            (true, false) => Way::LostAfter,
        };
        (way, self.chance.millis(LATENCY))
    }
}

/// Logs in to the services for one process of the operator.
#[derive(Clone)]
pub struct ServiceProber {
    world: Arc<World>,
    process: Process,
}

impl ServiceProber {
    /// The prober of this process.
    #[must_use]
    pub const fn new(world: Arc<World>, process: Process) -> Self {
        Self { world, process }
    }

    async fn log_in(&self, namespace: &str, probe: &Probe) -> Result<(), ProbeFailure> {
        let Self { world, process } = self;
        process.runs().await;
        let (way, latency) = world.services.way();
        sleep(latency).await;
        let is_accepted =
            way != Way::LostBefore && world.log_in(process, password(probe).unwrap_or_default());
        sleep(if way == Way::Clear { latency } else { world.services.chance.millis(SILENCE) }).await;
        process.runs().await;
        match way {
            Way::LostBefore | Way::LostAfter => Err(ProbeFailure::unreachable(namespace, probe)),
            Way::Clear if is_accepted => Ok(()),
            Way::Clear => Err(ProbeFailure::refused(namespace, probe, "WRONGPASS")),
        }
    }
}

impl Prober for ServiceProber {
    fn has_networks(&self, _: &str) -> bool {
        true
    }

    fn probe<'a>(&'a self, namespace: &'a str, probe: &'a Probe) -> BoxFuture<'a, Result<(), ProbeFailure>> {
        Box::pin(self.log_in(namespace, probe))
    }
}

impl fmt::Debug for ServiceProber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceProber")
    }
}

/// The password of the login.
fn password(probe: &Probe) -> Option<&str> {
    let secret: Option<&SecretString> = match probe {
        Probe::Tcp { .. } | Probe::Tls { .. } => None,
        Probe::Http { headers, .. } => headers.first().map(|(_, value)| value),
        Probe::Postgres { password, .. } | Probe::Redis { password, .. } => Some(password),
    };
    secret.map(|secret| secret.expose_secret())
}
