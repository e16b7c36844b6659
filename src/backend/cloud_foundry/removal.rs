//! Taking keys away: revoking those of a ServiceKey and those that nobody has, and letting go of those that stay.

use reqwest::{Method, StatusCode};

use super::{
    call::Exchange,
    classify::Call,
    foundry::{CloudFoundry, KEYS},
    marks,
    wire::Standing,
};
use crate::{
    backend::{
        Accepted, BackendError, ErrorClass, KeyRequest, Unbound, Work,
        http::{Response, segment},
    },
    lifecycle::MarkedKey,
};

/// What came of a request to delete a key.
enum Deletion {
    Accepted(Response),
    /// Another operation is in the way.
    Busy(BackendError),
    Gone,
}

impl CloudFoundry {
    /// Revokes the key: by its GUID where that is known, else by its name, and only where it bears our mark.
    ///
    /// # Errors
    /// Anything but the confirmation that the key is gone, or that it is being revoked.
    pub async fn unbind(&self, request: &KeyRequest) -> Result<Unbound, BackendError> {
        if let Some(accepted) = self.delete_what_shows(request).await? {
            return Ok(Unbound::Accepted(accepted));
        }
        self.is_in_sight(request).await?;
        // It may have come into sight only after it was looked for.
        let accepted = self.delete_what_shows(request).await?;
        Ok(accepted.map_or(Unbound::Gone, Unbound::Accepted))
    }

    /// Deletes the key; nothing where there is none to be seen.
    async fn delete_what_shows(&self, request: &KeyRequest) -> Result<Option<Accepted>, BackendError> {
        let mut busy = None;
        let accepted = |response: &Response| Ok(Some(self.accepted(request, Work::Unbind, response)));
        if let Some(guid) = &request.known_id {
            match self.delete(Exchange::of(self, Call::Unbind, request), guid).await? {
                Deletion::Accepted(response) => return accepted(&response),
                Deletion::Busy(error) => busy = Some(error),
                Deletion::Gone => {}
            }
        }
        // It may be that an earlier call deletes it, or that another one was made by this name since, whose answer was
        // lost.
        match (self.find(request).await?, busy) {
            (Some(key), _) if key.standing() == Standing::Deleting => {
                Ok(Some(self.under_way(request, Work::Unbind, None)))
            }
            (_, Some(busy)) => Err(busy),
            (Some(key), None) => {
                match self.delete(Exchange::of(self, Call::Unbind, request), &key.guid).await? {
                    Deletion::Accepted(response) => accepted(&response),
                    Deletion::Busy(error) => Err(error),
                    Deletion::Gone => Ok(None),
                }
            }
            (None, None) => Ok(None),
        }
    }

    async fn delete(&self, mut exchange: Exchange<'_>, guid: &str) -> Result<Deletion, BackendError> {
        let response = exchange.ask(Method::DELETE, &format!("{KEYS}/{}", segment(guid)), &[]).await?;
        match response.status {
            StatusCode::ACCEPTED => Ok(Deletion::Accepted(response)),
            // Keys that no broker has to be asked about go at once.
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(Deletion::Gone),
            StatusCode::UNPROCESSABLE_ENTITY => match exchange.refused(&response).await {
                busy if busy.class == ErrorClass::Transient => Ok(Deletion::Busy(busy)),
                refused => Err(refused),
            },
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Revokes a key of which nothing but the list is known.
    ///
    /// # Errors
    /// Anything but the confirmation that the key is gone, or that it is being revoked.
    pub async fn discard(&self, key: &MarkedKey) -> Result<(), BackendError> {
        match self.delete(Exchange::anonymous(self, Call::Unbind), &key.id).await? {
            Deletion::Accepted(_) | Deletion::Gone => Ok(()),
            Deletion::Busy(error) => Err(error),
        }
    }

    /// Takes our mark off the key, which is an ordinary one from then on.
    ///
    /// # Errors
    /// Those of the calls; a key that is gone is none.
    pub async fn release(&self, request: &KeyRequest) -> Result<(), BackendError> {
        let guid = match &request.known_id {
            Some(guid) => guid.clone(),
            None => match self.find(request).await? {
                Some(key) => key.guid,
                None => return Ok(()),
            },
        };
        let mut exchange = Exchange::of(self, Call::Release, request);
        let path = format!("{KEYS}/{}", segment(&guid));
        let response = exchange.send_json(Method::PATCH, &path, &marks::none()).await?;
        match response.status {
            StatusCode::OK | StatusCode::NOT_FOUND => Ok(()),
            _ => Err(exchange.refused(&response).await),
        }
    }
}
