//! The custom resources, as users write them and as `kubectl explain` shows them.
//!
//! The API server enforces what is written here: schemas, defaults, and CEL rules for all that must hold between
//! fields. What can only be known at the remote side is reported in conditions.

mod condition;
mod duration;
mod ibm_access;
pub mod marks;
mod provider;
mod reference;
mod rules;
mod schema;
mod secret;
mod service_key;
mod status;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use condition::{ConditionType, Reason};
pub use duration::{Duration, InvalidDuration};
pub use ibm_access::{IbmCloudAccess, IbmCloudKey, ResourceAttribute};
pub use provider::{
    AllowedNamespaces, BackendSpec, BrokerAuth, BrokerClientCredentials, CloudFoundryAuth,
    CloudFoundryPassword, CloudFoundrySpec, ClusterKeyProvider, ClusterKeyProviderSpec, IbmCloudAuth,
    IbmCloudSpec, KeyProvider, Limits, OpenServiceBrokerSpec, OrphanPolicy, Orphans, ProviderSpec,
    ProviderStatus, Tls, TrustedProfile,
};
pub use reference::{ProviderKind, ProviderRef, SecretKeyRef, SecretLogin, SecretRef};
pub use secret::{PreviousCredentials, SecretSpec, SecretTemplate};
pub use service_key::{
    Adoption, DeletionPolicy, Instance, ParametersSource, Rotation, RotationStrategy, ServiceKey,
    ServiceKeySpec,
};
pub use status::{Binding, KeyStatus, Operation, OperationKind, PreviousKey, SecretStatus, ServiceKeyStatus};

/// The definitions of all custom resources, as they are installed. `ServiceKey::crd()` and its like are not quite
/// these: they lack the last touches.
#[must_use]
pub fn custom_resource_definitions() -> [CustomResourceDefinition; 3] {
    [ServiceKey::crd(), KeyProvider::crd(), ClusterKeyProvider::crd()].map(schema::tidy)
}
