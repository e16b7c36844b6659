//! Revokes the keys of a ServiceKey and orphans, and releases keys that stay.

use reqwest::{Method, StatusCode};

use super::{
    access::delete_service_ids,
    classify::IbmCloudCall,
    client::{IbmCloud, KeyLookup, is_auditing, path},
    name::{Mark, possible_names},
    session::IbmCloudSession,
    wire::{self, RenameKey, ResourceKey},
};
use crate::{
    backend::{BackendError, ErrorClass, KeyRequest, Unbound, exchange::Exchange},
    lifecycle::MarkedKey,
};

/// The result of a request to delete a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyDeletion {
    /// IBM Cloud has deleted the key, now or at an earlier request, or has accepted its deletion (202).
    Confirmed,
    /// The same, for a key of an auditing instance.
    ConfirmedOfAuditing,
    /// The key does not exist, or is not visible yet.
    NotFound,
}

impl IbmCloud {
    /// Revokes the key, but only if it bears the operator's mark. The operator uses the GUID if IBM Cloud has shown the
    /// mark on that key, and revokes all keys with its name. Afterwards it deletes the service ID that was created for
    /// the key.
    ///
    /// # Errors
    /// Anything but the answer that all of that is gone. For the key, an accepted deletion (202) also counts, because
    /// IBM Cloud has no call to follow it.
    pub(crate) async fn unbind(&self, request: &KeyRequest) -> Result<Unbound, BackendError> {
        let mut deletion = self.delete_what_shows(request).await?;
        if deletion == KeyDeletion::NotFound {
            if self.attempts.may_key_still_show(request) {
                return Err(self.attempts.not_shown_yet("unbind", request));
            }
            self.instances.is_in_sight(self.api(), request).await?;
            // The key may have become visible only after the first search.
            deletion = self.delete_what_shows(request).await?;
        }
        self.attempts.end(request.identity);
        self.confirmed.remove(request);
        let names = possible_names(request, &self.lost_clusters);
        self.service_ids
            .withdraw_access(self.api(), &self.instances, &self.attempts, request, &names)
            .await?;
        Ok(match deletion {
            KeyDeletion::ConfirmedOfAuditing => Unbound::GoneExcept(
                "its `service_key` remains valid, because an auditing instance has only one for all its keys; delete \
                 it in the instance's web page, under Organization, API keys",
            ),
            KeyDeletion::Confirmed => Unbound::Gone,
            KeyDeletion::NotFound => Unbound::Absent,
        })
    }

    /// Deletes the key, and all other keys with its name.
    async fn delete_what_shows(&self, request: &KeyRequest) -> Result<KeyDeletion, BackendError> {
        // Attempts without an answer may have created more keys than the known ones.
        let found = self.find(request).await?;
        let mut guids = self.confirmed.ids(request);
        if let Some(hint) = &request.recorded_id
            && !guids.contains(hint)
        {
            let looked = self.look(request, hint).await?;
            if looked.is_ours {
                guids.push(hint.clone());
            } else if guids.is_empty() && looked.bears_no_mark() {
                return Err(unmarked(hint, request));
            } else if guids.is_empty() && matches!(looked.sight, KeyLookup::Removed) {
                return Ok(KeyDeletion::Confirmed);
            }
        }
        let mut confirmed = false;
        for guid in guids {
            confirmed |= self.delete_of(request, &guid).await? == KeyDeletion::Confirmed;
        }
        let is_auditing = found.iter().any(is_auditing) || self.is_known_to_audit(&request.instance);
        Ok(match (confirmed, is_auditing) {
            (true, true) => KeyDeletion::ConfirmedOfAuditing,
            (true, false) => KeyDeletion::Confirmed,
            (false, _) => KeyDeletion::NotFound,
        })
    }

    pub(super) async fn delete_of(
        &self,
        request: &KeyRequest,
        guid: &str,
    ) -> Result<KeyDeletion, BackendError> {
        self.delete(self.api().for_key(IbmCloudCall::Delete, request), guid).await
    }

    async fn delete(
        &self,
        mut exchange: Exchange<'_, IbmCloudSession>,
        guid: &str,
    ) -> Result<KeyDeletion, BackendError> {
        let response = exchange.ask(Method::DELETE, &path(guid), &[]).await?;
        match response.status {
            StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::GONE => {
                Ok(KeyDeletion::Confirmed)
            }
            StatusCode::NOT_FOUND => Ok(KeyDeletion::NotFound),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Revokes a key of the list of all marked keys, without any other knowledge of it.
    ///
    /// # Errors
    /// Anything but the answer that the key is gone or does not exist, or that its deletion was accepted (202).
    pub(crate) async fn discard(&self, key: &MarkedKey) -> Result<(), BackendError> {
        let account = self.account_of_key(&key.id).await?;
        self.delete(self.api().for_no_key(IbmCloudCall::Delete), &key.id).await?;
        // The operator does not know whether the key had a service ID of its own.
        match account {
            Some(account) => delete_service_ids(self.api(), &account, &key.name, None).await.map(drop),
            None => Ok(()),
        }
    }

    /// The account of a key, if the key still exists.
    async fn account_of_key(&self, guid: &str) -> Result<Option<String>, BackendError> {
        let mut exchange = self.api().for_no_key(IbmCloudCall::Key);
        let response = exchange.ask(Method::GET, &path(guid), &[]).await?;
        match response.status {
            StatusCode::OK => Ok(Some(exchange.read::<ResourceKey>(&response, wire::read)?.account_id)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Removes the mark from the name of the key, so that the operator no longer recognizes it. A missing key is a
    /// success.
    ///
    /// # Errors
    /// - [`ErrorClass::Transient`]: the key may not be visible yet.
    /// - [`ErrorClass::Gone`]: the login does not see the instance either, so that the absence of the key proves
    ///   nothing.
    /// - Failures of the calls.
    pub(crate) async fn release(&self, request: &KeyRequest) -> Result<(), BackendError> {
        let Some(mark) = Mark::read(&request.name) else { return Ok(()) };
        if !self.release_what_shows(request, mark.start).await? {
            if self.attempts.may_key_still_show(request) {
                return Err(self.attempts.not_shown_yet("release", request));
            }
            self.instances.is_in_sight(self.api(), request).await?;
            // The key may have become visible only after the first search.
            self.release_what_shows(request, mark.start).await?;
        }
        Ok(())
    }

    /// Renames all keys that bear the mark. Returns whether there was one, now or before.
    async fn release_what_shows(&self, request: &KeyRequest, name: &str) -> Result<bool, BackendError> {
        // Attempts without an answer may have created more keys than the known ones.
        self.find(request).await?;
        let mut guids = self.confirmed.ids(request);
        let mut released = false;
        if let Some(hint) = &request.recorded_id
            && guids.is_empty()
        {
            let looked = self.look(request, hint).await?;
            if looked.is_ours {
                guids.push(hint.clone());
            }
            released = matches!(looked.sight, KeyLookup::Removed) || looked.bears_no_mark();
        }
        for guid in guids {
            let mut exchange = self.api().for_key(IbmCloudCall::Rename, request);
            let response = exchange.send_json(Method::PATCH, &path(&guid), &RenameKey { name }).await?;
            match response.status {
                StatusCode::OK | StatusCode::GONE => released = true,
                StatusCode::NOT_FOUND => {}
                _ => return Err(exchange.refused(&response).await),
            }
        }
        self.confirmed.remove(request);
        Ok(released)
    }
}

/// The error for a key that was renamed. Without the mark, the operator can't tell whether the key is still its own.
fn unmarked(guid: &str, request: &KeyRequest) -> BackendError {
    let message = format!(
        "unbind failed: key `{guid}` was renamed and can't be identified as this ServiceKey's; delete it, or rename it \
         to `{}`",
        request.name
    );
    BackendError::new(ErrorClass::Rejected, message)
}
