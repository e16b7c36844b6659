//! The providers that keys can be asked of: each with its backend, logged in, or with what is missing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{Selector, SelectorExt};
use parking_lot::Mutex;

use super::{
    events::ProviderEvents,
    pending_providers::{InitialList, ListScope, PendingProviders},
};
use crate::{
    api::{AllowedNamespaces, NamespaceRule, ProviderSpec, Reason},
    backend::{Backend, BackendKind},
    controller::{ids::ProviderId, queue::Queue},
    lifecycle::{Allowance, Problem, ProviderView},
    runtime::metrics::QueueMetrics,
};

/// A provider as it was last loaded.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// What it was loaded from: another version of any of it asks for another backend.
    pub origin: Origin,
    /// The remote side, or what keeps it from being asked.
    pub backend: Result<Arc<Backend>, Problem>,
    /// Where its keys wait for their turn.
    pub queue: Option<Queue>,
    /// Who may use it.
    pub access: ProviderAccess,
    /// Whether its keys bear a mark, also where it can't be asked.
    pub marks_keys: bool,
    /// The kind of its remote side, also where it can't be asked.
    pub kind: BackendKind,
    /// How often a check succeeded after one that had failed.
    pub recoveries: u64,
}

impl Loaded {
    /// A provider that was loaded from this.
    pub(crate) fn new(
        origin: Origin,
        backend: Result<Arc<Backend>, Problem>,
        access: ProviderAccess,
        spec: &ProviderSpec,
        queue: QueueMetrics,
    ) -> Self {
        let queue = backend.as_ref().ok().map(|backend| Queue::new(backend, queue));
        let kind = spec.backend().into();
        Self { origin, backend, queue, access, marks_keys: spec.marks_keys(), kind, recoveries: 0 }
    }

    /// Sends those who wait for it away: they look for what has taken its place.
    fn retire(&self) {
        if let Some(queue) = &self.queue {
            queue.close();
        }
    }
}

/// Who may use a provider.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ProviderAccess {
    /// Its own namespace, the only one that can name it.
    OwnNamespace,
    /// The namespaces that a ClusterKeyProvider allows, and what it permits them.
    Shared {
        /// The namespaces; without a choice, none.
        namespaces: Option<AllowedNamespaces>,
        /// What they may ask for.
        rules: Arc<[NamespaceRule]>,
    },
}

/// A namespace whose keys ask for a provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenant<'a> {
    /// Its name.
    pub namespace: &'a str,
    /// Its labels, where all of them are known; no selector selects a namespace without.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

impl ProviderAccess {
    fn admits(&self, tenant: &Tenant<'_>) -> bool {
        match self {
            Self::OwnNamespace => true,
            Self::Shared { namespaces, rules } => {
                let selects = |rule: &NamespaceRule| {
                    rule.namespaces.as_ref().is_some_and(|namespaces| namespaces.selector.is_some())
                };
                // Without its labels nobody knows which rule is for it: the first might be passed over.
                (tenant.labels.is_some() || !rules.iter().any(selects))
                    && namespaces.as_ref().is_some_and(|namespaces| tenant.is_among(namespaces))
            }
        }
    }

    /// What the provider permits a namespace: the first rule for it counts.
    fn allowance(&self, id: &ProviderId, tenant: &Tenant<'_>) -> Allowance {
        match self {
            Self::OwnNamespace => Allowance::Everything,
            Self::Shared { namespaces: _, rules } => Allowance::Shared {
                provider: id.to_string(),
                rules: Arc::clone(rules),
                applies: rules.iter().position(|rule| {
                    rule.namespaces.as_ref().is_none_or(|namespaces| tenant.is_among(namespaces))
                }),
            },
        }
    }
}

impl Tenant<'_> {
    fn is_among(&self, AllowedNamespaces { names, selector }: &AllowedNamespaces) -> bool {
        let unrestricted = names.is_empty() && selector.is_none();
        let selected = selector.as_ref().zip(self.labels).is_some_and(|(selector, labels)| {
            Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
        });
        unrestricted || selected || names.iter().any(|name| name == self.namespace)
    }
}

/// The versions of everything that a backend is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The provider's UID and generation.
    pub provider: (String, i64),
    /// The version of each Secret that it names, by name; `None` where there is no such Secret.
    pub secrets: BTreeMap<String, Option<SecretVersion>>,
    /// Digest of what the Secrets hold, which another version need not change.
    pub entries: String,
}

impl Origin {
    /// The generation of the provider, and the version of each Secret that exists, by name.
    pub(crate) fn observed_versions(&self) -> (i64, BTreeMap<String, String>) {
        let versions = self
            .secrets
            .iter()
            .filter_map(|(name, version)| Some((name.clone(), version.as_ref()?.resource_version.clone())));
        (self.provider.1, versions.collect())
    }

    /// Whether the same backend is made from either.
    pub(crate) fn is_equivalent_to(&self, other: &Self) -> bool {
        self.provider == other.provider && self.entries == other.entries
    }
}

/// One version of one Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretVersion {
    uid: String,
    resource_version: String,
}

impl SecretVersion {
    /// The version of the Secret with this metadata; `None` for one that was never stored.
    pub(crate) fn from_metadata(meta: &ObjectMeta) -> Option<Self> {
        Some(Self { uid: meta.uid.clone()?, resource_version: meta.resource_version.clone()? })
    }
}

/// All providers that were loaded.
#[derive(Debug, Default)]
pub(crate) struct ProviderStore {
    loaded: Mutex<HashMap<ProviderId, Arc<Loaded>>>,
    pending: PendingProviders,
    /// Told of each provider that changes.
    pub events: ProviderEvents,
}

impl ProviderStore {
    /// A list of these providers is about to come.
    pub(crate) fn expect(&self, listed: ListScope) -> InitialList {
        self.pending.expect(listed)
    }

    /// Notes that a provider exists. One that was not loaded yet is about to be, and its keys are woken then.
    pub(crate) fn mark_pending(&self, id: ProviderId) {
        if !self.loaded.lock().contains_key(&id) {
            self.pending.insert(id);
        }
    }

    /// Whether a provider was loaded, or is known not to exist. Where neither is the case its keys are woken as soon
    /// as it is.
    pub(crate) async fn wait_known(&self, id: &ProviderId) -> bool {
        self.pending.wait_known(id).await
    }

    /// The provider, if it was loaded.
    pub(crate) fn get(&self, id: &ProviderId) -> Option<Arc<Loaded>> {
        self.loaded.lock().get(id).cloned()
    }

    /// Whether this is the version of the Secret that the provider was loaded from; `None`: that it was missing.
    pub(crate) fn is_loaded_from(
        &self,
        id: &ProviderId,
        secret: &str,
        version: Option<&SecretVersion>,
    ) -> bool {
        let loaded = self.loaded.lock();
        let known = loaded.get(id).and_then(|loaded| loaded.origin.secrets.get(secret));
        known.is_some_and(|known| known.as_ref() == version)
    }

    /// Notes that a provider was looked at in these versions, and found to be as it was loaded.
    pub(crate) fn confirm(&self, id: &ProviderId, origin: Origin) {
        if let Some(loaded) = self.loaded.lock().get_mut(id) {
            Arc::make_mut(loaded).origin = origin;
        }
    }

    /// Takes in a provider that was loaded from something new.
    pub(crate) fn set(&self, id: &ProviderId, loaded: Arc<Loaded>) {
        let before = self.loaded.lock().insert(id.clone(), loaded);
        before.iter().for_each(|before| before.retire());
        self.pending.remove(id);
        self.events.notify(id);
    }

    /// Forgets a provider that is gone.
    pub(crate) fn remove(&self, id: &ProviderId) {
        self.events.set_waiting(id, false);
        let unloaded = self.pending.remove(id);
        let before = self.loaded.lock().remove(id);
        before.iter().for_each(|before| before.retire());
        if before.is_some() || unloaded {
            self.events.notify(id);
        }
    }

    /// Notes that the remote side of a provider can be used again, and wakes the keys.
    pub(crate) fn mark_recovered(&self, id: &ProviderId) {
        if let Some(loaded) = self.loaded.lock().get_mut(id) {
            Arc::make_mut(loaded).recoveries += 1;
        }
        self.events.notify(id);
    }

    /// How often the remote side of a provider could be used again.
    pub(crate) fn recoveries(&self, id: &ProviderId) -> u64 {
        self.loaded.lock().get(id).map_or(0, |loaded| loaded.recoveries)
    }

    /// The UIDs of the providers that were loaded. There may be others.
    pub(crate) fn uids(&self) -> Vec<String> {
        self.loaded.lock().values().map(|loaded| loaded.origin.provider.0.clone()).collect()
    }

    /// The backend, or what keeps it from being asked. `None`: the provider was not loaded.
    pub(crate) fn backend(&self, id: &ProviderId) -> Option<Result<Arc<Backend>, Problem>> {
        let backend = self.get(id)?.backend.clone();
        Some(backend.map_err(|problem| seen_by_a_key(id, problem)))
    }

    /// Whether the provider's keys bear a mark; those of one that does not exist are asked for nowhere.
    pub(crate) fn marks_keys(&self, id: &ProviderId) -> bool {
        self.loaded.lock().get(id).is_some_and(|loaded| loaded.marks_keys)
    }

    /// What a provider's backend is made from, as far as it tells one from another.
    pub(crate) fn origin_digest(&self, id: &ProviderId) -> Option<String> {
        let loaded = self.loaded.lock();
        let Origin { provider: (uid, generation), secrets: _, entries } = &loaded.get(id)?.origin;
        Some(format!("{uid} {generation} {entries}"))
    }

    /// The kind of the remote side, for metrics.
    pub(crate) fn kind(&self, id: &ProviderId) -> BackendKind {
        self.loaded.lock().get(id).map_or(BackendKind::Unknown, |loaded| loaded.kind)
    }

    /// All providers that were loaded, each with the kind of its remote side, and how much longer that wants to be left
    /// alone.
    pub(crate) fn providers(&self) -> Vec<(ProviderId, BackendKind, Duration)> {
        let of = |(id, loaded): (&ProviderId, &Arc<Loaded>)| {
            let pause = loaded.backend.as_ref().ok().and_then(|backend| backend.paused());
            (id.clone(), loaded.kind, pause.unwrap_or_default())
        };
        self.loaded.lock().iter().map(of).collect()
    }

    /// Where the provider's keys wait for their turn.
    pub(crate) fn queue(&self, id: &ProviderId) -> Option<Queue> {
        self.loaded.lock().get(id)?.queue.clone()
    }

    /// What a provider is to the keys of a namespace. `None`: the provider was not loaded.
    pub(crate) fn view(&self, id: &ProviderId, tenant: &Tenant<'_>) -> Option<ProviderView> {
        let backend = self.backend(id)?;
        let admitted = self.get(id)?.access.admits(tenant);
        Some(match backend {
            Ok(_) if admitted => ProviderView::Available,
            Ok(_) => ProviderView::Closed(not_admitted(id, tenant)),
            Err(problem) if admitted => ProviderView::Unavailable(problem),
            // A namespace that is not admitted must not learn the provider's problem.
            Err(_) => ProviderView::Unavailable(not_admitted(id, tenant)),
        })
    }

    /// What a provider permits the keys of a namespace; everything, where there is no provider that could forbid it.
    pub(crate) fn allowance(&self, id: &ProviderId, tenant: &Tenant<'_>) -> Allowance {
        self.get(id).map_or(Allowance::Everything, |loaded| loaded.access.allowance(id, tenant))
    }

    /// Whether a provider admits keys of a namespace. One that was not loaded admits those that it can only have in its own.
    pub(crate) fn admits(&self, id: &ProviderId, tenant: &Tenant<'_>) -> bool {
        self.loaded.lock().get(id).map_or(id.namespace.is_some(), |loaded| loaded.access.admits(tenant))
    }
}

fn not_admitted(id: &ProviderId, tenant: &Tenant<'_>) -> Problem {
    Problem {
        reason: Reason::ProviderNotAllowed,
        message: format!(
            "{id} does not admit keys from the namespace `{}`; name it in the provider's `spec.allowedNamespaces`",
            tenant.namespace
        ),
    }
}

/// What is wrong with a provider, as its keys say it.
fn seen_by_a_key(id: &ProviderId, problem: Problem) -> Problem {
    Problem { reason: Reason::ProviderNotReady, message: format!("{id} can't be used: {}", problem.message) }
}
