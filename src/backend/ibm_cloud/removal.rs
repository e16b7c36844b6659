//! Taking keys away: revoking those of a ServiceKey and those that nobody has, and letting go of those that stay.

use reqwest::{Method, StatusCode};

use super::{
    call::Exchange,
    classify::Call,
    cloud::{IbmCloud, Sight, not_shown_yet, path},
    name::Mark,
    wire::{Key, RenameKey},
};
use crate::{
    backend::{BackendError, ErrorClass, KeyRequest, Unbound},
    lifecycle::MarkedKey,
};

/// What came of a request to delete a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletion {
    /// It is gone, now or since before.
    Confirmed,
    /// There is no such key, or it does not show yet.
    NotFound,
}

impl IbmCloud {
    /// Revokes the key, and only where it bears our mark: by its GUID where IBM Cloud has shown the mark on it, and all that
    /// have its name. What was made for it goes after it.
    ///
    /// # Errors
    /// Anything but the confirmation that all of it is gone.
    pub async fn unbind(&self, request: &KeyRequest) -> Result<Unbound, BackendError> {
        if self.delete_what_shows(request).await? == Deletion::NotFound {
            if self.may_still_show(request) {
                return Err(not_shown_yet("unbind", &request.name));
            }
            self.is_in_sight(request).await?;
            // It may have come into sight only after it was looked for.
            self.delete_what_shows(request).await?;
        }
        self.attempts.end(request.identity);
        self.confirmed.remove(request.identity);
        self.withdraw_access(request).await?;
        Ok(Unbound::Gone)
    }

    /// Deletes the key, and all that have its name.
    async fn delete_what_shows(&self, request: &KeyRequest) -> Result<Deletion, BackendError> {
        // There may be others than those that are known, whose answers were lost.
        self.find(request).await?;
        let mut guids = self.confirmed.ids(request.identity);
        if let Some(hint) = &request.hint
            && !guids.contains(hint)
        {
            let looked = self.look(request, hint).await?;
            let bears_no_mark = looked.name.as_deref().is_some_and(|name| Mark::read(name).is_none());
            if looked.is_ours(request) {
                guids.push(hint.clone());
            } else if guids.is_empty() && bears_no_mark {
                return Err(unmarked(hint, request));
            } else if guids.is_empty() && matches!(looked.sight, Sight::Removed) {
                return Ok(Deletion::Confirmed);
            }
        }
        let mut confirmed = false;
        for guid in guids {
            confirmed |= self.delete_of(request, &guid).await? == Deletion::Confirmed;
        }
        Ok(if confirmed { Deletion::Confirmed } else { Deletion::NotFound })
    }

    pub(super) async fn delete_of(&self, request: &KeyRequest, guid: &str) -> Result<Deletion, BackendError> {
        self.delete(Exchange::of(self, Call::Delete, request), guid).await
    }

    async fn delete(&self, mut exchange: Exchange<'_>, guid: &str) -> Result<Deletion, BackendError> {
        let response = exchange.ask(Method::DELETE, &path(guid), &[]).await?;
        match response.status {
            StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::GONE => {
                Ok(Deletion::Confirmed)
            }
            StatusCode::NOT_FOUND => Ok(Deletion::NotFound),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Revokes a key of which nothing but the list is known.
    ///
    /// # Errors
    /// Anything but the confirmation that the key is gone.
    pub async fn discard(&self, key: &MarkedKey) -> Result<(), BackendError> {
        let account = self.account_of_key(&key.id).await?;
        self.delete(Exchange::anonymous(self, Call::Delete), &key.id).await?;
        // Nobody knows whether it had a service ID of its own.
        match account {
            Some(account) => self.delete_service_ids(&account, &key.name, None).await.map(drop),
            None => Ok(()),
        }
    }

    /// The account of a key, where that can be told.
    async fn account_of_key(&self, guid: &str) -> Result<Option<String>, BackendError> {
        let mut exchange = Exchange::anonymous(self, Call::Key);
        let response = exchange.ask(Method::GET, &path(guid), &[]).await?;
        match response.status {
            StatusCode::OK => Ok(Some(exchange.read::<Key>(&response)?.account_id)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Takes our mark off the key, which is an ordinary one from then on: it gets the name that it would have without.
    ///
    /// # Errors
    /// Those of the calls; a key that is gone is none.
    pub async fn release(&self, request: &KeyRequest) -> Result<(), BackendError> {
        let Some(mark) = Mark::read(&request.name) else { return Ok(()) };
        let mut guids = self.confirmed.ids(request.identity);
        if guids.is_empty() {
            guids.extend(self.find(request).await?.into_iter().map(|key| key.guid));
        }
        if let Some(hint) = &request.hint
            && guids.is_empty()
            && self.look(request, hint).await?.is_ours(request)
        {
            guids.push(hint.clone());
        }
        for guid in guids {
            let mut exchange = Exchange::of(self, Call::Rename, request);
            let response =
                exchange.send_json(Method::PATCH, &path(&guid), &RenameKey { name: mark.start }).await?;
            match response.status {
                StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::GONE => {}
                _ => return Err(exchange.refused(&response).await),
            }
        }
        self.confirmed.remove(request.identity);
        Ok(())
    }
}

/// Somebody gave the key a name without our mark: whether it is still ours can't be told.
fn unmarked(guid: &str, request: &KeyRequest) -> BackendError {
    let message = format!(
        "unbind failed: the key `{guid}` has another name, without the mark that says that it is this ServiceKey's; \
         delete the key there, or name it `{}`",
        request.name
    );
    BackendError::new(ErrorClass::Rejected, message)
}
