//! The calls that a key needs: check, bind, fetch.

use std::{fmt, iter};

use reqwest::{Method, StatusCode};

use super::{
    IbmCloudConfig,
    access::SERVICE_ID,
    attempts::{Attempts, SETTLING},
    call::Exchange,
    classify::Call,
    instances::{INSTANCES, Instances, Target},
    name::Mark,
    roles::RolesOfServices,
    session::Session,
    wire::{self, CreateKey, Instance, Key, Shown},
};
use crate::backend::{
    BackendError, Bound, Credentials, ErrorClass, Fetched, InstanceRef, IssuedKey, KeyFacts, KeyRequest,
    Listed, LostClusters,
    confirmed::ConfirmedKeys,
    http::{HttpClient, Response, segment},
    pages::{Lists, MOST_OF_ONE},
};
use crate::fair::FairSemaphore;
use crate::lifecycle::MarkedKey;

const KEYS: &str = "/v2/resource_keys";

/// The service whose instances audit an account, and have one key each for who asks by the API.
const AUDITING: &str = "logdnaat";
/// What a key of such an instance is about.
pub(super) const SERVICE_KEY: &str = "service_key";

/// One account of IBM Cloud, logged in.
pub struct IbmCloud {
    pub(in crate::backend) http: HttpClient,
    pub(super) session: Session,
    pub(super) instances: Instances,
    pub(super) roles: RolesOfServices,
    pub(super) attempts: Attempts,
    /// Those at service IDs for keys.
    pub(super) service_ids: Attempts,
    pub(in crate::backend) confirmed: ConfirmedKeys,
    pub(super) lost_clusters: LostClusters,
    /// Keys are taken over one after the other.
    pub(super) adopting: FairSemaphore,
}

/// What a look-up of a single key shows.
pub(super) enum Sight {
    Shown(Box<IssuedKey>),
    /// It is there, without what keys of its service are about.
    Incomplete,
    /// It is there, and the login may not see its credentials.
    Redacted,
    /// It is there, and its credentials are not shown again.
    Hidden,
    /// It was deleted.
    Removed,
    /// There is no such key, or it does not show yet.
    Absent,
}

/// What a look-up of a single key shows, and the name by which it tells whose it is.
pub(super) struct Looked {
    pub(super) sight: Sight,
    /// Of one that is there.
    pub(super) name: Option<String>,
    /// Whether it bears the mark of the key that is asked for.
    pub(super) is_ours: bool,
}

impl Looked {
    /// Of a key that is not there.
    const fn nothing(sight: Sight) -> Self {
        Self { sight, name: None, is_ours: false }
    }

    /// Whether the key is there, and its name is not one that an operator gave it.
    pub(super) fn bears_no_mark(&self) -> bool {
        self.name.as_deref().is_some_and(|name| Mark::read(name).is_none())
    }
}

impl IbmCloud {
    /// Prepares the way to IBM Cloud, and asks it nothing yet.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`], where addresses, login or certificates can't be used.
    pub fn new(config: &IbmCloudConfig) -> Result<Self, BackendError> {
        let IbmCloudConfig { iam_url, resource_controller_url, auth, lost_clusters, http } = config;
        let policy = &http.addresses;
        let http = HttpClient::new(http)?;
        Ok(Self {
            session: Session::new(iam_url, resource_controller_url, auth, &http, policy)?,
            http,
            instances: Instances::in_bytes(config.http.cached),
            roles: RolesOfServices::in_bytes(config.http.cached),
            attempts: Attempts::default(),
            service_ids: Attempts::default(),
            confirmed: ConfirmedKeys::default(),
            lost_clusters: lost_clusters.clone(),
            adopting: FairSemaphore::new(1),
        })
    }

    /// Asks whether IAM knows this login, and whether the Resource Controller lets it in.
    ///
    /// # Errors
    /// Whatever keeps a key from being made here.
    pub async fn check(&self) -> Result<(), BackendError> {
        let mut exchange = Exchange::anonymous(self, Call::Instances);
        let response = exchange.ask(Method::GET, INSTANCES, &[("limit", "1")]).await?;
        if response.status == StatusCode::OK { Ok(()) } else { Err(exchange.refused(&response).await) }
    }

    /// Whether keys can be made for this instance, as far as it tells.
    ///
    /// # Errors
    /// What is wrong with it, or what keeps that from being known.
    pub async fn check_instance(&self, instance: &InstanceRef) -> Result<(), BackendError> {
        self.instance(&Target::of(instance)?).await.map(drop)
    }

    /// Whether the instance is known, and has keys.
    pub fn knows_instance(&self, instance: &InstanceRef) -> bool {
        Target::of(instance).is_ok_and(|target| self.is_known_usable(&target))
    }

    /// Makes the key, unless one of its name is there already, which is ours by the mark in it, or one that is to be
    /// taken over.
    ///
    /// # Errors
    /// [`ErrorClass::Taken`] where the instance has a key and allows no other, [`ErrorClass::Conflict`] where ours was
    /// made from other fields, [`ErrorClass::Withheld`] where nobody shows its credentials again,
    /// [`ErrorClass::Unsure`] where it may or may not have been made.
    pub async fn bind(&self, request: &KeyRequest) -> Result<Bound, BackendError> {
        let target = Target::of(&request.instance)?;
        let instance = self.instance(&target).await?;
        let role = match &request.role {
            Some(role) => Some(self.role(role, "ibmCloud.role", &instance).await?),
            None => None,
        };
        let found = self.find(request).await?;
        let adopted = if found.is_empty() { self.adopt(request, &instance).await } else { Ok(None) };
        let bound = match adopted {
            Ok(None) if !found.is_empty() => self.bind_to_existing(request, found).await,
            Ok(None) if self.attempts.may_still_show(request.identity) => {
                Err(not_shown_yet("bind", &request.name))
            }
            Ok(None) => self.create(request, &instance, role.as_deref()).await,
            Ok(Some(adopted)) => Ok(adopted),
            Err(error) => Err(error),
        };
        let with_role = |issued: IssuedKey| {
            // What was made for others need not have the role that is asked for here.
            let asked_for = role.filter(|_| issued.facts.adopted.is_none());
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
        instance: &Instance,
        role: Option<&str>,
    ) -> Result<IssuedKey, BackendError> {
        let service_id = self.service_id(request, instance).await?;
        let mut parameters = request.parameters.clone();
        parameters.extend(service_id.map(|crn| (SERVICE_ID.to_owned(), crn.into())));
        let mut exchange = Exchange::of(self, Call::Create, request);
        let body =
            CreateKey { name: &request.name, source: &instance.crn, role, parameters: parameters.expose() };
        let attempt = async {
            let response = exchange.send_json(Method::POST, KEYS, &body).await?;
            match response.status {
                StatusCode::CREATED | StatusCode::OK => self.created(request, &exchange, &response),
                _ => Err(exchange.refused(&response).await),
            }
        };
        self.attempts.make(request, attempt).await
    }

    /// What the answer to a creation shows, which no other may show again.
    fn created(
        &self,
        request: &KeyRequest,
        exchange: &Exchange<'_>,
        response: &Response,
    ) -> Result<IssuedKey, BackendError> {
        let key: Key = exchange.read(response)?;
        if key.name != request.name {
            return Err(only_key(&key.name, request));
        }
        self.confirmed.insert(request, &key.guid);
        match shown(response, key) {
            Sight::Shown(issued) => Ok(*issued),
            Sight::Incomplete => Err(incomplete("bind", &request.name)),
            Sight::Redacted | Sight::Hidden => {
                self.attempts.redacted(request);
                Err(redacted("bind", &request.name))
            }
            Sight::Removed | Sight::Absent => {
                let what = format!("bind failed: the key `{}` was made and is gone", request.name);
                Err(BackendError::new(ErrorClass::Transient, what))
            }
        }
    }

    /// The key was made by an attempt whose answer was lost, or never stored. Of several nobody has the credentials: one
    /// is kept.
    async fn bind_to_existing(
        &self,
        request: &KeyRequest,
        mut found: Vec<Key>,
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
            return failed(ErrorClass::Conflict, "was made from other fields");
        }
        let Some(key) = found.pop() else { return Err(not_shown_yet("bind", name)) };
        match self.look(request, &key.guid).await?.sight {
            Sight::Shown(issued) => {
                self.attempts.end(request.identity);
                Ok(*issued)
            }
            Sight::Incomplete => Err(incomplete("bind", name)),
            // Another one would not show them either.
            Sight::Redacted if self.attempts.was_redacted(request.identity) => Err(redacted("bind", name)),
            Sight::Redacted | Sight::Hidden => {
                failed(ErrorClass::Withheld, "its credentials were shown only to who made it")
            }
            Sight::Removed => failed(ErrorClass::Transient, "was just going away"),
            Sight::Absent => Err(not_shown_yet("bind", name)),
        }
    }

    /// Reads the credentials of a key that bears our mark: by its GUID where that is known, else by its name.
    ///
    /// # Errors
    /// Failures of the call itself, and [`ErrorClass::Redacted`] where the key is there and its credentials are not
    /// shown to this login.
    pub async fn fetch(&self, request: &KeyRequest) -> Result<Fetched, BackendError> {
        match self.look_by_mark(request).await? {
            Sight::Shown(issued) => Ok(Fetched::Found(*issued)),
            Sight::Incomplete => Err(incomplete("fetch", &request.name)),
            Sight::Redacted => Err(redacted("fetch", &request.name)),
            Sight::Hidden => Ok(Fetched::NotRetrievable),
            Sight::Removed => Ok(Fetched::Absent),
            Sight::Absent if self.may_still_show(request) => Err(not_shown_yet("fetch", &request.name)),
            Sight::Absent => self.is_in_sight(request).await.map(|()| Fetched::Absent),
        }
    }

    /// The key, if it is still there with our mark. One that was just made may not show yet, and is taken to be there if
    /// IBM Cloud has shown it before.
    ///
    /// # Errors
    /// [`ErrorClass::Transient`] where it may not show yet, and [`ErrorClass::Gone`] where its instance is out of sight as well, so that nothing can be told; and failures of
    /// the calls themselves.
    pub async fn exists(&self, request: &KeyRequest) -> Result<Option<KeyFacts>, BackendError> {
        let confirmed = || {
            let id = self.confirmed.id(request, request.hint.as_deref());
            let id = id.ok_or_else(|| not_shown_yet("look-up", &request.name))?;
            Ok(Some(KeyFacts { id, name: Some(request.name.clone()), ..KeyFacts::default() }))
        };
        match self.look_by_mark(request).await? {
            Sight::Shown(issued) => Ok(Some(issued.facts)),
            Sight::Incomplete | Sight::Redacted | Sight::Hidden => confirmed(),
            Sight::Removed => Ok(None),
            Sight::Absent if self.may_still_show(request) => confirmed(),
            Sight::Absent => self.is_in_sight(request).await.map(|()| None),
        }
    }

    /// Looks up the key with the GUID of the hint, and where that is not ours, the one that has our name.
    async fn look_by_mark(&self, request: &KeyRequest) -> Result<Sight, BackendError> {
        let hinted = match &request.hint {
            Some(guid) => self.look(request, guid).await?,
            None => Looked::nothing(Sight::Absent),
        };
        let is_known = request.hint.is_some() && hinted.is_ours;
        // What was deleted, or does not show, tells no name.
        if is_known || request.hint.is_some() && hinted.name.is_none() {
            return Ok(hinted.sight);
        }
        match self.find(request).await?.into_iter().next() {
            Some(key) => {
                let found = self.look(request, &key.guid).await?;
                Ok(if found.name.is_none() || found.is_ours { found.sight } else { Sight::Absent })
            }
            None => Ok(Sight::Absent),
        }
    }

    /// All keys that bear the mark of this operator and cluster, wherever the login sees them: one request for a hundred
    /// keys of the account.
    ///
    /// # Errors
    /// Those of the list.
    pub async fn marked_keys(&self, cluster_id: Option<&str>) -> Result<Listed<MarkedKey>, BackendError> {
        let marked = |key: Key| {
            let mark = Mark::read(&key.name).filter(|mark| !key.is_removed() && mark.is_of(cluster_id))?;
            Some(mark.key(key.guid, key.name.clone()))
        };
        Exchange::anonymous(self, Call::Keys).list(KEYS, &[], marked).await
    }

    /// Looks a key up by its GUID. Nothing of it may be used before its name is found to be ours, or the one that it was
    /// known by.
    pub(super) async fn look(&self, request: &KeyRequest, guid: &str) -> Result<Looked, BackendError> {
        let mut exchange = Exchange::of(self, Call::Key, request);
        let response = exchange.ask(Method::GET, &path(guid), &[]).await?;
        match response.status {
            StatusCode::OK => {
                let key: Key = exchange.read(&response)?;
                let name = Some(key.name.clone()).filter(|_| !key.is_removed());
                let is_ours = name.as_deref().is_some_and(|name| self.is_ours(name, request));
                let looked = Looked { sight: shown(&response, key), name, is_ours };
                if is_ours {
                    self.confirmed.insert(request, guid);
                }
                Ok(looked)
            }
            StatusCode::GONE => Ok(Looked::nothing(Sight::Removed)),
            StatusCode::NOT_FOUND => Ok(Looked::nothing(Sight::Absent)),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Whether a key of this name is the one that is asked for. The UID of a former ServiceKey alone proves nothing.
    fn is_ours(&self, name: &str, request: &KeyRequest) -> bool {
        let cluster_id = request.owner.cluster_id.as_deref();
        Mark::read(name).is_some_and(|mark| {
            mark.is_of_identity(request.identity)
                && (request.restored.is_none() || mark.may_be_adopted_in(cluster_id, &self.lost_clusters))
        })
    }

    /// The names that the key may have. That of a restored ServiceKey may be from a cluster that is lost.
    pub(super) fn names(&self, request: &KeyRequest) -> Vec<String> {
        let mark = Mark::read(&request.name).filter(|_| request.restored.is_some());
        let lost =
            mark.iter().flat_map(|mark| self.lost_clusters.digits().map(|digits| mark.name_in(&digits)));
        let lost = lost.filter(|name| *name != request.name);
        iter::once(request.name.clone()).chain(lost).collect()
    }

    /// The keys of this identity, by their name.
    ///
    /// # Errors
    /// Those of the list, also where there are more than any key has twins.
    pub(super) async fn find(&self, request: &KeyRequest) -> Result<Vec<Key>, BackendError> {
        let mut found = Vec::new();
        for name in self.names(request) {
            let mut exchange = Exchange::of(self, Call::Keys, request);
            let is_meant = |key: &Key| key.name == name && !key.is_removed();
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

    /// Whether the key may have been made so shortly before that it does not show yet.
    pub(super) fn may_still_show(&self, request: &KeyRequest) -> bool {
        let is_young = request.hint.is_some() && request.age.is_some_and(|age| age < SETTLING);
        is_young || self.attempts.may_still_show(request.identity)
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

/// What an answer about a key shows.
fn shown(response: &Response, key: Key) -> Sight {
    if key.is_removed() {
        return Sight::Removed;
    }
    match wire::shown(response.body().unwrap_or_default()) {
        Shown::Credentials(credentials) => {
            if wire::service(&key.crn) == AUDITING && !credentials.contains_key(SERVICE_KEY) {
                return Sight::Incomplete;
            }
            let Key { guid, name, created_at, created_by, .. } = key;
            let facts = KeyFacts {
                id: guid,
                name: Some(name),
                role: wire::role(&credentials),
                created_at,
                created_by: created_by.filter(|creator| !creator.is_empty()),
                ..KeyFacts::default()
            };
            Sight::Shown(Box::new(IssuedKey { facts, credentials: Credentials::new(credentials) }))
        }
        Shown::Redacted => Sight::Redacted,
        Shown::Nothing => Sight::Hidden,
    }
}

fn too_many(name: &str) -> String {
    format!("the account has more than {MOST_OF_ONE} keys `{name}`; delete all but one of them there")
}

pub(super) fn not_shown_yet(call: &str, name: &str) -> BackendError {
    let message = format!(
        "{call} failed: the key `{name}` may have been made and not show yet; it is looked for again before anything else \
         is done"
    );
    BackendError::new(ErrorClass::Transient, message)
}

/// The key stays: another one would be no better, and it is found again.
fn redacted(call: &str, name: &str) -> BackendError {
    let message = format!(
        "{call} failed: the key `{name}` is there, but its credentials are not shown to this login; it needs a role on \
         the instance, or on the key's service ID, that is at least the key's own"
    );
    BackendError::new(ErrorClass::Redacted, message)
}

fn incomplete(call: &str, name: &str) -> BackendError {
    let message = format!(
        "{call} failed: the key `{name}` is there, but holds no `{SERVICE_KEY}`, which only keys of the role Manager \
         have; create the ServiceKey again with `ibmCloud.role: Manager`"
    );
    BackendError::new(ErrorClass::Rejected, message)
}

/// An instance that can have one key only answers with that one.
fn only_key(existing: &str, request: &KeyRequest) -> BackendError {
    let has = match Mark::read(existing) {
        Some(mark) if mark.owner == request.identity.owner => format!(
            "`{existing}` already, which is this ServiceKey's own: write `rotation.strategy: Replace`, which revokes it \
             before the next one is made"
        ),
        // Its name would tell of another namespace.
        Some(_) => "one of another ServiceKey already, which is left alone: delete it there, or name another instance"
            .to_owned(),
        None => format!(
            "`{existing}` already, which is somebody else's and is left alone: delete it there, name another instance, \
             or create the ServiceKey again with `keyName: {existing}` and `adoption: IfExists`, which takes it over"
        ),
    };
    let message = format!("bind failed: the instance allows one key, and has {has}");
    BackendError::new(ErrorClass::Taken, message)
}
