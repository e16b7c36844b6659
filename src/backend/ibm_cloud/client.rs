//! Creates and reads keys in one account.

use std::fmt;

use reqwest::{Method, StatusCode};

use super::{
    access::{OwnServiceIds, SERVICE_ID},
    attempts::Attempts,
    classify::IbmCloudCall,
    config::IbmCloudConfig,
    instances::{ResourceInstances, ResourceSelector},
    name::{Mark, possible_names},
    roles::{NO_ROLE, RolesOfServices},
    session::{self, IbmCloudApi, IbmCloudSession},
    wire::{self, CreateResourceKey, Redaction, ResourceInstance, ResourceKey, ShownCredentials},
};
use crate::backend::{
    BackendError, Bound, CompleteList, Credentials, ErrorClass, Fetched, InstanceRef, IssuedKey, KeyFacts,
    KeyRequest, LostClusters,
    confirmed::ConfirmedKeys,
    exchange::{Exchange, RemoteApi},
    http::{HttpClient, Response, segment},
    pages::{Lists, MOST_OF_ONE},
};
use crate::fair::FairSemaphore;
use crate::lifecycle::MarkedKey;

const KEYS: &str = "/v2/resource_keys";

/// The service whose instances audit an account (Activity Tracker).
const AUDITING: &str = "logdnaat";
/// The entry that the users of such a key need. It is shown only to logins with the service role Manager on the
/// instance, whatever role the key has. An instance has only one, whatever keys it has (IBM's page "Managing service
/// keys", ibm-cloud-docs/activity-tracker, `service_keys.md`).
const SERVICE_KEY: &str = "service_key";

/// One account of IBM Cloud, logged in.
pub(crate) struct IbmCloud {
    pub(in crate::backend) http: HttpClient,
    pub(super) session: IbmCloudSession,
    pub(super) instances: ResourceInstances,
    pub(super) roles: RolesOfServices,
    pub(super) attempts: Attempts,
    pub(super) service_ids: OwnServiceIds,
    pub(in crate::backend) confirmed: ConfirmedKeys,
    pub(super) lost_clusters: LostClusters,
    /// Permits one adoption at a time.
    pub(super) adopting: FairSemaphore,
}

/// The result of the lookup of a single key.
pub(super) enum KeyLookup {
    Shown(Box<IssuedKey>),
    /// The key exists, but its credentials are not shown.
    HiddenReason(Unseen),
    Removed,
    /// The key does not exist, or is not visible yet.
    Absent,
}

/// Why the credentials of an existing key are not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unseen {
    /// The login may not see them.
    Redacted(Redaction),
    /// The login may not see the `service_key` of an auditing instance.
    WithoutServiceKey,
    /// They are shown only in the answer to the creation, or there are none.
    ShownOnce,
}

impl Unseen {
    /// Describes the cause, and what the login needs.
    pub(super) const fn advice(self) -> &'static str {
        match self {
            Self::Redacted(Redaction::Lesser) => {
                "its credentials are not shown to this login; give the login a role on the instance that is at least \
                 the key's own, or the platform role Administrator"
            }
            Self::Redacted(Redaction::Explicit) => {
                "its credentials are not shown to this login; give the login the platform role Administrator on the \
                 instance, which permits `resource-controller.credential.retrieve_all`"
            }
            Self::WithoutServiceKey => {
                "its credentials contain no `service_key`, which is shown only to a login with the service role \
                 Manager on the instance; give the login that role"
            }
            Self::ShownOnce => {
                "its credentials are shown only in the answer to its creation, which did not show them to this login; \
                 give the login the platform role Administrator on the instance, and set the annotation \
                 `servicekeys.dev/rotate` to another value to create another key"
            }
        }
    }
}

/// The result of the lookup of a single key, with the name that contains its mark.
pub(super) struct KeyView {
    pub(super) sight: KeyLookup,
    /// The name of a key that exists.
    pub(super) name: Option<String>,
    /// Whether it bears the mark of the requested key.
    pub(super) is_ours: bool,
}

impl KeyView {
    /// The result for a key that does not exist or is not visible.
    const fn nothing(sight: KeyLookup) -> Self {
        Self { sight, name: None, is_ours: false }
    }

    /// Whether the key exists with a name that no operator gave it.
    pub(super) fn bears_no_mark(&self) -> bool {
        self.name.as_deref().is_some_and(|name| Mark::read(name).is_none())
    }
}

impl IbmCloud {
    /// Creates a client. It sends no request yet.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the addresses, the login or the certificates can't be used.
    pub(crate) fn new(config: &IbmCloudConfig) -> Result<Self, BackendError> {
        let IbmCloudConfig { iam_url, resource_controller_url, auth, lost_clusters, settling, http } = config;
        let policy = &http.addresses;
        let http = HttpClient::new(http)?;
        Ok(Self {
            session: IbmCloudSession::new(iam_url, resource_controller_url, auth, &http, policy)?,
            http,
            instances: ResourceInstances::in_bytes(config.http.cached),
            roles: RolesOfServices::in_bytes(config.http.cached),
            attempts: Attempts::new(*settling),
            service_ids: OwnServiceIds::new(*settling),
            confirmed: ConfirmedKeys::default(),
            lost_clusters: lost_clusters.clone(),
            adopting: FairSemaphore::new(1),
        })
    }

    pub(super) const fn api(&self) -> IbmCloudApi<'_> {
        RemoteApi { http: &self.http, session: &self.session }
    }

    /// The sizes of the tables that have an entry for each key.
    pub(crate) fn table_sizes(&self) -> [(&'static str, usize); 2] {
        let attempts = self.attempts.len() + self.service_ids.len();
        [("confirmed keys", self.confirmed.len()), ("attempts", attempts)]
    }

    /// Checks whether IAM knows this login, and whether the Resource Controller accepts it.
    ///
    /// # Errors
    /// Any failure that prevents the creation of keys.
    pub(crate) async fn check(&self) -> Result<(), BackendError> {
        session::check(self.api()).await
    }

    /// Checks whether keys can be created for this instance.
    ///
    /// # Errors
    /// The instance can't be used, or the operator can't find that out. The message says why.
    pub(crate) async fn check_instance(&self, instance: &InstanceRef) -> Result<(), BackendError> {
        self.instances.resolve(self.api(), &ResourceSelector::from_instance(instance)?).await.map(drop)
    }

    /// Whether the instance is cached and can have keys.
    pub(crate) fn knows_instance(&self, instance: &InstanceRef) -> bool {
        ResourceSelector::from_instance(instance).is_ok_and(|target| self.instances.is_known_usable(&target))
    }

    /// Whether the instance is known, without a request, to audit an account.
    pub(super) fn is_known_to_audit(&self, instance: &InstanceRef) -> bool {
        let known =
            ResourceSelector::from_instance(instance).ok().and_then(|target| self.instances.latest(&target));
        let crn = known.as_ref().and_then(|known| known.value.instance()).map(|instance| &instance.crn);
        crn.or(instance.crn.as_ref()).is_some_and(|crn| wire::service(crn) == AUDITING)
    }

    /// The account of the instance, if the instance was looked up before.
    pub(crate) fn account_of_instance(&self, instance: &InstanceRef) -> Option<String> {
        let known = self.instances.latest(&ResourceSelector::from_instance(instance).ok()?)?;
        known.value.account().map(str::to_owned)
    }

    /// Creates the key. If a key with its name exists, the mark in the name proves that it belongs to this ServiceKey,
    /// so that key is returned. A key that the ServiceKey may adopt is adopted instead.
    ///
    /// # Errors
    /// - [`ErrorClass::Conflict`]: the existing key was created from other fields.
    /// - [`ErrorClass::Withheld`]: the credentials of the existing key are not shown again.
    /// - [`ErrorClass::Redacted`]: not even the answer to the creation shows the credentials to this login.
    /// - [`ErrorClass::Unsure`]: the key may have been created.
    pub(crate) async fn bind(&self, request: &KeyRequest) -> Result<Bound, BackendError> {
        let target = ResourceSelector::from_instance(&request.instance)?;
        let instance = self.instances.resolve(self.api(), &target).await?;
        let role = self.roles.role_of_key(self.api(), &request.role, &instance).await?;
        let found = self.find(request).await?;
        let adopted = if found.is_empty() { self.adopt(request, &instance).await } else { Ok(None) };
        let bound = match adopted {
            Ok(None) if !found.is_empty() => self.bind_to_existing(request, found).await,
            Ok(None) if self.attempts.may_appear_later(request.identity) => {
                Err(self.attempts.not_shown_yet("bind", request))
            }
            Ok(None) => self.create(request, &instance, role.as_deref()).await,
            Ok(Some(adopted)) => Ok(adopted),
            Err(error) => Err(error),
        };
        let with_role = |issued: IssuedKey| {
            // An adopted key need not have the requested role.
            let asked_for = role.filter(|role| role != NO_ROLE && issued.facts.adopted.is_none());
            let facts = KeyFacts { role: issued.facts.role.or(asked_for), ..issued.facts };
            Bound::Issued(IssuedKey { facts, ..issued })
        };
        bound.map(with_role).inspect_err(|error| {
            if error.class == ErrorClass::Gone {
                self.instances.forget(&target);
            }
        })
    }

    async fn create(
        &self,
        request: &KeyRequest,
        instance: &ResourceInstance,
        role: Option<&str>,
    ) -> Result<IssuedKey, BackendError> {
        let service_id =
            self.service_ids.service_id(self.api(), &self.roles, &self.attempts, request, instance).await?;
        let mut parameters = request.parameters.clone();
        parameters.extend(service_id.map(|crn| (SERVICE_ID.to_owned(), crn.into())));
        let mut exchange = self.api().for_key(IbmCloudCall::Create, request);
        let body = CreateResourceKey {
            name: &request.name,
            source: &instance.crn,
            role,
            parameters: parameters.expose(),
        };
        let attempt = async {
            let response = exchange.send_json(Method::POST, KEYS, &body).await?;
            match response.status {
                StatusCode::CREATED | StatusCode::OK => self.created(request, &exchange, &response),
                _ => Err(exchange.refused(&response).await),
            }
        };
        match self.attempts.make(request, attempt).await {
            Err(error) if error.class == ErrorClass::Rejected => {
                Err(self.roles.refusal_of_role(self.api(), &request.role, instance).await.unwrap_or(error))
            }
            outcome => outcome,
        }
    }

    /// Reads the answer to a creation. The credentials in it may never be shown again.
    fn created(
        &self,
        request: &KeyRequest,
        exchange: &Exchange<'_, IbmCloudSession>,
        response: &Response,
    ) -> Result<IssuedKey, BackendError> {
        let key: ResourceKey = exchange.read(response, wire::read)?;
        if key.name != request.name {
            // The key is not the requested one. The message does not contain its name, which could reveal another
            // namespace.
            let what = "bind failed: the Resource Controller returned a key with another name";
            return Err(BackendError::new(ErrorClass::Unsure, what));
        }
        self.confirmed.insert(request, &key.guid);
        match shown(response, key) {
            KeyLookup::Shown(issued) => Ok(*issued),
            KeyLookup::HiddenReason(unseen) => {
                self.attempts.redacted(request);
                Err(redacted("bind", &request.name, unseen))
            }
            KeyLookup::Removed | KeyLookup::Absent => {
                let what = format!(
                    "bind failed: the key `{}` was created, but no longer exists; retrying",
                    request.name
                );
                Err(BackendError::new(ErrorClass::Transient, what))
            }
        }
    }

    /// An earlier attempt created the key, but no answer arrived or the credentials were not stored. If there are
    /// several such keys, the operator has the credentials of none, so it keeps one.
    async fn bind_to_existing(
        &self,
        request: &KeyRequest,
        mut found: Vec<ResourceKey>,
    ) -> Result<IssuedKey, BackendError> {
        found.sort_by(|one, other| (one.created_at, &one.guid).cmp(&(other.created_at, &other.guid)));
        let twins = found.split_off(1);
        for twin in &twins {
            self.delete_of(request, &twin.guid).await?;
        }
        let name = &request.name;
        let failed = |class, what: &str| {
            Err(BackendError::new(class, format!("bind failed: the key `{name}` exists, and {what}")))
        };
        if self.attempts.was_made_from_others(request) {
            return failed(ErrorClass::Conflict, "was created from other fields");
        }
        let Some(key) = found.pop() else { return Err(self.attempts.not_shown_yet("bind", request)) };
        match self.look(request, &key.guid).await?.sight {
            KeyLookup::Shown(issued) => {
                self.attempts.end(request.identity);
                Ok(*issued)
            }
            // Another key would not show it either.
            KeyLookup::HiddenReason(unseen @ Unseen::WithoutServiceKey) => {
                Err(redacted("bind", name, unseen))
            }
            KeyLookup::HiddenReason(unseen) if self.attempts.was_redacted(request.identity) => {
                Err(redacted("bind", name, unseen))
            }
            KeyLookup::HiddenReason(_) => {
                failed(ErrorClass::Withheld, "its credentials were shown only at its creation")
            }
            KeyLookup::Removed => {
                let message = format!("bind failed: the key `{name}` was deleted meanwhile; retrying");
                Err(BackendError::new(ErrorClass::Transient, message))
            }
            KeyLookup::Absent => Err(self.attempts.not_shown_yet("bind", request)),
        }
    }

    /// Reads the credentials of a key that bears the operator's mark. The operator uses the GUID if it is known,
    /// otherwise the name.
    ///
    /// # Errors
    /// Failures of the call, and [`ErrorClass::Redacted`] if another key would not show this login more. A key whose
    /// credentials were shown only at its creation is [`Fetched::NotRetrievable`]: a new key shows its own.
    pub(crate) async fn fetch(&self, request: &KeyRequest) -> Result<Fetched, BackendError> {
        match self.look_by_mark(request).await? {
            KeyLookup::Shown(issued) => Ok(Fetched::Found(*issued)),
            KeyLookup::HiddenReason(unseen @ Unseen::WithoutServiceKey) => {
                Err(redacted("fetch", &request.name, unseen))
            }
            KeyLookup::HiddenReason(Unseen::Redacted(_) | Unseen::ShownOnce) => Ok(Fetched::NotRetrievable),
            KeyLookup::Removed => Ok(Fetched::Absent),
            KeyLookup::Absent if self.attempts.may_key_still_show(request) => {
                Err(self.attempts.not_shown_yet("fetch", request))
            }
            KeyLookup::Absent => {
                self.instances.is_in_sight(self.api(), request).await.map(|()| Fetched::Absent)
            }
        }
    }

    /// Finds the key by its mark. A new key may not be visible yet: it counts as existing if IBM Cloud has shown it
    /// before.
    ///
    /// # Errors
    /// - [`ErrorClass::Transient`]: the key may not be visible yet.
    /// - [`ErrorClass::Gone`]: the login does not see the instance either, so that the absence of the key proves
    ///   nothing.
    /// - Failures of the calls.
    pub(crate) async fn exists(&self, request: &KeyRequest) -> Result<Option<KeyFacts>, BackendError> {
        let confirmed = || {
            let id = self.confirmed.id(request, request.recorded_id.as_deref());
            let id = id.ok_or_else(|| self.attempts.not_shown_yet("lookup", request))?;
            Ok(Some(KeyFacts { id, name: Some(request.name.clone()), ..KeyFacts::default() }))
        };
        match self.look_by_mark(request).await? {
            KeyLookup::Shown(issued) => Ok(Some(issued.facts)),
            KeyLookup::HiddenReason(_) => confirmed(),
            KeyLookup::Removed => Ok(None),
            KeyLookup::Absent if self.attempts.may_key_still_show(request) => confirmed(),
            KeyLookup::Absent => self.instances.is_in_sight(self.api(), request).await.map(|()| None),
        }
    }

    /// Looks up the key with the GUID of the hint. If that is another key, it looks up the key with the requested name.
    async fn look_by_mark(&self, request: &KeyRequest) -> Result<KeyLookup, BackendError> {
        let hinted = match &request.recorded_id {
            Some(guid) => self.look(request, guid).await?,
            None => KeyView::nothing(KeyLookup::Absent),
        };
        let is_known = request.recorded_id.is_some() && hinted.is_ours;
        // A key that is deleted or not visible has no name here.
        if is_known || request.recorded_id.is_some() && hinted.name.is_none() {
            return Ok(hinted.sight);
        }
        match self.find(request).await?.into_iter().next() {
            Some(key) => {
                let found = self.look(request, &key.guid).await?;
                Ok(if found.name.is_none() || found.is_ours { found.sight } else { KeyLookup::Absent })
            }
            None => Ok(KeyLookup::Absent),
        }
    }

    /// All keys with the mark of this operator and cluster that the login sees. One request lists a hundred keys of the
    /// account.
    ///
    /// # Errors
    /// Failures to read the list.
    pub(crate) async fn marked_keys(
        &self,
        cluster_id: Option<&str>,
    ) -> Result<CompleteList<MarkedKey>, BackendError> {
        let marked = |key: ResourceKey| {
            let mark = Mark::read(&key.name).filter(|mark| !key.is_removed() && mark.is_of(cluster_id))?;
            Some(mark.key(key.guid, key.name.clone()))
        };
        self.api().for_no_key(IbmCloudCall::Keys).list(KEYS, &[], marked).await
    }

    /// Looks a key up by its GUID. The caller must check its name before it uses the result.
    pub(super) async fn look(&self, request: &KeyRequest, guid: &str) -> Result<KeyView, BackendError> {
        let mut exchange = self.api().for_key(IbmCloudCall::Key, request);
        let response = exchange.ask(Method::GET, &path(guid), &[]).await?;
        match response.status {
            StatusCode::OK => {
                let key: ResourceKey = exchange.read(&response, wire::read)?;
                let name = Some(key.name.clone()).filter(|_| !key.is_removed());
                let is_ours = name.as_deref().is_some_and(|name| self.is_ours(name, request));
                let looked = KeyView { sight: shown(&response, key), name, is_ours };
                if is_ours {
                    self.confirmed.insert(request, guid);
                }
                Ok(looked)
            }
            StatusCode::GONE => Ok(KeyView::nothing(KeyLookup::Removed)),
            StatusCode::NOT_FOUND => Ok(KeyView::nothing(KeyLookup::Absent)),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Whether a key with this name is the requested one. The UID of a former ServiceKey alone proves nothing.
    fn is_ours(&self, name: &str, request: &KeyRequest) -> bool {
        let cluster_id = request.owner.cluster_id.as_deref();
        Mark::read(name).is_some_and(|mark| {
            mark.is_of_identity(request.identity)
                && (request.restored.is_none() || mark.may_be_adopted_in(cluster_id, &self.lost_clusters))
        })
    }

    /// Finds the keys of this identity by their names.
    ///
    /// # Errors
    /// Failures to read the list, and more keys than one identity can have.
    pub(super) async fn find(&self, request: &KeyRequest) -> Result<Vec<ResourceKey>, BackendError> {
        let mut found = Vec::new();
        for name in possible_names(request, &self.lost_clusters) {
            let mut exchange = self.api().for_key(IbmCloudCall::Keys, request);
            let is_meant = |key: &ResourceKey| key.name == name && !key.is_removed();
            let keep = |key| Some(key).filter(is_meant);
            found.extend(exchange.first(MOST_OF_ONE + 1, KEYS, &[("name", &name)], keep).await?);
            if found.len() > MOST_OF_ONE {
                return Err(exchange.unexpected(&too_many(&name)));
            }
        }
        for key in &found {
            self.confirmed.insert(request, &key.guid);
        }
        Ok(found)
    }
}

impl fmt::Debug for IbmCloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IbmCloud")
            .field("session", &self.session)
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

pub(super) fn path(guid: &str) -> String {
    format!("{KEYS}/{}", segment(guid))
}

/// Whether the key belongs to an auditing instance.
pub(super) fn is_auditing(key: &ResourceKey) -> bool {
    wire::service(&key.crn) == AUDITING
}

/// Interprets an answer about a key.
fn shown(response: &Response, key: ResourceKey) -> KeyLookup {
    if key.is_removed() {
        return KeyLookup::Removed;
    }
    match wire::shown(response.body().unwrap_or_default()) {
        ShownCredentials::Credentials(credentials) => {
            if is_auditing(&key) && !credentials.contains_key(SERVICE_KEY) {
                return KeyLookup::HiddenReason(Unseen::WithoutServiceKey);
            }
            let is_auditing = is_auditing(&key);
            let ResourceKey { guid, name, created_at, created_by, role, .. } = key;
            let facts = KeyFacts {
                id: guid,
                name: Some(name),
                role: wire::role(&credentials, role),
                created_at,
                created_by: created_by.filter(|creator| !creator.is_empty()),
                ..KeyFacts::default()
            };
            let credentials = if is_auditing {
                // The other entries come from IAM, and differ from key to key.
                Credentials::decided_by(SERVICE_KEY, credentials)
            } else {
                Credentials::new(credentials)
            };
            KeyLookup::Shown(Box::new(IssuedKey { facts, credentials }))
        }
        ShownCredentials::Redacted(_) if key.onetime_credentials == Some(true) => {
            KeyLookup::HiddenReason(Unseen::ShownOnce)
        }
        ShownCredentials::Redacted(redaction) => KeyLookup::HiddenReason(Unseen::Redacted(redaction)),
        ShownCredentials::Nothing => KeyLookup::HiddenReason(Unseen::ShownOnce),
    }
}

fn too_many(name: &str) -> String {
    format!("the account has more than {MOST_OF_ONE} keys `{name}`; delete all but one of them there")
}

/// The error for a key without visible credentials. The operator keeps the key, because another one would not help.
fn redacted(call: &str, name: &str, unseen: Unseen) -> BackendError {
    let message = format!("{call} failed: the key `{name}` exists, but {}", unseen.advice());
    BackendError::new(ErrorClass::Redacted, message)
}
