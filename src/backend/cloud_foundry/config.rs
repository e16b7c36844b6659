//! What a provider says about a Cloud Foundry: where it is, and how to log in.

use std::fmt;

use secrecy::SecretString;
use url::Url;

use crate::backend::{HttpConfig, LostClusters, http::without_query};

#[derive(Clone)]
pub(crate) struct CloudFoundryConfig {
    /// The API's base address, which tells where everything else is.
    pub api_url: Url,
    /// The UAA's base address, where it is not the one that the API names.
    pub uaa_url: Option<Url>,
    /// The login.
    pub auth: CloudFoundryLogin,
    /// Where instances are looked up by name; with `space`.
    pub organization: Option<String>,
    /// Where instances are looked up by name; with `organization`.
    pub space: Option<String>,
    /// Whether instances that are named by GUID have to be in the space.
    pub confines_ids: bool,
    /// Clusters whose keys may be taken over.
    pub lost_clusters: LostClusters,
    /// How to talk to it.
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
    /// A user's name and password.
    Password {
        username: String,
        password: SecretString,
        /// The identity provider that knows the user; without it the UAA chooses.
        origin: Option<String>,
    },
    /// A client of the UAA that acts for itself.
    ClientCredentials { client_id: String, client_secret: SecretString },
    /// A token that is sent as it is.
    Bearer { token: SecretString },
}
