//! A model of kube-apiserver: one process, no threads, no clock and no randomness of its own.
//!
//! [`ApiServer::answer`] is the whole server as a function. [`ApiServer::client`] puts it behind a `kube::Client`. The
//! owner of the server decides when time passes, when watches deliver, end or expire, and when the background
//! controllers work: [`collect_garbage`](ApiServer::collect_garbage),
//! [`finalize_namespaces`](ApiServer::finalize_namespaces) and [`expire_events`](ApiServer::expire_events). So a run
//! with the same seed is the same run.
//!
//! A test compares the answers and the events of the model with those of the real server.
//!
//! # What the model leaves out
//! The server refuses everything that it does not model with 501, and [records](ApiServer::unmodelled) it:
//! server-side apply, strategic merge patches, `deletecollection`, streaming lists, foreground and orphaning deletes,
//! subresources other than `status`, fields of built-in resources that the operator does not use, and resources that it
//! does not use.
//!
//! Some differences remain without a refusal:
//!
//! - `metadata.managedFields` is always absent. A write that changes only them changes nothing here.
//! - All requests are authenticated and authorized.
//! - A ResourceQuota limits at once. On the real server, a controller fills its status first.
//! - The namespace controller adds no conditions to a namespace.
//! - Lists in version 0 are never stale, and answers carry no warnings.

mod admission;
mod delete;
mod garbage;
mod history;
mod kinds;
mod metadata;
mod names;
mod namespaces;
mod patch;
mod quota;
mod read;
mod request;
mod rules;
mod schema;
mod selectors;
mod service;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod typed;
mod watch;
mod write;

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use uuid::Uuid;

pub use admission::{Mutate, Review, Validate};
pub use history::ObjectChange;
pub use kinds::Definitions;
pub use request::{Call, Verb};
pub use service::{AnswerBody, Connection};
pub use status::Refusal;
pub use watch::{OpenWatch, WatchId, WatchStream};

use kinds::{Kind, Strategy};
use request::{Request, Unclear};
use store::{Store, Stored};
use watch::Watches;

/// The time after which the server forgets an Event that is not updated.
const EVENT_LIFETIME: SignedDuration = SignedDuration::from_hours(1);

/// The current time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The answer to a [`Call`].
pub enum Answer {
    /// A status code and a JSON text.
    Complete {
        /// The HTTP status code.
        code: u16,
        /// An object, a list or a `Status`.
        body: String,
    },
    /// The events of a watch.
    Watch(WatchStream),
}

impl Answer {
    fn complete(code: u16, body: String) -> Self {
        Self::Complete { code, body }
    }

    fn refused(refusal: &Refusal) -> Self {
        Self::complete(refusal.code, refusal.to_json().to_string())
    }
}

/// The requests of one client with one verb for one resource, such as `servicekeys` or `servicekeys/status`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CountKey {
    /// The client.
    pub caller: String,
    /// The verb.
    pub verb: Verb,
    /// The resource.
    pub resource: String,
}

/// The number of requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// All requests.
    pub requests: u64,
    /// Those that changed a stored object.
    pub changes: u64,
}

/// A server. Clones are handles to the same server.
#[derive(Clone)]
pub struct ApiServer(Arc<Mutex<State>>);

struct State {
    definitions: Definitions,
    clock: Clock,
    ids: Ids,
    store: Store,
    watches: Watches,
    hooks: admission::Hooks,
    counts: BTreeMap<CountKey, Count>,
    unmodelled: Vec<String>,
}

struct Ids {
    seed: Uuid,
    issued: u64,
    random: fastrand::Rng,
}

impl Ids {
    fn new(seed: u64) -> Self {
        let name = format!("api server {seed}");
        let random = fastrand::Rng::with_seed(seed);
        Self { seed: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()), issued: 0, random }
    }

    fn uid(&mut self) -> String {
        self.issued += 1;
        Uuid::new_v5(&self.seed, &self.issued.to_be_bytes()).to_string()
    }
}

impl ApiServer {
    /// A server with the namespaces of every cluster. The seed determines all UIDs and generated names.
    #[must_use]
    pub fn new(definitions: &Definitions, clock: Clock, seed: u64) -> Self {
        let mut state = State {
            definitions: definitions.clone(),
            clock,
            ids: Ids::new(seed),
            store: Store::new(definitions),
            watches: Watches::default(),
            hooks: admission::Hooks::default(),
            counts: BTreeMap::new(),
            unmodelled: Vec::new(),
        };
        for name in namespaces::INITIAL {
            let namespace = json!({"metadata": {"name": name}});
            state.answer(&Call::new(http::Method::POST, "/api/v1/namespaces").with_body(&namespace));
        }
        state.counts.clear();
        Self(Arc::new(Mutex::new(state)))
    }

    /// Answers one request.
    #[must_use]
    pub fn answer(&self, call: &Call) -> Answer {
        self.0.lock().answer(call)
    }

    /// A connection whose requests are counted for this caller. Middleware can wrap it.
    #[must_use]
    pub fn connection(&self, caller: &str) -> Connection {
        Connection::new(self.clone(), caller)
    }

    /// A client whose requests are counted for this caller. Call it in a runtime of tokio.
    #[must_use]
    pub fn client(&self, caller: &str) -> Client {
        Client::new(self.connection(caller), "default")
    }

    /// All objects of a resource such as `secrets`, in the order of a list.
    #[must_use]
    pub fn objects(&self, resource: &str) -> Vec<Value> {
        let state = self.0.lock();
        let Some(kind) = state.definitions.by_resource(resource) else { return Vec::new() };
        state.store.all(kind).map(|(_, stored)| typed_value(kind, stored)).collect()
    }

    /// One object; `namespace` is `None` for an object of the cluster.
    #[must_use]
    pub fn object(&self, resource: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
        let state = self.0.lock();
        let kind = state.definitions.by_resource(resource)?;
        let stored = state.store.get(kind, &store::key(namespace, name))?;
        Some(typed_value(kind, stored))
    }

    /// The version of the last change.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.0.lock().store.revision()
    }

    /// The requests so far.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<CountKey, Count> {
        self.0.lock().counts.clone()
    }

    /// The requests that the server refused because it does not model them. A simulation fails if there are any.
    #[must_use]
    pub fn unmodelled(&self) -> Vec<String> {
        self.0.lock().unmodelled.clone()
    }

    /// Deletes objects whose owners are gone, as the garbage collector does, and returns their number.
    #[must_use = "tells whether anything changed"]
    pub fn collect_garbage(&self) -> usize {
        self.0.lock().collect_garbage()
    }

    /// Deletes the content of terminating namespaces, and returns the number of namespaces that are gone.
    #[must_use = "tells whether anything changed"]
    pub fn finalize_namespaces(&self) -> usize {
        self.0.lock().finalize_namespaces()
    }

    /// Deletes Events that were not written for an hour, and returns their number.
    #[must_use = "tells whether anything changed"]
    pub fn expire_events(&self) -> usize {
        self.0.lock().expire_events()
    }

    /// Registers a hook that may change objects at creates and updates. Hooks run in the order of their names.
    pub fn add_mutating_hook(&self, name: &str, hook: Mutate) {
        self.0.lock().hooks.add_mutating(name, hook);
    }

    /// Registers a hook that may refuse creates, updates and deletes.
    pub fn add_validating_hook(&self, name: &str, hook: Validate) {
        self.0.lock().hooks.add_validating(name, hook);
    }

    /// Removes a hook, and returns whether it was registered.
    #[must_use = "tells whether there was such a hook"]
    pub fn remove_hook(&self, name: &str) -> bool {
        self.0.lock().hooks.remove(name)
    }

    /// The open watches, in the order in which they began.
    #[must_use]
    pub fn watches(&self) -> Vec<OpenWatch> {
        self.0.lock().watches.list()
    }

    /// Holds back the events of a watch: the cache of its client becomes stale.
    pub fn pause_watch(&self, id: WatchId) {
        self.0.lock().watches.pause(id);
    }

    /// Delivers the events of a watch that wait, and those that follow.
    pub fn resume_watch(&self, id: WatchId) {
        self.0.lock().watches.resume(id);
    }

    /// Delivers a number of events of a paused watch.
    pub fn deliver(&self, id: WatchId, events: usize) {
        self.0.lock().watches.deliver(id, events);
    }

    /// Ends a watch as a closed connection does. Events that wait are lost.
    pub fn end_watch(&self, id: WatchId) {
        self.0.lock().watches.end(id);
    }

    /// Ends all watches.
    pub fn end_watches(&self) {
        self.0.lock().watches.end_all();
    }

    /// Ends a watch with an error: its version is too old.
    pub fn expire_watch(&self, id: WatchId) {
        let mut state = self.0.lock();
        let version = state.store.revision();
        state.watches.expire(id, version);
    }

    /// Forgets the history. Watches and pages of lists can't begin at an older version: they get 410.
    pub fn compact(&self) {
        self.0.lock().store.compact();
    }

    /// Sends a bookmark to each watch that accepts them.
    pub fn send_bookmarks(&self) {
        let state = self.0.lock();
        state.watches.send_bookmarks(state.store.revision());
    }
}

fn typed_value(kind: &Kind, stored: &Stored) -> Value {
    let mut value = stored.value.clone();
    value["apiVersion"] = kind.api_version().into();
    value["kind"] = kind.kind.as_str().into();
    value
}

impl State {
    fn answer(&mut self, call: &Call) -> Answer {
        let answer = Request::parse(&self.definitions, call).and_then(|request| self.perform(&request));
        match answer {
            Ok(answer) => answer,
            Err(Unclear::Refused(refusal)) => Answer::refused(&refusal),
            Err(Unclear::Unmodelled(what)) => {
                let refusal =
                    Refusal::new(501, "Unmodelled", format!("the model of the API server lacks {what}"));
                self.note_unmodelled(what);
                Answer::refused(&refusal)
            }
        }
    }

    fn perform(&mut self, request: &Request) -> Result<Answer, Unclear> {
        let before = self.store.revision();
        let answer = match request.verb {
            Verb::Get => read::get(request, &self.store).map_err(Unclear::from),
            Verb::List => read::list(request, &self.store),
            Verb::Watch => Ok(Answer::Watch(self.watches.open(request, &self.store)?)),
            Verb::Create => self.create(request),
            Verb::Update => self.update(request),
            Verb::Patch => self.patch(request),
            Verb::Delete => self.delete(request),
        };
        let part = if request.of_status { "/status" } else { "" };
        let resource = format!("{}{part}", request.kind.plural);
        let key = CountKey { caller: request.caller.clone(), verb: request.verb, resource };
        let count = self.counts.entry(key).or_default();
        count.requests += 1;
        count.changes += u64::from(self.store.revision() != before);
        answer
    }

    fn note_unmodelled(&mut self, what: String) {
        if !self.unmodelled.contains(&what) {
            self.unmodelled.push(what);
        }
    }

    /// The time in whole seconds, as metadata shows it.
    fn now(&self) -> Timestamp {
        let now = (self.clock)();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    fn put(&mut self, kind: &Kind, key: &str, stored: Stored) -> Arc<Stored> {
        let stored = self.store.put(kind, key, stored);
        self.report();
        stored
    }

    fn write(&mut self, kind: &Kind, key: &str, value: Value) -> Arc<Stored> {
        let now = self.now();
        self.put(kind, key, Stored::new(value, now))
    }

    fn remove(&mut self, kind: &Kind, key: &str) {
        self.store.delete(kind, key);
        self.report();
    }

    fn report(&mut self) {
        if let Some(change) = self.store.changes_after(self.store.revision() - 1).last() {
            self.watches.report(change);
        }
    }

    fn expire_events(&mut self) -> usize {
        let now = self.now();
        let kinds: Vec<_> = self.definitions.by_strategy(Strategy::Event).cloned().collect();
        let mut expired = 0;
        for kind in kinds {
            let is_old = |stored: &Stored| now.duration_since(stored.written) >= EVENT_LIFETIME;
            let old: Vec<_> = self
                .store
                .all(&kind)
                .filter(|(_, stored)| is_old(stored))
                .map(|(key, _)| key.clone())
                .collect();
            expired += old.len();
            old.iter().for_each(|key| self.remove(&kind, key));
        }
        expired
    }
}
