//! Checks operations against the state. It changes nothing.

use super::{
    super::{
        answer::{Answer, Refusal},
        catalog::{Offering, Plan},
        last_operation::Task,
        operation::{Hints, Key, Operation, Wish},
        record::Rule,
    },
    Place, State, StatusCode, no_instance,
};

impl State {
    /// Checks an operation against the existing objects; changes nothing.
    pub(crate) fn check(&self, operation: &Operation) -> Result<(), Refusal> {
        match operation {
            Operation::Catalog => Ok(()),
            Operation::FetchInstance { instance } => match self.placed(instance) {
                Some((offering, _)) if !offering.instances_retrievable => Err(not_retrievable(offering)),
                _ => Ok(()),
            },
            Operation::Bind { key, wish, accepts_incomplete } => {
                self.check_bind(key, wish, *accepts_incomplete)
            }
            Operation::Fetch { key, hints } => match self.placed(&key.instance) {
                Some((offering, _)) if !offering.bindings_retrievable => Err(not_retrievable(offering)),
                Some(_) | None => self.check_place(key, hints),
            },
            Operation::Unbind { key, hints, accepts_incomplete: _ } => self.check_place(key, hints),
            Operation::Poll { key, hints, token } => {
                self.check_place(key, hints)?;
                self.last_operations.check_poll(key, token.as_deref())
            }
        }
    }

    fn check_place(&self, key: &Key, hints: &Hints) -> Result<(), Refusal> {
        self.ids_of(key).map_or(Ok(()), |ids| check_hints(ids, hints))
    }

    /// The ids of offering and plan that identify a binding. They are those of its bind, even if the catalog has
    /// changed. If there is no binding, or the broker goes by the instance, they are those of its instance.
    fn ids_of(&self, key: &Key) -> Option<(&str, &str)> {
        let stored = self.bindings.get(&key.id).filter(|stored| stored.binding.instance == key.instance);
        let begun = self.last_operations.task(key.id).filter(|(_, place)| *place == key);
        let wish = stored.map(|stored| &stored.wish).or(match begun {
            Some((Task::Bind(wish), _)) => Some(wish),
            Some((Task::Unbind, _)) | None => None,
        });
        let made_with = wish.map(|wish| (&*wish.service_id, &*wish.plan_id));
        let present = || self.placed(&key.instance).map(|(offering, plan)| (&*offering.id, &*plan.id));
        if self.goes_by_instances { present() } else { made_with.or_else(present) }
    }

    fn check_bind(&self, key: &Key, wish: &Wish, accepts_incomplete: bool) -> Result<(), Refusal> {
        let Some(place) = self.placed(&key.instance) else { return Err(no_instance(&key.instance).into()) };
        let (offering, plan) = self.check_wished_place(key, wish, place)?;
        if !plan.bindable.unwrap_or(offering.bindable) {
            let detail = format!("plan `{}` can't be bound", plan.name);
            return Err(Refusal::bad_request(Rule::Bindable, detail));
        }
        if accepts_incomplete && !offering.bindings_retrievable {
            let detail = format!(
                "offering `{}` can't be read back, so the credentials of an asynchronous bind would be lost",
                offering.name
            );
            return Err(Refusal::bad_request(Rule::AcceptsIncomplete, detail));
        }
        wish.predecessor_binding_id.map_or(Ok(()), |id| {
            self.check_predecessor(&Key { id, instance: key.instance.clone() }, key, plan)
        })
    }

    fn check_wished_place<'a>(
        &'a self,
        key: &Key,
        wish: &Wish,
        place: Place<'a>,
    ) -> Result<Place<'a>, Refusal> {
        let Wish { service_id, plan_id, .. } = wish;
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
        Ok(place)
    }

    fn check_predecessor(&self, predecessor: &Key, successor: &Key, plan: &Plan) -> Result<(), Refusal> {
        if plan.binding_rotatable != Some(true) {
            let detail = format!("bindings of plan `{}` can't be rotated", plan.name);
            return Err(Refusal::bad_request(Rule::Rotatable, detail));
        }
        // The predecessor of a correct client may have vanished. Once the successor exists or is being created, a
        // repeated bind is identical, whatever happened to the predecessor.
        let repeated = self.find(successor).is_some() || self.last_operations.task(successor.id).is_some();
        if repeated || self.usable(predecessor).is_some() {
            return Ok(());
        }
        let description = format!("there is no binding `{}` to succeed", predecessor.id);
        Err(Answer::error(StatusCode::BAD_REQUEST, description).into())
    }
}

fn check_hints((offering, plan): (&str, &str), hints: &Hints) -> Result<(), Refusal> {
    let Hints { service_id, plan_id } = hints;
    for (name, sent, right) in [("service_id", service_id, offering), ("plan_id", plan_id, plan)] {
        if sent.as_ref().is_some_and(|sent| sent != right) {
            let detail = format!("`{name}` is not that of the binding or its instance");
            return Err(Refusal::bad_request(Rule::OfferingAndPlan, detail));
        }
    }
    Ok(())
}

fn not_retrievable(offering: &Offering) -> Refusal {
    let detail = format!("offering `{}` can't be read back", offering.name);
    Refusal::bad_request(Rule::Retrievable, detail)
}
