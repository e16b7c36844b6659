//! How a ServiceKey names its instance, and the plan of it.

use super::paths;
use crate::backend::{BackendError, ErrorClass, InstanceRef};

/// What an instance is of: an offering and a plan of it, by name or id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlanRef {
    pub(super) offering: String,
    pub(super) plan: String,
}

/// The fields of the instance that this API needs.
pub(super) struct BrokerTarget<'a> {
    pub(super) instance_id: &'a str,
    /// What the user says that it is of; `None`: the broker is asked.
    pub(super) named: Option<PlanRef>,
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
