//! The objects of the broker, and the effects of operations on them. No I/O, no clock.

mod check;
mod work;

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    answer::Answer,
    catalog::{Catalog, Instance, Offering, Plan},
    credentials::{BindingMetadata, CredentialsRecipe},
    last_operation::LastOperations,
    operation::{Key, Operation, Wish},
    pace::Pace,
    record::Binding,
};
use crate::remote::Environment;

/// Catalog, instances, bindings, and the operations on them.
pub(super) struct State {
    catalog: Catalog,
    recipe: CredentialsRecipe,
    environment: Environment,
    pace: Pace,
    instances: BTreeMap<String, Instance>,
    bindings: BTreeMap<Uuid, Stored>,
    last_operations: LastOperations,
    made: u64,
    goes_by_instances: bool,
}

/// A binding with its request, which distinguishes a repetition from a conflict.
struct Stored {
    wish: Wish,
    binding: Binding,
}

impl State {
    pub(super) fn new(
        catalog: Catalog,
        recipe: CredentialsRecipe,
        pace: Pace,
        instances: impl IntoIterator<Item = Instance>,
        environment: Environment,
    ) -> Self {
        let instances = instances.into_iter().map(|instance| (instance.id.clone(), instance)).collect();
        let (bindings, last_operations) = (BTreeMap::new(), LastOperations::default());
        Self {
            catalog,
            recipe,
            environment,
            pace,
            instances,
            bindings,
            last_operations,
            made: 0,
            goes_by_instances: false,
        }
    }

    pub(super) const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The bindings that exist, oldest first.
    pub(super) fn bindings(&self) -> Vec<Binding> {
        let mut bindings: Vec<_> = self.bindings.values().map(|stored| stored.binding.clone()).collect();
        bindings.sort_by_key(|binding| binding.number);
        bindings
    }

    pub(super) fn binding(&self, id: Uuid) -> Option<&Binding> {
        self.bindings.get(&id).map(|stored| &stored.binding)
    }

    /// Removes a binding without a call; returns whether it existed.
    pub(super) fn forget(&mut self, id: Uuid) -> bool {
        self.bindings.remove(&id).is_some()
    }

    /// Removes an instance and all its bindings; returns whether it existed.
    pub(super) fn forget_instance(&mut self, id: &str) -> bool {
        self.bindings.retain(|_, stored| stored.binding.instance != id);
        self.instances.remove(id).is_some()
    }

    /// Renames a plan, also in its instances; returns whether it existed.
    pub(super) fn rename_plan(&mut self, offering: &str, plan: &str, name: &str) -> bool {
        let Some(found) = self.catalog.plan_mut(offering, plan) else { return false };
        name.clone_into(&mut found.name);
        for instance in self.instances.values_mut() {
            if instance.offering == offering && instance.plan == plan {
                name.clone_into(&mut instance.plan);
            }
        }
        true
    }

    /// Removes a plan from the catalog; returns whether it existed.
    pub(super) fn withdraw_plan(&mut self, offering: &str, plan: &str) -> bool {
        self.catalog.remove_plan(offering, plan)
    }

    /// Gives a plan another id; returns whether it existed.
    pub(super) fn change_plan_id(&mut self, offering: &str, plan: &str, id: &str) -> bool {
        let Some(found) = self.catalog.plan_mut(offering, plan) else { return false };
        id.clone_into(&mut found.id);
        true
    }

    /// Moves an instance to another plan of its offering; returns whether both exist.
    pub(super) fn move_instance(&mut self, id: &str, plan: &str) -> bool {
        let Some(instance) = self.instances.get_mut(id) else { return false };
        let is_there = self.catalog.find(&instance.offering).is_some_and(|found| found.find(plan).is_some());
        if is_there {
            plan.clone_into(&mut instance.plan);
        }
        is_there
    }

    /// Identifies bindings by the present plan of their instance instead of the plan of their bind.
    pub(super) const fn go_by_instances(&mut self) {
        self.goes_by_instances = true;
    }

    /// Carries out an operation that passed [`Self::check`].
    pub(super) fn apply(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::Catalog => Answer::new(StatusCode::OK, json!(self.catalog)),
            Operation::FetchInstance { instance } => match self.placed(instance) {
                Some((offering, plan)) => {
                    Answer::new(StatusCode::OK, json!({ "service_id": offering.id, "plan_id": plan.id }))
                }
                None => no_instance(instance),
            },
            Operation::Bind { key, wish, accepts_incomplete } => self.bind(key, wish, *accepts_incomplete),
            Operation::Fetch { key, hints: _ } => self.fetch(key),
            Operation::Unbind { key, hints: _, accepts_incomplete } => self.unbind(key, *accepts_incomplete),
            Operation::Poll { key, hints: _, token: _ } => self.poll(key),
        }
    }

    fn fetch(&self, key: &Key) -> Answer {
        let Some(binding) = self.usable(key) else {
            let description = format!("there is no binding `{}`, or it is not ready", key.id);
            return Answer::error(StatusCode::NOT_FOUND, description);
        };
        let mut body = shown(binding);
        body.insert("parameters".into(), json!(binding.parameters));
        Answer::new(StatusCode::OK, body.into())
    }

    fn find(&self, key: &Key) -> Option<&Binding> {
        self.binding(key.id).filter(|binding| binding.instance == key.instance)
    }

    /// The binding, if its bind succeeded and no operation on it is under way.
    fn usable(&self, key: &Key) -> Option<&Binding> {
        self.find(key).filter(|binding| !binding.orphan && self.last_operations.task(key.id).is_none())
    }

    /// The offering and plan of an instance.
    fn placed(&self, instance: &str) -> Option<Place<'_>> {
        let Instance { offering, plan, .. } = self.instances.get(instance)?;
        let offering = self.catalog.find(offering)?;
        Some((offering, offering.find(plan)?))
    }
}

type Place<'a> = (&'a Offering, &'a Plan);

/// The part of a binding that answers show.
fn shown(binding: &Binding) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("credentials".into(), json!(binding.credentials));
    if binding.metadata != BindingMetadata::default() {
        shown.insert("metadata".into(), json!(binding.metadata));
    }
    shown
}

fn no_instance(id: &str) -> Answer {
    Answer::error(StatusCode::NOT_FOUND, format!("there is no service instance `{id}`"))
}
