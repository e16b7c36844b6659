//! The state that all reconciles of ServiceKeys and providers share.

use std::sync::Arc;

use kube::Client;

use super::{
    answer_memory::AnswerMemory,
    events::Events,
    namespaces::Namespaces,
    provider::ProviderStore,
    run::Options,
    service_key::{
        index::ServiceKeyIndex, missing_keys::MissingKeys, seats::Seats, secret_reader, templates::Templates,
    },
    tables::TableSizes,
};
use crate::{
    backend::{RemoteShares, Transport},
    clock::Clock,
    fair::FairSemaphore,
    runtime::{Leadership, Metrics},
    verify::Prober,
};

/// Providers whose Secrets are read at the same time.
const LOADING: usize = 16;

/// Providers that are checked at the same time. A check may take as long as its deadlines, so a namespace may
/// use at most as many slots as stay free.
const CHECKING: usize = 64;

#[derive(Clone)]
pub(super) struct Shared {
    pub client: Client,
    pub options: Arc<Options>,
    pub providers: Arc<ProviderStore>,
    pub index: Arc<ServiceKeyIndex>,
    pub missing_keys: Arc<MissingKeys>,
    pub seats: Arc<Seats>,
    pub namespaces: Namespaces,
    pub events: Events,
    pub clock: Clock,
    /// Delivers calls to remote sides instead of HTTP clients.
    pub transport: Option<Arc<dyn Transport>>,
    /// Checks whether services accept new credentials.
    pub prober: Arc<dyn Prober>,
    pub metrics: Metrics,
    pub leadership: Leadership,
    pub answer_memory: AnswerMemory,
    pub shares: Shares,
    pub tables: TableSizes,
}

impl Shared {
    /// Shows the sizes of the tables that all scopes share.
    pub(super) fn show_table_sizes(&self) {
        let providers = Arc::downgrade(&self.providers);
        self.tables
            .add(move || providers.upgrade().map(|providers| providers.table_sizes()).unwrap_or_default());
        let (missing, seats) = (Arc::downgrade(&self.missing_keys), Arc::downgrade(&self.seats));
        self.tables.add(move || {
            let missing = missing.upgrade().map(|missing| ("missing keys", missing.len()));
            let seats = seats.upgrade().map(|seats| ("seats", seats.len()));
            missing.into_iter().chain(seats).collect()
        });
    }
}

/// The limited resources of the process, which namespaces share.
#[derive(Clone)]
pub(super) struct Shares {
    /// Slots for reading a provider and its login Secrets.
    pub loading: FairSemaphore,
    /// Slots for checks of providers.
    pub checking: FairSemaphore,
    /// Connections and name lookups for calls to remote sides.
    pub remote: RemoteShares,
    /// Slots for reads of whole Secrets.
    pub secret_reads: FairSemaphore,
    /// Threads for templates.
    pub templates: Templates,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            loading: FairSemaphore::new(LOADING),
            checking: FairSemaphore::leaving_room(CHECKING),
            remote: RemoteShares::default(),
            secret_reads: secret_reader::places(),
            templates: Templates::default(),
        }
    }
}
