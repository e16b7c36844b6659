//! The addresses and the login of IBM Cloud, as the provider specifies them.

use std::{fmt, path::PathBuf, time::Duration};

use secrecy::SecretString;
use url::Url;

use crate::backend::{HttpConfig, LostClusters, http::without_query};

/// One account of IBM Cloud.
#[derive(Clone)]
pub struct IbmCloudConfig {
    /// The base address of Identity and Access Management.
    pub iam_url: Url,
    /// The base address of the Resource Controller.
    pub resource_controller_url: Url,
    /// The login.
    pub auth: IbmCloudLogin,
    /// Clusters whose keys may be adopted.
    pub lost_clusters: LostClusters,
    /// How long IBM Cloud may not show a key after its creation.
    pub settling: Duration,
    /// How to send requests.
    pub http: HttpConfig,
}

impl IbmCloudConfig {
    /// How long IBM Cloud may not show a key after its creation. terraform-provider-ibm waits as long for one
    /// (`resource_ibm_resource_key.go`, `resourceIBMResourceKeyRead`).
    pub const SETTLING: Duration = Duration::from_secs(300);
}

impl fmt::Debug for IbmCloudConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { iam_url, resource_controller_url, auth, lost_clusters, settling, http } = self;
        f.debug_struct("IbmCloudConfig")
            .field("iam_url", &without_query(iam_url))
            .field("resource_controller_url", &without_query(resource_controller_url))
            .field("auth", auth)
            .field("lost_clusters", lost_clusters)
            .field("settling", settling)
            .field("http", http)
            .finish()
    }
}

/// The login at IBM Cloud.
#[derive(Clone, Debug)]
pub enum IbmCloudLogin {
    /// The API key of a user or of a service ID.
    ApiKey { api_key: SecretString },
    /// A trusted profile that the operator's pod assumes.
    TrustedProfile {
        profile: Profile,
        /// The path of the token of the pod's service account.
        token_file: PathBuf,
    },
}

/// The name or the id of a trusted profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    Name(String),
    Id(String),
}
