//! Creates, polls and reads keys at one Cloud Foundry.

use std::fmt;

use reqwest::{Method, StatusCode};

use super::{
    classify::CloudFoundryCall,
    config::{CloudFoundryConfig, CloudFoundryLogin},
    instances::{InstanceSelector, SpaceInstances, SpaceRef},
    marks,
    pending_operations::{
        CreatedKey, OperationState, PATIENCE_WITH_EFFECT, PATIENCE_WITHOUT_EFFECT, PendingOperations,
    },
    session::{CloudFoundryApi, CloudFoundrySession, header},
    wire::{
        self, BindingState, CloudFoundryError, CreateCredentialBinding, CredentialBinding, KEYS,
        is_of_a_busy_broker, listed,
    },
};
use crate::backend::{
    Accepted, BackendError, Bound, CompleteList, Credentials, ErrorClass, Fetched, InstanceRef, IssuedKey,
    KeyFacts, KeyRequest, LostClusters, Progress, RemoteOperation,
    bounded::is_id,
    confirmed::ConfirmedKeys,
    exchange::{Exchange, RemoteApi},
    http::{HttpClient, Response, base_url, segment},
    pages::{Lists, MOST_OF_ONE},
};
use crate::fair::FairSemaphore;
use crate::lifecycle::MarkedKey;

/// Replaces the description of a failure that has none.
const SILENT: &str = "no reason is given";

/// The state of the job that works on a key.
enum JobState {
    /// The operator knows no job.
    Unknown,
    /// The API no longer knows the job.
    Gone,
    Open,
    Failed {
        said: String,
        /// The broker handles one key of an instance at a time, and works on another one.
        is_of_a_busy_broker: bool,
    },
}

impl JobState {
    /// The reason of the failure.
    fn said(self) -> Option<String> {
        match self {
            Self::Failed { said, is_of_a_busy_broker: _ } => Some(said),
            Self::Unknown | Self::Gone | Self::Open => None,
        }
    }
}

/// One Cloud Foundry, logged in.
pub(crate) struct CloudFoundry {
    pub(in crate::backend) http: HttpClient,
    pub(super) session: CloudFoundrySession,
    pub(super) instances: SpaceInstances,
    pub(super) pending: PendingOperations,
    pub(in crate::backend) confirmed: ConfirmedKeys,
    pub(super) lost_clusters: LostClusters,
    /// Permits one adoption at a time.
    pub(super) adopting: FairSemaphore,
}

impl CloudFoundry {
    /// Creates a client. It sends no request yet.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the address, the login or the certificates can't be used.
    pub(crate) fn new(config: &CloudFoundryConfig) -> Result<Self, BackendError> {
        let CloudFoundryConfig {
            api_url,
            uaa_url,
            auth,
            organization,
            space,
            confines_ids,
            lost_clusters,
            http,
        } = config;
        let http = HttpClient::new(http)?;
        let root = base_url(&http, "apiUrl", api_url)?;
        let uaa = uaa_url.as_ref().map(|url| base_url(&http, "uaaUrl", url)).transpose()?;
        if let CloudFoundryLogin::Bearer { token } = auth {
            header(token)?;
        }
        let home = organization.clone().zip(space.clone());
        let home = home.map(|(organization, space)| SpaceRef { organization, space });
        Ok(Self {
            http,
            session: CloudFoundrySession::new(root, uaa, auth.clone()),
            instances: SpaceInstances::new(home, *confines_ids, config.http.cached),
            pending: PendingOperations::new(),
            confirmed: ConfirmedKeys::default(),
            lost_clusters: lost_clusters.clone(),
            adopting: FairSemaphore::new(1),
        })
    }

    pub(super) const fn api(&self) -> CloudFoundryApi<'_> {
        RemoteApi { http: &self.http, session: &self.session }
    }

    /// The sizes of the tables that have an entry for each key.
    pub(crate) fn table_sizes(&self) -> [(&'static str, usize); 2] {
        [("confirmed keys", self.confirmed.len()), ("pending operations", self.pending.len())]
    }

    /// Checks whether the API accepts this login, and whether organization and space exist.
    ///
    /// # Errors
    /// Any failure that prevents the creation of keys.
    pub(crate) async fn check(&self) -> Result<(), BackendError> {
        self.pending.remove_unpolled();
        self.session.check(&self.http).await?;
        self.instances.check_space(self.api()).await
    }

    /// Describes the flaw of a login that works.
    pub(crate) fn shortcomings(&self) -> Option<String> {
        let expiry = self.session.expiry_of_bearer()?;
        Some(format!(
            "the login's token expires at {expiry}, and the operator can't renew it; log in with `password` or \
             `clientCredentials`, or replace the entry `token` in time"
        ))
    }

    /// Checks whether keys can be created for this instance.
    ///
    /// # Errors
    /// The instance can't be used, or the operator can't find that out. The message says why.
    pub(crate) async fn check_instance(&self, instance: &InstanceRef) -> Result<(), BackendError> {
        let target = InstanceSelector::from_instance(instance)?;
        self.instances.resolve(self.api(), &target, instance.space_limit.as_ref()).await.map(drop)
    }

    /// Whether the instance is cached and can have keys.
    pub(crate) fn knows_instance(&self, instance: &InstanceRef) -> bool {
        let target = InstanceSelector::from_instance(instance);
        target.is_ok_and(|target| self.instances.is_known_usable(&target, instance.space_limit.as_ref()))
    }

    /// Creates the key. Key names are unique within an instance: a key with this name belongs to this ServiceKey or to
    /// another owner.
    ///
    /// # Errors
    /// - [`ErrorClass::Taken`]: the key belongs to another owner.
    /// - [`ErrorClass::Conflict`]: the key belongs to this ServiceKey, but was created from other fields.
    /// - [`ErrorClass::Unsure`]: the key may have been created.
    pub(crate) async fn bind(&self, request: &KeyRequest) -> Result<Bound, BackendError> {
        let target = InstanceSelector::from_instance(&request.instance)?;
        let as_asked = request;
        let request = &*self.named_here(request).await?;
        // An earlier attempt may have created the key without being able to read its credentials.
        if let Some(made) = self.pending.created_key_for(request)
            && let Some(issued) = self.issued(request, &made).await?
        {
            self.pending.remove(request.identity);
            return Ok(Bound::Issued(issued));
        }
        let instance =
            self.instances.resolve(self.api(), &target, request.instance.space_limit.as_ref()).await?;
        let is_korifi = self.is_korifi().await?;
        if is_korifi {
            if let Some(accepted) = Box::pin(self.mark_again(request)).await? {
                return Ok(Bound::Accepted(accepted));
            }
            // A key with the user's name does not conflict with the operator's own name, so the bind would not find the
            // key to adopt.
            if let Some(bound) = Box::pin(self.adopt(as_asked, &instance)).await? {
                return Ok(bound);
            }
        }
        let mut exchange = self.api().for_key(CloudFoundryCall::Bind, request);
        let parameters = request.parameters.expose();
        let marks = (!is_korifi).then(|| marks::new_metadata(request));
        let body = CreateCredentialBinding::new(&request.name, &instance, parameters, marks);
        let response = exchange.send_json(Method::POST, KEYS, &body).await?;
        match response.status {
            StatusCode::ACCEPTED => {
                let accepted = self.accepted(request, RemoteOperation::Bind, &response);
                if is_korifi {
                    Box::pin(self.mark_created(request, &response)).await?;
                }
                Ok(Bound::Accepted(accepted))
            }
            StatusCode::UNPROCESSABLE_ENTITY => {
                Box::pin(self.bind_to_existing(request, &instance, &exchange, &response)).await
            }
            _ => Err(exchange.refused(&response).await),
        }
        .inspect_err(|error| {
            if error.class == ErrorClass::Gone {
                self.instances.forget(&target);
            }
        })
    }

    /// The bind was refused. An earlier attempt without an answer may have created the key.
    async fn bind_to_existing(
        &self,
        request: &KeyRequest,
        instance: &str,
        bind: &Exchange<'_, CloudFoundrySession>,
        refusal: &Response,
    ) -> Result<Bound, BackendError> {
        let name = &request.name;
        let is_about_the_name =
            CloudFoundryError::read(refusal.body().unwrap_or_default()).is_about_the_name();
        let failed = |class, what: String| Err(BackendError::new(class, format!("bind failed: {what}")));
        let found = self.named(request, instance).await?;
        let Some(key) = found.filter(|key| key.state() != BindingState::CreateFailed) else {
            // The name was taken when the API checked it. The key has been deleted since, or its creation failed, which
            // frees the name for the next attempt.
            return if is_about_the_name {
                failed(
                    ErrorClass::Transient,
                    format!("the name `{name}` was in use, and may be free now; retrying"),
                )
            } else {
                Err(bind.refused(refusal).await)
            };
        };
        if self.is_korifi().await? && self.is_created_unmarked(&key, request) {
            return failed(
                ErrorClass::Conflict,
                format!("the key `{name}` exists, but does not record what it was created from"),
            );
        }
        if !self.is_ours(&key, request) {
            if let Some(bound) = Box::pin(self.adopt(request, instance)).await? {
                return Ok(bound);
            }
            let whose = marks::owner_in_words(&key, &request.owner);
            let what = format!(
                "the instance already has a key `{name}`, which belongs to {whose}; delete it there, or create the \
                 ServiceKey again with another `keyName`"
            );
            return failed(ErrorClass::Taken, what);
        }
        match key.state() {
            BindingState::Deleting => {
                failed(ErrorClass::Transient, format!("the previous key `{name}` is still being deleted"))
            }
            BindingState::DeleteFailed => {
                failed(ErrorClass::Conflict, format!("the previous key `{name}` could not be deleted"))
            }
            _ if !marks::is_made_for(&key, request) => {
                failed(ErrorClass::Conflict, format!("the key `{name}` exists, created from other fields"))
            }
            BindingState::Created => {
                self.confirmed.insert(request, &key.guid);
                let made = CreatedKey::from(key);
                match self.issued(request, &made).await? {
                    Some(issued) => Ok(Bound::Issued(issued)),
                    None => Err(hidden(name)),
                }
            }
            BindingState::Creating | BindingState::CreateFailed => {
                Ok(Bound::Accepted(self.under_way(request, RemoteOperation::Bind, None)))
            }
        }
    }

    /// Reports the progress of an accepted operation. All operations share one list of keys.
    ///
    /// # Errors
    /// Any answer without a state. The caller must poll again.
    pub(crate) async fn poll(
        &self,
        request: &KeyRequest,
        work: RemoteOperation,
        token: Option<&str>,
    ) -> Result<Progress, BackendError> {
        let request = &*self.named_here(request).await?;
        if work == RemoteOperation::Unbind && self.pending.waits_for_turn(request.identity) {
            return Box::pin(self.unbind_in_turn(request)).await;
        }
        let key = match self.state_of(request, work).await? {
            OperationState::Unknown => return Ok(Progress::Running { said: None, retry_after: None }),
            OperationState::Absent if work == RemoteOperation::Unbind => {
                self.pending.remove(request.identity);
                self.confirmed.remove(request);
                return Ok(Progress::Succeeded);
            }
            OperationState::Absent => {
                let said = self.job(request, token).await?.said();
                return Ok(self.failed(request, said.unwrap_or_else(|| "the key is gone".to_owned())));
            }
            OperationState::Key(key) => key,
        };
        match (work, key.state()) {
            (RemoteOperation::Bind, BindingState::Created) => Ok(Progress::Succeeded),
            (RemoteOperation::Bind, BindingState::CreateFailed)
            | (RemoteOperation::Unbind, BindingState::DeleteFailed) => {
                if key.said().is_some_and(is_of_a_busy_broker) {
                    self.pending.note_busy_broker(request);
                }
                let said = match self.said_of(&key, request).await {
                    Some(said) => Some(said),
                    None => self.job(request, token).await?.said(),
                };
                Ok(self.failed(request, said.unwrap_or_else(|| SILENT.to_owned())))
            }
            (RemoteOperation::Bind, BindingState::Deleting | BindingState::DeleteFailed) => {
                Ok(self.failed(request, "the key was deleted, but not by the operator".to_owned()))
            }
            (
                RemoteOperation::Unbind,
                BindingState::Created | BindingState::CreateFailed | BindingState::Creating,
            ) => self.deletion_without_effect(request, token).await,
            (RemoteOperation::Bind, BindingState::Creating)
            | (RemoteOperation::Unbind, BindingState::Deleting) => {
                self.in_progress(request, work, token, &key).await
            }
        }
    }

    /// The state of an operation that was accepted before.
    ///
    /// # Errors
    /// Failures to read the list.
    pub(super) async fn state_of(
        &self,
        request: &KeyRequest,
        work: RemoteOperation,
    ) -> Result<OperationState, BackendError> {
        let state = self.pending.state_of(self.api(), request, work, &self.lost_clusters).await?;
        if let OperationState::Key(key) = &state
            && marks::bears(key, request.identity)
        {
            self.confirmed.insert(request, &key.guid);
        }
        Ok(state)
    }

    /// The API accepted a deletion, but the key is unchanged. The deletion may still wait for a worker, which its job
    /// shows. If a broker refuses the deletion because of another operation, the job fails and the key stays unchanged.
    async fn deletion_without_effect(
        &self,
        request: &KeyRequest,
        token: Option<&str>,
    ) -> Result<Progress, BackendError> {
        if self.pending.is_job_due(request.identity, PATIENCE_WITHOUT_EFFECT) {
            match self.job(request, token).await? {
                JobState::Failed { said, is_of_a_busy_broker } => {
                    if is_of_a_busy_broker {
                        self.pending.note_busy_broker(request);
                    }
                    return Ok(self.failed(request, said));
                }
                JobState::Gone => {
                    let said = "its job no longer exists, and the key is unchanged".to_owned();
                    return Ok(self.failed(request, said));
                }
                JobState::Unknown | JobState::Open => {}
            }
        }
        if self.pending.is_stuck(request.identity) {
            let said = "the API accepted the deletion minutes ago, but the key is unchanged".to_owned();
            return Ok(self.failed(request, said));
        }
        Ok(self.running(request, None))
    }

    /// The API shows the operation in progress. A failed job ends the operation even if the key does not show the
    /// failure.
    async fn in_progress(
        &self,
        request: &KeyRequest,
        work: RemoteOperation,
        token: Option<&str>,
        key: &CredentialBinding,
    ) -> Result<Progress, BackendError> {
        if self.pending.is_job_due(request.identity, PATIENCE_WITH_EFFECT)
            && let JobState::Failed { said, .. } = self.job(request, token).await?
        {
            let said = format!("{said}; the API still reports the operation as in progress");
            self.pending.remove(request.identity);
            // The name stays taken until the key is deleted.
            return Ok(Progress::Failed { said, leaves_orphan: work == RemoteOperation::Bind });
        }
        Ok(self.running(request, self.said_of(key, request).await))
    }

    fn running(&self, request: &KeyRequest, said: Option<String>) -> Progress {
        Progress::Running { said, retry_after: self.pending.next_poll_in_turn(request.identity) }
    }

    /// The description of the operation in the list, without secrets.
    async fn said_of(&self, key: &CredentialBinding, request: &KeyRequest) -> Option<String> {
        let exchange = self.api().for_key(CloudFoundryCall::Keys, request);
        match key.said() {
            Some(said) => Some(exchange.full_redactor().await.sanitize(said)),
            None => None,
        }
    }

    fn failed(&self, request: &KeyRequest, said: String) -> Progress {
        self.pending.remove(request.identity);
        Progress::Failed { said, leaves_orphan: false }
    }

    /// Looks up the job that works on a key.
    async fn job(&self, request: &KeyRequest, token: Option<&str>) -> Result<JobState, BackendError> {
        let known = token.map(str::to_owned).or_else(|| self.pending.job(request.identity));
        let Some(job) = known else { return Ok(JobState::Unknown) };
        let mut exchange = self.api().for_key(CloudFoundryCall::Job, request);
        let response = exchange.ask(Method::GET, &format!("/jobs/{}", segment(&job)), &[]).await?;
        match response.status {
            StatusCode::OK => {
                let job: wire::JobObject = exchange.read(&response, wire::read)?;
                if !job.has_failed() {
                    return Ok(JobState::Open);
                }
                let is_of_a_busy_broker = job.error().is_some_and(|error| is_of_a_busy_broker(&error.detail));
                let said = match job.error() {
                    Some(error) => exchange.full_redactor().await.sanitize(&error.detail),
                    None => SILENT.to_owned(),
                };
                Ok(JobState::Failed { said, is_of_a_busy_broker })
            }
            // The API keeps jobs only for a while.
            StatusCode::NOT_FOUND => Ok(JobState::Gone),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Reads the credentials of a key that bears the operator's mark. The operator uses the GUID if the API has shown
    /// the mark on that key; otherwise it searches for the mark.
    ///
    /// # Errors
    /// Failures of the call itself, and [`ErrorClass::Redacted`] if the key exists but its credentials are not shown.
    pub(crate) async fn fetch(&self, request: &KeyRequest) -> Result<Fetched, BackendError> {
        let request = &*self.named_here(request).await?;
        let confirmed = || {
            let guid = self.confirmed.id(request, request.recorded_id.as_deref())?;
            Some(CreatedKey { guid, name: None, created_at: None })
        };
        // That key may have been created for the ServiceKey from which this one claims to be restored.
        let made = self.pending.created_key(request.identity).filter(|_| request.restored.is_none());
        let known = made.or_else(confirmed);
        if let Some(made) = &known
            && let Some(issued) = self.issued(request, made).await?
        {
            self.pending.remove(request.identity);
            return Ok(Fetched::Found(issued));
        }
        let Some(key) = self.find(request).await? else { return Ok(Fetched::Absent) };
        match key.state() {
            BindingState::Creating => {
                let message = format!("fetch failed: the key `{}` is still being created", request.name);
                Err(BackendError::new(ErrorClass::Transient, message))
            }
            BindingState::CreateFailed | BindingState::Deleting | BindingState::DeleteFailed => {
                Ok(Fetched::Absent)
            }
            BindingState::Created if known.is_some_and(|known| known.guid == key.guid) => {
                Err(hidden(&request.name))
            }
            BindingState::Created => {
                let made = CreatedKey::from(key);
                let issued = self.issued(request, &made).await?;
                issued.map(Fetched::Found).ok_or_else(|| hidden(&request.name))
            }
        }
    }

    /// The key with its credentials. `None` means that the API does not show them to this login.
    pub(super) async fn issued(
        &self,
        request: &KeyRequest,
        made: &CreatedKey,
    ) -> Result<Option<IssuedKey>, BackendError> {
        let mut exchange = self.api().for_key(CloudFoundryCall::Details, request);
        let path = format!("{KEYS}/{}/details", segment(&made.guid));
        let response = exchange.ask(Method::GET, &path, &[]).await?;
        match response.status {
            StatusCode::OK => {
                let credentials = exchange.read(&response, wire::credentials)?;
                // The GUID alone does not identify which of its possible names the key has.
                let certain = Some(&request.name).filter(|_| request.former_name.is_none());
                let facts = KeyFacts {
                    id: made.guid.clone(),
                    name: made.name.as_ref().or(certain).cloned(),
                    created_at: made.created_at,
                    ..KeyFacts::default()
                };
                Ok(Some(IssuedKey { facts, credentials: Credentials::new(credentials) }))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Finds the key by the GUID of the hint, or by its mark if there is no hint, in whatever state it is. A hinted key
    /// that has lost its mark counts; a key with another owner's mark does not.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`] if the login does not see the instance either, so that the absence of the key proves
    /// nothing. Also failures of the calls.
    pub(crate) async fn exists(&self, request: &KeyRequest) -> Result<Option<KeyFacts>, BackendError> {
        let request = &*self.named_here(request).await?;
        let hinted = match &request.recorded_id {
            Some(guid) => self.look(request, guid).await?,
            None => None,
        };
        let is_somebody_elses =
            |key: &CredentialBinding| marks::owner_of(key).is_some() && !self.is_ours(key, request);
        let found = match hinted {
            Some(key) if is_somebody_elses(&key) => self.find(request).await?,
            None if request.recorded_id.is_none() => self.find(request).await?,
            hinted => hinted,
        };
        match found {
            Some(CredentialBinding { guid, name, created_at, .. }) => {
                Ok(Some(KeyFacts { id: guid, name, created_at, ..KeyFacts::default() }))
            }
            None => self.instances.check_visible(self.api(), request).await.map(|()| None),
        }
    }

    /// Looks a key up by its GUID. The caller must check its marks.
    pub(super) async fn look(
        &self,
        request: &KeyRequest,
        guid: &str,
    ) -> Result<Option<CredentialBinding>, BackendError> {
        let mut exchange = self.api().for_key(CloudFoundryCall::Key, request);
        let response = exchange.ask(Method::GET, &format!("{KEYS}/{}", segment(guid)), &[]).await?;
        match response.status {
            StatusCode::OK => {
                let key: CredentialBinding = exchange.read(&response, wire::read)?;
                if self.bears_mark(&key, request) {
                    self.confirmed.insert(request, &key.guid);
                }
                Ok(Some(key))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Whether the marks allow this to be the requested key.
    pub(super) fn is_ours(&self, key: &CredentialBinding, request: &KeyRequest) -> bool {
        marks::is_ours(key, request.identity) && marks::may_be_inherited(key, request, &self.lost_clusters)
    }

    /// Whether the key bears the complete mark of the requested one.
    pub(super) fn bears_mark(&self, key: &CredentialBinding, request: &KeyRequest) -> bool {
        marks::bears(key, request.identity) && marks::may_be_inherited(key, request, &self.lost_clusters)
    }

    /// The GUID of the space of an instance that the ServiceKey names by its GUID, if the instance was looked up
    /// before.
    pub(crate) fn space_of_instance(&self, instance: &InstanceRef) -> Option<String> {
        self.instances.space_of(instance)
    }

    /// All keys with the mark of this operator and cluster that the login sees. One request lists five thousand keys.
    ///
    /// # Errors
    /// Failures to read the list.
    pub(crate) async fn marked_keys(
        &self,
        cluster_id: Option<&str>,
    ) -> Result<CompleteList<MarkedKey>, BackendError> {
        let selector = marks::selector_of_all(cluster_id);
        let query = [("type", "key"), ("label_selector", selector.as_str())];
        self.api().for_no_key(CloudFoundryCall::Keys).list_in_large_pages(KEYS, &query, marks::marked).await
    }

    /// Finds the key of this identity by its mark, at any instance. If there are several, the one with the GUID of the
    /// hint takes precedence.
    async fn find(&self, request: &KeyRequest) -> Result<Option<CredentialBinding>, BackendError> {
        let mut found = self.find_all(request).await?;
        let hinted = found.iter().position(|key| Some(&key.guid) == request.recorded_id.as_ref());
        Ok(if found.is_empty() { None } else { Some(found.swap_remove(hinted.unwrap_or_default())) })
    }

    /// Finds all keys of this identity by their marks. Their names don't matter, because a former release used other
    /// names.
    ///
    /// # Errors
    /// Failures to read the list, and more keys than one identity can have.
    pub(super) async fn find_all(
        &self,
        request: &KeyRequest,
    ) -> Result<Vec<CredentialBinding>, BackendError> {
        let selector = marks::selector_of_one(request.identity);
        let query = [("type", "key"), ("label_selector", &selector)];
        let is_ours = |key: &CredentialBinding| {
            marks::is_ours_by_name(key, request) && marks::may_be_inherited(key, request, &self.lost_clusters)
        };
        let keep = |key| Some(key).filter(is_ours);
        let mut exchange = self.api().for_key(CloudFoundryCall::Keys, request);
        let found = exchange.first(MOST_OF_ONE + 1, KEYS, &query, keep).await?;
        if found.len() > MOST_OF_ONE {
            let what = format!(
                "the API lists more than {MOST_OF_ONE} keys with the mark of `{}`; delete all but one of them there",
                request.name
            );
            return Err(exchange.unexpected(&what));
        }
        for key in found.iter().filter(|key| self.bears_mark(key, request)) {
            self.confirmed.insert(request, &key.guid);
        }
        Ok(found)
    }

    /// The key with this name at an instance, whether or not the operator created it.
    pub(super) async fn named(
        &self,
        request: &KeyRequest,
        instance: &str,
    ) -> Result<Option<CredentialBinding>, BackendError> {
        let (name, instance) = (listed(&request.name), listed(instance));
        let query = [("type", "key"), ("names", &name), ("service_instance_guids", &instance)];
        let found: Vec<CredentialBinding> =
            self.api().for_key(CloudFoundryCall::Keys, request).first(1, KEYS, &query, Some).await?;
        Ok(found.into_iter().next())
    }

    pub(super) fn accepted(
        &self,
        request: &KeyRequest,
        work: RemoteOperation,
        response: &Response,
    ) -> Accepted {
        let job = response.location.as_deref().and_then(|job| job.rsplit('/').next());
        self.under_way(request, work, job.filter(|job| is_id(job)).map(str::to_owned))
    }

    pub(super) fn under_way(
        &self,
        request: &KeyRequest,
        work: RemoteOperation,
        token: Option<String>,
    ) -> Accepted {
        let first_look = self.pending.start(request, work);
        Accepted { token, retry_after: None, longest: None, first_look }
    }
}

impl fmt::Debug for CloudFoundry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudFoundry")
            .field("session", &self.session)
            .field("home", &self.instances.home)
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

pub(super) fn hidden(name: &str) -> BackendError {
    let message = format!(
        "fetch failed: the key `{name}` exists, but the login may not read its credentials; it needs the role Space \
         Developer in the instance's space"
    );
    BackendError::new(ErrorClass::Redacted, message)
}
