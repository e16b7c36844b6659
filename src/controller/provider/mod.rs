//! Providers: loads each with its login, checks whether it is reachable, and notifies the keys that wait for
//! it.

mod auth_secret_watch;
mod deleted_logins;
mod deletions;
mod events;
mod kind;
mod load;
mod orphan_scan;
mod orphans;
mod pending_providers;
mod protection;
mod refused_login;
pub(super) mod store;
mod terminating;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    future,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use kube::{
    Api,
    runtime::{
        Controller, Predicate, PredicateConfig, WatchStreamExt,
        controller::Action,
        predicates,
        reflector::{ObjectRef, Store},
    },
};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout};
use tracing::Instrument;

pub(crate) use kind::Provider;
pub(crate) use store::{ProviderStore, Tenant};
pub(crate) use terminating::release_logins;

use self::{
    auth_secret_watch::AuthSecretWatches,
    deleted_logins::DeletedLogins,
    load::{AuthSecrets, BackendInputs},
    orphan_scan::OrphanScan,
    pending_providers::{InitialList, ListScope},
    protection::{ProtectedProvider, ProtectionOutcome, ProviderUsage},
    store::{Loaded, Origin},
};
use super::{
    as_field_manager,
    backoff::{Backoff, Retries},
    error::{Error, bounded},
    ids::ProviderId,
    queue::{Ticket, Waiters},
    requeues::Requeues,
    service_key::status::condition,
    shared::Shared,
    tables::Sizes,
    unread::{self, Received},
    watch::{self, WatchChange},
};
use crate::{
    api::{ConditionType, ProviderKind, ProviderStatus, Reason},
    backend::{Backend, BackendError, ErrorClass},
    lifecycle::Problem,
    runtime::metrics::ReconcileOutcome,
};

/// Time limit for one check, independent of the provider's `limits.timeout`.
const CHECK_DEADLINE: Duration = Duration::from_secs(30);

/// State that the reconciles of one kind of provider share.
struct ProviderContext<K: Provider> {
    shared: Shared,
    providers: Store<K>,
    watches: AuthSecretWatches<K>,
    list: InitialList,
    checks: Mutex<HashMap<ProviderId, ProviderCheck>>,
    /// The waits of the providers whose last reconcile failed.
    retries: Retries<ProviderId>,
    /// The providers whose check waits or runs; notified of each change that the watch shows.
    edits: Waiters<ProviderId>,
    /// The same providers; notified of each event that requeues the provider regardless of its generation.
    wakes: Waiters<ProviderId>,
}

/// The last check of a provider.
#[derive(Clone, Debug)]
struct ProviderCheck {
    /// The versions that the provider was loaded from.
    origin: Origin,
    outcome: Result<(), Problem>,
    /// Problems of a remote side that is reachable.
    shortcomings: Option<(&'static str, String)>,
    scan: OrphanScan,
    /// End of the pause after a token server refused the login.
    login_waits_until: Option<Timestamp>,
    /// When the next check is due, unless something changes before.
    due: Instant,
    backoff: Backoff,
}

/// Serves all providers of one kind that `api` shows: those of `namespace`, or all. Never ends.
pub(super) fn serve<K>(
    shared: Shared,
    api: Api<Received<K>>,
    namespace: Option<String>,
) -> impl Stream<Item = ()> + Send
where
    K: Provider + kube::ResourceExt,
{
    let wakes = Arc::new(Requeues::default());
    let woken = wakes.subscribe();
    let (cache, changes) = watch::objects::<K>(api, watch::config(), shared.metrics.watches());
    let context = Arc::new(ProviderContext {
        watches: AuthSecretWatches::new(shared.client.clone(), Arc::clone(&shared.providers), wakes),
        list: shared.providers.expect(ListScope { kind: K::KIND, namespace }),
        shared,
        providers: cache.store.clone(),
        checks: Mutex::default(),
        retries: Retries::default(),
        edits: Waiters::default(),
        wakes: Waiters::default(),
    });
    let of_kind = Arc::downgrade(&context);
    context
        .shared
        .tables
        .add(move || of_kind.upgrade().map(|context| context.table_sizes()).unwrap_or_default());
    let released =
        context.shared.providers.events.subscribe_releases().filter_map(|id| future::ready(K::named(&id)));
    let (noting, waking) = (Arc::clone(&context), Arc::clone(&context));
    let changes = changes
        .inspect(move |change| noting.note(change))
        .flat_map(|change| stream::iter(change.applied()).map(Ok))
        .predicate_filter(predicates::generation.combine(unread::parts), PredicateConfig::default());
    let wakes = stream::select(woken, released).inspect(move |object| {
        let ObjectRef { namespace, name, .. } = object;
        waking.wakes.notify(&ProviderId { namespace: namespace.clone(), name: name.clone() });
    });
    // The controller sets no limit of its own, so that a provider whose check waits does not keep others from
    // being loaded.
    Controller::for_stream(changes, cache.store)
        .reconcile_on(wakes)
        .run(reconcile, on_error, context)
        .map(|_| ())
}

async fn reconcile<K: Provider>(woken: Arc<K>, context: Arc<ProviderContext<K>>) -> Result<Action, Error> {
    context.shared.leadership.wait(&context.shared.clock).await;
    // Whether the operator releases the login Secrets depends on whether their namespace is being deleted.
    context.shared.namespaces.wait_filled().await;
    // Read again, because the wait may have been long.
    let Some(provider) = context.providers.get(&ObjectRef::from_obj(woken.as_ref())) else {
        return Ok(Action::await_change());
    };
    let (id, began) = (provider.id(), Instant::now());
    let span = tracing::error_span!("reconcile", provider = %id);
    let result = context.reconcile(&id, provider.as_ref()).instrument(span).await;
    let outcome = context.outcome(&id, &result);
    context.shared.metrics.count_reconcile(K::KIND.as_str(), outcome, began.elapsed());
    if let Err(error) = &result
        && !matches!(error, Error::Outdated)
    {
        tracing::warn!(provider = %id, %error, "a provider could not be reconciled");
        context.could_not_load(&id, provider.as_ref(), error);
    }
    if result.is_ok() {
        context.retries.forget(&id);
    }
    context.forget_if_gone(&id, provider.as_ref());
    result
}

fn on_error<K: Provider>(provider: Arc<K>, _: &Error, context: Arc<ProviderContext<K>>) -> Action {
    if context.is_gone(provider.as_ref()) {
        return Action::await_change();
    }
    Action::requeue(context.retries.next_wait(provider.id()))
}

impl<K: Provider> ProviderContext<K> {
    fn table_sizes(&self) -> Sizes {
        let Self { shared: _, providers, watches, list: _, checks, retries, edits, wakes } = self;
        vec![
            ("cached providers", providers.len()),
            ("login Secrets", watches.len()),
            ("checks", checks.lock().len()),
            ("failed providers", retries.len()),
            ("waiting checks", edits.len() + wakes.len()),
        ]
    }

    /// Updates the state when providers appear, change or disappear.
    fn note(&self, change: &WatchChange<K>) {
        match change {
            WatchChange::Applied(provider) => {
                self.shared.providers.mark_pending(provider.id());
                self.edits.notify(&provider.id());
            }
            WatchChange::Deleted(provider) => {
                self.forget(&provider.id());
                self.edits.notify(&provider.id());
            }
            WatchChange::Listed(providers) => {
                let exist: HashSet<_> = providers.iter().map(|provider| provider.id()).collect();
                self.watches
                    .providers()
                    .iter()
                    .filter(|id| !exist.contains(id))
                    .for_each(|id| self.forget(id));
                exist.into_iter().for_each(|id| self.shared.providers.mark_pending(id));
                self.list.mark_listed();
                self.edits.notify_all();
            }
        }
    }

    fn forget(&self, id: &ProviderId) {
        self.shared.providers.remove(id);
        self.watches.forget(id);
        self.shared.metrics.forget_provider(id.namespace.as_deref(), &id.name);
        self.checks().remove(id);
        self.retries.forget(id);
    }

    fn checks(&self) -> MutexGuard<'_, HashMap<ProviderId, ProviderCheck>> {
        self.checks.lock()
    }

    /// Loads the provider, without a call to the remote side, and then checks it. A change of the provider or
    /// of its logins ends the check, so that the provider is loaded again at once.
    async fn reconcile(&self, id: &ProviderId, cached: &K) -> Result<Action, Error> {
        if let Some(obstacle) = unread::obstacle(cached.meta()) {
            return self.refuse(id, cached, obstacle).await;
        }
        let (edits, wakes) = (self.edits.ticket(id), self.wakes.ticket(id));
        let deleting = cached.meta().deletion_timestamp.is_some();
        let users = if deleting {
            // Set first, so that a ServiceKey that disappears after this line requeues the provider.
            self.shared.providers.events.set_waiting(id, true);
            self.shared.index.key_names(id).await
        } else {
            BTreeSet::new()
        };
        let namespace = cached.secrets_namespace(&self.shared.options.cluster_resource_namespace);
        let place = self.shared.shares.loading.acquire(&id.lane()).await;
        let mut holding =
            ProtectedProvider::read(self.shared.client.clone(), cached.clone(), &namespace).await?;
        let now = self.shared.clock.now();
        let has_deleted_login = DeletedLogins::new(&holding.logins, now).next_look().is_some();
        // Also set first: the first list of ServiceKeys may not have arrived yet.
        self.shared.providers.events.set_waiting(id, deleting || has_deleted_login);
        let is_deletion_cached =
            self.shared.namespaces.is_deleted(&namespace) || self.shared.index.has_deleting_keys(id);
        let revoking = is_deletion_cached
            || !deleting
                && holding.has_overdue_secret(now)
                && deletions::are_under_way(&self.shared, cached, &namespace).await?;
        let usage = ProviderUsage { used: !users.is_empty(), revoking, now };
        let orphans = orphans::among(&self.shared, &namespace, holding.finalizers_of_others()).await?;
        holding.note_orphans(orphans);
        if holding.settle(usage).await? == ProtectionOutcome::Released {
            return Ok(Action::await_change());
        }
        let ProtectedProvider { provider, logins, .. } = holding;

        let meta = provider.meta();
        let origin =
            logins.origin((meta.uid.clone().unwrap_or_default(), meta.generation.unwrap_or_default()));
        let loaded = self.load(id, &provider, &logins, origin);
        let names = provider.provider().secret_names().into_iter().collect();
        self.watches.watch(id, &ObjectRef::from_obj(&provider), &namespace, names);
        drop(place);
        let deleted = DeletedLogins::new(&logins, now);
        let hindrance = in_use(&users).or_else(|| deleted.problem());
        let check = tokio::select! {
            biased;
            check = self.check(id, &provider, &loaded) => check,
            () = self.outdated(&provider, &edits) => return Err(Error::Outdated),
            () = wakes.wait() => return Err(Error::Outdated),
        };
        let wait = self.conclude(id, &provider, check, hindrance).await?;
        Ok(Action::requeue(deleted.next_look().map_or(wait, |look| look.min(wait))))
    }

    /// Publishes why the provider can't be read. The operator releases neither the provider nor its logins,
    /// and its keys wait.
    async fn refuse(&self, id: &ProviderId, provider: &K, obstacle: Problem) -> Result<Action, Error> {
        let origin = Origin::default();
        let loaded = self.loaded(id, provider, origin.clone(), Err(obstacle.clone()));
        self.shared.providers.set(id, Arc::new(loaded));
        self.conclude(id, provider, self.unchecked(origin, obstacle), None).await.map(Action::requeue)
    }

    /// Publishes and stores the outcome of a check. Returns the wait until the next one.
    async fn conclude(
        &self,
        id: &ProviderId,
        provider: &K,
        check: ProviderCheck,
        in_use_problem: Option<Problem>,
    ) -> Result<Duration, Error> {
        self.shared.metrics.set_provider_ready(id.namespace.as_deref(), &id.name, check.outcome.is_ok());
        self.report(provider, &check, in_use_problem).await?;
        let wait = check.due.saturating_duration_since(Instant::now());
        self.checks().insert(id.clone(), check);
        Ok(wait)
    }

    /// Waits until the current provider differs from the one that was loaded.
    async fn outdated(&self, loaded: &K, edits: &Ticket<'_, ProviderId>) {
        loop {
            let current = self.providers.get(&ObjectRef::from_obj(loaded));
            let version = |provider: &K| (provider.meta().uid.clone(), provider.meta().generation);
            // The cache may be behind the operator's own write, which does not change the generation.
            if current.is_none_or(|current| version(&current) != version(loaded)) {
                return;
            }
            edits.wait().await;
        }
    }

    /// Outcome of a reconcile for the metrics, according to the last check of the provider.
    fn outcome(&self, id: &ProviderId, result: &Result<Action, Error>) -> ReconcileOutcome {
        let checks = self.checks();
        match (result, checks.get(id).map(|check| &check.outcome)) {
            (Err(Error::Outdated), _) => ReconcileOutcome::Outdated,
            (Err(_), _) => ReconcileOutcome::Error,
            (Ok(_), Some(Ok(()))) => ReconcileOutcome::Settled,
            (Ok(_), Some(Err(problem))) if problem.needs_the_user() => ReconcileOutcome::Stalled,
            (Ok(_), Some(Err(_))) => ReconcileOutcome::Failed,
            (Ok(_), None) => ReconcileOutcome::Gone,
        }
    }

    /// Returns the backend. Creates a new one only if one of its inputs has changed.
    fn load(&self, id: &ProviderId, provider: &K, logins: &AuthSecrets, origin: Origin) -> Arc<Loaded> {
        if let Some(known) =
            self.shared.providers.get(id).filter(|known| known.origin.is_equivalent_to(&origin))
        {
            self.shared.providers.confirm(id, origin);
            return known;
        }
        let Shared { options, metrics, shares, answer_memory: memory, .. } = &self.shared;
        let shares = match id.kind() {
            ProviderKind::KeyProvider => shares.remote.of_tenant(id.lane()),
            ProviderKind::ClusterKeyProvider => shares.remote.of_administrator(id.lane()),
        };
        let (author, namespace) = (id.author(), id.namespace.as_deref());
        let held = [memory.answers(namespace), memory.kept(namespace)];
        let login_pause = provider
            .status()
            .and_then(|status| status.refused_login.as_ref())
            .and_then(|refused| refused_login::pause(refused, &origin, self.shared.clock.now()));
        let means = BackendInputs {
            options,
            metrics,
            shares: &shares,
            clock: &self.shared.clock,
            transport: self.shared.transport.as_ref(),
            held: &held,
            login_pause,
        };
        let backend = match unread::obstacle(provider.meta()) {
            Some(problem) => Err(problem),
            None => load::backend(provider.provider(), &author, logins, &means).map(Arc::new),
        };
        let loaded = Arc::new(self.loaded(id, provider, origin, backend));
        self.shared.providers.set(id, Arc::clone(&loaded));
        self.forget_if_gone(id, provider);
        loaded
    }

    fn loaded(
        &self,
        id: &ProviderId,
        provider: &K,
        origin: Origin,
        backend: Result<Arc<Backend>, Problem>,
    ) -> Loaded {
        let queue = self.shared.metrics.provider_queue(id.namespace.as_deref(), &id.name);
        Loaded::new(origin, backend, provider.access(), provider.provider(), queue)
    }

    /// Removes a provider again that was deleted during its reconcile. The watch reported the deletion before
    /// the reconcile stored the provider. No key may be revoked through a deleted provider.
    fn forget_if_gone(&self, id: &ProviderId, provider: &K) {
        if self.is_gone(provider) {
            self.forget(id);
        }
    }

    fn is_gone(&self, provider: &K) -> bool {
        let current = self.providers.get(&ObjectRef::from_obj(provider));
        current.is_none_or(|current| current.meta().uid != provider.meta().uid)
    }

    /// Reports the error to the keys of a provider that was never loaded.
    fn could_not_load(&self, id: &ProviderId, provider: &K, error: &Error) {
        if self.shared.providers.get(id).is_none() {
            let problem = Problem { reason: Reason::ProviderNotReady, message: error.to_string() };
            let loaded = self.loaded(id, provider, Origin::default(), Err(problem));
            self.shared.providers.set(id, Arc::new(loaded));
        }
    }

    /// Checks the remote side in the turn of its namespace, unless the last check is recent. An interrupted
    /// check leaves the result of the last one.
    async fn check(&self, id: &ProviderId, provider: &K, loaded: &Loaded) -> ProviderCheck {
        let before =
            self.checks().get(id).cloned().filter(|check| check.origin.is_equivalent_to(&loaded.origin));
        match (&loaded.backend, before) {
            (_, Some(check)) if check.due > Instant::now() => check,
            (Ok(backend), before) => {
                let lane = id.lane();
                let _place = self.shared.shares.checking.acquire(&lane).await;
                lane.scope(self.ask(id, provider, backend, &loaded.origin, before)).await
            }
            (Err(problem), _) => self.unchecked(loaded.origin.clone(), problem.clone()),
        }
    }

    /// Substitute for the check of a provider that has no usable backend.
    fn unchecked(&self, origin: Origin, problem: Problem) -> ProviderCheck {
        ProviderCheck {
            origin,
            outcome: Err(problem),
            shortcomings: None,
            scan: OrphanScan::default(),
            login_waits_until: None,
            due: Instant::now() + self.shared.options.check_interval,
            backoff: Backoff::default(),
        }
    }

    async fn ask(
        &self,
        id: &ProviderId,
        provider: &K,
        backend: &Backend,
        origin: &Origin,
        before: Option<ProviderCheck>,
    ) -> ProviderCheck {
        let checked = match timeout(CHECK_DEADLINE, backend.check()).await {
            Ok(checked) => checked,
            Err(_) => Err(BackendError::new(
                ErrorClass::Transient,
                format!("the remote side did not answer the check within {CHECK_DEADLINE:?}"),
            )),
        };
        let asked_for = checked.as_ref().err().and_then(|error| error.retry_after);
        let now = self.shared.clock.now();
        let login_waits_until = checked.as_ref().err().and_then(|error| refused_login::until(error, now));
        let outcome = checked.map_err(|error| load::problem(&error));
        let failed_before = before.as_ref().is_some_and(|check| check.outcome.is_err());
        let (mut survey, mut backoff) = before.map(|check| (check.scan, check.backoff)).unwrap_or_default();
        let wait = if outcome.is_ok() {
            if failed_before {
                self.shared.providers.mark_recovered(id);
            }
            backoff = Backoff::default();
            survey = self.scan(id, provider, backend, survey).await;
            self.shared.options.check_interval
        } else {
            backoff.next_wait().max(asked_for.unwrap_or_default())
        };
        let shortcomings = outcome.as_ref().ok().and_then(|()| backend.shortcomings());
        let (origin, due) = (origin.clone(), Instant::now() + wait);
        ProviderCheck { origin, outcome, shortcomings, scan: survey, login_waits_until, due, backoff }
    }

    /// Publishes the outcome in the status if it changes anything.
    async fn report(
        &self,
        provider: &K,
        check: &ProviderCheck,
        hindrance: Option<Problem>,
    ) -> Result<(), Error> {
        let before = provider.status().cloned().unwrap_or_default();
        let but = check.shortcomings.as_ref().map(|(_, what)| format!("; {what}")).unwrap_or_default();
        let well = Problem {
            reason: Reason::Available,
            message: format!("the remote side can be reached with this login{but}"),
        };
        let generation = provider.meta().generation;
        let (ready, why) = match &check.outcome {
            Ok(()) => (true, &well),
            Err(problem) => (false, problem),
        };
        let entry = |type_, holds, why: &Problem| {
            condition(&before.conditions, type_, holds, why, generation, self.shared.clock.now())
        };
        let mut conditions = vec![entry(ConditionType::Ready, ready, why)];
        if why.needs_the_user() {
            conditions.push(entry(ConditionType::Stalled, true, why));
        }
        if let Some(hindrance) = &hindrance {
            conditions.push(entry(ConditionType::Reconciling, true, hindrance));
        }
        let status = ProviderStatus {
            observed_generation: generation,
            conditions,
            orphans: check.scan.orphans.clone(),
            protected_secrets: before.protected_secrets.clone(),
            refused_login: check.login_waits_until.map(|until| refused_login::noted(until, &check.origin)),
        };
        if status == before || !unread::has_read_status(provider.meta()) {
            return Ok(());
        }
        if !ready {
            let reference = provider.object_ref(&());
            self.shared.events.warning(reference, why.reason.as_str(), "Check", why.message.clone());
        }
        let shown = |problem: &Problem| {
            before.conditions.iter().any(|condition| condition.reason == problem.reason.as_str())
        };
        let deleted_login = hindrance.filter(|problem| problem.reason == Reason::LoginSecretDeleted);
        if let Some(Problem { reason, message }) = deleted_login.filter(|problem| !shown(problem)) {
            self.shared.events.warning(provider.object_ref(&()), reason.as_str(), "Hold", message);
        }
        if let Some((reason, what)) = &check.shortcomings
            && !before.conditions.iter().any(|condition| condition.message == why.message)
        {
            self.shared.events.warning(provider.object_ref(&()), reason, "Check", what.clone());
        }
        tracing::info!(ready, reason = %why.reason, "a provider was checked");
        let object = provider.with_status(status);
        let name = kube::ResourceExt::name_any(provider);
        let api = provider.api(self.shared.client.clone());
        let parameters = as_field_manager();
        let write = api.replace_status(&name, &parameters, &object);
        bounded("write a provider's status", write).await.map_err(Error::outdated).map(drop)
    }
}

/// Limit of ServiceKeys that a message names.
const USERS_SHOWN: usize = 5;

/// Explains why a provider that is being deleted still exists.
fn in_use(users: &BTreeSet<String>) -> Option<Problem> {
    let names: Vec<_> = users.iter().take(USERS_SHOWN).map(|name| format!("`{name}`")).collect();
    let more = if users.len() > USERS_SHOWN {
        format!(" and {} more", users.len() - USERS_SHOWN)
    } else {
        String::new()
    };
    (!users.is_empty()).then(|| Problem {
        reason: Reason::InUse,
        message: format!(
            "deletion waits until no ServiceKey names this provider any more: delete {}{more}",
            names.join(", ")
        ),
    })
}
