//! The differences of a Korifi. It accepts no labels and annotations when it creates a key, so the operator marks a key
//! with a second call. Until then, the name identifies the key: it is derived from the ServiceKey's UID.

use std::borrow::Cow;

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{
    classify::CloudFoundryCall,
    client::CloudFoundry,
    marks,
    wire::{BindingState, CredentialBinding, KEYS, listed},
};
use crate::backend::{
    Accepted, BackendError, ErrorClass, KeyRequest, RemoteOperation,
    bounded::is_id,
    http::{Response, segment},
    pages::{Lists, MOST_OF_ONE},
};

impl CloudFoundry {
    pub(super) async fn is_korifi(&self) -> Result<bool, BackendError> {
        Ok(self.session.links(&self.http).await?.is_korifi)
    }

    /// The request, with the name that the key has at this API. At a Korifi, the name is derived from the ServiceKey's
    /// UID.
    ///
    /// # Errors
    /// When the API does not say whether it is a Korifi.
    pub(super) async fn named_here<'r>(
        &self,
        request: &'r KeyRequest,
    ) -> Result<Cow<'r, KeyRequest>, BackendError> {
        if !self.is_korifi().await? {
            return Ok(Cow::Borrowed(request));
        }
        let name = request.identity.own_name(&request.name);
        if name == request.name {
            return Ok(Cow::Borrowed(request));
        }
        // An adopted key keeps its name.
        let former_name = request.former_name.clone().or_else(|| Some(request.name.clone()));
        Ok(Cow::Owned(KeyRequest { name, former_name, ..request.clone() }))
    }

    /// Marks the key that this process created before and could not mark.
    ///
    /// # Errors
    /// As for [`CloudFoundry::mark_created`].
    pub(super) async fn mark_again(&self, request: &KeyRequest) -> Result<Option<Accepted>, BackendError> {
        let Some(guid) = self.pending.unmarked(request) else { return Ok(None) };
        let marked = self.mark(request, &guid).await.map_err(|error| unmarked(&error))?;
        Ok(marked.then(|| self.under_way(request, RemoteOperation::Bind, None)))
    }

    /// Marks a key that was just created.
    ///
    /// # Errors
    /// [`ErrorClass::Unsure`]: the key exists, and the next attempt finds it by its name.
    pub(super) async fn mark_created(
        &self,
        request: &KeyRequest,
        response: &Response,
    ) -> Result<(), BackendError> {
        let job = response.location.as_deref().and_then(|job| job.rsplit('/').next());
        let guid = job.and_then(|job| job.rsplit_once('~')).map(|(_, guid)| guid);
        let Some(guid) = guid.filter(|guid| is_id(guid)) else {
            let message = "bind failed: the API does not say which key it created; retrying";
            return Err(BackendError::new(ErrorClass::Unsure, message));
        };
        self.pending.note_unmarked(request, guid);
        self.mark(request, guid).await.map(drop).map_err(|error| unmarked(&error))
    }

    /// Marks the key, and returns whether it still existed.
    async fn mark(&self, request: &KeyRequest, guid: &str) -> Result<bool, BackendError> {
        let mut exchange = self.api().for_key(CloudFoundryCall::Mark, request);
        let path = format!("{KEYS}/{}", segment(guid));
        let marks = json!({"metadata": marks::new_metadata(request)});
        let response = exchange.send_json(Method::PATCH, &path, &marks).await?;
        match response.status {
            StatusCode::OK => {
                self.pending.note_marked(request.identity);
                self.confirmed.insert(request, guid);
                Ok(true)
            }
            StatusCode::NOT_FOUND => {
                self.pending.note_marked(request.identity);
                Ok(false)
            }
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Deletes the keys with the name of this identity and without a mark. The operator was interrupted after it had
    /// created them. It marks them first, because lists find keys that are being deleted only by their mark.
    ///
    /// # Errors
    /// Failures of the calls.
    pub(super) async fn delete_unmarked(
        &self,
        request: &KeyRequest,
    ) -> Result<Option<Accepted>, BackendError> {
        if !self.is_korifi().await? {
            return Ok(None);
        }
        let name = listed(&request.name);
        let query = [("type", "key"), ("names", name.as_str())];
        let keep = |key: CredentialBinding| Some(key).filter(|key| is_named_without_mark(key, request));
        let found = self
            .api()
            .for_key(CloudFoundryCall::Keys, request)
            .first(MOST_OF_ONE, KEYS, &query, keep)
            .await?;
        if let Some(key) = found.iter().find(|key| !self.is_created_unmarked(key, request)) {
            let what = format!(
                "unbind failed: the key `{}` bears no mark, and this ServiceKey was restored from a backup, so the \
                 name alone does not prove that the key is its own; delete the key there",
                key.guid
            );
            return Err(BackendError::new(ErrorClass::Rejected, what));
        }
        // The fields that the key was created from don't matter. Without their digest, no later attempt uses the key.
        let discarded = KeyRequest { inputs: String::new(), ..request.clone() };
        let mut guids = Vec::new();
        for CredentialBinding { guid, .. } in found {
            if Box::pin(self.mark(&discarded, &guid)).await? {
                guids.push(guid);
            }
        }
        self.delete_marked(request, &guids).await
    }

    /// Whether the operator created the key and was interrupted before it could mark it. For a restored ServiceKey, the
    /// name alone does not prove that, unless the login sees only the keys of its namespace.
    pub(super) fn is_created_unmarked(&self, key: &CredentialBinding, request: &KeyRequest) -> bool {
        request.restored.is_none_or(|restored| restored.login_is_own) && is_named_without_mark(key, request)
    }
}

/// Whether the key has the requested name, and no mark.
fn is_named_without_mark(key: &CredentialBinding, request: &KeyRequest) -> bool {
    marks::owner_of(key).is_none()
        && key.name.as_ref() == Some(&request.name)
        && request.identity.own_name(&request.name) == request.name
        && key.state() != BindingState::Deleting
}

fn unmarked(error: &BackendError) -> BackendError {
    let message = format!("bind failed: the key was created, but can't be marked yet: {}", error.message);
    BackendError::new(ErrorClass::Unsure, message).retry_after(error.retry_after)
}
