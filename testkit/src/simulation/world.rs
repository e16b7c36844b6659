//! The world of a run: the cluster, the remote sides, the clocks, and what lies between them and the operator.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{Method, Request, Response};
use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use servicekey_operator::testing::Undelivered;
use tokio::time::Instant;

use super::{
    Chance, Journal, Mishap, Process, Trouble,
    api_server::{Answer, ApiServer, Call, Definitions},
    checks::{Author, Checks, ClusterChange, Rule},
    custody::Sent,
    hostile::HostileSide,
    network::{LARGEST_ANSWER, LATENCY},
    services::Services,
    sides::{Side, SideKind},
    trouble::Troubles,
};
use crate::remote::Environment;

/// The start of each run.
const START: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// The namespace of the operator, its Lease, and the logins of ClusterKeyProviders.
pub const SYSTEM: &str = "servicekeys-system";

/// The clock that all machines of the world share. It follows tokio's clock, and may jump.
#[derive(Clone, Debug)]
pub struct WorldClock {
    began: Instant,
    ahead: Arc<AtomicI64>,
    /// The most that it was ahead until now.
    most_ahead: Arc<AtomicI64>,
}

impl Default for WorldClock {
    fn default() -> Self {
        Self::start()
    }
}

impl WorldClock {
    fn start() -> Self {
        Self { began: Instant::now(), ahead: Arc::default(), most_ahead: Arc::default() }
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.began.elapsed()).unwrap_or(SignedDuration::MAX);
        let passed = passed + SignedDuration::from_secs(self.ahead.load(Ordering::SeqCst));
        START.saturating_add(passed).unwrap_or(START)
    }

    /// Corrects a clock that is behind. Until then, everything that waits for a time waits longer.
    pub fn correct(&self) {
        self.ahead.fetch_max(0, Ordering::SeqCst);
    }

    /// Lets the clock jump.
    pub fn jump(&self, seconds: i64) {
        let before = self.ahead.fetch_add(seconds, Ordering::SeqCst);
        self.most_ahead.fetch_max(before + seconds, Ordering::SeqCst);
    }

    /// How much later than planned a time comes that was set while the clock was ahead.
    #[must_use]
    pub fn delay(&self) -> Duration {
        let delay = self.most_ahead.load(Ordering::SeqCst) - self.ahead.load(Ordering::SeqCst);
        Duration::from_secs(u64::try_from(delay).unwrap_or_default())
    }
}

/// Counts of what happened, for the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happenings {
    /// Calls that reached a remote side.
    pub remote_calls: u64,
    /// Of them, those that may change something. A login changes nothing.
    pub remote_changes: u64,
    /// Requests to the API server that changed an object.
    pub cluster_changes: u64,
    /// Requests that had a mishap.
    pub mishaps: u64,
    /// Processes that were killed.
    pub crashes: u64,
}

/// The world. Everything in it happens on one thread.
pub struct World {
    /// The API server.
    pub cluster: ApiServer,
    /// The remote sides.
    pub sides: Vec<Side>,
    /// The services that the keys are for.
    pub services: Services,
    /// The remote side of the hostile tenant.
    pub hostile: HostileSide,
    /// The clock.
    pub clock: WorldClock,
    /// The record of the run.
    pub journal: Journal,
    checks: Mutex<Checks>,
    chance: Chance,
    troubles: Mutex<Vec<Troubles>>,
    cluster_troubles: Mutex<Troubles>,
    happenings: Mutex<Happenings>,
    seen: AtomicU64,
    is_checked: AtomicBool,
}

impl World {
    /// A world with these remote sides, by kind, name and life of the certificates in their keys. `hostility` decides what the hostile side does.
    ///
    /// # Errors
    /// A fake refuses its options.
    pub fn new(
        chance: &Chance,
        hostility: &Chance,
        definitions: &Definitions,
        sides: &[(SideKind, &str, Option<Duration>)],
        services: Services,
        journal: Journal,
    ) -> Result<Arc<Self>, String> {
        let clock = WorldClock::start();
        let ids = chance.fork();
        let times = clock.clone();
        let environment = Environment::new(
            move || times.now(),
            move || {
                let halves = [(); 2].map(|()| u128::from(ids.number()));
                uuid::Builder::from_random_bytes((halves[0] << 64 | halves[1]).to_be_bytes()).into_uuid()
            },
        );
        let sides: Result<Vec<_>, _> = sides
            .iter()
            .map(|(kind, name, life)| Side::new(*kind, name, *life, environment.clone()))
            .collect();
        let sides = sides?;
        let mut checks = Checks::new(clock.clone());
        for side in &sides {
            side.passwords().iter().for_each(|password| checks.logins.add(password, &side.name));
        }
        let hostile = HostileSide::new(hostility.fork(), environment)?;
        let times = clock.clone();
        let cluster = ApiServer::new(definitions, Arc::new(move || times.now()), chance.number());
        Ok(Arc::new(Self {
            cluster,
            troubles: Mutex::new(sides.iter().map(|_| Troubles::default()).collect()),
            sides,
            services,
            hostile,
            clock,
            journal,
            checks: Mutex::new(checks),
            chance: chance.fork(),
            cluster_troubles: Mutex::default(),
            happenings: Mutex::default(),
            seen: AtomicU64::new(0),
            is_checked: AtomicBool::new(true),
        }))
    }

    /// Lets the checks see nothing more. With many keys over a long time, they would take most of the time.
    pub fn end_checks(&self) {
        self.is_checked.store(false, Ordering::SeqCst);
    }

    /// The checks.
    pub fn checks(&self) -> MutexGuard<'_, Checks> {
        self.checks.lock()
    }

    /// What happened so far.
    #[must_use]
    pub fn happenings(&self) -> Happenings {
        *self.happenings.lock()
    }

    /// Counts something.
    pub fn count(&self, count: impl FnOnce(&mut Happenings)) {
        count(&mut self.happenings.lock());
    }

    /// The mishap and the latency of a request to a remote side.
    #[must_use]
    pub fn way_to(&self, side: usize, request: &Request<Bytes>) -> (Option<Mishap>, Duration) {
        let creates = [Method::POST, Method::PUT].contains(request.method()) && !is_login(request);
        let mut troubles = self.troubles.lock();
        let mishap = troubles.get_mut(side).and_then(|troubles| troubles.mishap(&self.chance, creates));
        self.count(|happened| happened.mishaps += u64::from(mishap.is_some()));
        (mishap, self.chance.millis(LATENCY))
    }

    /// The same for a request to the API server.
    #[must_use]
    pub fn way_to_cluster(&self) -> (Option<Mishap>, Duration) {
        let mishap = self.cluster_troubles.lock().mishap(&self.chance, false);
        self.count(|happened| happened.mishaps += u64::from(mishap.is_some()));
        (mishap, self.chance.millis(1..30))
    }

    /// Starts trouble on the way to a remote side.
    pub fn trouble_side(&self, side: usize, trouble: Trouble) {
        if let Some(troubles) = self.troubles.lock().get_mut(side) {
            troubles.start(trouble);
        }
    }

    /// Starts trouble on the way to the API server.
    pub fn trouble_cluster(&self, trouble: Trouble) {
        self.cluster_troubles.lock().start(trouble);
    }

    /// Ends all trouble.
    pub fn end_trouble(&self) {
        self.troubles.lock().iter_mut().for_each(Troubles::end);
        self.cluster_troubles.lock().end();
    }

    /// Carries out a call of a process at a remote side, and checks what it changed.
    ///
    /// # Errors
    /// The connection was closed before the answer.
    pub async fn call(
        &self,
        side: usize,
        process: &Process,
        sent: &Sent,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, Undelivered> {
        let changes = !is_login(&request) && ![Method::GET, Method::HEAD].contains(request.method());
        let what = format!("-> {} {}", request.method(), request.uri());
        self.count(|happened| {
            happened.remote_calls += 1;
            happened.remote_changes += u64::from(changes);
        });
        self.checks().called(side, process.name(), changes);
        let searched = Some(request.uri().clone()).filter(|_| request.method() == Method::GET);
        let answer = self.sides[side].call(request).await;
        searched.iter().for_each(|uri| self.checks().looked(uri));
        self.journal.note(process.name(), what);
        self.checks().caused_by(Some(sent.clone()));
        self.see_side(side, Author::Operator);
        self.checks().caused_by(None);
        if changes {
            process.has_effect();
        }
        answer.map_err(|_| Undelivered::Cut)
    }

    /// Lets the checks see a request to a remote side when it is sent; `None`: to a host that no side has.
    pub fn sent(&self, side: Option<usize>, request: &Request<Bytes>) {
        let name = side.map(|side| self.sides[side].name.as_str());
        self.checks().sent(name, request);
    }

    /// Carries out a call to a host that no side has: one of the hostile tenant, or none.
    ///
    /// # Errors
    /// No host has that name, or the connection was closed before the answer.
    pub async fn call_others(
        &self,
        process: &Process,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, Undelivered> {
        let what = format!("{} {}", request.method(), request.uri());
        if !self.hostile.side().serves(request.uri()) {
            self.journal.note(process.name(), format_args!("{what}: no such host"));
            return Err(Undelivered::NotConnected);
        }
        let answer = self.hostile.call(request, &self.sides[0].host()).await;
        let status = answer.as_ref().map(|answer| answer.status().as_u16());
        self.journal.note(process.name(), format_args!("{what}: {status:?}"));
        answer
    }

    /// Logs in to a service with this password. Returns whether the service accepts it.
    pub fn log_in(&self, process: &Process, password: &str) -> bool {
        let exists = self.sides.iter().flat_map(Side::keys).any(|key| key.secret == password);
        let is_accepted = exists && self.services.accept(password);
        let what = if is_accepted { "the service accepts a key" } else { "the service refuses a key" };
        self.journal.note(process.name(), what);
        self.checks().tried(process.name(), password, is_accepted);
        is_accepted
    }

    /// Lets the checks see the answer to a creation or a login when a process receives it.
    ///
    /// # Errors
    /// The connection was closed before the end of the answer.
    pub async fn received(
        &self,
        side: usize,
        process: &Process,
        answer: Response<Body>,
    ) -> Result<Response<Body>, Undelivered> {
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, LARGEST_ANSWER).await.map_err(|_| Undelivered::Cut)?;
        let mut checks = self.checks();
        checks.received(process.name(), side, &body);
        for token in tokens(&body) {
            checks.logins.add(&token, &self.sides[side].name);
        }
        drop(checks);
        Ok(Response::from_parts(head, Body::from(body)))
    }

    /// Lets the checks see a remote side.
    pub fn see_side(&self, side: usize, by: Author) {
        if !self.is_checked.load(Ordering::SeqCst) {
            return;
        }
        let of = &self.sides[side];
        let (keys, lists) = (of.keys(), of.kind() != SideKind::Broker);
        keys.iter().for_each(|key| self.services.see(key));
        self.checks().side_changed(side, lists, keys, by);
    }

    /// Lets the checks see the changes of the cluster.
    pub fn see_cluster(&self, by: Author) {
        if !self.is_checked.load(Ordering::SeqCst) {
            return;
        }
        let seen = self.seen.swap(self.cluster.resource_version(), Ordering::SeqCst);
        let mut checks = self.checks();
        for change in self.cluster.changes_since(seen) {
            let shown = change.after.as_ref().or(change.before.as_ref());
            if let Some(shown) = shown.filter(|_| change.resource != "leases") {
                let (namespace, name) = super::checks::place(shown);
                let what = match (&change.before, &change.after) {
                    (None, _) => "created",
                    (_, None) => "deleted",
                    _ => "changed",
                };
                self.journal.note("cluster", format_args!("{what} {} {namespace}/{name}", change.resource));
            }
            let (before, after) = (change.before.as_ref(), change.after.as_ref());
            checks.cluster_changed(ClusterChange { resource: &change.resource, before, after }, by);
        }
    }

    /// A request of somebody other than the operator. Returns the status and the answer.
    pub fn request(&self, call: &Call) -> (u16, Value) {
        let answer = match self.cluster.answer(call) {
            Answer::Complete { code, body } => (code, serde_json::from_str(&body).unwrap_or_default()),
            Answer::Watch(_) => (200, Value::Null),
        };
        self.see_cluster(Author::Other);
        answer
    }

    /// Ends the work of the remote sides in the background.
    pub fn finish_work(&self) {
        for (number, side) in self.sides.iter().enumerate() {
            side.finish_work();
            self.see_side(number, Author::Operator);
        }
    }

    /// Lets the controllers of the cluster work.
    pub fn tend_cluster(&self) {
        let _ = (
            self.cluster.collect_garbage(),
            self.cluster.finalize_namespaces(),
            self.cluster.expire_events(),
        );
        self.see_cluster(Author::Other);
    }

    /// Checks what is wrong at any time.
    pub fn check_models(&self) {
        for unmodelled in self.cluster.unmodelled() {
            self.checks().report(Rule::Modelled, unmodelled);
        }
    }
}

fn is_login(request: &Request<Bytes>) -> bool {
    request.uri().path().ends_with("/token")
}

/// The tokens in the answer to a login.
fn tokens(answer: &[u8]) -> Vec<String> {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let token = |name| answer.get(name)?.as_str().filter(|token| token.len() > 8).map(str::to_owned);
    ["access_token", "refresh_token"].into_iter().filter_map(token).collect()
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("sides", &self.sides).finish_non_exhaustive()
    }
}
