//! Resolves the names of organization, space and instance, once for all keys.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::time::Instant;

use super::{
    classify::CloudFoundryCall,
    session::CloudFoundryApi,
    wire::{self, LastOperation, NamedResource, ServiceInstance, listed},
};
use crate::backend::{
    BackendError, ErrorClass, InstanceRef, KeyRequest, SpaceLimit,
    http::segment,
    memory::Weight,
    pages::Lists,
    single_flight::{CachedAnswer, SingleFlight, SingleFlightMap},
};

/// How long lookups of instances and spaces are cached.
const POSITIVE_TTL: Duration = Duration::from_secs(300);
/// How long a failed lookup of an instance is cached.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);

/// The space in which instances are looked up by name.
#[derive(Clone, Debug)]
pub(super) struct SpaceRef {
    pub(super) organization: String,
    pub(super) space: String,
}

/// The instance, as the ServiceKey names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum InstanceSelector {
    Guid(String),
    Name(String),
}

impl Weight for InstanceSelector {
    fn weight(&self) -> usize {
        let (Self::Guid(text) | Self::Name(text)) = self;
        text.capacity()
    }
}

impl InstanceSelector {
    /// # Errors
    /// [`ErrorClass::Rejected`] with the field that the user has to remove or add.
    pub(super) fn from_instance(instance: &InstanceRef) -> Result<Self, BackendError> {
        let InstanceRef { name, id, crn, offering, plan, annotations, space_limit: _ } = instance;
        let foreign = [
            ("crn", crn.is_some()),
            ("offering", offering.is_some()),
            ("plan", plan.is_some()),
            ("annotations", !annotations.is_empty()),
        ];
        if let Some((field, _)) = foreign.iter().find(|(_, given)| *given) {
            return Err(rejected(format!(
                "`instance.{field}` does not apply to a Cloud Foundry; leave it out"
            )));
        }
        let given = |field: &Option<String>| field.clone().filter(|value| !value.is_empty());
        match (given(id), given(name)) {
            // Proxies and servers that normalize paths drop dotted segments, encoded or not.
            (Some(id), _) if matches!(id.as_str(), "." | "..") => {
                Err(rejected(format!("`{id}` can't be the GUID of an instance; correct `instance.id`")))
            }
            (Some(id), _) => Ok(Self::Guid(id)),
            (None, Some(name)) => Ok(Self::Name(name)),
            (None, None) => Err(rejected(
                "a Cloud Foundry needs `instance.name` or `instance.id`; create the ServiceKey again with one of them",
            )),
        }
    }
}

/// The result of the lookup of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InstanceLookup {
    Usable { guid: String },
    Creating,
    CreateFailed,
    UserProvided,
    Several,
    Absent,
}

/// An instance and the space that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocatedInstance {
    sighting: InstanceLookup,
    space: Option<String>,
}

impl Weight for LocatedInstance {
    fn weight(&self) -> usize {
        let Self { sighting, space } = self;
        let guid = match sighting {
            InstanceLookup::Usable { guid } => guid.capacity(),
            InstanceLookup::Creating
            | InstanceLookup::CreateFailed
            | InstanceLookup::UserProvided
            | InstanceLookup::Several
            | InstanceLookup::Absent => 0,
        };
        guid + space.as_ref().map_or(0, String::capacity)
    }
}

/// The instances of a provider. Concurrent callers share one lookup of an instance.
pub(super) struct SpaceInstances {
    /// The space in which instances are looked up by name.
    pub(super) home: Option<SpaceRef>,
    /// Whether instances that are named by GUID must be in that space as well.
    confines_ids: bool,
    space: SingleFlight<String>,
    known: SingleFlightMap<InstanceSelector, LocatedInstance>,
}

/// The spaces in which the instances of a ServiceKey must be.
#[derive(Clone, Copy, Debug)]
enum SpaceBounds<'a> {
    Home(&'a SpaceRef),
    Limit(&'a SpaceLimit),
}

fn is_believed(known: &CachedAnswer<LocatedInstance>) -> bool {
    let certain =
        matches!(known.value.sighting, InstanceLookup::Usable { .. } | InstanceLookup::UserProvided);
    known.since.elapsed() < if certain { POSITIVE_TTL } else { NEGATIVE_TTL }
}

impl SpaceInstances {
    /// Creates a cache of at most this many bytes.
    pub(super) fn new(home: Option<SpaceRef>, confines_ids: bool, largest: usize) -> Self {
        Self {
            home,
            confines_ids,
            space: SingleFlight::kept(|_| Duration::ZERO),
            known: SingleFlightMap::in_bytes(largest),
        }
    }

    /// Discards an outdated lookup of this instance.
    pub(super) fn forget(&self, target: &InstanceSelector) {
        self.known.forget(target);
    }

    /// The GUID of an instance that can have keys, within the bounds that the provider sets.
    ///
    /// # Errors
    /// Why the instance can have no keys, or why that is unknown. An instance out of bounds looks like a missing one,
    /// so that a user can't find out which instances other spaces have.
    pub(super) async fn resolve(
        &self,
        api: CloudFoundryApi<'_>,
        target: &InstanceSelector,
        limit: Option<&SpaceLimit>,
    ) -> Result<String, BackendError> {
        let seen = self.known.get(target, is_believed, || self.look_up(api, target)).await?;
        let LocatedInstance { sighting, space } = &*seen.value;
        let bounds = self.bounds(target, limit);
        if !self.admits(api, bounds, space.as_deref()).await? {
            return Err(self.unusable(target, &InstanceLookup::Absent, bounds));
        }
        match sighting {
            InstanceLookup::Usable { guid } => Ok(guid.clone()),
            unusable => Err(self.unusable(target, unusable, bounds)),
        }
    }

    /// Whether the instance is cached as usable and is within the bounds.
    pub(super) fn is_known_usable(&self, target: &InstanceSelector, limit: Option<&SpaceLimit>) -> bool {
        let Some(seen) = self.known.latest(target).filter(is_believed) else { return false };
        let LocatedInstance { sighting, space } = &*seen.value;
        let is_within = match self.bounds(target, limit) {
            None => true,
            Some(SpaceBounds::Limit(limit)) => {
                space.as_ref().is_some_and(|space| limit.spaces.contains(space))
            }
            Some(SpaceBounds::Home(_)) => {
                let home = self.space.latest();
                home.is_some_and(|home| space.as_ref() == Some(&*home.value))
            }
        };
        is_within && matches!(sighting, InstanceLookup::Usable { .. })
    }

    /// Names are looked up in the provider's space only. GUIDs are looked up in all spaces that the login sees.
    fn bounds<'a>(
        &'a self,
        target: &InstanceSelector,
        limit: Option<&'a SpaceLimit>,
    ) -> Option<SpaceBounds<'a>> {
        match (limit, target) {
            (Some(limit), _) => Some(SpaceBounds::Limit(limit)),
            (None, InstanceSelector::Guid(_)) => {
                self.home.as_ref().filter(|_| self.confines_ids).map(SpaceBounds::Home)
            }
            (None, InstanceSelector::Name(_)) => None,
        }
    }

    async fn admits(
        &self,
        api: CloudFoundryApi<'_>,
        bounds: Option<SpaceBounds<'_>>,
        space: Option<&str>,
    ) -> Result<bool, BackendError> {
        Ok(match (bounds, space) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(SpaceBounds::Limit(limit)), Some(space)) => {
                limit.spaces.iter().any(|listed| listed == space)
            }
            // Each check of the provider looks the space up again, so a cached GUID is good enough, however old.
            (Some(SpaceBounds::Home(_)), Some(space)) => {
                let home = self.space.get(|_| true, || self.find_space(api)).await?;
                *home.value == space
            }
        })
    }

    /// Checks whether the login would see the key if it existed. A login that does not see an instance does not see its
    /// keys either, so their absence from a list proves nothing.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`] if that is unknown: an invisible instance may be gone, with its keys, or the login may have
    /// lost its role. If the only possible space of the instance is visible, the instance is gone.
    pub(super) async fn check_visible(
        &self,
        api: CloudFoundryApi<'_>,
        request: &KeyRequest,
    ) -> Result<(), BackendError> {
        let target = InstanceSelector::from_instance(&request.instance)?;
        let asked = Instant::now();
        if let InstanceSelector::Name(_) = target {
            let newer = |known: &CachedAnswer<String>| known.since >= asked;
            return self.space.get(newer, || self.find_space(api)).await.map(drop);
        }
        let newer = |known: &CachedAnswer<LocatedInstance>| known.since >= asked;
        let seen = self.known.get(&target, newer, || self.look_up(api, &target)).await?;
        let LocatedInstance { sighting: InstanceLookup::Absent, space } = &*seen.value else { return Ok(()) };
        match space.as_ref().or(request.place.as_ref()) {
            Some(space) if sees_space(api, space).await? => Ok(()),
            // The provider admits only instances of its own space, whether by name or by GUID.
            None if self.is_home(request) => {
                let newer = |known: &CachedAnswer<String>| known.since >= asked;
                self.space.get(newer, || self.find_space(api)).await.map(drop)
            }
            _ => Err(self.unusable(&target, &InstanceLookup::Absent, None)),
        }
    }

    /// The GUID of the space of an instance that is named by GUID, if the instance was looked up before.
    pub(super) fn space_of(&self, instance: &InstanceRef) -> Option<String> {
        let target = InstanceSelector::from_instance(instance)
            .ok()
            .filter(|target| matches!(target, InstanceSelector::Guid(_)))?;
        self.known.latest(&target)?.value.space.clone()
    }

    /// Whether the instance of this key can only be in the provider's space.
    const fn is_home(&self, request: &KeyRequest) -> bool {
        self.confines_ids && self.home.is_some() && request.instance.space_limit.is_none()
    }

    fn unusable(
        &self,
        target: &InstanceSelector,
        sighting: &InstanceLookup,
        bounds: Option<SpaceBounds<'_>>,
    ) -> BackendError {
        let (what, field) = match target {
            InstanceSelector::Guid(guid) => (format!("the instance `{guid}`"), "instance.id"),
            InstanceSelector::Name(name) => (format!("the instance `{name}`"), "instance.name"),
        };
        let in_space = |SpaceRef { organization, space }: &SpaceRef| {
            format!(" in the space `{space}` of the organization `{organization}`")
        };
        let place = match (target, bounds) {
            (_, Some(SpaceBounds::Home(home))) => in_space(home),
            (_, Some(SpaceBounds::Limit(limit))) => format!(" in any of the spaces in {}", limit.limit),
            (InstanceSelector::Name(_), None) => self.home.as_ref().map(in_space).unwrap_or_default(),
            (InstanceSelector::Guid(_), None) => String::new(),
        };
        let otherwise = match bounds {
            None => format!("create it, or check `{field}`"),
            Some(SpaceBounds::Home(_)) => format!(
                "create it, check `{field}`, or permit instances of other spaces by `cloudFoundry.instancesById: \
                 Anywhere` in the provider"
            ),
            Some(SpaceBounds::Limit(_)) => {
                format!("check `{field}`, or ask the provider's administrator to list its space")
            }
        };
        let (class, message) = match sighting {
            InstanceLookup::UserProvided => (
                ErrorClass::Rejected,
                format!("{what} is user-provided, and has no keys; use one that a service broker created"),
            ),
            InstanceLookup::Several => (
                ErrorClass::Rejected,
                format!("{what} exists more than once{place}; name it by `id` instead of by `name`"),
            ),
            InstanceLookup::Creating => {
                let message =
                    format!("{what} is still being created; the operator retries until it is ready");
                (ErrorClass::Transient, message)
            }
            InstanceLookup::CreateFailed => (
                ErrorClass::Rejected,
                format!("{what} could not be created, and has no keys; create it again"),
            ),
            InstanceLookup::Absent | InstanceLookup::Usable { .. } => (
                ErrorClass::Gone,
                format!("{what} does not exist{place}, or the login may not see it; {otherwise}"),
            ),
        };
        BackendError::new(class, message)
    }

    async fn look_up(
        &self,
        api: CloudFoundryApi<'_>,
        target: &InstanceSelector,
    ) -> Result<LocatedInstance, BackendError> {
        let mut exchange = api.for_no_key(CloudFoundryCall::Instance);
        match target {
            InstanceSelector::Guid(guid) => {
                let path = format!("/service_instances/{}", segment(guid));
                let response = exchange.ask(Method::GET, &path, &[]).await?;
                match response.status {
                    StatusCode::OK => {
                        Ok(LocatedInstance::from_service_instance(exchange.read(&response, wire::read)?))
                    }
                    // The instance was in this space as long as it existed.
                    StatusCode::NOT_FOUND => {
                        let last = self.known.latest(target);
                        let space = last.and_then(|last| last.value.space.clone());
                        Ok(LocatedInstance { sighting: InstanceLookup::Absent, space })
                    }
                    _ => Err(exchange.refused(&response).await),
                }
            }
            InstanceSelector::Name(name) => {
                let space = self.space(api).await?;
                let query = [("names", listed(name)), ("space_guids", listed(&space))];
                let query = query.each_ref().map(|(name, value)| (*name, value.as_str()));
                let mut found: Vec<ServiceInstance> =
                    exchange.first(2, "/service_instances", &query, Some).await?;
                let seen = |sighting| LocatedInstance { sighting, space: Some(space) };
                Ok(match (found.pop(), found.is_empty()) {
                    (None, _) => seen(InstanceLookup::Absent),
                    (Some(only), true) => LocatedInstance::from_service_instance(only),
                    (Some(_), false) => seen(InstanceLookup::Several),
                })
            }
        }
    }

    /// The GUID of the space that the provider names.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the provider names no space, or if the login does not see it.
    async fn space(&self, api: CloudFoundryApi<'_>) -> Result<String, BackendError> {
        let recent = |known: &CachedAnswer<String>| known.since.elapsed() < POSITIVE_TTL;
        Ok(self.space.get(recent, || self.find_space(api)).await?.value.as_ref().clone())
    }

    /// Looks up organization and space again, if the provider names them.
    ///
    /// # Errors
    /// As for [`SpaceInstances::space`].
    pub(super) async fn check_space(&self, api: CloudFoundryApi<'_>) -> Result<(), BackendError> {
        if self.home.is_some() {
            return self.space.get(|_| false, || self.find_space(api)).await.map(drop);
        }
        // Any call shows whether the API accepts the login.
        let mut exchange = api.for_no_key(CloudFoundryCall::Organization);
        let response = exchange.ask(Method::GET, "/organizations", &[("per_page", "1")]).await?;
        if response.status == StatusCode::OK { Ok(()) } else { Err(exchange.refused(&response).await) }
    }

    async fn find_space(&self, api: CloudFoundryApi<'_>) -> Result<String, BackendError> {
        let Some(SpaceRef { organization, space }) = &self.home else {
            return Err(rejected(
                "instances can be named by `name` only if the provider names `organization` and `space`; name it \
                 by `id`",
            ));
        };
        let unknown = |what: &str, name: &str| {
            rejected(format!(
                "there is no {what} `{name}` that the login may see; check `{what}`, and the login's roles there"
            ))
        };
        let mut exchange = api.for_no_key(CloudFoundryCall::Organization);
        let query = [("names", &*listed(organization))];
        let found: Vec<NamedResource> = exchange.first(1, "/organizations", &query, Some).await?;
        let parent = found.first().ok_or_else(|| unknown("organization", organization))?;
        let mut exchange = api.for_no_key(CloudFoundryCall::Space);
        let query = [("names", listed(space)), ("organization_guids", listed(&parent.guid))];
        let query = query.each_ref().map(|(name, value)| (*name, value.as_str()));
        let found: Vec<NamedResource> = exchange.first(1, "/spaces", &query, Some).await?;
        found.into_iter().next().map(|space| space.guid).ok_or_else(|| unknown("space", space))
    }
}

impl LocatedInstance {
    fn from_service_instance(instance: ServiceInstance) -> Self {
        let space = instance.space().map(str::to_owned);
        let ServiceInstance { guid, kind, last_operation, .. } = instance;
        let LastOperation { kind: operation, state, .. } = last_operation.unwrap_or_default();
        let sighting = match (kind.as_str(), operation.as_str(), state.as_str()) {
            ("user-provided", ..) => InstanceLookup::UserProvided,
            (_, "create", "initial" | "in progress") => InstanceLookup::Creating,
            (_, "create", "failed") => InstanceLookup::CreateFailed,
            _ => InstanceLookup::Usable { guid },
        };
        Self { sighting, space }
    }
}

/// Whether the login sees the space of this GUID.
async fn sees_space(api: CloudFoundryApi<'_>, guid: &str) -> Result<bool, BackendError> {
    let query = [("guids", &*listed(guid))];
    let mut exchange = api.for_no_key(CloudFoundryCall::Space);
    let found: Vec<NamedResource> = exchange.first(1, "/spaces", &query, Some).await?;
    Ok(found.iter().any(|space| space.guid == guid))
}

fn rejected(message: impl Into<String>) -> BackendError {
    BackendError::new(ErrorClass::Rejected, message)
}
