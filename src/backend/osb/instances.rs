//! The plan of an instance, if the user names none. Brokers return it for offerings that are `instances_retrievable`
//! (spec: "Fetching a Service Instance").

use std::time::Duration;

use reqwest::{Method, StatusCode};

use super::{
    catalog::{CatalogPlan, Unknown},
    classify::BrokerCall,
    paths,
    session::{BrokerApi, request_catalog},
    target::{BrokerTarget, PlanRef},
    wire,
};
use crate::backend::{
    BackendError, ErrorClass, PlanIds,
    memory::Weight,
    single_flight::{CachedAnswer, SingleFlightMap},
};

/// How long the plan of an instance is cached. The instance may move to another plan.
const POSITIVE_TTL: Duration = Duration::from_secs(300);
/// How long the absence of an instance is cached.
const NEGATIVE_TTL: Duration = Duration::from_secs(10);

impl Weight for Option<PlanRef> {
    fn weight(&self) -> usize {
        self.as_ref().map_or(0, |PlanRef { offering, plan }| offering.capacity() + plan.capacity())
    }
}

fn is_believed(known: &CachedAnswer<Option<PlanRef>>) -> bool {
    known.since.elapsed() < if known.value.is_some() { POSITIVE_TTL } else { NEGATIVE_TTL }
}

/// The plan of a key that may exist, and how long an operation on the key may take.
pub(super) struct Existing {
    pub(super) place: PlanRef,
    pub(super) longest_operation: Option<Duration>,
}

/// The plan of each instance, by the instance's id. `None` means that the broker has no such instance.
pub(super) struct InstancePlans(SingleFlightMap<String, Option<PlanRef>>);

impl InstancePlans {
    /// Creates a cache of at most this many bytes.
    pub(super) fn in_bytes(largest: usize) -> Self {
        Self(SingleFlightMap::in_bytes(largest))
    }

    /// The cached plan of an instance, if it is fresh enough.
    fn believed(&self, id: &str) -> Option<PlanRef> {
        self.0.latest(&id.to_owned()).filter(is_believed)?.value.as_ref().clone()
    }

    /// The plan that the broker named last, however long ago.
    fn latest(&self, id: &str) -> Option<PlanRef> {
        self.0.latest(&id.to_owned())?.value.as_ref().clone()
    }

    /// The plan of a new key.
    pub(super) async fn plan(
        &self,
        api: BrokerApi<'_>,
        target: &BrokerTarget<'_>,
    ) -> Result<CatalogPlan, BackendError> {
        let Some(place) = self.place(api, target).await? else {
            let message = format!(
                "the broker has no instance `{}`, or is still creating it; check `instance.id`",
                target.instance_id
            );
            return Err(BackendError::new(ErrorClass::Gone, message));
        };
        Ok(resolve(api, &place).await??)
    }

    /// The plan of a new key, if it is cached.
    pub(super) fn known_plan(&self, api: BrokerApi<'_>, target: &BrokerTarget<'_>) -> Option<CatalogPlan> {
        let place = self.believed(target.instance_id).or_else(|| target.named.clone())?;
        api.session.catalog.believed()?.resolve(&place.offering, &place.plan).ok()
    }

    /// The plan of a new key, if the broker creates keys of this plan.
    pub(super) async fn plan_of_keys(
        &self,
        api: BrokerApi<'_>,
        target: &BrokerTarget<'_>,
    ) -> Result<CatalogPlan, BackendError> {
        let plan = self.plan(api, target).await?;
        if let Some(flaw) = plan.flaw {
            let message = format!(
                "the broker's catalog can't be used for plan `{}`, which {flaw}; ask the administrator of the \
                 broker to correct it",
                plan.name
            );
            return Err(BackendError::new(ErrorClass::Rejected, message));
        }
        if !plan.bindable {
            let message = format!(
                "the broker creates no keys for plan `{}`; create the ServiceKey again with another `instance.plan`",
                plan.name
            );
            return Err(BackendError::new(ErrorClass::Rejected, message));
        }
        Ok(plan)
    }

    /// The plan of a key that may exist. `None` means that the broker has no such instance, and so no key of it.
    ///
    /// The operator must be able to revoke a key whose plan the broker has withdrawn. It then sends the names as ids.
    /// It must also be able to revoke a key while the broker shows no catalog. It then uses the last one. Ids that were
    /// noted when the key was created need no catalog.
    pub(super) async fn existing(
        &self,
        api: BrokerApi<'_>,
        target: &BrokerTarget<'_>,
        noted: Option<&PlanIds>,
    ) -> Result<Option<Existing>, BackendError> {
        let Some(PlanIds { service_id, plan_id }) = noted else {
            return self.existing_now(api, target).await;
        };
        if target.named.is_none() && matches!(self.place(api, target).await, Ok(None)) {
            return Ok(None);
        }
        let plan = api.session.catalog.latest().and_then(|catalog| catalog.resolve(service_id, plan_id).ok());
        Ok(Some(Existing {
            place: PlanRef { offering: service_id.clone(), plan: plan_id.clone() },
            longest_operation: plan.and_then(|plan| plan.longest_operation),
        }))
    }

    /// Other plans of a key whose revocation was refused: the current plan of its instance, if the broker names it, and
    /// the plan that the user names. The flag is true for the plan that the broker names. The other one is a guess.
    pub(super) async fn other_plans(
        &self,
        api: BrokerApi<'_>,
        target: &BrokerTarget<'_>,
        refused: &PlanRef,
    ) -> Vec<(PlanRef, bool)> {
        // The broker refused the cached plan, so the cache can't answer this.
        let present = self.current_plan(api, target, |_| false).await;
        let said = self.existing_now(api, target).await.ok().flatten().map(|existing| existing.place);
        let said = said.filter(|said| present.as_ref() != Some(said)).map(|said| (said, false));
        let places = present.map(|present| (present, true)).into_iter().chain(said);
        places.filter(|(place, _)| place != refused).collect()
    }

    /// Whether the broker reports another plan for the instance than the one that was sent. The next attempt uses that
    /// plan.
    pub(super) async fn has_moved(
        &self,
        api: BrokerApi<'_>,
        target: &BrokerTarget<'_>,
        sent: &PlanIds,
    ) -> bool {
        let Some(place) = self.current_plan(api, target, is_believed).await else { return false };
        let catalog = api.session.catalog.latest();
        let plan = catalog.and_then(|catalog| catalog.resolve(&place.offering, &place.plan).ok());
        plan.is_some_and(|plan| plan.ids() != *sent)
    }

    /// The plan of the instance, if the broker itself names it.
    async fn current_plan(
        &self,
        api: BrokerApi<'_>,
        target: &BrokerTarget<'_>,
        good_enough: fn(&CachedAnswer<Option<PlanRef>>) -> bool,
    ) -> Option<PlanRef> {
        if !api.session.catalog.latest()?.shows_instances() {
            return None;
        }
        let ask = || request_instance(api, target);
        let known = self.0.get(&target.instance_id.to_owned(), good_enough, ask).await.ok()?;
        known.value.as_ref().clone()
    }

    /// The ids to read a key with, and whether the broker shows its credentials.
    pub(super) async fn readable(
        &self,
        api: BrokerApi<'_>,
        target: &BrokerTarget<'_>,
        noted: Option<&PlanIds>,
    ) -> Result<(PlanIds, bool), BackendError> {
        let Some(ids) = noted else {
            let plan = self.plan(api, target).await?;
            return Ok((plan.ids(), plan.retrievable));
        };
        let catalog = api.session.catalog.current(|| request_catalog(api)).await?;
        let retrievable = match catalog.shows_keys_of(&ids.service_id) {
            Some(retrievable) => retrievable,
            None => self.plan(api, target).await?.retrievable,
        };
        Ok((ids.clone(), retrievable))
    }

    async fn existing_now(
        &self,
        api: BrokerApi<'_>,
        target: &BrokerTarget<'_>,
    ) -> Result<Option<Existing>, BackendError> {
        let place = match self.place(api, target).await {
            Ok(place) => place,
            Err(error) => Some(self.latest(target.instance_id).ok_or(error)?),
        };
        let Some(place) = place else { return Ok(None) };
        let found = match resolve(api, &place).await {
            Ok(found) => found,
            Err(error) => match api.session.catalog.latest() {
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

    /// The plan of the instance. `None` means that there is no such instance.
    async fn place(
        &self,
        api: BrokerApi<'_>,
        target: &BrokerTarget<'_>,
    ) -> Result<Option<PlanRef>, BackendError> {
        // The broker's answer takes precedence over the user's field, because the instance may have moved to another
        // plan.
        if let Some(named) = &target.named {
            return Ok(self.believed(target.instance_id).or_else(|| Some(named.clone())));
        }
        let ask = || async {
            if !api.session.catalog.current(|| request_catalog(api)).await?.shows_instances() {
                let message = "the broker does not show the plan of an instance; create the ServiceKey again with \
                               `instance.offering` and `instance.plan`";
                return Err(BackendError::new(ErrorClass::Rejected, message));
            }
            request_instance(api, target).await
        };
        let known = self.0.get(&target.instance_id.to_owned(), is_believed, ask).await?;
        Ok(known.value.as_ref().clone())
    }
}

async fn resolve(api: BrokerApi<'_>, place: &PlanRef) -> Result<Result<CatalogPlan, Unknown>, BackendError> {
    api.session.catalog.resolve(&place.offering, &place.plan, || request_catalog(api)).await
}

async fn request_instance(
    api: BrokerApi<'_>,
    target: &BrokerTarget<'_>,
) -> Result<Option<PlanRef>, BackendError> {
    let mut exchange = api.for_no_key(BrokerCall::Instance);
    let response = exchange.ask(Method::GET, &paths::instance(target.instance_id), &[]).await?;
    match response.status {
        StatusCode::OK => exchange.read(&response, wire::place).map(Some),
        // This answer comes from the broker, and not from a gateway in front of it.
        StatusCode::NOT_FOUND | StatusCode::GONE if wire::is_object(exchange.body(&response)?) => Ok(None),
        _ => Err(exchange.refused(&response).await),
    }
}
