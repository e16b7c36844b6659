//! The custom resources, as users write them and as `kubectl explain` shows them.
//!
//! The API server enforces this module's schemas, defaults and CEL rules between fields. Conditions report the problems
//! that only the remote side can detect.

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
mod verification;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use condition::{ConditionType, Reason};
pub use duration::{Duration, InvalidDuration};
pub use ibm_access::{DEFAULT_ROLE, IbmCloudAccess, IbmCloudKey, NO_ROLE, ResourceAttribute, WantedRole};
pub use provider::{
    AllowedNamespaces, BackendSpec, BindResource, BrokerAuth, BrokerClientCredentials, CloudFoundryAuth,
    CloudFoundryPassword, CloudFoundryRule, CloudFoundrySpec, ClusterKeyProvider, ClusterKeyProviderSpec,
    IbmCloudAuth, IbmCloudRule, IbmCloudSpec, InstancePatterns, InstancesById, KeyProvider, Limits,
    NamespaceRule, OpenServiceBrokerSpec, OrphanPolicy, Orphans, Permission, ProviderSpec, ProviderStatus,
    RefusedLogin, Tls, TrustedProfile,
};
pub use reference::{ProviderKind, ProviderRef, SecretKeyRef, SecretLogin, SecretRef};
pub use secret::{PreviousCredentials, SecretSpec, SecretTemplate};
pub use service_key::{
    Adoption, CertificateExpiry, DeletionPolicy, ExpiryDetection, Instance, OnChange, ParametersSource,
    RestartTarget, RevokeWhen, Rotation, RotationStrategy, RotationWindow, ServiceKey, ServiceKeySpec,
    WorkloadKind,
};
pub use status::{
    Binding, ExpiryOrigin, ExpiryOriginKind, GoneCause, IgnoredExpiry, KeyGone, KeyStatus, OperationStatus,
    OperationStatusKind, PlanIdsStatus, PreviousKeyStatus, RestartStatus, SecretStatus, ServiceKeyStatus,
    VerificationStatus,
};
pub use verification::{
    HttpProbe, PostgresProbe, ProbeEncryption, RedisProbe, TcpProbe, TlsProbe, Verification,
};

/// The definitions of all custom resources, as they are installed. `ServiceKey::crd()` and the like lack the final
/// adjustments.
#[must_use]
pub fn custom_resource_definitions() -> [CustomResourceDefinition; 3] {
    [ServiceKey::crd(), KeyProvider::crd(), ClusterKeyProvider::crd()].map(schema::tidy)
}

#[cfg(test)]
mod tests {
    use std::{fmt::Debug, fs, path::Path};

    use rstest::rstest;
    use serde::{Serialize, de::DeserializeOwned};

    use super::*;

    /// The operator reads every manifest in `tests/good_manifests/`, which the API server accepts, and writes it
    /// unchanged.
    #[test]
    fn good_manifests_are_understood() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good_manifests");
        let mut documents = 0;
        for entry in fs::read_dir(directory).unwrap() {
            for document in fs::read_to_string(entry.unwrap().path()).unwrap().split("\n---\n") {
                // The API server replaces `null` with the field's default before any client reads the object.
                let document = document.lines().filter(|line| !line.ends_with(": null"));
                let document = document.collect::<Vec<_>>().join("\n");
                match document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap() {
                    "ServiceKey" => survives::<ServiceKey>(&document),
                    "KeyProvider" => survives::<KeyProvider>(&document),
                    "ClusterKeyProvider" => survives::<ClusterKeyProvider>(&document),
                    other => panic!("unknown kind {other}"),
                }
                documents += 1;
            }
        }
        assert!(documents >= 20, "only {documents} documents");
    }

    fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(document: &str) {
        let read: T = serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}"));
        let again: T = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
        assert_eq!(read, again);
    }

    #[rstest]
    #[case("openServiceBroker: {url: u}", &[])]
    #[case("openServiceBroker: {url: u, auth: {basic: {secretRef: {name: a}}}}", &["a"])]
    #[case("openServiceBroker: {url: u, auth: {bearer: {secretRef: {name: a}}}}", &["a"])]
    #[case("openServiceBroker: {url: u, auth: {clientCredentials: {tokenUrl: t, secretRef: {name: a}}}}", &["a"])]
    #[case("cloudFoundry: {apiUrl: u, auth: {password: {secretRef: {name: a}}}}", &["a"])]
    #[case("cloudFoundry: {apiUrl: u, auth: {clientCredentials: {secretRef: {name: a}}}}", &["a"])]
    #[case("cloudFoundry: {apiUrl: u, auth: {bearer: {secretRef: {name: a}}}}", &["a"])]
    #[case("ibmCloud: {auth: {apiKey: {secretRef: {name: a}}}}", &["a"])]
    #[case("ibmCloud: {auth: {trustedProfile: {name: p}}}", &[])]
    #[case("{ibmCloud: {auth: {apiKey: {secretRef: {name: b}}}}, \
             tls: {clientCertificate: {secretRef: {name: a}}}}", &["a", "b"])]
    fn a_provider_knows_its_backend_and_its_secrets(#[case] spec: &str, #[case] secrets: &[&str]) {
        let spec: ProviderSpec = serde_saphyr::from_str(spec).unwrap();
        assert!(spec.backend().is_some());
        assert_eq!(spec.secret_names().into_iter().collect::<Vec<_>>(), secrets);
        assert_eq!(spec.limits, Limits::default());
    }

    #[rstest]
    #[case("{}", 3600)]
    #[case("{every: 720h}", 72 * 3600)]
    #[case("{every: 720h, overlap: 24h}", 24 * 3600)]
    #[case("{every: 720h, overlap: 0s}", 0)]
    #[case("{every: 720h, strategy: Replace}", 0)]
    fn the_overlap_has_a_default(#[case] rotation: &str, #[case] seconds: u64) {
        let rotation: Rotation = serde_saphyr::from_str(rotation).unwrap();
        assert_eq!(rotation.overlap().as_secs(), seconds);
    }

    #[rstest]
    #[case("{}", WantedRole::Default)]
    #[case("{role: Manager}", WantedRole::Named("Manager"))]
    #[case("{role: NONE}", WantedRole::None)]
    #[case("{access: {roles: [Writer]}}", WantedRole::None)]
    #[case("{access: {serviceIdCrn: 'crn:v1:x'}}", WantedRole::None)]
    #[case("{role: Writer, access: {serviceIdCrn: 'crn:v1:x'}}", WantedRole::Named("Writer"))]
    fn an_ibm_cloud_key_has_a_default_role(#[case] key: &str, #[case] role: WantedRole<'_>) {
        let key: IbmCloudKey = serde_saphyr::from_str(key).unwrap();
        assert_eq!(key.role(), role);
    }
}
