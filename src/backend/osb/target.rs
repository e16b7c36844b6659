//! What a call is about: an instance, and the plan that it is of.

use std::time::Duration;

use reqwest::{Method, StatusCode};

use super::{
    Broker,
    call::Exchange,
    catalog::{Plan, Unknown},
    classify::Call,
    instances::Place,
    paths, wire,
};
use crate::backend::{BackendError, ErrorClass, InstanceRef, http::Request};

/// The fields of the instance that this API needs.
pub(super) struct Target<'a> {
    pub(super) instance_id: &'a str,
    /// What the user says that it is of; `None`: the broker is asked.
    named: Option<Place>,
}

/// What has to be said of a key that may exist, and how long an operation on it may take.
pub(super) struct Existing {
    pub(super) place: Place,
    pub(super) longest_operation: Option<Duration>,
}

impl<'a> Target<'a> {
    /// # Errors
    /// [`ErrorClass::Rejected`], with what the user has to add.
    pub(super) fn of(instance: &'a InstanceRef) -> Result<Self, BackendError> {
        let given = |field: &'a Option<String>| field.as_deref().filter(|value| !value.is_empty());
        let required = |field: &'a Option<String>, words: &str| {
            given(field).ok_or_else(|| {
                BackendError::new(ErrorClass::Rejected, format!("an Open Service Broker needs {words}"))
            })
        };
        let instance_id = required(
            &instance.id,
            "`instance.id`; create the ServiceKey again with the id of the service instance",
        )?;
        paths::check(instance_id)?;
        if given(&instance.offering).or(given(&instance.plan)).is_none() {
            return Ok(Self { instance_id, named: None });
        }
        let offering =
            required(&instance.offering, "`instance.offering`; set it to the name or id of the offering")?;
        let plan = required(&instance.plan, "`instance.plan`; set it to the name or id of the plan")?;
        let named = Place { offering: offering.to_owned(), plan: plan.to_owned() };
        Ok(Self { instance_id, named: Some(named) })
    }
}

impl Broker {
    /// The plan that a key is made for.
    pub(super) async fn plan(&self, target: &Target<'_>) -> Result<Plan, BackendError> {
        let Some(place) = self.place(target).await? else {
            let message = format!(
                "the broker has no instance `{}`, or is still making it; check `instance.id`",
                target.instance_id
            );
            return Err(BackendError::new(ErrorClass::Gone, message));
        };
        Ok(self.resolve(&place).await??)
    }

    /// The plan that a key is made for, where that is known without a request.
    pub(super) fn known_plan(&self, target: &Target<'_>) -> Option<Plan> {
        let place = target.named.clone().or_else(|| self.instances.believed(target.instance_id))?;
        self.catalog.believed()?.resolve(&place.offering, &place.plan).ok()
    }

    /// The plan, where keys can be made for it.
    pub(super) async fn plan_of_keys(&self, target: &Target<'_>) -> Result<Plan, BackendError> {
        let plan = self.plan(target).await?;
        if let Some(flaw) = plan.flaw {
            let message = format!(
                "the broker's catalog can't be used for plan `{}`, which {flaw}; ask the broker's operator to correct it",
                plan.name
            );
            return Err(BackendError::new(ErrorClass::Rejected, message));
        }
        if !plan.bindable {
            let message =
                format!("the broker makes no keys for plan `{}`; choose another `instance.plan`", plan.name);
            return Err(BackendError::new(ErrorClass::Rejected, message));
        }
        Ok(plan)
    }

    /// What has to be said of a key that may exist; `None`: there is no such instance, and so there are no keys of it.
    /// It must be possible to revoke a key when the broker has withdrawn the plan since (what is known is then taken
    /// for the ids) and while it shows no catalog (the last one must do, where there was one).
    pub(super) async fn existing(&self, target: &Target<'_>) -> Result<Option<Existing>, BackendError> {
        let place = match self.place(target).await {
            Ok(place) => place,
            Err(error) => Some(self.instances.latest(target.instance_id).ok_or(error)?),
        };
        let Some(place) = place else { return Ok(None) };
        let found = match self.resolve(&place).await {
            Ok(found) => found,
            Err(error) => match self.catalog.latest() {
                Some(catalog) => catalog.resolve(&place.offering, &place.plan),
                None => return Err(error),
            },
        };
        Ok(Some(match found {
            Ok(Plan { service_id, plan_id, longest_operation, .. }) => {
                Existing { place: Place { offering: service_id, plan: plan_id }, longest_operation }
            }
            Err(Unknown { service_id, .. }) => Existing {
                place: Place { offering: service_id.unwrap_or(place.offering), plan: place.plan },
                longest_operation: None,
            },
        }))
    }

    async fn resolve(&self, place: &Place) -> Result<Result<Plan, Unknown>, BackendError> {
        self.catalog.resolve(&place.offering, &place.plan, || self.request_catalog()).await
    }

    /// What the instance is of; `None`: there is no such instance.
    async fn place(&self, target: &Target<'_>) -> Result<Option<Place>, BackendError> {
        if let Some(named) = &target.named {
            return Ok(Some(named.clone()));
        }
        let ask = || async {
            if !self.catalog.current(|| self.request_catalog()).await?.tells_of_instances() {
                let message = "the broker does not tell what an instance is of; create the ServiceKey again with \
                               `instance.offering` and `instance.plan`";
                return Err(BackendError::new(ErrorClass::Rejected, message));
            }
            self.request_instance(target).await
        };
        self.instances.place(target.instance_id, ask).await
    }

    async fn request_instance(&self, target: &Target<'_>) -> Result<Option<Place>, BackendError> {
        let mut exchange = Exchange::anonymous(self, Call::Instance);
        let url = paths::instance(&self.base, target.instance_id);
        let response = exchange.send(Request::new(Method::GET, Call::Instance.route(), url)).await?;
        let body = || response.body().map_err(|failure| exchange.failed(failure));
        match response.status {
            StatusCode::OK => {
                wire::place(body()?).map(Some).map_err(|what| exchange.malformed(&response, what))
            }
            // Said by the broker, and not by whatever stands before it.
            StatusCode::NOT_FOUND | StatusCode::GONE if wire::is_object(body()?) => Ok(None),
            _ => Err(exchange.refused(&response).await),
        }
    }
}
