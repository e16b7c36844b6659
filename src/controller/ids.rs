//! Identities of the objects that reconciles are about.

use std::fmt;

use kube::ResourceExt;

use crate::{
    api::{ProviderKind, ServiceKey},
    backend::Author,
    fair::Lane,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProviderId {
    /// The namespace of a KeyProvider; `None` for a ClusterKeyProvider.
    pub namespace: Option<String>,
    pub name: String,
}

impl ProviderId {
    /// The provider that a ServiceKey in `namespace` names.
    pub(super) fn named(kind: ProviderKind, name: &str, namespace: &str) -> Self {
        let namespace = match kind {
            ProviderKind::KeyProvider => Some(namespace.to_owned()),
            ProviderKind::ClusterKeyProvider => None,
        };
        Self { namespace, name: name.to_owned() }
    }

    /// The provider that a ServiceKey names.
    pub(super) fn from_key(key: &ServiceKey) -> Self {
        let provider = &key.spec.provider_ref;
        Self::named(provider.kind, &provider.name, &key.namespace().unwrap_or_default())
    }

    /// The lane in which the provider waits for resources that namespaces share: a KeyProvider in its
    /// namespace's, a ClusterKeyProvider in its own.
    pub(super) fn lane(&self) -> Lane {
        self.namespace.as_deref().map_or_else(|| Lane::of_cluster(&self.name), Lane::of_namespace)
    }

    /// The author of the provider.
    pub(super) fn author(&self) -> Author {
        match &self.namespace {
            Some(namespace) => Author::Tenant { namespace: namespace.clone() },
            None => Author::Administrator,
        }
    }

    pub(super) const fn kind(&self) -> ProviderKind {
        if self.namespace.is_some() { ProviderKind::KeyProvider } else { ProviderKind::ClusterKeyProvider }
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind().as_str(), self.name)
    }
}
