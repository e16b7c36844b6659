//! The roles that a service has, by their names, asked for once for all keys.

use std::time::Duration;

use reqwest::{Method, StatusCode};

use super::{
    call::Exchange,
    classify::Call,
    cloud::IbmCloud,
    wire::{self, Instance, Role},
};
use crate::backend::{
    BackendError, ErrorClass,
    bounded::{shown_name, shown_names},
    memory::Weight,
    shared_answer::{Known, SharedAnswers},
};

/// How long the roles of a service are believed in.
const BOUNDED_AGE: Duration = Duration::from_secs(3600);
/// How long it is believed that a service does not have a role.
const AGE_OF_DOUBT: Duration = Duration::from_secs(5);

const ROLES: &str = "/v2/roles";

/// The most bytes of the roles of one service. Services have some 30 roles, which take 4 KiB.
const LARGEST: usize = 64 << 10;
/// The roles of each service, by its name.
pub(super) type RolesOfServices = SharedAnswers<String, Vec<Role>>;

impl Weight for Vec<Role> {
    fn weight(&self) -> usize {
        let words = |Role { display_name, crn }: &Role| display_name.capacity() + crn.capacity();
        self.capacity() * size_of::<Role>() + self.iter().map(words).sum::<usize>()
    }
}

impl IbmCloud {
    /// The CRN of a role, which the user wrote into this field by name or CRN.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] where the service has no such role, with those that it has.
    pub(super) async fn role(
        &self,
        wanted: &str,
        field: &str,
        instance: &Instance,
    ) -> Result<String, BackendError> {
        if wanted.starts_with("crn:") {
            return Ok(wanted.to_owned());
        }
        let service = wire::service(&instance.crn);
        let crn =
            |roles: &[Role]| roles.iter().find(|role| role.is_called(wanted)).map(|role| role.crn.clone());
        let believed = |known: &Known<Vec<Role>>| {
            let found = crn(&known.value).is_some();
            known.since.elapsed() < if found { BOUNDED_AGE } else { AGE_OF_DOUBT }
        };
        let ask = || self.ask_for_roles(service, instance);
        let known = self.roles.get(&service.to_owned(), believed, ask).await?;
        crn(&known.value).ok_or_else(|| {
            let names = shown_names(known.value.iter().map(|role| shown_name(&role.display_name)));
            let message = format!(
                "the service `{service}` has no role `{wanted}`; create the ServiceKey again with one of these as \
                 `{field}`: {}",
                names.join(", ")
            );
            BackendError::new(ErrorClass::Rejected, message)
        })
    }

    /// The service's own roles come first: others may have the same name.
    async fn ask_for_roles(&self, service: &str, instance: &Instance) -> Result<Vec<Role>, BackendError> {
        let query = [("account_id", instance.account_id.as_str()), ("service_name", service)];
        let mut exchange = Exchange::anonymous(self, Call::Roles);
        let response = exchange.ask(Method::GET, ROLES, &query).await?;
        if response.status != StatusCode::OK {
            return Err(exchange.refused(&response).await);
        }
        let wire::Roles { service_roles, custom_roles, system_roles } = exchange.read(&response)?;
        let mut roles: Vec<_> =
            [service_roles, custom_roles, system_roles].into_iter().flat_map(|roles| roles.0).collect();
        roles.shrink_to_fit();
        if roles.weight() > LARGEST {
            let what = format!("the roles of the service `{service}` take more than {} KiB", LARGEST >> 10);
            return Err(exchange.unexpected(&what));
        }
        Ok(roles)
    }
}
