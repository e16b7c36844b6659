//! `KeyProvider` and `ClusterKeyProvider`: the remote side of keys, and the login to it.

mod cloud_foundry;
mod cluster;
mod ibm_cloud;
mod namespace_rule;
mod open_service_broker;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cloud_foundry::{CloudFoundryAuth, CloudFoundryPassword, CloudFoundrySpec, InstancesById};
pub use cluster::{AllowedNamespaces, ClusterKeyProvider, ClusterKeyProviderSpec};
pub use ibm_cloud::{IbmCloudAuth, IbmCloudSpec, TrustedProfile};
pub use namespace_rule::{CloudFoundryRule, IbmCloudRule, InstancePatterns, NamespaceRule, Permission};
pub use open_service_broker::{BindResource, BrokerAuth, BrokerClientCredentials, OpenServiceBrokerSpec};

use super::{duration::Duration, reference::SecretLogin, rules};

/// The remote side of keys and the login to it: exactly one of three kinds.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "servicekeys.dev",
    version = "v1alpha1",
    kind = "KeyProvider",
    plural = "keyproviders",
    shortname = "kp",
    category = "servicekeys",
    namespaced,
    status = "ProviderStatus",
    derive = "PartialEq",
    validation = no_trusted_profile(),
    doc = "The remote side that creates the keys of ServiceKeys in the same namespace, and the login to it.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the remote side can be reached with the login"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "The reason of the condition Ready"
    ),
    printcolumn(
        name = "URL",
        type_ = "string",
        json_path = ".spec['openServiceBroker','cloudFoundry','ibmCloud']['url','apiUrl','resourceControllerUrl']",
        description = "The remote side"
    ),
    printcolumn(
        name = "Orphans",
        type_ = "integer",
        json_path = ".status.orphans.count",
        priority = 1,
        description = "Keys with this operator's mark but without a ServiceKey"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = rules::exactly_one(
        &BACKENDS,
        "write exactly one of `openServiceBroker`, `cloudFoundry` and `ibmCloud`"
    ),
    validation = backend_kind_stays()
)]
#[serde(rename_all = "camelCase")]
pub struct ProviderSpec {
    /// Keys from an Open Service Broker. Can't be changed into another kind of remote side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_service_broker: Option<OpenServiceBrokerSpec>,

    /// Keys from a Cloud Foundry. Can't be changed into another kind of remote side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_foundry: Option<CloudFoundrySpec>,

    /// Keys from IBM Cloud. Can't be changed into another kind of remote side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ibm_cloud: Option<IbmCloudSpec>,

    /// Settings for TLS connections, in addition to the certificate authorities that the operator's system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    /// Limits for the operator's requests to the remote side.
    #[serde(default)]
    pub limits: Limits,

    /// Whether the operator protects the Secrets that this provider names from deletion while ServiceKeys need them to
    /// revoke their keys. It uses a finalizer for that, so the chart's policies require the permission `update` on
    /// these Secrets from the user who writes this. With `false` they do not. Default: `true`.
    #[serde(default = "protect_secrets")]
    pub protect_secrets: bool,
}

const fn protect_secrets() -> bool {
    true
}

const BACKENDS: [&str; 3] = ["openServiceBroker", "cloudFoundry", "ibmCloud"];

/// A trusted profile is assumed with the operator's own identity, which tenants must not use. A provider that was
/// stored before this rule can still be changed and deleted; the operator refuses it in a condition.
fn no_trusted_profile() -> kube::core::Rule {
    let has = |object: &str| {
        format!("has({object}.spec.ibmCloud) && has({object}.spec.ibmCloud.auth.trustedProfile)")
    };
    let rule = format!("!({}) || oldSelf.optMap(old, {}).orValue(false)", has("self"), has("old"));
    kube::core::Rule::new(rule).optional_old_self(true).field_path(".spec.ibmCloud.auth.trustedProfile").message(
        "a KeyProvider can't use `trustedProfile`, which is the operator's own identity: log in with `apiKey`, or ask the \
         administrator for a ClusterKeyProvider",
    )
}

/// The kind of a provider is immutable, because its keys could no longer be revoked.
fn backend_kind_stays() -> kube::core::Rule {
    let same = BACKENDS.map(|backend| format!("has(self.{backend}) == has(oldSelf.{backend})"));
    kube::core::Rule::new(same.join(" && ")).message(
        "a provider can't be changed into another kind, because the keys that it created could no longer be revoked: \
         create a second provider",
    )
}

/// The remote side of a provider.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BackendSpec<'a> {
    /// An Open Service Broker.
    OpenServiceBroker(&'a OpenServiceBrokerSpec),
    /// A Cloud Foundry.
    CloudFoundry(&'a CloudFoundrySpec),
    /// An account of IBM Cloud.
    IbmCloud(&'a IbmCloudSpec),
}

impl ProviderSpec {
    /// The remote side in the spec; `None` only for objects that the API server's rules do not admit.
    #[must_use]
    pub const fn backend(&self) -> Option<BackendSpec<'_>> {
        match (&self.open_service_broker, &self.cloud_foundry, &self.ibm_cloud) {
            (Some(broker), None, None) => Some(BackendSpec::OpenServiceBroker(broker)),
            (None, Some(cloud_foundry), None) => Some(BackendSpec::CloudFoundry(cloud_foundry)),
            (None, None, Some(ibm_cloud)) => Some(BackendSpec::IbmCloud(ibm_cloud)),
            _ => None,
        }
    }

    /// Whether the keys have a mark of the operator at the remote side, by which it finds them without their
    /// ServiceKey.
    #[must_use]
    pub const fn marks_keys(&self) -> bool {
        match self.backend() {
            Some(BackendSpec::CloudFoundry(_) | BackendSpec::IbmCloud(_)) => true,
            Some(BackendSpec::OpenServiceBroker(_)) | None => false,
        }
    }

    /// The names of all Secrets that the provider needs.
    #[must_use]
    pub fn secret_names(&self) -> BTreeSet<&str> {
        let Self { open_service_broker, cloud_foundry, ibm_cloud, tls, limits: _, protect_secrets: _ } = self;
        let broker = open_service_broker.iter().filter_map(|broker| broker.auth.as_ref()).flat_map(|auth| {
            let BrokerAuth { basic, bearer, client_credentials } = auth;
            let client_credentials = client_credentials.as_ref().map(|login| &login.secret_ref);
            [secret_of(basic.as_ref()), secret_of(bearer.as_ref()), client_credentials]
        });
        let cloud_foundry = cloud_foundry.iter().flat_map(|cloud_foundry| {
            let CloudFoundryAuth { password, client_credentials, bearer } = &cloud_foundry.auth;
            let password = password.as_ref().map(|login| &login.secret_ref);
            [password, secret_of(client_credentials.as_ref()), secret_of(bearer.as_ref())]
        });
        let ibm_cloud = ibm_cloud.iter().map(|ibm_cloud| {
            let IbmCloudAuth { api_key, trusted_profile: _ } = &ibm_cloud.auth;
            secret_of(api_key.as_ref())
        });
        let certificate = tls.iter().map(|tls| secret_of(tls.client_certificate.as_ref()));
        broker
            .chain(cloud_foundry)
            .chain(ibm_cloud)
            .chain(certificate)
            .flatten()
            .map(|secret| secret.name.as_str())
            .collect()
    }
}

fn secret_of(login: Option<&SecretLogin>) -> Option<&super::SecretRef> {
    login.map(|login| &login.secret_ref)
}

/// Settings for TLS connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Certificates, in PEM, of further authorities to trust. A self-signed server certificate is also allowed here if
    /// it is not that of an authority (`CA:FALSE`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    #[x_kube(validation = Rule::new(
        "self.contains('-----BEGIN CERTIFICATE-----') && self.contains('-----END CERTIFICATE-----')"
    ).message(
        "write certificates in PEM, each between `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`; not \
         in base64 as a whole"
    ))]
    pub ca_bundle: Option<String>,

    /// The client certificate for the remote side. The Secret has the entries `tls.crt` and `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<SecretLogin>,
}

/// Limits for the operator's requests to one remote side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::duration_between("timeout", "1s", Some("10m")))]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Requests per second, spread evenly; from 1 to 10000. Default: 50.
    #[serde(default = "requests_per_second")]
    #[schemars(range(min = 1, max = 10000))]
    pub requests_per_second: u32,

    /// Requests in progress at the same time; from 1 to 1000. Default: 16.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 1000))]
    pub concurrency: u32,

    /// Timeout of one request, from `1s` to `10m`. Default: `1m`.
    #[serde(default = "timeout")]
    pub timeout: Duration,
}

const fn requests_per_second() -> u32 {
    50
}

const fn concurrency() -> u32 {
    16
}

const fn timeout() -> Duration {
    Duration::from_secs(60)
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_per_second: requests_per_second(), concurrency: concurrency(), timeout: timeout() }
    }
}

/// The treatment of remote keys that carry the operator's mark but have no `ServiceKey`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OrphanPolicy {
    /// Report them.
    #[default]
    Report,
    /// Report and revoke them.
    Delete,
}

/// The status of a provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// The `metadata.generation` that this status describes; -1 before the operator has seen the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: the remote side can be reached with the login. `Reconciling` with the reason `InUse`: the provider is
    /// being deleted and waits for the ServiceKeys that reference it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The Secrets that the operator protects from deletion, because it could not revoke keys without them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub protected_secrets: BTreeSet<String>,

    /// Keys at the remote side that carry this operator's mark but have no ServiceKey; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphans: Option<Orphans>,

    /// The login that a token server refused. The operator tries it again at the time in `until`, also after a restart,
    /// or as soon as the login changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_login: Option<RefusedLogin>,
}

/// A login that a token server refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedLogin {
    /// When the operator tries the login again: two minutes after the first refusal, half an hour after each further
    /// one.
    pub until: Time,
    /// The provider's `metadata.generation` at the time of the refusal.
    pub generation: i64,
    /// The `metadata.resourceVersion` of each Secret that the provider named at the time of the refusal, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
}

/// Remote keys that carry the operator's mark but have no `ServiceKey`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Orphans {
    /// The number of keys.
    pub count: u32,
    /// Names of the first keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub names: Vec<String>,
}
