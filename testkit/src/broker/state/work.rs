//! Binds and unbinds: done at once, or begun now and ended later.

use super::{
    super::{
        answer::Answer,
        last_operation::{End, Task, UnderWay},
        operation::{Key, Wish},
        pace::{Pace, Work},
        record::Binding,
    },
    State, StatusCode, Stored, Uuid, json, no_instance, shown,
};

impl State {
    /// Sets the pace of later work. Current operations keep their pace.
    pub(crate) fn change_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// All current operations, oldest first.
    pub(crate) fn under_way(&self) -> Vec<UnderWay> {
        self.last_operations.under_way()
    }

    /// Lets the operation on this binding succeed; returns whether there was one.
    pub(crate) fn finish(&mut self, id: Uuid) -> bool {
        let Some((task, key)) = self.last_operations.task(id) else { return false };
        let (task, key) = (task.clone(), key.clone());
        let end = match task {
            Task::Bind(wish) => match self.make(&key, &wish, Standing::Sound) {
                Some(_) => End::Succeeded,
                None => End::Failed(format!("service instance `{}` is gone", key.instance)),
            },
            Task::Unbind => {
                self.bindings.remove(&id);
                End::Succeeded
            }
        };
        self.last_operations.end(id, end);
        true
    }

    /// Lets the operation on this binding fail; returns whether there was one.
    pub(crate) fn fail(&mut self, id: Uuid, description: String) -> bool {
        let found = self.last_operations.task(id).is_some();
        self.last_operations.end(id, End::Failed(description));
        found
    }

    /// Lets the bind of this binding fail, but keeps what it has created so far; returns whether there was one.
    pub(crate) fn fail_with_orphan(&mut self, id: Uuid, description: String) -> bool {
        let Some((Task::Bind(wish), key)) = self.last_operations.task(id) else { return false };
        let (wish, key) = (wish.clone(), key.clone());
        self.make(&key, &wish, Standing::Orphan);
        self.last_operations.end(id, End::Failed(description));
        true
    }

    pub(super) fn poll(&mut self, key: &Key) -> Answer {
        if self.last_operations.count_poll(key) {
            self.finish(key.id);
        }
        self.last_operations.report(key)
    }

    pub(super) fn bind(&mut self, key: &Key, wish: &Wish, accepts_incomplete: bool) -> Answer {
        match self.last_operations.task(key.id) {
            Some((Task::Unbind, _)) => return busy(key),
            Some((Task::Bind(earlier), place)) if (earlier, place) == (wish, key) => {
                return self.join(key, accepts_incomplete);
            }
            Some((Task::Bind(_), _)) => return conflict(key, "is being made, and was asked for differently"),
            None => {}
        }
        if let Some(stored) = self.bindings.get(&key.id) {
            return self.repeat(key, wish, stored);
        }
        match self.way(Work::Bind, accepts_incomplete) {
            Way::Refused => async_required(),
            Way::Later => self.last_operations.begin(key, Task::Bind(wish.clone()), self.pace.clone()),
            Way::AtOnce => {
                self.last_operations.forget(key.id);
                match self.make(key, wish, Standing::Sound) {
                    Some(binding) => Answer::new(StatusCode::CREATED, shown(binding).into()),
                    None => no_instance(&key.instance),
                }
            }
        }
    }

    pub(super) fn unbind(&mut self, key: &Key, accepts_incomplete: bool) -> Answer {
        match self.last_operations.task(key.id) {
            Some((Task::Bind(_), place)) if place == key => return busy(key),
            Some((Task::Unbind, place)) if place == key => return self.join(key, accepts_incomplete),
            _ => {}
        }
        if self.find(key).is_none() {
            return Answer::gone();
        }
        match self.way(Work::Unbind, accepts_incomplete) {
            Way::Refused => async_required(),
            Way::Later => self.last_operations.begin(key, Task::Unbind, self.pace.clone()),
            Way::AtOnce => {
                self.last_operations.forget(key.id);
                self.bindings.remove(&key.id);
                Answer::new(StatusCode::OK, json!({}))
            }
        }
    }

    /// The answer to a repeated request for the current operation.
    fn join(&self, key: &Key, accepts_incomplete: bool) -> Answer {
        if accepts_incomplete {
            self.last_operations.accepted_again(key.id).unwrap_or_else(|| busy(key))
        } else if self.pace.required {
            async_required()
        } else {
            busy(key)
        }
    }

    /// The answer to a bind with an existing id.
    fn repeat(&self, key: &Key, wish: &Wish, stored: &Stored) -> Answer {
        let Stored { wish: earlier, binding } = stored;
        if binding.orphan {
            return conflict(key, "is what a failed bind left, and has to be unbound first");
        }
        if earlier != wish || binding.instance != key.instance {
            return conflict(key, "exists, and was asked for differently");
        }
        let retrievable = self.placed(&key.instance).is_some_and(|(found, _)| found.bindings_retrievable);
        if self.recipe.shown_once && !retrievable {
            return Answer::new(StatusCode::OK, json!({}));
        }
        Answer::new(StatusCode::OK, shown(binding).into())
    }

    /// Creates a binding, unless its instance is gone.
    fn make(&mut self, key: &Key, wish: &Wish, standing: Standing) -> Option<&Binding> {
        let instance = self.instances.get(&key.instance)?;
        self.made += 1;
        let (credentials, metadata) = self.recipe.make(instance, self.made, &self.environment);
        let binding = Binding {
            id: key.id,
            instance: key.instance.clone(),
            number: self.made,
            predecessor: wish.predecessor_binding_id,
            context: wish.context.clone(),
            parameters: wish.parameters.clone(),
            credentials,
            metadata,
            orphan: standing == Standing::Orphan,
        };
        let stored = Stored { wish: wish.clone(), binding };
        self.bindings.insert(key.id, stored);
        self.binding(key.id)
    }

    fn way(&self, work: Work, accepts_incomplete: bool) -> Way {
        let Pace { slow, required, .. } = &self.pace;
        match (slow.contains(&work), accepts_incomplete, required) {
            (true, true, _) => Way::Later,
            (true, false, true) => Way::Refused,
            (true, false, false) | (false, ..) => Way::AtOnce,
        }
    }
}

enum Way {
    AtOnce,
    Later,
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Sound,
    /// A failed bind left it.
    Orphan,
}

fn conflict(key: &Key, why: &str) -> Answer {
    Answer::error(StatusCode::CONFLICT, format!("binding `{}` {why}", key.id))
}

fn busy(key: &Key) -> Answer {
    let description = format!("another operation on binding `{}` is under way", key.id);
    unprocessable("ConcurrencyError", &description)
}

fn async_required() -> Answer {
    unprocessable("AsyncRequired", "this takes time, which `accepts_incomplete=true` has to accept")
}

/// An error with one of the specification's codes (section Service Broker Errors).
fn unprocessable(code: &str, description: &str) -> Answer {
    let body = json!({ "error": code, "description": description });
    Answer::new(StatusCode::UNPROCESSABLE_ENTITY, body)
}
