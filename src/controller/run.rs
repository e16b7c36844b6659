//! The operator as a whole: all watches, caches and reconciles, wired together.

use std::{
    collections::{BTreeSet, HashSet},
    future,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    mem,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        Controller, Predicate, PredicateConfig, WatchStreamExt, predicates,
        reflector::{ObjectRef, Store},
    },
};
use uuid::Uuid;

use super::{
    answer_memory::AnswerMemory,
    clock,
    events::Events,
    finalizer,
    heirs::Heirs,
    local_state::LocalStates,
    missing_keys::MissingKeys,
    namespaces::Namespaces,
    provider::{self, ProviderId, Registry},
    queue::Waiters,
    reconcile::{on_error, reconcile},
    scope::Scope,
    seats::Seats,
    secret_cache::{self, OwnWrites, SecretCache},
    secret_reservations::SecretReservations,
    shared::{Shared, Shares},
    state_metrics,
    term::Term,
    turn::{self, Context},
    unread::Received,
    vanished::{self, Departures},
    watch::{self, WatchChange},
};
use crate::{
    api::{ClusterKeyProvider, KeyProvider, ProviderKind, ServiceKey, marks},
    backend::AddressPolicy,
    fair::FairSemaphore,
    runtime::{Leadership, Metrics},
    secret::Restrictions,
};

/// Tells the time. Tests bring their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the user of the command may choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of the Secrets that ClusterKeyProviders name.
    pub cluster_resource_namespace: String,
    /// The only namespaces to serve, without ClusterKeyProviders; `None`: the whole cluster.
    pub namespaces: Option<BTreeSet<String>>,
    /// ServiceKeys that are worked on at the same time, in each namespace that is served alone or in the cluster.
    /// Those that wait for their remote side do not count.
    pub concurrency: u16,
    /// How often each provider is asked whether it can be reached, and which keys it has.
    pub check_interval: Duration,
    /// Which remote addresses may be connected to.
    pub addresses: AddressPolicy,
    /// Where the token of the pod's service account is, with which trusted profiles of IBM Cloud are taken on.
    pub service_account_token: PathBuf,
    /// How long IBM Cloud may not show a key that it has created.
    pub ibm_cloud_settling: Duration,
    /// Which types, labels and annotations Secrets may have.
    pub secrets: Restrictions,
}

/// The operator.
pub struct Operator {
    client: Client,
    options: Arc<Options>,
    clock: Clock,
    metrics: Metrics,
    leadership: Leadership,
}

impl Operator {
    /// An operator that has not begun yet.
    #[must_use]
    pub fn new(client: Client, options: Options) -> Self {
        let (options, clock) = (Arc::new(options), Arc::new(Timestamp::now));
        Self { client, options, clock, metrics: Metrics::default(), leadership: Leadership::sole() }
    }

    /// The same operator, living by another clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The same operator, counting here.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same operator, as one of several replicas: it fills its caches, and does nothing else before it leads.
    #[must_use]
    pub fn with_leadership(self, leadership: Leadership) -> Self {
        Self { leadership, ..self }
    }

    /// Works until `shutdown` resolves. Whatever is under way then is given up, and taken up at the next start.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut work: Vec<BoxStream<'static, ()>> = vec![self.metrics.heart().ticks().boxed()];
        let mut relabelled = stream::empty().boxed();
        let mut shared = Shared {
            client: self.client.clone(),
            options: Arc::clone(&self.options),
            registry: Arc::default(),
            missing_keys: Arc::default(),
            seats: Arc::default(),
            namespaces: Namespaces::default(),
            events: Events::start(self.client.clone()),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            term: Arc::new(Term::new(self.leadership.clone(), Arc::clone(&self.clock))),
            shares: Shares::default(),
            answer_memory: AnswerMemory::default(),
        };
        if self.options.namespaces.is_none() {
            let (namespaces, news) = Namespaces::watch(self.client.clone(), self.metrics.watches());
            (shared.namespaces, relabelled) = (namespaces, news.relabelled);
            work.push(provider::release_logins(shared.clone(), news.store, news.terminating).boxed());
            work.push(self.providers::<ClusterKeyProvider>(&shared, Api::all(self.client.clone()), None));
        }
        for scope in self.scopes() {
            let api = scope.api(self.client.clone());
            work.push(self.providers::<KeyProvider>(&shared, api, scope.namespace()));
            let relabelled = mem::replace(&mut relabelled, stream::empty().boxed());
            work.push(self.keys(&shared, &scope, relabelled));
        }
        let (registry, clock, term) =
            (Arc::clone(&shared.registry), Arc::clone(&self.clock), Arc::clone(&shared.term));
        // Who stands by tells nothing, or all replicas together would tell everything twice.
        let stock =
            move || if term.has_begun() { state_metrics::collect(&registry, clock()) } else { Vec::new() };
        self.metrics.set_state_source(stock);
        let work = stream::select_all(work).for_each(|()| future::ready(()));
        tokio::select! {
            () = shutdown => {}
            () = work => {}
        }
    }

    fn scopes(&self) -> Vec<Scope> {
        match &self.options.namespaces {
            None => vec![Scope::Cluster],
            Some(names) => names.iter().cloned().map(Scope::Namespace).collect(),
        }
    }

    fn providers<K>(
        &self,
        shared: &Shared,
        api: Api<Received<K>>,
        namespace: Option<String>,
    ) -> BoxStream<'static, ()>
    where
        K: provider::Provider,
    {
        provider::serve(shared.clone(), api, namespace).boxed()
    }

    /// All ServiceKeys of a scope; `relabelled` tells the names of namespaces whose labels change.
    fn keys(
        &self,
        shared: &Shared,
        scope: &Scope,
        relabelled: BoxStream<'static, String>,
    ) -> BoxStream<'static, ()> {
        let (claims, local_states) = (Arc::<SecretReservations>::default(), Arc::<LocalStates>::default());
        let (departures, vanished) = Departures::new(Arc::clone(&shared.term));
        let departures = Arc::new(departures);
        let waiting = Arc::<Waiters<Uuid>>::default();
        let heirs = Arc::<Heirs>::default();
        let noted = Noted {
            reservations: Arc::clone(&claims),
            local_states: Arc::clone(&local_states),
            departures: Arc::clone(&departures),
            waiting: Arc::clone(&waiting),
            registry: Arc::clone(&shared.registry),
            seats: Arc::clone(&shared.seats),
            heirs: Arc::clone(&heirs),
        };
        let watches = self.metrics.watches();
        let (cache, key_changes) =
            watch::objects::<ServiceKey>(scope.api(self.client.clone()), watch::config(), watches);
        let key_changes = key_changes
            .inspect(move |change| noted.note(change))
            .flat_map(|change| stream::iter(change.applied()).map(Ok))
            .predicate_filter(
                predicates::generation.combine(annotations_of_others).combine(lost_finalizer),
                PredicateConfig::default(),
            );

        let own_writes = OwnWrites::default();
        let observed = own_writes.clone();
        // Only the operator may write this label, so no tenant can fill the cache with Secrets of its own.
        let ours = watch::config().labels(marks::OWNER_UID_LABEL);
        let (secrets, secret_changes) =
            watch::metadata::<Secret>(scope.api(self.client.clone()), ours, watches);
        let keys = cache.store.clone();
        shared.registry.add_keys(cache, heirs);
        shared.registry.add_secrets(secrets.clone());
        let known_keys = keys.clone();
        let secret_owners = secret_changes
            .inspect(move |change| observed.observe(change))
            .flat_map(move |change| stream::iter(secret_cache::owners(&change, &known_keys)));

        let affected = keys_of_providers(&shared.registry, keys.clone());
        let in_doubt = known_doubts(&shared.missing_keys, keys.clone());
        let seated = shared.seats.subscribe();
        let tenants = keys_of_tenants(relabelled, keys.clone());
        let late = keys_that_rest(clock::forward_jumps(Arc::clone(&self.clock)), keys.clone());
        let context = Arc::new(Context {
            client: self.client.clone(),
            options: Arc::clone(&self.options),
            clock: Arc::clone(&self.clock),
            term: Arc::clone(&shared.term),
            registry: Arc::clone(&shared.registry),
            events: shared.events.clone(),
            metrics: self.metrics.clone(),
            reservations: claims,
            local_states,
            keys: keys.clone(),
            secrets: SecretCache::new(secrets, own_writes),
            namespaces: shared.namespaces.clone(),
            missing_keys: Arc::clone(&shared.missing_keys),
            seats: Arc::clone(&shared.seats),
            answer_memory: shared.answer_memory.clone(),
            workers: FairSemaphore::new(usize::from(self.options.concurrency)),
            secret_reads: shared.shares.secret_reads.clone(),
            waiting,
            templates: shared.shares.templates.clone(),
            departures,
        });
        let revoked = vanished::revoke_keys(vanished, Arc::clone(&context));
        // The controller sets no bound of its own: who waits for a remote side must not keep others from working.
        let reconciled = Controller::for_stream(key_changes, keys)
            .reconcile_on(secret_owners)
            .reconcile_on(affected)
            .reconcile_on(tenants)
            .reconcile_on(in_doubt)
            .reconcile_on(seated)
            .reconcile_on(late)
            .run(reconcile, on_error, context)
            .map(drop);
        stream::select(reconciled, revoked).boxed()
    }
}

/// The ServiceKeys of a scope whose key is in doubt.
fn known_doubts(
    doubts: &MissingKeys,
    keys: Store<ServiceKey>,
) -> impl Stream<Item = ObjectRef<ServiceKey>> + use<> {
    doubts.subscribe().filter(move |key| future::ready(keys.get(key).is_some()))
}

/// The ServiceKeys that a namespace's labels may have let use a ClusterKeyProvider, or keep from it.
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

/// All ServiceKeys, after each leap of the clock: those that rest until a time may have missed it.
fn keys_that_rest(
    leaps: impl Stream<Item = ()>,
    keys: Store<ServiceKey>,
) -> impl Stream<Item = ObjectRef<ServiceKey>> {
    leaps.flat_map(move |()| {
        let all: Vec<_> = keys.state().iter().map(|key| ObjectRef::from_obj(key.as_ref())).collect();
        tracing::info!(keys = all.len(), "the clock leapt ahead: all ServiceKeys are looked at");
        stream::iter(all)
    })
}

/// What is kept in step with the ServiceKeys that exist.
struct Noted {
    reservations: Arc<SecretReservations>,
    local_states: Arc<LocalStates>,
    departures: Arc<Departures>,
    waiting: Arc<Waiters<Uuid>>,
    registry: Arc<Registry>,
    seats: Arc<Seats>,
    heirs: Arc<Heirs>,
}

impl Noted {
    fn note(&self, change: &WatchChange<ServiceKey>) {
        match change {
            WatchChange::Applied(key) => {
                reserve_secret(key, &self.reservations);
                self.seats.note(key);
                self.heirs.note(key);
                if let Some(uid) = turn::uid(key) {
                    self.local_states.observe(uid, key);
                    self.waiting.notify(&uid);
                }
            }
            WatchChange::Deleted(key) => {
                if let Some(uid) = turn::uid(key) {
                    let namespace = key.namespace().unwrap_or_default();
                    self.reservations.release(&namespace, &turn::secret_name(key), uid);
                    self.departures.mark_deleted(key, &self.local_states);
                    self.waiting.notify(&uid);
                }
                self.seats.remove(key);
                self.heirs.remove(key);
                self.registry.notify_released(&ProviderId::from_key(key));
            }
            WatchChange::Listed(keys) => {
                let exist: HashSet<_> = keys.iter().filter_map(|key| turn::uid(key)).collect();
                self.reservations.retain(&exist);
                self.local_states.retain(&exist);
                self.registry.notify_all_released();
                self.waiting.notify_all();
                for (uid, key) in keys.iter().filter_map(|key| Some((turn::uid(key)?, key))) {
                    self.local_states.observe(uid, key);
                }
                keys.iter().for_each(|key| reserve_secret(key, &self.reservations));
                keys.iter().for_each(|key| self.seats.note(key));
                self.seats.retain(&exist);
                self.heirs.replace(keys.iter().map(Arc::as_ref));
            }
        }
    }
}

/// Whether somebody took our finalizer from a ServiceKey that has a key. That we add it ourselves is no news: a
/// reconcile that was woken by it would try again at once what has just failed.
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

/// A ServiceKey with the finalizer may have made a key already, before a restart: nobody else gets its Secret.
fn reserve_secret(key: &ServiceKey, claims: &SecretReservations) {
    if let Some(uid) = turn::uid(key)
        && finalizer::has(&key.metadata, marks::FINALIZER)
    {
        let (namespace, secret) = (key.namespace().unwrap_or_default(), turn::secret_name(key));
        // Where somebody else claims it already, the decisions will say so.
        let _ = claims.reserve(&namespace, &secret, uid, &key.name_any());
    }
}

/// The ServiceKeys of each provider that changes.
fn keys_of_providers(
    registry: &Registry,
    keys: Store<ServiceKey>,
) -> impl Stream<Item = ObjectRef<ServiceKey>> + use<> {
    registry.subscribe().flat_map(move |changed| {
        let waiting = keys.state_filter(|key| ProviderId::from_key(key) == changed);
        stream::iter(waiting).map(|key| ObjectRef::from_obj(key.as_ref()))
    })
}
