//! Taking keys away: revoking those of a ServiceKey and those that nobody has, and letting go of those that stay.

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

/// What came of a request to delete a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyDeletion {
    /// It is gone, now or since before.
    Confirmed,
    /// The same, and it was a key of an auditing instance.
    ConfirmedOfAuditing,
    /// There is no such key, or it does not show yet.
    NotFound,
}

impl IbmCloud {
    /// Revokes the key, and only where it bears our mark: by its GUID where IBM Cloud has shown the mark on it, and all that
    /// have its name. What was made for it goes after it.
    ///
    /// # Errors
    /// Anything but the confirmation that all of it is gone.
    pub(crate) async fn unbind(&self, request: &KeyRequest) -> Result<Unbound, BackendError> {
        let mut deletion = self.delete_what_shows(request).await?;
        if deletion == KeyDeletion::NotFound {
            if self.attempts.may_key_still_show(request) {
                return Err(self.attempts.not_shown_yet("unbind", request));
            }
            self.instances.is_in_sight(self.api(), request).await?;
            // It may have come into sight only after it was looked for.
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
                "its `service_key` remains valid, because an auditing instance has only one for all its keys; delete it in the \
                 instance's web page, under Organization, API keys",
            ),
            KeyDeletion::Confirmed => Unbound::Gone,
            KeyDeletion::NotFound => Unbound::Absent,
        })
    }

    /// Deletes the key, and all that have its name.
    async fn delete_what_shows(&self, request: &KeyRequest) -> Result<KeyDeletion, BackendError> {
        // There may be others than those that are known, whose answers were lost.
        let found = self.find(request).await?;
        let mut guids = self.confirmed.ids(request);
        if let Some(hint) = &request.hint
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

    /// Revokes a key of which nothing but the list is known.
    ///
    /// # Errors
    /// Anything but the confirmation that the key is gone.
    pub(crate) async fn discard(&self, key: &MarkedKey) -> Result<(), BackendError> {
        let account = self.account_of_key(&key.id).await?;
        self.delete(self.api().for_no_key(IbmCloudCall::Delete), &key.id).await?;
        // Nobody knows whether it had a service ID of its own.
        match account {
            Some(account) => delete_service_ids(self.api(), &account, &key.name, None).await.map(drop),
            None => Ok(()),
        }
    }

    /// The account of a key, where that can be told.
    async fn account_of_key(&self, guid: &str) -> Result<Option<String>, BackendError> {
        let mut exchange = self.api().for_no_key(IbmCloudCall::Key);
        let response = exchange.ask(Method::GET, &path(guid), &[]).await?;
        match response.status {
            StatusCode::OK => Ok(Some(exchange.read::<ResourceKey>(&response, wire::read)?.account_id)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Takes our mark off the key, which is an ordinary one afterwards: it gets the name that it would have without.
    ///
    /// # Errors
    /// [`ErrorClass::Transient`] where the key may not show yet, [`ErrorClass::Gone`] where nothing can be told, because
    /// the instance is out of sight as well; and those of the calls. A key that is gone is none.
    pub(crate) async fn release(&self, request: &KeyRequest) -> Result<(), BackendError> {
        let Some(mark) = Mark::read(&request.name) else { return Ok(()) };
        if !self.release_what_shows(request, mark.start).await? {
            if self.attempts.may_key_still_show(request) {
                return Err(self.attempts.not_shown_yet("release", request));
            }
            self.instances.is_in_sight(self.api(), request).await?;
            // It may have come into sight only after it was looked for.
            self.release_what_shows(request, mark.start).await?;
        }
        Ok(())
    }

    /// Gives all keys that bear our mark this name; whether there was one, now or before.
    async fn release_what_shows(&self, request: &KeyRequest, name: &str) -> Result<bool, BackendError> {
        let mut guids = self.confirmed.ids(request);
        if guids.is_empty() {
            guids.extend(self.find(request).await?.into_iter().map(|key| key.guid));
        }
        let mut released = false;
        if let Some(hint) = &request.hint
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

/// The key was given a name without our mark: whether it is still ours can't be told.
fn unmarked(guid: &str, request: &KeyRequest) -> BackendError {
    let message = format!(
        "unbind failed: key `{guid}` was renamed and can't be identified as this ServiceKey's; delete it, or rename it to \
         `{}`",
        request.name
    );
    BackendError::new(ErrorClass::Rejected, message)
}
