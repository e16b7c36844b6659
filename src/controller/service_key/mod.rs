//! Reconciles ServiceKeys: the watches that trigger the reconciles, and the state that these share.
//!
//! To follow one reconcile, read [`reconcile`] first: its table has every effect in order.

mod apply;
mod consumers;
mod departures;
mod external;
mod heirs;
pub(super) mod index;
pub(super) mod local_state;
mod metrics;
pub(super) mod missing_keys;
mod observe;
mod pending_restarts;
mod reconcile;
mod reconciler;
mod request;
pub(super) mod seats;
mod secret_cache;
pub(super) mod secret_reader;
mod secret_reservations;
mod staging;
pub(super) mod status;
pub(super) mod templates;
mod verification;
mod workloads;

#[cfg(test)]
mod backoff_over_a_day;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use futures::{
    Stream, StreamExt,
    channel::mpsc::UnboundedReceiver,
    stream::{self, BoxStream},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    runtime::{
        Controller, Predicate, PredicateConfig, WatchStreamExt, predicates,
        reflector::{ObjectRef, Store},
    },
};
use uuid::Uuid;

use self::{
    departures::{Departures, Vanished},
    heirs::Heirs,
    local_state::LocalStates,
    pending_restarts::PendingRestarts,
    secret_cache::{OwnWrites, SecretCache},
    secret_reservations::SecretReservations,
};
use super::{
    clock_jumps, finalizer,
    ids::ProviderId,
    queue::Waiters,
    scope::Scope,
    shared::Shared,
    tables::Sizes,
    watch::{self, WatchChange},
};
use crate::{
    api::{ProviderKind, ServiceKey, marks},
    fair::{FairPermit, FairSemaphore, Lane},
};

/// The state that all reconciles of ServiceKeys within one scope share.
struct Context {
    shared: Shared,
    keys: Store<ServiceKey>,
    secrets: SecretCache,
    reservations: Arc<SecretReservations>,
    local_states: Arc<LocalStates>,
    restarts: Arc<PendingRestarts>,
    departures: Arc<Departures>,
    waiting: Arc<Waiters<Uuid>>,
    /// Slots for active reconciles. A reconcile that waits for a remote side has none. Namespaces take turns.
    workers: FairSemaphore,
}

impl Context {
    /// Waits until this process leads and the caches are filled. Before that, an object that a cache does not
    /// show may exist.
    async fn wait_ready(&self) {
        self.shared.leadership.wait(&self.shared.clock).await;
        self.secrets.ready().await;
        self.shared.namespaces.wait_filled().await;
    }

    /// The sizes of the tables of this scope.
    fn table_sizes(&self) -> Sizes {
        let Self {
            shared: _,
            keys,
            secrets,
            reservations,
            local_states,
            restarts,
            departures,
            waiting,
            workers: _,
        } = self;
        vec![
            ("cached ServiceKeys", keys.len()),
            ("own Secrets", secrets.own_len()),
            ("reservations", reservations.len()),
            ("local states", local_states.len()),
            ("pending restarts", restarts.len()),
            ("departures", departures.len()),
            ("waiting ServiceKeys", waiting.len()),
        ]
    }

    /// The ServiceKey as the cache shows it now; `None` once it is gone.
    fn current(&self, key: &ServiceKey) -> Option<Arc<ServiceKey>> {
        self.keys.get(&ObjectRef::from_obj(key)).filter(|current| current.metadata.uid == key.metadata.uid)
    }
}

/// The slot of one active reconcile.
struct Worker<'a> {
    context: &'a Context,
    lane: Lane,
    /// `None` only while the reconcile waits, because nothing closes the semaphore.
    permit: Option<FairPermit>,
}

impl<'a> Worker<'a> {
    async fn acquire(context: &'a Context, lane: Lane) -> Self {
        let mut worker = Self { context, lane, permit: None };
        worker.reacquire().await;
        worker
    }

    /// Releases the slot until `wait` is over.
    async fn idle_during<T>(&mut self, wait: impl Future<Output = T>) -> T {
        self.release();
        let output = wait.await;
        self.reacquire().await;
        output
    }

    fn release(&mut self) {
        self.permit = None;
    }

    async fn reacquire(&mut self) {
        let Context { shared, workers, .. } = self.context;
        self.permit = shared.metrics.worker_queue().during(workers.acquire(&self.lane)).await;
    }
}

/// Reconciles all ServiceKeys of a scope. `relabelled` has the names of namespaces whose labels change.
pub(super) fn serve(
    shared: &Shared,
    scope: &Scope,
    relabelled: BoxStream<'static, String>,
) -> BoxStream<'static, ()> {
    let (watched, vanished) = WatchedKeys::new(shared);
    let watches = shared.metrics.watches();
    let (cache, key_changes) =
        watch::objects::<ServiceKey>(scope.api(shared.client.clone()), watch::config(), watches);
    let key_changes = key_changes
        .inspect({
            let watched = watched.clone();
            move |change| watched.update(change)
        })
        .flat_map(|change| stream::iter(change.applied()).map(Ok))
        .predicate_filter(
            predicates::generation.combine(annotations_of_others).combine(lost_finalizer),
            PredicateConfig::default(),
        );

    let own_writes = OwnWrites::default();
    let seen = own_writes.clone();
    // Only the operator may write this label, so no tenant can fill the cache with Secrets of its own.
    let ours = watch::config().labels(marks::OWNER_UID_LABEL);
    let (secrets, secret_changes) =
        watch::metadata::<Secret>(scope.api(shared.client.clone()), ours, watches);
    let keys = cache.store.clone();
    shared.index.add_keys(cache, Arc::clone(&watched.heirs));
    shared.index.add_secrets(secrets.clone());
    let known_keys = keys.clone();
    let secret_owners = secret_changes
        .inspect(move |change| seen.observe(change))
        .flat_map(move |change| stream::iter(secret_cache::owners(&change, &known_keys)));

    let of_providers = keys_of_providers(shared, keys.clone());
    let missing = known_keys_of(shared.missing_keys.subscribe(), keys.clone());
    let of_tenants = keys_of_tenants(relabelled, keys.clone());
    let after_jumps = keys_after_jumps(clock_jumps::forward_jumps(shared.clock.clone()), keys.clone());
    let seated = shared.seats.subscribe();
    let heirs = Arc::downgrade(&watched.heirs);
    let context = Arc::new(watched.into_context(keys.clone(), SecretCache::new(secrets, own_writes)));
    let scope = Arc::downgrade(&context);
    shared.tables.add(move || {
        let of_scope = scope.upgrade().map(|context| context.table_sizes());
        let heirs = heirs.upgrade().map(|heirs| ("heirs", heirs.len()));
        of_scope.into_iter().flatten().chain(heirs).collect()
    });
    let revoked = departures::revoke_keys(vanished, Arc::clone(&context));
    // The controller sets no bound of its own: a reconcile that waits for a remote side must not keep others
    // from working.
    let reconciled = Controller::for_stream(key_changes, keys)
        .reconcile_on(secret_owners)
        .reconcile_on(of_providers)
        .reconcile_on(of_tenants)
        .reconcile_on(missing)
        .reconcile_on(seated)
        .reconcile_on(after_jumps)
        .run(reconcile::reconcile, reconcile::on_error, context)
        .map(drop);
    stream::select(reconciled, revoked).boxed()
}

/// The ServiceKeys of each provider that changes.
fn keys_of_providers(
    shared: &Shared,
    keys: Store<ServiceKey>,
) -> impl Stream<Item = ObjectRef<ServiceKey>> + use<> {
    shared.providers.events.subscribe().flat_map(move |changed| {
        let waiting = keys.state_filter(|key| ProviderId::from_key(key) == changed);
        stream::iter(waiting).map(|key| ObjectRef::from_obj(key.as_ref()))
    })
}

/// Those of these ServiceKeys that the scope has.
fn known_keys_of(
    subscribed: impl Stream<Item = ObjectRef<ServiceKey>>,
    keys: Store<ServiceKey>,
) -> impl Stream<Item = ObjectRef<ServiceKey>> {
    subscribed.filter(move |key| std::future::ready(keys.get(key).is_some()))
}

/// The ServiceKeys whose access to a ClusterKeyProvider may have changed with the labels of their namespace.
fn keys_of_tenants(
    relabelled: impl Stream<Item = String>,
    keys: Store<ServiceKey>,
) -> impl Stream<Item = ObjectRef<ServiceKey>> {
    relabelled.flat_map(move |namespace| {
        let affected = keys.state_filter(|key| {
            key.spec.provider_ref.kind == ProviderKind::ClusterKeyProvider
                && key.namespace().as_ref() == Some(&namespace)
        });
        stream::iter(affected).map(|key| ObjectRef::from_obj(key.as_ref()))
    })
}

/// All ServiceKeys, after each jump of the clock: those that wait until a time may have missed it.
fn keys_after_jumps(
    jumps: impl Stream<Item = ()>,
    keys: Store<ServiceKey>,
) -> impl Stream<Item = ObjectRef<ServiceKey>> {
    jumps.flat_map(move |()| {
        let all: Vec<_> = keys.state().iter().map(|key| ObjectRef::from_obj(key.as_ref())).collect();
        tracing::info!(keys = all.len(), "the clock jumped forward; reconciling all ServiceKeys");
        stream::iter(all)
    })
}

/// State that is updated when ServiceKeys appear, change or disappear.
#[derive(Clone)]
struct WatchedKeys {
    shared: Shared,
    reservations: Arc<SecretReservations>,
    local_states: Arc<LocalStates>,
    restarts: Arc<PendingRestarts>,
    departures: Arc<Departures>,
    waiting: Arc<Waiters<Uuid>>,
    heirs: Arc<Heirs>,
}

impl WatchedKeys {
    /// The state before the first change, and the receiver of the ServiceKeys whose keys are to be revoked.
    fn new(shared: &Shared) -> (Self, UnboundedReceiver<Vanished>) {
        let (departures, vanished) = Departures::new(shared.leadership.clone());
        let watched = Self {
            shared: shared.clone(),
            reservations: Arc::default(),
            local_states: Arc::default(),
            restarts: Arc::default(),
            departures: Arc::new(departures),
            waiting: Arc::default(),
            heirs: Arc::default(),
        };
        (watched, vanished)
    }

    /// The context of the reconciles, which share this state.
    fn into_context(self, keys: Store<ServiceKey>, secrets: SecretCache) -> Context {
        let Self { shared, reservations, local_states, restarts, departures, waiting, heirs: _ } = self;
        let workers = FairSemaphore::new(usize::from(shared.options.concurrency));
        Context { shared, keys, secrets, reservations, local_states, restarts, departures, waiting, workers }
    }

    fn update(&self, change: &WatchChange<ServiceKey>) {
        let Shared { seats, providers, leadership, .. } = &self.shared;
        let leads = leadership.acquired_at().is_some();
        match change {
            WatchChange::Applied(key) => {
                if !leads {
                    self.restarts.note_recorded(key);
                }
                reserve_secret(key, &self.reservations);
                seats.note(key);
                self.heirs.note(key);
                if let Some(uid) = key.parsed_uid() {
                    self.local_states.observe(uid, key);
                    self.waiting.notify(&uid);
                }
            }
            WatchChange::Deleted(key) => {
                if let Some(uid) = key.parsed_uid() {
                    let namespace = key.namespace().unwrap_or_default();
                    self.reservations.release(&namespace, &key.secret_name(), uid);
                    self.restarts.note(&namespace, uid, None);
                    self.departures.mark_deleted(key, &self.local_states);
                    self.waiting.notify(&uid);
                }
                seats.remove(key);
                self.heirs.remove(key);
                providers.events.notify_released(&ProviderId::from_key(key));
            }
            WatchChange::Listed(keys) => {
                let exist: HashSet<_> = keys.iter().filter_map(|key| key.parsed_uid()).collect();
                self.reservations.retain(&exist);
                self.local_states.retain(&exist);
                self.restarts.retain(&exist);
                self.restarts.fill(keys.iter().map(Arc::as_ref), leads);
                providers.events.notify_all_released();
                self.waiting.notify_all();
                for key in keys {
                    if let Some(uid) = key.parsed_uid() {
                        self.local_states.observe(uid, key);
                    }
                    reserve_secret(key, &self.reservations);
                    seats.note(key);
                }
                seats.retain(&exist);
                self.heirs.replace(keys.iter().map(Arc::as_ref));
            }
        }
    }
}

/// Whether another writer removed the operator's finalizer from a ServiceKey that has a key. The operator's
/// own addition of the finalizer does not count: a reconcile after it would repeat at once an attempt that
/// has just failed.
fn lost_finalizer(key: &ServiceKey) -> Option<u64> {
    let has_key = key.status.as_ref().is_some_and(|status| status.key.is_some());
    Some(u64::from(has_key && !finalizer::has(&key.metadata, marks::FINALIZER)))
}

/// A digest of the annotations that users and tools write, without the operator's own.
fn annotations_of_others(key: &ServiceKey) -> Option<u64> {
    let mut digest = DefaultHasher::new();
    for annotation in key.annotations().iter().filter(|(name, _)| *name != marks::PLAN_IDS_ANNOTATION) {
        annotation.hash(&mut digest);
    }
    Some(digest.finish())
}

/// Reserves the Secret of a ServiceKey with the finalizer, which may have created a key before a restart.
fn reserve_secret(key: &ServiceKey, reservations: &SecretReservations) {
    if let Some(uid) = key.parsed_uid()
        && finalizer::has(&key.metadata, marks::FINALIZER)
    {
        let (namespace, secret) = (key.namespace().unwrap_or_default(), key.secret_name());
        // If another ServiceKey reserved it already, the decision reports that.
        let _ = reservations.reserve(&namespace, &secret, uid, &key.name_any());
    }
}
