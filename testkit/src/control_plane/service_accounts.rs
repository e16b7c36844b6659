//! Service accounts: the identities of pods.

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, api::PostParams};

use super::{ControlPlane, Error, User};

/// The lifetime of a token in seconds: longer than any test.
const TOKEN_SECONDS: i64 = 3600;

impl ControlPlane {
    /// An existing service account as a user, with a token like that of a pod. Its requests are audited.
    ///
    /// # Errors
    /// The service account does not exist.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<User, Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), namespace);
        let wish = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &wish)
            .await
            .map_err(Error::kubernetes(format!("get a token of the service account `{namespace}/{name}`")))?;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        Ok(User { name: format!("system:serviceaccount:{namespace}:{name}"), token })
    }
}
