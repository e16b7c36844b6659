//! Adoption of keys that a user created by hand, or that belonged to a ServiceKey which no longer exists.

use reqwest::{Method, StatusCode};

use super::{
    classify::CloudFoundryCall,
    client::{CloudFoundry, hidden},
    marks,
    pending_operations::CreatedKey,
    wire::{BindingState, CredentialBinding, KEYS},
};
use crate::backend::{AdoptionPermit, BackendError, Bound, IssuedKey, KeyFacts, KeyRequest, http::segment};
use crate::fair::Lane;

impl CloudFoundry {
    /// Adopts the key that has the name of the requested one, if that is permitted; otherwise returns `None`. The
    /// operator marks the key before it returns the credentials. After a crash in between, it finds the key as one that
    /// it created.
    ///
    /// # Errors
    /// Failures of the calls.
    pub(super) async fn adopt(
        &self,
        request: &KeyRequest,
        instance: &str,
    ) -> Result<Option<Bound>, BackendError> {
        let Some(adoption) = &request.adoption else { return Ok(None) };
        // Only one adoption at a time. Otherwise two ServiceKeys could both see the key unmarked.
        let _turn = self.adopting.acquire(&Lane::current()).await;
        let Some(key) = self.named(request, instance).await? else { return Ok(None) };
        if !self.may_adopt(&key, request, adoption)? {
            return Ok(None);
        }
        let made = CreatedKey::from(key);
        // The operator reads the credentials before it marks the key, so a key that it can't read stays unchanged.
        let Some(IssuedKey { facts, credentials }) = self.issued(request, &made).await? else {
            return Err(hidden(&request.name));
        };
        let credentials = credentials.kept(self.http.kept())?;
        let mut exchange = self.api().for_key(CloudFoundryCall::Adopt, request);
        let marks = serde_json::json!({"metadata": marks::new_metadata(request)});
        let path = format!("{KEYS}/{}", segment(&made.guid));
        let response = exchange.send_json(Method::PATCH, &path, &marks).await?;
        if response.status != StatusCode::OK {
            return Err(exchange.refused(&response).await);
        }
        self.confirmed.insert(request, &made.guid);
        let facts = KeyFacts { adopted: Some(request.name.clone()), ..facts };
        Ok(Some(Bound::Issued(IssuedKey { facts, credentials: credentials.take()? })))
    }

    /// Whether the ServiceKey may adopt the key. A mark names the ServiceKey that the key belongs to. That ServiceKey
    /// must no longer exist. It must have been in the same namespace and cluster, or in a lost cluster that the
    /// provider names. The operator can't see the ServiceKeys of other clusters, which may have a namespace of the same
    /// name.
    fn may_adopt(
        &self,
        key: &CredentialBinding,
        request: &KeyRequest,
        adoption: &AdoptionPermit,
    ) -> Result<bool, BackendError> {
        if key.state() != BindingState::Created {
            return Ok(false);
        }
        let Some(owner) = marks::owner_of(key) else { return Ok(true) };
        let is_of_this_namespace = marks::namespace_of(key) == Some(&request.owner.namespace);
        Ok(marks::is_of_a_known_cluster(key, request, &self.lost_clusters)
            && is_of_this_namespace
            && match owner.parse() {
                Ok(owner) => !adoption.lives(owner)?,
                Err(_) => true,
            })
    }
}
