//! The address and the login of a Cloud Foundry, as the provider specifies them.

use std::fmt;

use secrecy::SecretString;
use url::Url;

use crate::backend::{HttpConfig, LostClusters, http::without_query};

#[derive(Clone)]
pub(crate) struct CloudFoundryConfig {
    /// The base address of the API. Its root document names all other addresses.
    pub api_url: Url,
    /// The base address of the UAA, if it is not the one that the API names.
    pub uaa_url: Option<Url>,
    pub auth: CloudFoundryLogin,
    /// The organization of `space`.
    pub organization: Option<String>,
    /// The space in which instances are looked up by name.
    pub space: Option<String>,
    /// Whether instances that are named by GUID must be in `space` as well.
    pub confines_ids: bool,
    /// Clusters whose keys may be adopted.
    pub lost_clusters: LostClusters,
    pub http: HttpConfig,
}

impl fmt::Debug for CloudFoundryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { api_url, uaa_url, auth, organization, space, confines_ids, lost_clusters, http } = self;
        f.debug_struct("CloudFoundryConfig")
            .field("api_url", &without_query(api_url))
            .field("uaa_url", &uaa_url.as_ref().map(without_query))
            .field("auth", auth)
            .field("organization", organization)
            .field("space", space)
            .field("confines_ids", confines_ids)
            .field("lost_clusters", lost_clusters)
            .field("http", http)
            .finish()
    }
}

/// The login at a Cloud Foundry.
#[derive(Clone, Debug)]
pub(crate) enum CloudFoundryLogin {
    Password {
        username: String,
        password: SecretString,
        /// The identity provider of the user. Without it, the UAA chooses one.
        origin: Option<String>,
    },
    /// A client of the UAA that acts on its own behalf.
    ClientCredentials { client_id: String, client_secret: SecretString },
    /// A token that is sent unchanged.
    Bearer { token: SecretString },
}
