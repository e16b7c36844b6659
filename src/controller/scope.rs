//! The part of the cluster that one set of watches covers.

use kube::{Api, Client, Resource, core::NamespaceResourceScope};

/// The namespaces that one set of watches covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Cluster,
    Namespace(String),
}

impl Scope {
    /// The one namespace; `None`: all namespaces.
    pub(super) fn namespace(&self) -> Option<String> {
        match self {
            Self::Cluster => None,
            Self::Namespace(namespace) => Some(namespace.clone()),
        }
    }

    pub(super) fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Self::Cluster => Api::all(client),
            Self::Namespace(namespace) => Api::namespaced(client, namespace),
        }
    }
}
