//! The roles of a service, by their names, requested once for all keys.
//!
//! The Resource Controller accepts the names of the base roles, and the CRNs of all other roles
//! (IBM/platform-services-go-sdk, `CreateResourceKeyOptions.Role`). It also accepts `NONE`, which
//! terraform-provider-ibm sends unchanged (`ibm/flex`, `FindRoleByName`). IBM does not document what happens if a
//! request names no role and the service has roles. So the operator omits the role only for services without roles.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, StatusCode};

use super::{
    classify::IbmCloudCall,
    session::IbmCloudApi,
    wire::{self, ResourceInstance, Role},
};
use crate::backend::{
    BackendError, ErrorClass, KeyRole,
    bounded::{shown_name, shown_names},
    memory::Weight,
    single_flight::{CachedAnswer, SingleFlightMap},
};

/// The roles that the Resource Controller accepts by name.
const BASE_ROLES: [&str; 3] = ["Reader", "Writer", "Manager"];
/// The role of a key if the user names none and the service has this role.
const DEFAULT_ROLE: &str = "Reader";
/// The value for a key without a role.
pub(super) const NO_ROLE: &str = "NONE";
/// The field in which a user names the role of a key.
const FIELD: &str = "ibmCloud.role";

/// How long the roles of a service are cached.
const POSITIVE_TTL: Duration = Duration::from_secs(3600);
/// How long the absence of a role is cached.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);

const ROLES: &str = "/v2/roles";

/// The most bytes of the roles of one service. Services have some 30 roles, which take 4 KiB.
const LARGEST: usize = 64 << 10;
/// The roles of each service, by its name.
pub(super) struct RolesOfServices(SingleFlightMap<String, Vec<Role>>);

impl Weight for Vec<Role> {
    fn weight(&self) -> usize {
        let words = |Role { display_name, crn }: &Role| display_name.capacity() + crn.capacity();
        self.capacity() * size_of::<Role>() + self.iter().map(words).sum::<usize>()
    }
}

impl RolesOfServices {
    /// Creates a cache of at most this many bytes.
    pub(super) fn in_bytes(largest: usize) -> Self {
        Self(SingleFlightMap::in_bytes(largest))
    }

    /// The role of a key in the request to the Resource Controller: a name, a CRN, or `None`.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the service has no such role. Also failures to read the roles.
    pub(super) async fn role_of_key(
        &self,
        api: IbmCloudApi<'_>,
        wanted: &KeyRole,
        instance: &ResourceInstance,
    ) -> Result<Option<String>, BackendError> {
        match wanted {
            KeyRole::None => Ok(Some(NO_ROLE.to_owned())),
            KeyRole::Named(role) if BASE_ROLES.contains(&role.as_str()) => Ok(Some(role.clone())),
            KeyRole::Named(role) => self.role(api, role, FIELD, instance).await.map(Some),
            KeyRole::Default { limit } => {
                // The absence of all roles is cached only for a moment.
                let known =
                    self.roles_of(api, instance, |roles| roles.iter().any(Role::is_of_a_service)).await?;
                match (known.iter().any(Role::is_of_a_service), limit) {
                    (true, _) => self.role(api, DEFAULT_ROLE, FIELD, instance).await.map(Some),
                    (false, None) => Ok(None),
                    (false, Some(limit)) => Err(no_role_denied(wire::service(&instance.crn), limit)),
                }
            }
        }
    }

    /// Explains why the Resource Controller refused a key with a role, if the service does not have that role.
    pub(super) async fn refusal_of_role(
        &self,
        api: IbmCloudApi<'_>,
        wanted: &KeyRole,
        instance: &ResourceInstance,
    ) -> Option<BackendError> {
        let KeyRole::Named(role) = wanted else { return None };
        let looked_up = self.role(api, role, FIELD, instance).await;
        looked_up.err().filter(|error| error.class == ErrorClass::Rejected)
    }

    /// The CRN of a role. The user named it in this field, by name or CRN.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the service has no such role. The message lists the roles that it has.
    pub(super) async fn role(
        &self,
        api: IbmCloudApi<'_>,
        wanted: &str,
        field: &str,
        instance: &ResourceInstance,
    ) -> Result<String, BackendError> {
        if wanted.starts_with("crn:") {
            return Ok(wanted.to_owned());
        }
        let service = wire::service(&instance.crn);
        let crn =
            |roles: &[Role]| roles.iter().find(|role| role.is_called(wanted)).map(|role| role.crn.clone());
        let known = self.roles_of(api, instance, |roles| crn(roles).is_some()).await?;
        crn(&known).ok_or_else(|| {
            let names = shown_names(known.iter().map(|role| shown_name(&role.display_name)));
            let none = if field == FIELD { format!("`{NO_ROLE}`, ") } else { String::new() };
            let message = format!(
                "the service `{service}` has no role `{wanted}`; create the ServiceKey again with one of these as \
                 `{field}`: {none}{}",
                names.join(", ")
            );
            BackendError::new(ErrorClass::Rejected, message)
        })
    }

    /// The roles of the instance's service. A list without the requested role is cached only for a moment.
    async fn roles_of(
        &self,
        api: IbmCloudApi<'_>,
        instance: &ResourceInstance,
        has_what_is_asked_for: impl Fn(&[Role]) -> bool,
    ) -> Result<Arc<Vec<Role>>, BackendError> {
        let service = wire::service(&instance.crn);
        let believed = |known: &CachedAnswer<Vec<Role>>| {
            let certain = has_what_is_asked_for(&known.value);
            known.since.elapsed() < if certain { POSITIVE_TTL } else { NEGATIVE_TTL }
        };
        let ask = || ask_for_roles(api, service, instance);
        self.0.get(&service.to_owned(), believed, ask).await.map(|known| known.value)
    }
}

/// Requests the roles. The service's own roles come first, because others may have the same names.
async fn ask_for_roles(
    api: IbmCloudApi<'_>,
    service: &str,
    instance: &ResourceInstance,
) -> Result<Vec<Role>, BackendError> {
    let query = [("account_id", instance.account_id.as_str()), ("service_name", service)];
    let mut exchange = api.for_no_key(IbmCloudCall::Roles);
    let response = exchange.ask(Method::GET, ROLES, &query).await?;
    if response.status != StatusCode::OK {
        return Err(exchange.refused(&response).await);
    }
    let wire::Roles { service_roles, custom_roles, system_roles } = exchange.read(&response, wire::read)?;
    let mut roles: Vec<_> =
        [service_roles, custom_roles, system_roles].into_iter().flat_map(|roles| roles.0).collect();
    roles.shrink_to_fit();
    if roles.weight() > LARGEST {
        let what = format!("the roles of the service `{service}` take more than {} KiB", LARGEST >> 10);
        return Err(exchange.unexpected(&what));
    }
    Ok(roles)
}

fn no_role_denied(service: &str, limit: &str) -> BackendError {
    let message = format!(
        "the service `{service}` has no roles, and {limit} does not list `{NO_ROLE}`, which stands for a key without a \
         role; ask the provider's administrator"
    );
    BackendError::new(ErrorClass::Rejected, message)
}
