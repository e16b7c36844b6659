//! The broker's offerings, and its service instances.

use serde::Serialize;

/// The broker's catalog, as `GET /v2/catalog` shows it. Names are never ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Catalog {
    #[serde(rename = "services")]
    offerings: Vec<Offering>,
}

impl Catalog {
    /// A catalog of these offerings.
    pub fn new(offerings: impl IntoIterator<Item = Offering>) -> Self {
        Self { offerings: offerings.into_iter().collect() }
    }

    /// The catalog of the examples. `postgresql` has the plans `small`, `rotating`, and `archive`, which is not
    /// bindable. `redis` also has a plan `small`. The bindings of `metrics` can't be read back.
    #[must_use]
    pub fn training() -> Self {
        let postgresql = Offering::new("offering-postgresql-7b1f", "postgresql")
            .plan(Plan::new("plan-postgresql-small-1c9d", "small"))
            .plan(Plan {
                binding_rotatable: Some(true),
                ..Plan::new("plan-postgresql-rotating-52aa", "rotating")
            })
            .plan(Plan { bindable: Some(false), ..Plan::new("plan-postgresql-archive-9e07", "archive") });
        let redis =
            Offering::new("offering-redis-44d2", "redis").plan(Plan::new("plan-redis-small-e3f8", "small"));
        let metrics =
            Offering { bindings_retrievable: false, ..Offering::new("offering-metrics-c06b", "metrics") }
                .plan(Plan::new("plan-metrics-basic-0a41", "basic"));
        Self::new([postgresql, redis, metrics])
    }

    /// Adds one more offering.
    #[must_use]
    pub fn offering(mut self, offering: Offering) -> Self {
        self.offerings.push(offering);
        self
    }

    /// Adds this many unused plans, twenty to an offering, as in large marketplaces.
    #[must_use]
    pub fn crowded(mut self, plans: usize) -> Self {
        const PLANS_OF_AN_OFFERING: usize = 20;
        for number in 0..plans {
            if number % PLANS_OF_AN_OFFERING == 0 {
                let name = format!("filler-{}", number / PLANS_OF_AN_OFFERING);
                self.offerings.push(Offering::new(format!("offering-{name}"), name));
            }
            if let Some(offering) = self.offerings.last_mut() {
                offering.plans.push(Plan::new(format!("plan-filler-{number}"), format!("size-{number}")));
            }
        }
        self
    }

    /// The offering of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Offering> {
        self.offerings.iter().find(|offering| offering.name == name)
    }

    pub(super) fn plan_mut(&mut self, offering: &str, plan: &str) -> Option<&mut Plan> {
        let offering = self.offerings.iter_mut().find(|found| found.name == offering)?;
        offering.plans.iter_mut().find(|found| found.name == plan)
    }

    pub(super) fn remove_plan(&mut self, offering: &str, plan: &str) -> bool {
        let Some(offering) = self.offerings.iter_mut().find(|found| found.name == offering) else {
            return false;
        };
        let before = offering.plans.len();
        offering.plans.retain(|found| found.name != plan);
        offering.plans.len() < before
    }

    pub(super) fn offering_by_id(&self, id: &str) -> Option<&Offering> {
        self.offerings.iter().find(|offering| offering.id == id)
    }
}

/// A service offering.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offering {
    /// The id in requests: `service_id`.
    pub id: String,
    /// The name for users; unique in the catalog.
    pub name: String,
    /// One line for users.
    pub description: String,
    /// Whether its plans are bindable, unless a plan overrides it.
    pub bindable: bool,
    /// Whether a binding can be read back.
    pub bindings_retrievable: bool,
    /// Whether an instance can be read back.
    pub instances_retrievable: bool,
    /// Its plans.
    pub plans: Vec<Plan>,
}

impl Offering {
    /// An offering without plans. It is bindable, and its instances and bindings can be read back.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            id: id.into(),
            description: format!("{name} of the fake broker"),
            name,
            bindable: true,
            bindings_retrievable: true,
            instances_retrievable: true,
            plans: Vec::new(),
        }
    }

    /// Adds a plan.
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plans.push(plan);
        self
    }

    /// The plan of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.name == name)
    }

    pub(super) fn plan_by_id(&self, id: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.id == id)
    }
}

/// A plan of an offering.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The id in requests: `plan_id`.
    pub id: String,
    /// The name for users; unique in its offering only.
    pub name: String,
    /// One line for users.
    pub description: String,
    /// Overrides the offering's `bindable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bindable: Option<bool>,
    /// Whether a bind may name a predecessor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding_rotatable: Option<bool>,
    /// The time in seconds for which a platform polls. After it, the platform treats an operation as failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_polling_duration: Option<u64>,
}

impl Plan {
    /// A plan that overrides nothing.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            id: id.into(),
            description: format!("plan {name} of the fake broker"),
            name,
            bindable: None,
            binding_rotatable: None,
            maximum_polling_duration: None,
        }
    }
}

/// A service instance that exists at the broker from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id in paths.
    pub id: String,
    /// The name for users.
    pub name: String,
    /// The name of its offering.
    pub offering: String,
    /// The name of its plan.
    pub plan: String,
}

impl Instance {
    /// An instance of this offering and plan, both by name. Its own name is its id.
    pub fn new(id: impl Into<String>, offering: impl Into<String>, plan: impl Into<String>) -> Self {
        let id = id.into();
        Self { name: id.clone(), id, offering: offering.into(), plan: plan.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowded_catalog_has_the_plans_it_says() {
        let plans: usize =
            Catalog::new([]).crowded(2_000).offerings.iter().map(|offering| offering.plans.len()).sum();
        assert_eq!(plans, 2_000);
    }

    #[test]
    fn the_training_catalog_has_one_plan_name_twice_and_no_name_that_is_an_id() {
        let catalog = Catalog::training();
        let small = |offering: &str| {
            catalog.find(offering).and_then(|found| found.find("small")).map(|plan| &plan.id)
        };
        assert!(small("postgresql").is_some());
        assert_ne!(small("postgresql"), small("redis"));
        for offering in &catalog.offerings {
            assert_ne!(offering.id, offering.name);
            assert!(offering.plans.iter().all(|plan| plan.id != plan.name));
        }
    }
}
