//! Revokes the keys of a ServiceKey and orphans, and releases keys that stay.

use reqwest::{Method, StatusCode};

use super::{
    classify::CloudFoundryCall,
    client::CloudFoundry,
    marks,
    session::CloudFoundrySession,
    wire::{BindingState, KEYS},
};
use crate::{
    backend::{
        Accepted, BackendError, ErrorClass, KeyRequest, Progress, RemoteOperation, Unbound,
        exchange::Exchange,
        http::{Response, segment},
    },
    lifecycle::MarkedKey,
};

/// The result of a request to delete a key.
enum DeleteOutcome {
    Accepted(Response),
    /// Another operation blocks the deletion.
    Busy(BackendError),
    Gone,
}

/// The result of requests to delete several keys.
struct Removal {
    busy: Option<BackendError>,
    accepted: Option<Accepted>,
}

impl CloudFoundry {
    /// Revokes the key, but only if it bears the operator's mark. The operator uses the GUID if the API has shown the
    /// mark on that key; otherwise it searches for the mark.
    ///
    /// # Errors
    /// Anything but the confirmation that the key is gone, or that it is being revoked.
    pub(crate) async fn unbind(&self, request: &KeyRequest) -> Result<Unbound, BackendError> {
        let request = &*self.named_here(request).await?;
        if let Err(pause) = self.pending.take_turn(request) {
            let accepted =
                Accepted { token: None, retry_after: Some(pause), longest: None, first_look: pause };
            return Ok(Unbound::Accepted(accepted));
        }
        let unbound = Box::pin(self.revoke(request)).await;
        if unbound.is_err() {
            self.pending.remove(request.identity);
        }
        unbound
    }

    /// Revokes the key if its turn has come.
    ///
    /// # Errors
    /// As for [`CloudFoundry::unbind`].
    pub(super) async fn unbind_in_turn(&self, request: &KeyRequest) -> Result<Progress, BackendError> {
        if let Err(pause) = self.pending.take_turn(request) {
            let said =
                "the broker handles one key of an instance at a time, and another one is being revoked";
            return Ok(Progress::Running { said: Some(said.to_owned()), retry_after: Some(pause) });
        }
        match Box::pin(self.revoke(request)).await {
            Ok(Unbound::Gone | Unbound::GoneExcept(_) | Unbound::Absent) => Ok(Progress::Succeeded),
            Ok(Unbound::Accepted(Accepted { token, .. })) => {
                self.pending.note_job(request.identity, token);
                let retry_after = self.pending.next_poll_in_turn(request.identity);
                Ok(Progress::Running { said: None, retry_after })
            }
            Err(error) => {
                self.pending.release_turn(request.identity);
                Err(error)
            }
        }
    }

    async fn revoke(&self, request: &KeyRequest) -> Result<Unbound, BackendError> {
        let removed = !self.confirmed.ids(request).is_empty();
        if let Some(accepted) = self.delete_visible(request).await? {
            return Ok(Unbound::Accepted(accepted));
        }
        self.instances.check_visible(self.api(), request).await?;
        // The key may have become visible only after the first search.
        if let Some(accepted) = self.delete_visible(request).await? {
            return Ok(Unbound::Accepted(accepted));
        }
        if let Some(accepted) = self.delete_hinted(request).await? {
            return Ok(Unbound::Accepted(accepted));
        }
        if let Some(accepted) = Box::pin(self.delete_unmarked(request)).await? {
            return Ok(Unbound::Accepted(accepted));
        }
        self.pending.remove(request.identity);
        Ok(if removed { Unbound::Gone } else { Unbound::Absent })
    }

    /// Deletes all keys that bear the mark of this identity. Returns `None` if no such key is visible.
    async fn delete_visible(&self, request: &KeyRequest) -> Result<Option<Accepted>, BackendError> {
        let known = self.confirmed.ids(request);
        let mut removal = self.delete_all(request, &known).await?;
        if let Removal { busy: None, accepted: Some(accepted) } = removal {
            return Ok(Some(accepted));
        }
        // An earlier call may still be deleting the key, or an attempt without an answer may have created another key
        // with this name.
        let mut found = self.find_all(request).await?;
        if found.iter().any(|key| key.state() == BindingState::Deleting) {
            removal = Removal {
                busy: None,
                accepted: Some(self.under_way(request, RemoteOperation::Unbind, None)),
            };
        }
        found.retain(|key| key.state() != BindingState::Deleting && !known.contains(&key.guid));
        let guids: Vec<_> = found.into_iter().map(|key| key.guid).collect();
        let more = self.delete_all(request, &guids).await?;
        match removal.busy.or(more.busy) {
            Some(busy) => Err(busy),
            None => Ok(more.accepted.or(removal.accepted)),
        }
    }

    /// Deletes these keys, which bear the operator's mark.
    async fn delete_all(&self, request: &KeyRequest, guids: &[String]) -> Result<Removal, BackendError> {
        let mut removal = Removal { busy: None, accepted: None };
        for guid in guids {
            match self.delete(self.api().for_key(CloudFoundryCall::Unbind, request), guid).await? {
                DeleteOutcome::Accepted(response) => {
                    removal.accepted = Some(self.accepted(request, RemoteOperation::Unbind, &response));
                }
                DeleteOutcome::Busy(error) => removal.busy = Some(error),
                DeleteOutcome::Gone => self.confirmed.remove_id(request, guid),
            }
        }
        Ok(removal)
    }

    /// Deletes the key with the GUID of the status, if it bears the mark although no list contained it.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the key exists without any mark. The mark was removed, so the operator can't tell
    /// whether the key is still its own.
    async fn delete_hinted(&self, request: &KeyRequest) -> Result<Option<Accepted>, BackendError> {
        let Some(guid) = &request.recorded_id else { return Ok(None) };
        let Some(key) = self.look(request, guid).await? else { return Ok(None) };
        if marks::owner_of(&key).is_none() {
            let what = format!(
                "unbind failed: the key `{guid}` no longer has the label `{}`, which identifies it as this \
                 ServiceKey's; delete the key there, set the label to `{}`, or keep the key with the annotation \
                 `servicekeys.dev/abandon`",
                marks::OWNER,
                request.identity.owner
            );
            return Err(BackendError::new(ErrorClass::Rejected, what));
        }
        if !self.bears_mark(&key, request) {
            return Ok(None);
        }
        self.delete_marked(request, &[key.guid]).await
    }

    /// Deletes these keys, which bear the operator's mark.
    ///
    /// # Errors
    /// Failures of the calls, and another operation that blocks a deletion.
    pub(super) async fn delete_marked(
        &self,
        request: &KeyRequest,
        guids: &[String],
    ) -> Result<Option<Accepted>, BackendError> {
        let Removal { busy, accepted } = self.delete_all(request, guids).await?;
        busy.map_or(Ok(accepted), Err)
    }

    async fn delete(
        &self,
        mut exchange: Exchange<'_, CloudFoundrySession>,
        guid: &str,
    ) -> Result<DeleteOutcome, BackendError> {
        let response = exchange.ask(Method::DELETE, &format!("{KEYS}/{}", segment(guid)), &[]).await?;
        match response.status {
            StatusCode::ACCEPTED => Ok(DeleteOutcome::Accepted(response)),
            // The API deletes a key immediately if it does not have to call a broker.
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(DeleteOutcome::Gone),
            StatusCode::UNPROCESSABLE_ENTITY => match exchange.refused(&response).await {
                busy if busy.class == ErrorClass::Transient => Ok(DeleteOutcome::Busy(busy)),
                refused => Err(refused),
            },
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Revokes a key of the last list of all marked keys, without any other knowledge of it.
    ///
    /// # Errors
    /// Anything but the confirmation that the key is gone, or that it is being revoked.
    pub(crate) async fn discard(&self, key: &MarkedKey) -> Result<(), BackendError> {
        match self.delete(self.api().for_no_key(CloudFoundryCall::Unbind), &key.id).await? {
            DeleteOutcome::Accepted(_) | DeleteOutcome::Gone => Ok(()),
            DeleteOutcome::Busy(error) => Err(error),
        }
    }

    /// Removes the mark from the key, so that the operator no longer recognizes it. A missing key is a success.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`] if the login does not see the instance either, so that the absence of the key proves
    /// nothing. Also failures of the calls.
    pub(crate) async fn release(&self, request: &KeyRequest) -> Result<(), BackendError> {
        let request = &*self.named_here(request).await?;
        if !self.release_what_shows(request).await? {
            self.instances.check_visible(self.api(), request).await?;
            // The key may have become visible only after the first search.
            self.release_what_shows(request).await?;
        }
        Ok(())
    }

    /// Removes the mark from all keys that bear it. Returns whether there was one.
    async fn release_what_shows(&self, request: &KeyRequest) -> Result<bool, BackendError> {
        let mut guids = self.confirmed.ids(request);
        if guids.is_empty() {
            guids.extend(self.find_all(request).await?.into_iter().map(|key| key.guid));
        }
        let mut released = false;
        for guid in guids {
            let mut exchange = self.api().for_key(CloudFoundryCall::Release, request);
            let path = format!("{KEYS}/{}", segment(&guid));
            let response = exchange.send_json(Method::PATCH, &path, &marks::none()).await?;
            match response.status {
                StatusCode::OK => released = true,
                StatusCode::NOT_FOUND => {}
                _ => return Err(exchange.refused(&response).await),
            }
        }
        self.pending.remove(request.identity);
        self.confirmed.remove(request);
        Ok(released)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc, OnceLock,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use parking_lot::Mutex;
    use rstest::rstest;
    use serde_json::json;
    use url::Url;

    use super::{
        super::{CloudFoundryConfig, CloudFoundryLogin, pending_operations::tests::request},
        *,
    };
    use crate::backend::{InstanceRef, LostClusters, test_server};

    const KEY: &str = "/v3/service_credential_bindings/k-1";

    /// A Cloud Foundry with one key. Its login can lose its role.
    struct FakeFoundry {
        client: CloudFoundry,
        sees: Arc<AtomicBool>,
        has_key: Arc<AtomicBool>,
        released: Arc<Mutex<Vec<String>>>,
    }

    impl FakeFoundry {
        async fn start(key: &KeyRequest) -> Self {
            let [sees, has_key] = [(); 2].map(|()| Arc::new(AtomicBool::new(true)));
            let (released, here) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<OnceLock<Url>>::default());
            let marks = serde_json::to_value(marks::new_metadata(key)).unwrap();
            let url = test_server::answering({
                let (sees, has_key, released, here) =
                    (Arc::clone(&sees), Arc::clone(&has_key), Arc::clone(&released), Arc::clone(&here));
                move |method, path| match path {
                    "/" => {
                        let here = here.get().unwrap();
                        let api = format!("{here}v3");
                        (200, json!({"links": {"cloud_controller_v3": {"href": api}, "uaa": {"href": here}}}))
                    }
                    KEY if method == Method::PATCH && sees.load(Ordering::Relaxed) => {
                        released.lock().push(path.to_owned());
                        (200, json!({}))
                    }
                    _ if path.contains('?') => {
                        let shows = sees.load(Ordering::Relaxed) && has_key.load(Ordering::Relaxed);
                        let key = json!({"guid": "k-1", "name": "a", "metadata": marks});
                        (200, json!({"resources": if shows { vec![key] } else { Vec::new() }}))
                    }
                    "/v3/service_instances/i-1" if sees.load(Ordering::Relaxed) => {
                        (200, json!({"guid": "i-1", "type": "managed"}))
                    }
                    _ => (404, json!({"errors": [{"code": 10010, "detail": "not found"}]})),
                }
            })
            .await;
            here.set(url.clone()).unwrap();
            let client = CloudFoundry::new(&CloudFoundryConfig {
                api_url: url,
                uaa_url: None,
                auth: CloudFoundryLogin::Bearer { token: "t0k3n".into() },
                organization: None,
                space: None,
                confines_ids: false,
                lost_clusters: LostClusters::default(),
                http: test_server::http_config(Duration::from_secs(20)),
            })
            .unwrap();
            Self { client, sees, has_key, released }
        }
    }

    fn key() -> KeyRequest {
        let instance = InstanceRef { id: Some("i-1".to_owned()), ..InstanceRef::default() };
        KeyRequest { instance, ..request(1) }
    }

    /// A login without its role sees no keys, which does not prove that they are gone.
    #[rstest]
    #[case::out_of_sight(false)]
    #[case::known_and_out_of_sight(true)]
    #[tokio::test]
    async fn a_key_is_not_released_while_the_login_may_not_see_it(#[case] is_known: bool) {
        let key = key();
        let foundry = FakeFoundry::start(&key).await;
        if is_known {
            assert_eq!(foundry.client.find_all(&key).await.unwrap().len(), 1);
        }
        foundry.sees.store(false, Ordering::Relaxed);
        assert_eq!(foundry.client.release(&key).await.unwrap_err().class, ErrorClass::Gone);

        foundry.sees.store(true, Ordering::Relaxed);
        foundry.client.release(&key).await.unwrap();
        assert_eq!(*foundry.released.lock(), [KEY]);
    }

    #[tokio::test]
    async fn a_key_that_is_gone_is_released() {
        let key = key();
        let foundry = FakeFoundry::start(&key).await;
        foundry.has_key.store(false, Ordering::Relaxed);
        foundry.client.release(&key).await.unwrap();
        assert!(foundry.released.lock().is_empty());
    }
}
