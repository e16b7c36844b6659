//! What exists at the broker, and what each operation does to it. No I/O, no clock.

use std::collections::HashMap;

use axum::http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::{
    answer::{Answer, Refusal},
    catalog::{Catalog, Instance, Offering, Plan},
    credentials::CredentialsRecipe,
    operation::{Hints, Key, Operation, Wish},
    record::{Binding, Rule},
};

/// Catalog, instances and bindings.
pub(super) struct State {
    catalog: Catalog,
    recipe: CredentialsRecipe,
    instances: HashMap<String, Instance>,
    bindings: HashMap<Uuid, Stored>,
    made: u64,
}

/// A binding with the request that it was made for, to tell a repetition from a conflict.
struct Stored {
    wish: Wish,
    binding: Binding,
}

impl State {
    pub fn new(
        catalog: Catalog,
        recipe: CredentialsRecipe,
        instances: impl IntoIterator<Item = Instance>,
    ) -> Self {
        let instances = instances.into_iter().map(|instance| (instance.id.clone(), instance)).collect();
        Self { catalog, recipe, instances, bindings: HashMap::new(), made: 0 }
    }

    /// The living bindings, oldest first.
    pub fn bindings(&self) -> Vec<Binding> {
        let mut bindings: Vec<_> = self.bindings.values().map(|stored| stored.binding.clone()).collect();
        bindings.sort_by_key(|binding| binding.number);
        bindings
    }

    pub fn binding(&self, id: Uuid) -> Option<&Binding> {
        self.bindings.get(&id).map(|stored| &stored.binding)
    }

    /// Removes a binding without anybody asking over the wire; says whether it was there.
    pub fn forget(&mut self, id: Uuid) -> bool {
        self.bindings.remove(&id).is_some()
    }

    /// Removes an instance and all its bindings; says whether it was there.
    pub fn forget_instance(&mut self, id: &str) -> bool {
        self.bindings.retain(|_, stored| stored.binding.instance != id);
        self.instances.remove(id).is_some()
    }

    /// Checks an operation against what exists; changes nothing.
    pub fn check(&self, operation: &Operation) -> Result<(), Refusal> {
        match operation {
            Operation::Catalog => Ok(()),
            Operation::FetchInstance { instance } => match self.placed(instance) {
                Some((offering, _)) if !offering.instances_retrievable => Err(not_retrievable(offering)),
                _ => Ok(()),
            },
            Operation::Bind { key, wish } => self.check_bind(key, wish),
            Operation::Fetch { key, hints } => match self.placed(&key.instance) {
                Some((offering, _)) if !offering.bindings_retrievable => Err(not_retrievable(offering)),
                Some(place) => check_hints(place, hints),
                None => Ok(()),
            },
            Operation::Unbind { key, hints } => {
                self.placed(&key.instance).map_or(Ok(()), |place| check_hints(place, hints))
            }
        }
    }

    /// Carries out an operation that passed [`Self::check`].
    pub fn apply(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::Catalog => Answer::new(StatusCode::OK, json!(self.catalog)),
            Operation::FetchInstance { instance } => match self.placed(instance) {
                Some((offering, plan)) => {
                    Answer::new(StatusCode::OK, json!({ "service_id": offering.id, "plan_id": plan.id }))
                }
                None => no_instance(instance),
            },
            Operation::Bind { key, wish } => self.bind(key, wish),
            Operation::Fetch { key, hints: _ } => match self.find(key) {
                Some(Stored { binding, .. }) => Answer::new(
                    StatusCode::OK,
                    json!({ "credentials": binding.credentials, "parameters": binding.parameters }),
                ),
                None => Answer::error(StatusCode::NOT_FOUND, format!("there is no binding `{}`", key.id)),
            },
            Operation::Unbind { key, hints: _ } => {
                if self.find(key).is_none() {
                    return Answer::gone();
                }
                self.bindings.remove(&key.id);
                Answer::new(StatusCode::OK, json!({}))
            }
        }
    }

    fn bind(&mut self, key: &Key, wish: &Wish) -> Answer {
        if let Some(Stored { wish: earlier, binding }) = self.bindings.get(&key.id) {
            if earlier == wish && binding.instance == key.instance {
                return Answer::new(StatusCode::OK, json!({ "credentials": binding.credentials }));
            }
            let description = format!("binding `{}` exists, and was asked for differently", key.id);
            return Answer::error(StatusCode::CONFLICT, description);
        }
        let Some(instance) = self.instances.get(&key.instance) else { return no_instance(&key.instance) };
        self.made += 1;
        let binding = Binding {
            id: key.id,
            instance: key.instance.clone(),
            number: self.made,
            predecessor: wish.predecessor_binding_id,
            context: wish.context.clone(),
            parameters: wish.parameters.clone(),
            credentials: self.recipe.make(instance, self.made),
        };
        let answer = Answer::new(StatusCode::CREATED, json!({ "credentials": binding.credentials }));
        self.bindings.insert(key.id, Stored { wish: wish.clone(), binding });
        answer
    }

    fn check_bind(&self, key: &Key, wish: &Wish) -> Result<(), Refusal> {
        let Wish { service_id, plan_id, predecessor_binding_id: predecessor, .. } = wish;
        let Some(place) = self.placed(&key.instance) else { return Err(no_instance(&key.instance).into()) };
        let breach = |detail: String| Err(Refusal::bad_request(Rule::OfferingAndPlan, detail));
        let Some(offering) = self.catalog.offering_by_id(service_id) else {
            return breach(format!("the catalog has no offering `{service_id}`"));
        };
        let Some(plan) = offering.plan_by_id(plan_id) else {
            return breach(format!("offering `{service_id}` has no plan `{plan_id}`"));
        };
        if (offering, plan) != place {
            return breach(format!("instance `{}` is not of plan `{plan_id}`", key.instance));
        }
        if !plan.bindable.unwrap_or(offering.bindable) {
            let detail = format!("plan `{}` can't be bound", plan.name);
            return Err(Refusal::bad_request(Rule::Bindable, detail));
        }
        let Some(predecessor) = predecessor else { return Ok(()) };
        if plan.binding_rotatable != Some(true) {
            let detail = format!("bindings of plan `{}` can't be rotated", plan.name);
            return Err(Refusal::bad_request(Rule::Rotatable, detail));
        }
        // A correct client can name one that vanished behind its back. Once the successor exists, a repeated
        // bind is identical whatever became of the predecessor.
        let stands = |id| self.find(&Key { instance: key.instance.clone(), id }).is_some();
        if stands(*predecessor) || stands(key.id) {
            return Ok(());
        }
        let description = format!("there is no binding `{predecessor}` to succeed");
        Err(Answer::error(StatusCode::BAD_REQUEST, description).into())
    }

    fn find(&self, key: &Key) -> Option<&Stored> {
        self.bindings.get(&key.id).filter(|stored| stored.binding.instance == key.instance)
    }

    /// The offering and plan of an instance.
    fn placed(&self, instance: &str) -> Option<Place<'_>> {
        let Instance { offering, plan, .. } = self.instances.get(instance)?;
        let offering = self.catalog.find(offering)?;
        Some((offering, offering.find(plan)?))
    }
}

type Place<'a> = (&'a Offering, &'a Plan);

fn check_hints((offering, plan): Place<'_>, hints: &Hints) -> Result<(), Refusal> {
    let Hints { service_id, plan_id } = hints;
    for (name, sent, right) in [("service_id", service_id, &offering.id), ("plan_id", plan_id, &plan.id)] {
        if sent.as_ref().is_some_and(|sent| sent != right) {
            let detail = format!("`{name}` is not that of the instance");
            return Err(Refusal::bad_request(Rule::OfferingAndPlan, detail));
        }
    }
    Ok(())
}

fn not_retrievable(offering: &Offering) -> Refusal {
    let detail = format!("offering `{}` can't be read back", offering.name);
    Refusal::bad_request(Rule::Retrievable, detail)
}

fn no_instance(id: &str) -> Answer {
    Answer::error(StatusCode::NOT_FOUND, format!("there is no service instance `{id}`"))
}
