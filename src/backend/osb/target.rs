//! What a call is about: an instance, and the plan that it is of.

use std::time::Duration;

use reqwest::{Method, StatusCode};

use super::{
    Broker,
    call::Exchange,
    catalog::{CatalogPlan, Unknown},
    classify::BrokerCall,
    instances::{PlanRef, is_believed},
    paths, wire,
};
use crate::backend::{
    BackendError, ErrorClass, InstanceRef, PlanIds, http::Request, single_flight::CachedAnswer,
};

/// The fields of the instance that this API needs.
pub(super) struct BrokerTarget<'a> {
    pub(super) instance_id: &'a str,
    /// What the user says that it is of; `None`: the broker is asked.
    named: Option<PlanRef>,
}

/// What has to be said of a key that may exist, and how long an operation on it may take.
pub(super) struct Existing {
    pub(super) place: PlanRef,
    pub(super) longest_operation: Option<Duration>,
}

impl<'a> BrokerTarget<'a> {
    /// # Errors
    /// [`ErrorClass::Rejected`], with what the user has to add.
    pub(super) fn from_instance(instance: &'a InstanceRef) -> Result<Self, BackendError> {
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
        let named = PlanRef { offering: offering.to_owned(), plan: plan.to_owned() };
        Ok(Self { instance_id, named: Some(named) })
    }
}

impl Broker {
    /// The plan that a key is made for.
    pub(super) async fn plan(&self, target: &BrokerTarget<'_>) -> Result<CatalogPlan, BackendError> {
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
    pub(super) fn known_plan(&self, target: &BrokerTarget<'_>) -> Option<CatalogPlan> {
        let place = self.instances.believed(target.instance_id).or_else(|| target.named.clone())?;
        self.catalog.believed()?.resolve(&place.offering, &place.plan).ok()
    }

    /// The plan, where keys can be made for it.
    pub(super) async fn plan_of_keys(&self, target: &BrokerTarget<'_>) -> Result<CatalogPlan, BackendError> {
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
    /// Ids that were noted when the key was created need no catalog.
    pub(super) async fn existing(
        &self,
        target: &BrokerTarget<'_>,
        noted: Option<&PlanIds>,
    ) -> Result<Option<Existing>, BackendError> {
        let Some(PlanIds { service_id, plan_id }) = noted else { return self.existing_now(target).await };
        if target.named.is_none() && matches!(self.place(target).await, Ok(None)) {
            return Ok(None);
        }
        let plan = self.catalog.latest().and_then(|catalog| catalog.resolve(service_id, plan_id).ok());
        Ok(Some(Existing {
            place: PlanRef { offering: service_id.clone(), plan: plan_id.clone() },
            longest_operation: plan.and_then(|plan| plan.longest_operation),
        }))
    }

    /// What else a key may be known by whose revocation was refused: the present plan of its instance, where the broker
    /// tells it, which is certain, and what the user says.
    pub(super) async fn other_places(
        &self,
        target: &BrokerTarget<'_>,
        refused: &PlanRef,
    ) -> Vec<(PlanRef, bool)> {
        // Asked anew: what is known of it was refused.
        let present = self.present_place(target, |_| false).await;
        let said = self.existing_now(target).await.ok().flatten().map(|existing| existing.place);
        let said = said.filter(|said| present.as_ref() != Some(said)).map(|said| (said, false));
        let places = present.map(|present| (present, true)).into_iter().chain(said);
        places.filter(|(place, _)| place != refused).collect()
    }

    /// Whether the broker says that the instance is of another plan than this one. That is kept for the next attempt.
    pub(super) async fn has_moved(&self, target: &BrokerTarget<'_>, sent: &PlanIds) -> bool {
        let Some(place) = self.present_place(target, is_believed).await else { return false };
        let catalog = self.catalog.latest();
        let plan = catalog.and_then(|catalog| catalog.resolve(&place.offering, &place.plan).ok());
        plan.is_some_and(|plan| plan.ids() != *sent)
    }

    /// What the instance is of by the broker's own word, where it gives that.
    async fn present_place(
        &self,
        target: &BrokerTarget<'_>,
        good_enough: fn(&CachedAnswer<Option<PlanRef>>) -> bool,
    ) -> Option<PlanRef> {
        if !self.catalog.latest()?.tells_of_instances() {
            return None;
        }
        let ask = || self.request_instance(target);
        self.instances.present(target.instance_id, good_enough, ask).await.ok()?
    }

    /// The ids of a key whose credentials are to be read, and whether the broker shows them.
    pub(super) async fn readable(
        &self,
        target: &BrokerTarget<'_>,
        noted: Option<&PlanIds>,
    ) -> Result<(PlanIds, bool), BackendError> {
        let Some(ids) = noted else {
            let plan = self.plan(target).await?;
            return Ok((plan.ids(), plan.retrievable));
        };
        let catalog = self.catalog.current(|| self.request_catalog()).await?;
        let retrievable = match catalog.shows_keys_of(&ids.service_id) {
            Some(retrievable) => retrievable,
            None => self.plan(target).await?.retrievable,
        };
        Ok((ids.clone(), retrievable))
    }

    async fn existing_now(&self, target: &BrokerTarget<'_>) -> Result<Option<Existing>, BackendError> {
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
            Ok(CatalogPlan { service_id, plan_id, longest_operation, .. }) => {
                Existing { place: PlanRef { offering: service_id, plan: plan_id }, longest_operation }
            }
            Err(Unknown { service_id, .. }) => Existing {
                place: PlanRef { offering: service_id.unwrap_or(place.offering), plan: place.plan },
                longest_operation: None,
            },
        }))
    }

    async fn resolve(&self, place: &PlanRef) -> Result<Result<CatalogPlan, Unknown>, BackendError> {
        self.catalog.resolve(&place.offering, &place.plan, || self.request_catalog()).await
    }

    /// What the instance is of; `None`: there is no such instance.
    async fn place(&self, target: &BrokerTarget<'_>) -> Result<Option<PlanRef>, BackendError> {
        // What the broker said of an instance counts more than what the user did: it may have been moved since.
        if let Some(named) = &target.named {
            return Ok(self.instances.believed(target.instance_id).or_else(|| Some(named.clone())));
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

    async fn request_instance(&self, target: &BrokerTarget<'_>) -> Result<Option<PlanRef>, BackendError> {
        let mut exchange = Exchange::anonymous(self, BrokerCall::Instance);
        let url = paths::instance(&self.base, target.instance_id);
        let response = exchange.send(Request::new(Method::GET, BrokerCall::Instance.route(), url)).await?;
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
