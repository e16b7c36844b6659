//! What keys are made for: an instance by its name, GUID or CRN, looked up once for all keys.

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

/// How long a look-up of an instance is cached.
const POSITIVE_TTL: Duration = Duration::from_secs(300);
/// How long a failed look-up of an instance is cached.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);

/// The states of an instance that was deleted, which lists show only to who asks for them.
const DELETED: [&str; 2] = ["removed", "pending_reclamation"];

/// How an instance is named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ResourceSelector {
    /// By its GUID or CRN, which paths take alike.
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
    /// [`ErrorClass::Rejected`], with what the user has to take away or to add.
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
            // Dotted segments are dropped by whoever normalizes the path, encoded or not.
            (Some(id), ..) if matches!(id.as_str(), "." | "..") => {
                Err(rejected(format!("`{id}` can't be the GUID of an instance; correct `instance.id`")))
            }
            (Some(id), ..) => Ok(Self::Id { field: "instance.id", id }),
            (None, Some(id), _) => Ok(Self::Id { field: "instance.crn", id }),
            (None, None, Some(name)) => Ok(Self::Name(name)),
            (None, None, None) => Err(rejected(
                "IBM Cloud needs `instance.name`, `instance.id` or `instance.crn`; create the ServiceKey again with one \
                 of them",
            )),
        }
    }
}

/// What is known of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ResourceLookup {
    Usable(ResourceInstance),
    /// It is in a state in which it can have no keys.
    Unusable(ResourceInstance),
    /// There are several of that name, of which this is one.
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

    /// The account that it belongs to.
    pub(super) fn account(&self) -> Option<&str> {
        self.instance().map(|instance| instance.account_id.as_str()).filter(|account| !account.is_empty())
    }

    /// What is known of it, where it is there.
    pub(super) const fn instance(&self) -> Option<&ResourceInstance> {
        match self {
            Self::Usable(instance) | Self::Unusable(instance) | Self::Several(instance) => Some(instance),
            Self::Absent => None,
        }
    }
}

/// The instances of an account. One caller looks an instance up for all that need it.
pub(super) struct ResourceInstances(SingleFlightMap<ResourceSelector, ResourceLookup>);

fn is_believed(known: &CachedAnswer<ResourceLookup>) -> bool {
    let certain = matches!(*known.value, ResourceLookup::Usable(_));
    known.since.elapsed() < if certain { POSITIVE_TTL } else { NEGATIVE_TTL }
}

impl ResourceInstances {
    /// Keeps look-ups that take so many bytes.
    pub(super) fn in_bytes(largest: usize) -> Self {
        Self(SingleFlightMap::in_bytes(largest))
    }

    /// A look-up of this instance is out of date.
    pub(super) fn forget(&self, target: &ResourceSelector) {
        self.0.forget(target);
    }

    /// The last look-up of an instance, however old.
    pub(super) fn latest(&self, target: &ResourceSelector) -> Option<CachedAnswer<ResourceLookup>> {
        self.0.latest(target)
    }

    /// An instance that keys can be made for.
    ///
    /// # Errors
    /// Why none can be made, or what keeps that from being known.
    pub(super) async fn resolve(
        &self,
        api: IbmCloudApi<'_>,
        target: &ResourceSelector,
    ) -> Result<ResourceInstance, BackendError> {
        let seen = self.0.get(target, is_believed, || sight(api, target)).await?;
        usable(target, &seen.value)
    }

    /// Whether the instance is known to be usable, without a request.
    pub(super) fn is_known_usable(&self, target: &ResourceSelector) -> bool {
        let seen = self.0.latest(target).filter(is_believed);
        seen.is_some_and(|seen| matches!(*seen.value, ResourceLookup::Usable(_)))
    }

    /// Whether the login would see the key if it was there. Who may not see an instance sees no keys of it, and that
    /// says nothing of them.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`] where that can't be told: an instance that is out of sight may be gone, with its keys, or
    /// the login may have lost its role. One that was deleted stays in sight for a while. One that is named by its id, and
    /// was in an account of which the login sees other instances, is gone: a login without a role gets a 403.
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

    /// The account of an instance, whatever became of the instance.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`] where the login does not see it.
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
/// [`ErrorClass::Gone`] where that can't be told.
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

/// Whether the login sees any instance of this account, deleted ones included.
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

/// An instance that was deleted and stays in sight for a while.
///
/// # Errors
/// [`ErrorClass::Gone`] where there is none.
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

/// The first instances of a name, up to so many: those in this state, or those that were not deleted.
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

/// The instance, where keys can be created for it.
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
            "provisioning" => (
                ErrorClass::Transient,
                format!("{what} is still being created; retrying when that operation has ended"),
            ),
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
