//! What a provider says about IBM Cloud: where it is, and how to log in.

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
    /// Clusters whose keys may be taken over.
    pub lost_clusters: LostClusters,
    /// How long it may not show a key that it has created.
    pub settling: Duration,
    /// How to talk to it.
    pub http: HttpConfig,
}

impl IbmCloudConfig {
    /// How long IBM Cloud may not show a key that it has created: as long as terraform-provider-ibm waits for one
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
    /// A trusted profile that the operator's pod takes on.
    TrustedProfile {
        profile: Profile,
        /// Where the token of the pod's service account is.
        token_file: PathBuf,
    },
}

/// How a trusted profile is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    Name(String),
    Id(String),
}
