//! What all reconciles share, of ServiceKeys and of providers.

use std::sync::Arc;

use kube::Client;

use super::{
    Options, doubts::Doubts, events::Events, namespaces::Namespaces, provider::Registry, term::Term,
};
use crate::runtime::Metrics;

/// What all reconciles share.
#[derive(Clone)]
pub struct Shared {
    pub client: Client,
    pub options: Arc<Options>,
    pub registry: Arc<Registry>,
    pub doubts: Arc<Doubts>,
    pub namespaces: Namespaces,
    pub events: Events,
    pub metrics: Metrics,
    pub term: Arc<Term>,
}
