//! Looks instances up by name, GUID or CRN, once for all keys.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::time::Instant;

use super::{
    classify::IbmCloudCall,
    session::IbmCloudApi,
    wire::{self, INSTANCES, ResourceInstance},
};
use crate::backend::{
    BackendError, ErrorClass, InstanceRef, KeyRequest,
    http::segment,
    memory::Weight,
    pages::Lists,
    single_flight::{CachedAnswer, SingleFlightMap},
};

/// How long a lookup of an instance is cached.
const POSITIVE_TTL: Duration = Duration::from_secs(300);
/// How long a failed lookup of an instance is cached.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);

/// The states of a deleted instance. Lists contain such an instance only if the request names its state.
const DELETED: [&str; 2] = ["removed", "pending_reclamation"];

/// The instance, as the ServiceKey names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ResourceSelector {
    /// The GUID or the CRN. Paths accept both.
    Id {
        field: &'static str,
        id: String,
    },
    Name(String),
}

impl Weight for ResourceSelector {
    fn weight(&self) -> usize {
        match self {
            Self::Id { field: _, id } => id.capacity(),
            Self::Name(name) => name.capacity(),
        }
    }
}

impl ResourceSelector {
    /// # Errors
    /// [`ErrorClass::Rejected`] with the field that the user has to remove or add.
    pub(super) fn from_instance(instance: &InstanceRef) -> Result<Self, BackendError> {
        let InstanceRef { name, id, crn, offering, plan, annotations, space_limit: _ } = instance;
        let foreign = [
            ("offering", offering.is_some()),
            ("plan", plan.is_some()),
            ("annotations", !annotations.is_empty()),
        ];
        if let Some((field, _)) = foreign.iter().find(|(_, given)| *given) {
            return Err(rejected(format!("`instance.{field}` does not apply to IBM Cloud; leave it out")));
        }
        let given = |field: &Option<String>| field.clone().filter(|value| !value.is_empty());
        match (given(id), given(crn), given(name)) {
            // Proxies and servers that normalize paths drop dotted segments, encoded or not.
            (Some(id), ..) if matches!(id.as_str(), "." | "..") => {
                Err(rejected(format!("`{id}` can't be the GUID of an instance; correct `instance.id`")))
            }
            (Some(id), ..) => Ok(Self::Id { field: "instance.id", id }),
            (None, Some(id), _) => Ok(Self::Id { field: "instance.crn", id }),
            (None, None, Some(name)) => Ok(Self::Name(name)),
            (None, None, None) => Err(rejected(
                "IBM Cloud needs `instance.name`, `instance.id` or `instance.crn`; create the ServiceKey again with \
                 one of them",
            )),
        }
    }
}

/// The result of the lookup of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ResourceLookup {
    Usable(ResourceInstance),
    /// The instance is in a state in which it can have no keys.
    Unusable(ResourceInstance),
    /// Several instances have the name. This is one of them.
    Several(ResourceInstance),
    Absent,
}

impl Weight for ResourceLookup {
    fn weight(&self) -> usize {
        self.instance().map_or(0, ResourceInstance::weight)
    }
}

impl ResourceLookup {
    fn from_resource(instance: ResourceInstance) -> Self {
        match instance.state.as_str() {
            "" | "active" => Self::Usable(instance),
            _ => Self::Unusable(instance),
        }
    }

    /// The account that owns the instance.
    pub(super) fn account(&self) -> Option<&str> {
        self.instance().map(|instance| instance.account_id.as_str()).filter(|account| !account.is_empty())
    }

    /// The instance, if it exists.
    pub(super) const fn instance(&self) -> Option<&ResourceInstance> {
        match self {
            Self::Usable(instance) | Self::Unusable(instance) | Self::Several(instance) => Some(instance),
            Self::Absent => None,
        }
    }
}

/// The instances of an account. Concurrent callers share one lookup of an instance.
pub(super) struct ResourceInstances(SingleFlightMap<ResourceSelector, ResourceLookup>);

fn is_believed(known: &CachedAnswer<ResourceLookup>) -> bool {
    let certain = matches!(*known.value, ResourceLookup::Usable(_));
    known.since.elapsed() < if certain { POSITIVE_TTL } else { NEGATIVE_TTL }
}

impl ResourceInstances {
    /// Creates a cache of at most this many bytes.
    pub(super) fn in_bytes(largest: usize) -> Self {
        Self(SingleFlightMap::in_bytes(largest))
    }

    /// Discards an outdated lookup of this instance.
    pub(super) fn forget(&self, target: &ResourceSelector) {
        self.0.forget(target);
    }

    /// The last lookup of an instance, however old.
    pub(super) fn latest(&self, target: &ResourceSelector) -> Option<CachedAnswer<ResourceLookup>> {
        self.0.latest(target)
    }

    /// Returns an instance that can have keys.
    ///
    /// # Errors
    /// Why the instance can have no keys, or why that is unknown.
    pub(super) async fn resolve(
        &self,
        api: IbmCloudApi<'_>,
        target: &ResourceSelector,
    ) -> Result<ResourceInstance, BackendError> {
        let seen = self.0.get(target, is_believed, || sight(api, target)).await?;
        usable(target, &seen.value)
    }

    /// Whether the instance is cached as usable.
    pub(super) fn is_known_usable(&self, target: &ResourceSelector) -> bool {
        let seen = self.0.latest(target).filter(is_believed);
        seen.is_some_and(|seen| matches!(*seen.value, ResourceLookup::Usable(_)))
    }

    /// Checks whether the login would see the key if it existed. A login that does not see an instance does not see its
    /// keys either, so their absence from a list proves nothing.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`] if that is unknown: an invisible instance may be gone, with its keys, or the login may have
    /// lost its role. There are two exceptions. A deleted instance stays visible for a while. An instance that is named
    /// by its id is gone if the login still sees other instances of its account, because a login without a role gets a
    /// 403.
    pub(super) async fn is_in_sight(
        &self,
        api: IbmCloudApi<'_>,
        request: &KeyRequest,
    ) -> Result<(), BackendError> {
        let target = ResourceSelector::from_instance(&request.instance)?;
        let asked = Instant::now();
        let newer = |known: &CachedAnswer<ResourceLookup>| known.since >= asked;
        let seen = self.0.get(&target, newer, || sight(api, &target)).await?;
        if *seen.value != ResourceLookup::Absent {
            return Ok(());
        }
        absent_from(api, &target, request).await.map(drop)
    }

    /// The account of an instance, even if the instance is deleted.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`] if the login does not see the instance.
    pub(super) async fn account(
        &self,
        api: IbmCloudApi<'_>,
        request: &KeyRequest,
    ) -> Result<String, BackendError> {
        let target = ResourceSelector::from_instance(&request.instance)?;
        let believed = |known: &CachedAnswer<ResourceLookup>| {
            known.value.instance().is_some() || known.since.elapsed() < NEGATIVE_TTL
        };
        let seen = self.0.get(&target, believed, || sight(api, &target)).await?;
        match seen.value.instance() {
            Some(instance) => Ok(instance.account_id.clone()),
            None => absent_from(api, &target, request).await,
        }
    }
}

/// The account of an instance that the login does not see because the instance is gone.
///
/// # Errors
/// [`ErrorClass::Gone`] if the login may not see it for another reason.
async fn absent_from(
    api: IbmCloudApi<'_>,
    target: &ResourceSelector,
    request: &KeyRequest,
) -> Result<String, BackendError> {
    let unknown = match deleted(api, target).await {
        Ok(instance) => return Ok(instance.account_id),
        Err(error) => error,
    };
    match (target, &request.place) {
        (ResourceSelector::Id { .. }, Some(account)) if sees_account(api, account, request).await? => {
            Ok(account.clone())
        }
        _ => Err(unknown),
    }
}

/// Whether the login sees any instance of this account, including deleted ones.
async fn sees_account(
    api: IbmCloudApi<'_>,
    account: &str,
    request: &KeyRequest,
) -> Result<bool, BackendError> {
    for state in [None, Some(DELETED[0]), Some(DELETED[1])] {
        let filters: Vec<_> = state.map(|state| ("state", state)).into_iter().collect();
        let keep =
            |instance: ResourceInstance| Some(instance).filter(|instance| instance.account_id == account);
        let mut exchange = api.for_key(IbmCloudCall::Instances, request);
        if !exchange.first(1, INSTANCES, &filters, keep).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A deleted instance that is still visible.
///
/// # Errors
/// [`ErrorClass::Gone`] if there is none.
async fn deleted(api: IbmCloudApi<'_>, target: &ResourceSelector) -> Result<ResourceInstance, BackendError> {
    if let ResourceSelector::Name(name) = target {
        for state in DELETED {
            if let Some(found) = named(api, name, Some(state), 1).await?.pop() {
                return Ok(found);
            }
        }
    }
    Err(unusable_words(target, &ResourceLookup::Absent))
}

async fn sight(api: IbmCloudApi<'_>, target: &ResourceSelector) -> Result<ResourceLookup, BackendError> {
    match target {
        ResourceSelector::Id { id, .. } => {
            let mut exchange = api.for_no_key(IbmCloudCall::Instance);
            let path = format!("{INSTANCES}/{}", segment(id));
            let response = exchange.ask(Method::GET, &path, &[]).await?;
            match response.status {
                StatusCode::OK => Ok(ResourceLookup::from_resource(exchange.read(&response, wire::read)?)),
                StatusCode::NOT_FOUND | StatusCode::GONE => Ok(ResourceLookup::Absent),
                _ => Err(exchange.refused(&response).await),
            }
        }
        ResourceSelector::Name(name) => {
            let mut found = named(api, name, None, 2).await?;
            Ok(match (found.pop(), found.is_empty()) {
                (None, _) => ResourceLookup::Absent,
                (Some(only), true) => ResourceLookup::from_resource(only),
                (Some(one), false) => ResourceLookup::Several(one),
            })
        }
    }
}

/// At most `most` instances with this name: those in this state, or without a state, those that are not deleted.
async fn named(
    api: IbmCloudApi<'_>,
    name: &str,
    state: Option<&str>,
    most: usize,
) -> Result<Vec<ResourceInstance>, BackendError> {
    let mut filters = vec![("name", name)];
    filters.extend(state.map(|state| ("state", state)));
    let is_meant = |instance: &ResourceInstance| {
        instance.name == name && (state.is_some() || !DELETED.contains(&instance.state.as_str()))
    };
    let keep = |instance| Some(instance).filter(is_meant);
    api.for_no_key(IbmCloudCall::Instances).first(most, INSTANCES, &filters, keep).await
}

/// Returns the instance if it can have keys.
fn usable(target: &ResourceSelector, found: &ResourceLookup) -> Result<ResourceInstance, BackendError> {
    match found {
        ResourceLookup::Usable(instance) => Ok(instance.clone()),
        ResourceLookup::Unusable(_) | ResourceLookup::Several(_) | ResourceLookup::Absent => {
            Err(unusable_words(target, found))
        }
    }
}

fn unusable_words(target: &ResourceSelector, sighting: &ResourceLookup) -> BackendError {
    let (what, field) = match target {
        ResourceSelector::Id { field, id } => (format!("the instance `{id}`"), *field),
        ResourceSelector::Name(name) => (format!("the instance `{name}`"), "instance.name"),
    };
    let (class, message) = match sighting {
        ResourceLookup::Several(_) => (
            ErrorClass::Rejected,
            format!("{what} exists more than once; name it by `crn` or `id` instead of by `name`"),
        ),
        ResourceLookup::Unusable(ResourceInstance { state, .. }) => match state.as_str() {
            "provisioning" => {
                let message =
                    format!("{what} is still being created; the operator retries until it is ready");
                (ErrorClass::Transient, message)
            }
            "pending_reclamation" => (
                ErrorClass::Gone,
                format!(
                    "{what} was deleted, and can be restored for some days; restore it, or check `{field}`"
                ),
            ),
            "removed" => (ErrorClass::Gone, format!("{what} was deleted; create it, or check `{field}`")),
            _ => (
                ErrorClass::Rejected,
                format!("{what} is in the state `{state}`, and can have keys only in the state `active`"),
            ),
        },
        ResourceLookup::Absent | ResourceLookup::Usable(_) => (
            ErrorClass::Gone,
            format!("{what} does not exist, or the login may not see it; create it, or check `{field}`"),
        ),
    };
    BackendError::new(class, message)
}

fn rejected(message: impl Into<String>) -> BackendError {
    BackendError::new(ErrorClass::Rejected, message)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use ErrorClass::{Gone, Rejected, Transient};

    #[rstest]
    #[case("", None)]
    #[case("active", None)]
    #[case("provisioning", Some((Transient, "still being created")))]
    #[case("pending_reclamation", Some((Gone, "restore it, or check `instance.name`")))]
    #[case("removed", Some((Gone, "was deleted; create it, or check `instance.name`")))]
    #[case("failed", Some((Rejected, "in the state `failed`")))]
    fn keys_are_created_for_active_instances(
        #[case] state: &str,
        #[case] expected: Option<(ErrorClass, &str)>,
    ) {
        let instance = ResourceInstance {
            guid: "i-1".to_owned(),
            crn: "crn:v1:i-1".to_owned(),
            name: "logs".to_owned(),
            account_id: "a-1".to_owned(),
            state: state.to_owned(),
        };
        let found = ResourceLookup::from_resource(instance.clone());
        match (usable(&ResourceSelector::Name("logs".to_owned()), &found), expected) {
            (Ok(found), None) => assert_eq!(found, instance),
            (Err(error), Some((class, words))) => {
                assert_eq!(error.class, class);
                assert!(error.message.contains(words), "{error}");
            }
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn an_instance_that_is_absent_is_gone() {
        let target = ResourceSelector::Id { field: "instance.id", id: "i-1".to_owned() };
        let error = usable(&target, &ResourceLookup::Absent).unwrap_err();
        assert_eq!(error.class, Gone);
        assert!(error.message.ends_with("create it, or check `instance.id`"), "{error}");
    }
}
