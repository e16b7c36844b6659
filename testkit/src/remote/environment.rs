//! The clock and the ids of a fake, which a simulation replaces.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::{
    RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

/// The clock and the ids of a fake. Clones share both.
///
/// By default they are those of the system. Lifetimes of tokens and limits of requests follow the clock of tokio, which
/// a paused runtime controls.
#[derive(Clone)]
pub struct Environment {
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ids: Arc<dyn Fn() -> Uuid + Send + Sync>,
}

impl Environment {
    /// An environment with this clock, and with this source of ids and secrets. The ids must be unique.
    pub fn new(
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        ids: impl Fn() -> Uuid + Send + Sync + 'static,
    ) -> Self {
        Self { clock: Arc::new(clock), ids: Arc::new(ids) }
    }

    /// An environment that a simulation can repeat. Its ids derive from the seed. Its clock now shows `start`, and then
    /// follows the clock of tokio.
    #[must_use]
    pub fn seeded(seed: u64, start: Timestamp) -> Self {
        let (began, random) = (Instant::now(), Mutex::new(fastrand::Rng::with_seed(seed)));
        let clock = move || start.saturating_add(began.elapsed()).unwrap_or(start);
        let ids = move || {
            let random = random.lock().unwrap_or_else(PoisonError::into_inner).u128(..);
            uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid()
        };
        Self::new(clock, ids)
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The time since the epoch.
    pub(crate) fn epoch(&self) -> Duration {
        self.now().as_duration().try_into().unwrap_or_default()
    }

    pub(crate) fn id(&self) -> Uuid {
        (self.ids)()
    }

    /// A new id with hyphens.
    pub(crate) fn guid(&self) -> String {
        self.id().to_string()
    }

    /// A new id without hyphens, for secrets and tokens.
    pub(crate) fn secret(&self) -> String {
        self.id().simple().to_string()
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self::new(Timestamp::now, Uuid::new_v4)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// A limit of requests that follows the clock of tokio.
pub(super) type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

/// The clock of tokio, as the time since this value was created.
pub(super) struct TokioClock(Instant);

impl TokioClock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
