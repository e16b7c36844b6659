//! The instance that a ServiceKey names, and its plan.

use super::paths;
use crate::backend::{BackendError, ErrorClass, InstanceRef};

/// An offering and one of its plans, by name or id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlanRef {
    pub(super) offering: String,
    pub(super) plan: String,
}

/// The fields of the instance that this API needs.
pub(super) struct BrokerTarget<'a> {
    pub(super) instance_id: &'a str,
    /// The plan that the user names. Without it, the operator requests the plan from the broker.
    pub(super) named: Option<PlanRef>,
}

impl<'a> BrokerTarget<'a> {
    /// # Errors
    /// [`ErrorClass::Rejected`] with the field that the user has to add.
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
        let offering = required(
            &instance.offering,
            "`instance.offering`; create the ServiceKey again with the offering's name or id",
        )?;
        let plan = required(
            &instance.plan,
            "`instance.plan`; create the ServiceKey again with the plan's name or id",
        )?;
        let named = PlanRef { offering: offering.to_owned(), plan: plan.to_owned() };
        Ok(Self { instance_id, named: Some(named) })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn instance(id: &str, offering: Option<&str>, plan: Option<&str>) -> InstanceRef {
        InstanceRef {
            id: Some(id.to_owned()),
            offering: offering.map(str::to_owned),
            plan: plan.map(str::to_owned),
            ..InstanceRef::default()
        }
    }

    #[rstest]
    #[case::by_names(Some("db"), Some("small"), Some(("db", "small")))]
    #[case::by_its_id_alone(None, None, None)]
    #[case::by_empty_names(Some(""), Some(""), None)]
    fn an_instance_may_name_its_plan(
        #[case] offering: Option<&str>,
        #[case] plan: Option<&str>,
        #[case] expected: Option<(&str, &str)>,
    ) {
        let instance = instance("i-1", offering, plan);
        let BrokerTarget { instance_id, named } = BrokerTarget::from_instance(&instance).ok().unwrap();
        let named = named.as_ref().map(|PlanRef { offering, plan }| (offering.as_str(), plan.as_str()));
        assert_eq!((instance_id, named), ("i-1", expected));
    }

    #[rstest]
    #[case::no_id("", None, None, "`instance.id`")]
    #[case::no_plan("i-1", Some("db"), None, "`instance.plan`")]
    #[case::no_offering("i-1", None, Some("small"), "`instance.offering`")]
    fn an_instance_that_names_half_of_it_is_refused(
        #[case] id: &str,
        #[case] offering: Option<&str>,
        #[case] plan: Option<&str>,
        #[case] field: &str,
    ) {
        let instance = instance(id, offering, plan);
        let error = BrokerTarget::from_instance(&instance).err().unwrap();
        assert_eq!(error.class, ErrorClass::Rejected);
        assert!(error.message.contains(field), "{error}");
    }
}
