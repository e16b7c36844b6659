//! The way in: two hosts, and the token that is shown to both.

use std::fmt;

use url::Url;

use super::{IbmCloudLogin, Profile, hosts};
use crate::backend::{
    AddressPolicy, BackendError,
    http::{HttpClient, Redactor, base_url},
    token::{IamLogin, Tokens},
};

/// Who calls, and where.
pub(super) struct IbmCloudSession {
    pub(super) iam: Url,
    pub(super) resource_controller: Url,
    pub(super) tokens: Tokens,
}

impl IbmCloudSession {
    /// # Errors
    /// [`ErrorClass::Rejected`](crate::backend::ErrorClass::Rejected), where an address may not be called, or no trusted
    /// profile may be used there.
    pub(super) fn new(
        iam_url: &Url,
        resource_controller_url: &Url,
        auth: &IbmCloudLogin,
        http: &HttpClient,
        policy: &AddressPolicy,
    ) -> Result<Self, BackendError> {
        if let IbmCloudLogin::TrustedProfile { .. } = auth {
            hosts::check(iam_url, resource_controller_url, policy)?;
        }
        let login = match auth {
            IbmCloudLogin::ApiKey { api_key } => IamLogin::ApiKey(api_key),
            IbmCloudLogin::TrustedProfile { profile, token_file } => IamLogin::TrustedProfile {
                profile: match profile {
                    Profile::Name(name) => ("profile_name", name),
                    Profile::Id(id) => ("profile_id", id),
                },
                token_file: token_file.clone(),
            },
        };
        Ok(Self {
            iam: base_url(http, "iamUrl", iam_url)?,
            resource_controller: base_url(http, "resourceControllerUrl", resource_controller_url)?,
            tokens: Tokens::of_iam(iam_url, login, http)?,
        })
    }

    /// Hides the login in whatever anybody might repeat.
    pub(super) fn redactor(&self) -> Redactor {
        self.tokens.redactor()
    }
}

impl fmt::Debug for IbmCloudSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}
