//! Creates, reads, changes and deletes single keys.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    super::{
        estate::{Kind, OperationState},
        metadata::{self, Metadata},
        operation::Wish,
        pace::Work,
        query::ListQuery,
        record::{Key, LastOperation},
        uaa::{Role, Session},
    },
    Answer, Answered, ApiError, Place, State, Stored,
    work::Effort,
};

impl State {
    pub(super) fn create(&mut self, wish: &Wish, session: &Session) -> Answered {
        if self.korifi && wish.metadata.is_some() {
            let detail = "invalid request body: json: unknown field \"metadata\"";
            return Err(ApiError::unprocessable(detail));
        }
        let instance = &wish.relationships.service_instance.data.guid;
        let place = self.readable(instance, session).ok_or_else(|| {
            ApiError::unprocessable(format!("The service instance could not be found: '{instance}'"))
        })?;
        self.check_bindable(place, wish, session)?;
        let failed = self.check_name(instance, &wish.name)?;
        self.check_quota(place, failed.is_some())?;

        if let Some(failed) = failed {
            self.forget(&failed);
        }
        let (mut labels, mut annotations) = (BTreeMap::new(), BTreeMap::new());
        if let Some(metadata) = &wish.metadata {
            metadata::merge(&mut labels, &metadata.labels);
            metadata::merge(&mut annotations, &metadata.annotations);
        }
        let parameters = wish.parameters.clone().unwrap_or_default();
        let guid = self.insert(instance, &wish.name, labels, annotations, parameters);
        let job = self.new_job(Work::Create, &guid);
        self.begin(&guid, Effort::new(Work::Create, self.pace, job.clone(), Vec::new()));
        Ok(self.accepted(&job))
    }

    fn check_bindable(&self, place: Place<'_>, wish: &Wish, session: &Session) -> Result<(), ApiError> {
        let Place { organization: _, space, instance } = place;
        let refused = |detail: &str| Err(ApiError::unprocessable(detail));
        if instance.kind == Kind::UserProvided && wish.parameters.is_some() {
            return refused("Binding parameters are not supported for user-provided service instances");
        }
        if !session.access.role_in(&space.name).may_develop() {
            return Err(ApiError::not_authorized());
        }
        let operation = instance.operation;
        match instance.kind {
            Kind::UserProvided => refused(
                "Service credential bindings of type 'key' are not supported for user-provided service instances.",
            ),
            Kind::Managed { bindable: false } => refused("Service plan does not allow bindings."),
            Kind::Managed { .. }
                if (operation.kind, operation.state) == ("create", OperationState::Failed) =>
            {
                refused("Service instance not found")
            }
            Kind::Managed { .. } if operation.state.is_open() => Err(instance_is_busy()),
            Kind::Managed { .. } => Ok(()),
        }
    }

    /// Checks that a name is free. Returns the failed key of this name, which the new key replaces.
    fn check_name(&self, instance: &str, name: &str) -> Result<Option<String>, ApiError> {
        let Some(taken) = self.named(instance, name) else { return Ok(None) };
        if self.korifi {
            // The name is free as soon as a client has requested the deletion of its key.
            let is_being_deleted =
                taken.last_operation.work == Work::Delete || self.is_to_be_deleted(&taken.guid);
            return if is_being_deleted { Ok(None) } else { Err(ApiError::not_unique(instance, name)) };
        }
        let operation = &taken.last_operation;
        let unique =
            "The binding name is invalid. Key binding names must be unique. The service instance already";
        match (operation.work, operation.state) {
            (Work::Create, OperationState::Failed) => Ok(Some(taken.guid.clone())),
            (Work::Create, _) => {
                Err(ApiError::unprocessable(format!("{unique} has a key binding with name '{name}'.")))
            }
            (Work::Delete, _) => Err(ApiError::unprocessable(format!(
                "{unique} has a key binding with the name '{name}' that is getting deleted or its deletion failed."
            ))),
        }
    }

    fn is_to_be_deleted(&self, guid: &str) -> bool {
        let effort = self.stored(guid).and_then(|stored| stored.effort.as_ref());
        effort.is_some_and(|effort| effort.work == Work::Delete)
    }

    fn check_quota(&self, place: Place<'_>, replaces: bool) -> Result<(), ApiError> {
        let keys_of = |is_here: &dyn Fn(Place<'_>) -> bool| {
            let here = |stored: &&Stored| self.place(&stored.key.instance).is_some_and(is_here);
            self.keys.values().filter(here).count() - usize::from(replaces)
        };
        let is_full = |limit: Option<usize>, is_here: &dyn Fn(Place<'_>) -> bool| {
            limit.is_some_and(|limit| keys_of(is_here) >= limit)
        };
        let exceeded = |whose: &str| {
            let detail = format!("You have exceeded your {whose}'s limit for service binding of type key.");
            Err(ApiError::unprocessable(detail))
        };
        if is_full(place.space.key_limit, &|other| other.space.guid == place.space.guid) {
            return exceeded("space");
        }
        if is_full(place.organization.key_limit, &|other| other.organization.guid == place.organization.guid)
        {
            return exceeded("organization");
        }
        Ok(())
    }

    fn insert(
        &mut self,
        instance: &str,
        name: &str,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        parameters: Map<String, Value>,
    ) -> String {
        self.asked_for += 1;
        let (guid, now) = (self.environment.guid(), self.environment.now());
        let key = Key {
            guid: guid.clone(),
            name: name.to_owned(),
            instance: instance.to_owned(),
            number: self.asked_for,
            labels,
            annotations,
            parameters,
            credentials: None,
            last_operation: LastOperation::new(Work::Create, OperationState::Initial),
        };
        self.numbers.insert(guid.clone(), key.number);
        self.keys.insert(key.number, Stored { key, created_at: now, updated_at: now, effort: None });
        guid
    }

    /// Creates a key without a call, as `cf create-service-key` does; `None` if the instance does not exist.
    pub(crate) fn add_key(
        &mut self,
        instance: &str,
        name: &str,
        labels: BTreeMap<String, String>,
    ) -> Option<Key> {
        let instance = self.instance_guid(instance)?;
        let instance_name = self.place(&instance)?.instance.name.clone();
        let guid = self.insert(&instance, name, labels, BTreeMap::new(), Map::new());
        let credentials = self.make_credentials(&instance, &instance_name);
        let stored = self.stored_mut(&guid)?;
        stored.key.credentials = Some(credentials);
        stored.key.last_operation = LastOperation::new(Work::Create, OperationState::Succeeded);
        Some(stored.key.clone())
    }

    pub(crate) fn annotate(
        &mut self,
        guid: &str,
        annotations: impl Iterator<Item = (String, String)>,
    ) -> bool {
        let stored = self.stored_mut(guid);
        stored.map(|stored| stored.key.annotations.extend(annotations)).is_some()
    }

    pub(super) fn fetch_key(&mut self, guid: &str, query: &ListQuery, session: &Session) -> Answered {
        self.look(guid);
        let (stored, _) = self.visible(guid, session)?;
        let mut shown = self.show_key(stored);
        if let Some(included) = self.included(query, &[stored]) {
            shown["included"] = included;
        }
        Ok(Answer::ok(shown))
    }

    pub(super) fn details(&mut self, guid: &str, session: &Session) -> Answered {
        self.look(guid);
        let (stored, role) = self.visible(guid, session)?;
        if !role.may_develop() {
            return Err(no_key());
        }
        check_made(&stored.key)?;
        Ok(Answer::ok(json!({ "credentials": stored.key.credentials })))
    }

    pub(super) fn parameters(&mut self, guid: &str, session: &Session) -> Answered {
        self.look(guid);
        let (stored, _) = self.visible(guid, session)?;
        check_made(&stored.key)?;
        Ok(Answer::ok(json!(stored.key.parameters)))
    }

    pub(super) fn update(&mut self, guid: &str, change: &Metadata, session: &Session) -> Answered {
        let (stored, role) = self.visible(guid, session)?;
        if !role.may_develop() {
            return Err(ApiError::not_authorized());
        }
        if stored.key.last_operation.is(Work::Delete, OperationState::InProgress) {
            return Err(ApiError::unprocessable("The service binding is being deleted"));
        }
        let now = self.environment.now();
        let stored = self.stored_mut(guid).ok_or_else(no_key)?;
        metadata::merge(&mut stored.key.labels, &change.labels);
        metadata::merge(&mut stored.key.annotations, &change.annotations);
        stored.updated_at = now;
        let stored = self.stored(guid).ok_or_else(no_key)?;
        Ok(Answer::ok(self.show_key(stored)))
    }

    pub(super) fn delete(&mut self, guid: &str, session: &Session) -> Answered {
        let (stored, role) = self.visible(guid, session)?;
        if !role.may_develop() {
            return Err(ApiError::not_authorized());
        }
        // A deletion can overtake a creation that the broker works on, but not one that the broker has not received
        // yet.
        let operation = &stored.key.last_operation;
        let is_blocking = operation.is(Work::Create, OperationState::Initial)
            || operation.is(Work::Delete, OperationState::InProgress);
        // A Korifi accepts every deletion, repeated ones too.
        if is_blocking && !self.korifi {
            let detail = "There is an operation in progress for the service binding.";
            return Err(ApiError::unprocessable(detail));
        }
        if self.place(&stored.key.instance).is_some_and(|place| place.instance.operation.state.is_open()) {
            return Err(instance_is_busy());
        }
        let job = self.new_job(Work::Delete, guid);
        let effort = self.stored_mut(guid).and_then(|stored| stored.effort.as_mut());
        match effort {
            Some(effort) if effort.work == Work::Delete => effort.jobs.push(job.clone()),
            effort => {
                let overtaken = effort.map(|effort| std::mem::take(&mut effort.jobs)).unwrap_or_default();
                self.begin(guid, Effort::new(Work::Delete, self.pace, job.clone(), overtaken));
            }
        }
        Ok(self.accepted(&job))
    }

    /// The key of this name.
    pub(crate) fn named(&self, instance: &str, name: &str) -> Option<&Key> {
        self.keys.values().map(|stored| &stored.key).find(|key| key.instance == instance && key.name == name)
    }

    /// The key, if the caller may see it, and the caller's role in its space.
    fn visible(&self, guid: &str, session: &Session) -> Result<(&Stored, Role), ApiError> {
        let stored = self.stored(guid).ok_or_else(no_key)?;
        let place = self.place(&stored.key.instance).ok_or_else(no_key)?;
        let role = session.access.role_in(&place.space.name);
        if role.may_read() { Ok((stored, role)) } else { Err(no_key()) }
    }
}

fn check_made(key: &Key) -> Result<(), ApiError> {
    if key.is_live() {
        return Ok(());
    }
    let what = match key.last_operation.work {
        Work::Create => "Creation",
        Work::Delete => "Deletion",
    };
    let detail = format!("{what} of service key {}", key.last_operation.state.name());
    Err(ApiError::resource_not_found(detail))
}

fn no_key() -> ApiError {
    ApiError::resource_not_found("Service credential binding not found")
}

fn instance_is_busy() -> ApiError {
    ApiError::unprocessable("There is an operation in progress for the service instance.")
}
