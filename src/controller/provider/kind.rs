//! Trait of the two kinds of provider, for the one reconcile that serves both.

use std::fmt::Debug;

use kube::{Api, Client, ResourceExt, runtime::reflector::ObjectRef};
use serde::Serialize;

use super::store::ProviderAccess;
use crate::{
    api::{ClusterKeyProvider, KeyProvider, ProviderKind, ProviderSpec, ProviderStatus},
    controller::ids::ProviderId,
    controller::unread::Watched,
    runtime::answers,
};

pub(crate) trait Provider: Watched + Clone + Debug + Serialize + Send + Sync + 'static {
    /// The kind, as ServiceKeys name it.
    const KIND: ProviderKind;

    fn id(&self) -> ProviderId;

    /// The object of this kind with this id; `None` if the id is of the other kind.
    fn named(id: &ProviderId) -> Option<ObjectRef<Self>>;

    /// The part of the spec that both kinds have.
    fn provider(&self) -> &ProviderSpec;

    fn access(&self) -> ProviderAccess;

    /// The status as it was last written.
    fn status(&self) -> Option<&ProviderStatus>;

    /// A copy with another status, in a form that can be written.
    fn with_status(&self, status: ProviderStatus) -> Self;

    /// The namespace of its login Secrets. For a ClusterKeyProvider it is an option of the operator.
    fn secrets_namespace(&self, cluster_resource_namespace: &str) -> String;

    fn api(&self, client: Client) -> Api<Self>;
}

impl Provider for KeyProvider {
    const KIND: ProviderKind = ProviderKind::KeyProvider;

    fn id(&self) -> ProviderId {
        ProviderId { namespace: self.namespace(), name: self.name_any() }
    }

    fn named(id: &ProviderId) -> Option<ObjectRef<Self>> {
        Some(ObjectRef::new(&id.name).within(id.namespace.as_deref()?))
    }

    fn provider(&self) -> &ProviderSpec {
        &self.spec
    }

    fn access(&self) -> ProviderAccess {
        ProviderAccess::OwnNamespace
    }

    fn status(&self) -> Option<&ProviderStatus> {
        self.status.as_ref()
    }

    fn with_status(&self, status: ProviderStatus) -> Self {
        let metadata = answers::without_note(self.metadata.clone());
        Self { metadata, spec: self.spec.clone(), status: Some(status) }
    }

    fn secrets_namespace(&self, _: &str) -> String {
        self.namespace().unwrap_or_default()
    }

    fn api(&self, client: Client) -> Api<Self> {
        Api::namespaced(client, &self.namespace().unwrap_or_default())
    }
}

impl Provider for ClusterKeyProvider {
    const KIND: ProviderKind = ProviderKind::ClusterKeyProvider;

    fn id(&self) -> ProviderId {
        ProviderId { namespace: None, name: self.name_any() }
    }

    fn named(id: &ProviderId) -> Option<ObjectRef<Self>> {
        id.namespace.is_none().then(|| ObjectRef::new(&id.name))
    }

    fn provider(&self) -> &ProviderSpec {
        &self.spec.provider
    }

    fn access(&self) -> ProviderAccess {
        ProviderAccess::Shared {
            namespaces: self.spec.allowed_namespaces.clone(),
            rules: self.spec.rules.clone().into(),
        }
    }

    fn status(&self) -> Option<&ProviderStatus> {
        self.status.as_ref()
    }

    fn with_status(&self, status: ProviderStatus) -> Self {
        let metadata = answers::without_note(self.metadata.clone());
        Self { metadata, spec: self.spec.clone(), status: Some(status) }
    }

    fn secrets_namespace(&self, cluster_resource_namespace: &str) -> String {
        cluster_resource_namespace.to_owned()
    }

    fn api(&self, client: Client) -> Api<Self> {
        Api::all(client)
    }
}
