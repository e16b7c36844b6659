//! The loaded providers, each with its backend or with the problem that prevents its use.

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
    controller::{ids::ProviderId, queue::Queue, tables::Sizes},
    lifecycle::{Allowance, Problem, ProviderView},
    runtime::metrics::QueueMetrics,
};

#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The versions that it was loaded from. Another version of any of them requires another backend.
    pub origin: Origin,
    /// The backend of the remote side, or the problem that prevents its use.
    pub backend: Result<Arc<Backend>, Problem>,
    /// The queue of its keys' requests.
    pub queue: Option<Queue>,
    pub access: ProviderAccess,
    /// Whether its keys carry a mark. Known even without a usable backend.
    pub marks_keys: bool,
    /// The kind of its remote side. Known even without a usable backend.
    pub kind: BackendKind,
    /// How often a check succeeded after a failed one.
    pub recoveries: u64,
}

impl Loaded {
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

    /// Closes the queue. The waiting reconciles look up the provider's new version.
    fn retire(&self) {
        if let Some(queue) = &self.queue {
            queue.close();
        }
    }
}

/// Which namespaces may use a provider.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ProviderAccess {
    /// Only the provider's own namespace can name it.
    OwnNamespace,
    /// The namespaces that a ClusterKeyProvider allows, and its rules for them.
    Shared {
        /// The allowed namespaces; `None`: no namespace.
        namespaces: Option<AllowedNamespaces>,
        /// The rules that limit their keys.
        rules: Arc<[NamespaceRule]>,
    },
}

/// A namespace whose keys use a provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenant<'a> {
    pub namespace: &'a str,
    /// The namespace's labels, if all of them are known. Without labels no selector matches.
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
                // Without the labels, the operator can't determine the rule: it might skip the first one that
                // applies.
                (tenant.labels.is_some() || !rules.iter().any(selects))
                    && namespaces.as_ref().is_some_and(|namespaces| tenant.is_among(namespaces))
            }
        }
    }

    /// The provider's limits for a namespace, from the first rule that applies to it.
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

/// The versions of everything that a backend is created from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The provider's UID and generation.
    pub provider: (String, i64),
    /// The version of each Secret that the provider names, by name; `None` for a missing Secret.
    pub secrets: BTreeMap<String, Option<SecretVersion>>,
    /// Digest of the Secrets' entries, which a new version does not always change.
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

    /// Whether both lead to the same backend.
    pub(crate) fn is_equivalent_to(&self, other: &Self) -> bool {
        self.provider == other.provider && self.entries == other.entries
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretVersion {
    uid: String,
    resource_version: String,
}

impl SecretVersion {
    /// The version of the Secret with this metadata; `None` for a Secret that was never stored.
    pub(crate) fn from_metadata(meta: &ObjectMeta) -> Option<Self> {
        Some(Self { uid: meta.uid.clone()?, resource_version: meta.resource_version.clone()? })
    }
}

#[derive(Debug, Default)]
pub(crate) struct ProviderStore {
    loaded: Mutex<HashMap<ProviderId, Arc<Loaded>>>,
    pending: PendingProviders,
    /// Notified of each provider that changes.
    pub events: ProviderEvents,
}

impl ProviderStore {
    /// Registers the initial list of these providers, which is about to arrive.
    pub(crate) fn expect(&self, listed: ListScope) -> InitialList {
        self.pending.expect(listed)
    }

    /// Records that a provider exists. If it was not loaded yet, that is about to happen and requeues its
    /// keys.
    pub(crate) fn mark_pending(&self, id: ProviderId) {
        if !self.loaded.lock().contains_key(&id) {
            self.pending.insert(id);
        }
    }

    /// Waits until a provider was loaded or is known not to exist. Returns `false` if it exists but is not
    /// loaded yet; loading it requeues its keys.
    pub(crate) async fn wait_known(&self, id: &ProviderId) -> bool {
        self.pending.wait_known(id).await
    }

    pub(crate) fn get(&self, id: &ProviderId) -> Option<Arc<Loaded>> {
        self.loaded.lock().get(id).cloned()
    }

    /// Whether the provider was loaded from this version of the Secret; `None`: from a missing Secret.
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

    /// Records new versions from which the provider would be loaded unchanged.
    pub(crate) fn confirm(&self, id: &ProviderId, origin: Origin) {
        if let Some(loaded) = self.loaded.lock().get_mut(id) {
            Arc::make_mut(loaded).origin = origin;
        }
    }

    /// Stores a provider that was loaded from new versions.
    pub(crate) fn set(&self, id: &ProviderId, loaded: Arc<Loaded>) {
        let before = self.loaded.lock().insert(id.clone(), loaded);
        before.iter().for_each(|before| before.retire());
        self.pending.remove(id);
        self.events.notify(id);
    }

    /// Removes a provider that is gone.
    pub(crate) fn remove(&self, id: &ProviderId) {
        self.events.set_waiting(id, false);
        let unloaded = self.pending.remove(id);
        let before = self.loaded.lock().remove(id);
        before.iter().for_each(|before| before.retire());
        if before.is_some() || unloaded {
            self.events.notify(id);
        }
    }

    /// Records that the remote side of a provider works again, and requeues the keys.
    pub(crate) fn mark_recovered(&self, id: &ProviderId) {
        if let Some(loaded) = self.loaded.lock().get_mut(id) {
            Arc::make_mut(loaded).recoveries += 1;
        }
        self.events.notify(id);
    }

    /// How often the remote side of a provider recovered.
    pub(crate) fn recoveries(&self, id: &ProviderId) -> u64 {
        self.loaded.lock().get(id).map_or(0, |loaded| loaded.recoveries)
    }

    /// The UIDs of the loaded providers. Other providers may exist.
    pub(crate) fn uids(&self) -> Vec<String> {
        self.loaded.lock().values().map(|loaded| loaded.origin.provider.0.clone()).collect()
    }

    /// The backend, or the problem that prevents its use. `None`: the provider was not loaded.
    pub(crate) fn backend(&self, id: &ProviderId) -> Option<Result<Arc<Backend>, Problem>> {
        let backend = self.get(id)?.backend.clone();
        Some(backend.map_err(|problem| seen_by_a_key(id, problem)))
    }

    /// Whether the provider's keys carry a mark; `false` for a provider that was not loaded.
    pub(crate) fn marks_keys(&self, id: &ProviderId) -> bool {
        self.loaded.lock().get(id).is_some_and(|loaded| loaded.marks_keys)
    }

    /// Digest of the inputs of a provider's backend; another digest means another backend.
    pub(crate) fn origin_digest(&self, id: &ProviderId) -> Option<String> {
        let loaded = self.loaded.lock();
        let Origin { provider: (uid, generation), secrets: _, entries } = &loaded.get(id)?.origin;
        Some(format!("{uid} {generation} {entries}"))
    }

    pub(crate) fn kind(&self, id: &ProviderId) -> BackendKind {
        self.loaded.lock().get(id).map_or(BackendKind::Unknown, |loaded| loaded.kind)
    }

    /// All loaded providers, each with the kind of its remote side and the rest of its rate-limit pause.
    pub(crate) fn providers(&self) -> Vec<(ProviderId, BackendKind, Duration)> {
        let of = |(id, loaded): (&ProviderId, &Arc<Loaded>)| {
            let pause = loaded.backend.as_ref().ok().and_then(|backend| backend.paused());
            (id.clone(), loaded.kind, pause.unwrap_or_default())
        };
        self.loaded.lock().iter().map(of).collect()
    }

    /// The sizes of the tables of all providers and of their backends.
    pub(crate) fn table_sizes(&self) -> Sizes {
        let loaded = self.loaded.lock();
        let backends = loaded.values().filter_map(|loaded| loaded.backend.as_ref().ok());
        let own = [
            ("loaded providers", loaded.len()),
            ("pending providers", self.pending.len()),
            ("waiting providers", self.events.len()),
        ];
        own.into_iter().chain(backends.flat_map(|backend| backend.table_sizes())).collect()
    }

    /// The queue of the provider's requests.
    pub(crate) fn queue(&self, id: &ProviderId) -> Option<Queue> {
        self.loaded.lock().get(id)?.queue.clone()
    }

    /// The provider as the keys of a namespace see it. `None`: the provider was not loaded.
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

    /// The provider's limits for the keys of a namespace. Without a provider, nothing is limited.
    pub(crate) fn allowance(&self, id: &ProviderId, tenant: &Tenant<'_>) -> Allowance {
        self.get(id).map_or(Allowance::Everything, |loaded| loaded.access.allowance(id, tenant))
    }

    /// Whether a provider admits keys of a namespace. A provider that was not loaded counts as admitting if
    /// it is a KeyProvider, which only its own namespace can name.
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

/// A provider's problem, as its keys report it.
fn seen_by_a_key(id: &ProviderId, problem: Problem) -> Problem {
    Problem { reason: Reason::ProviderNotReady, message: format!("{id} can't be used: {}", problem.message) }
}
