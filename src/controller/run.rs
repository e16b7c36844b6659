//! Wires the operator together: providers and ServiceKeys.

use std::{collections::BTreeSet, future, mem, path::PathBuf, sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kube::{Api, Client};

use super::{
    answer_memory::AnswerMemory,
    events::Events,
    namespaces::Namespaces,
    provider,
    scope::Scope,
    service_key::{self, templates::Templates},
    shared::{Shared, Shares},
    state_metrics,
    tables::TableSizes,
    unread::Received,
};
use crate::{
    api::{ClusterKeyProvider, KeyProvider},
    backend::{AddressPolicy, Network, Transport},
    clock::Clock,
    runtime::{Leadership, Metrics},
    secret::Restrictions,
    verify::{NetworkProber, Prober},
};

/// Settings of the operator.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of the Secrets that ClusterKeyProviders name.
    pub cluster_resource_namespace: String,
    /// The namespaces to serve, without ClusterKeyProviders; `None`: the whole cluster.
    pub namespaces: Option<BTreeSet<String>>,
    /// ServiceKeys that are reconciled at the same time: in each served namespace, or in the cluster. A
    /// reconcile that waits for its remote side does not count.
    pub concurrency: u16,
    /// Interval at which the operator checks each provider and lists its keys.
    pub check_interval: Duration,
    /// The remote addresses to which the operator may connect.
    pub addresses: AddressPolicy,
    /// Path of the service account token that the operator uses to assume IBM Cloud trusted profiles.
    pub service_account_token: PathBuf,
    /// How long after its creation a key may be missing from the lists of IBM Cloud.
    pub ibm_cloud_settling: Duration,
    /// The types, labels and annotations that Secrets may have.
    pub secrets: Restrictions,
    /// The networks of the services at which new credentials are verified.
    pub verify_networks: Vec<Network>,
}

/// The operator.
pub struct Operator {
    client: Client,
    options: Arc<Options>,
    clock: Clock,
    transport: Option<Arc<dyn Transport>>,
    prober: Option<Arc<dyn Prober>>,
    templates: Templates,
    metrics: Metrics,
    leadership: Leadership,
    tables: TableSizes,
}

impl Operator {
    /// Creates an operator that is not running yet.
    #[must_use]
    pub fn new(client: Client, options: Options) -> Self {
        Self {
            client,
            options: Arc::new(options),
            clock: Clock::default(),
            transport: None,
            prober: None,
            templates: Templates::default(),
            metrics: Metrics::default(),
            leadership: Leadership::sole(),
            tables: TableSizes::default(),
        }
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Sends the calls to remote sides by this transport instead of by HTTP clients.
    #[must_use]
    pub fn with_transport(self, transport: Arc<dyn Transport>) -> Self {
        Self { transport: Some(transport), ..self }
    }

    /// Verifies credentials by this prober instead of by connections.
    #[must_use]
    pub fn with_prober(self, prober: Arc<dyn Prober>) -> Self {
        Self { prober: Some(prober), ..self }
    }

    /// Renders templates on the thread of the operator, and not on threads of their own. A slow template then delays
    /// everything.
    #[must_use]
    pub fn with_inline_templates(self) -> Self {
        Self { templates: Templates::inline(), ..self }
    }

    /// Replaces the metrics.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Makes the operator one of several replicas. Until it becomes the leader, it only fills its caches.
    #[must_use]
    pub fn with_leadership(self, leadership: Leadership) -> Self {
        Self { leadership, ..self }
    }

    /// Shows the sizes of the operator's tables in `tables`.
    #[must_use]
    pub fn with_table_sizes(self, tables: TableSizes) -> Self {
        Self { tables, ..self }
    }

    /// Runs until `shutdown` resolves. Work that is interrupted then continues at the next start.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut work: Vec<BoxStream<'static, ()>> = vec![self.metrics.heartbeat().ticks().boxed()];
        let mut relabelled = stream::empty().boxed();
        let shares = Shares { templates: self.templates.clone(), ..Shares::default() };
        let mut shared = Shared {
            prober: self.prober(&shares),
            client: self.client.clone(),
            options: Arc::clone(&self.options),
            providers: Arc::default(),
            index: Arc::default(),
            missing_keys: Arc::default(),
            seats: Arc::default(),
            namespaces: Namespaces::default(),
            events: Events::start(self.client.clone(), self.clock.clone()),
            clock: self.clock.clone(),
            transport: self.transport.clone(),
            metrics: self.metrics.clone(),
            leadership: self.leadership.clone(),
            shares,
            answer_memory: AnswerMemory::default(),
            tables: self.tables.clone(),
        };
        shared.show_table_sizes();
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
            work.push(service_key::serve(&shared, &scope, relabelled));
        }
        let (providers, index) = (Arc::clone(&shared.providers), Arc::clone(&shared.index));
        let (leadership, clock) = (self.leadership.clone(), self.clock.clone());
        // Only the leader reports. Otherwise each replica would count every ServiceKey once more.
        self.metrics.set_state_source(move || match leadership.acquired_at() {
            Some(_) => state_metrics::collect(&providers, &index, clock.now()),
            None => Vec::new(),
        });
        let work = stream::select_all(work).for_each(|()| future::ready(()));
        tokio::select! {
            biased;
            () = shutdown => {}
            () = work => {}
        }
    }

    fn prober(&self, shares: &Shares) -> Arc<dyn Prober> {
        self.prober.clone().unwrap_or_else(|| {
            let Options { verify_networks, addresses, .. } = &*self.options;
            let prober =
                NetworkProber::new(verify_networks.clone(), addresses.rules(), shares.remote.clone());
            Arc::new(prober.with_names(addresses.names()))
        })
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
}
