//! Creates, reads, renames and deletes single keys.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    super::{
        answer::{controller, refused},
        estate::Instance,
        iam::Session,
        operation::KeyWish,
        quirks::Removed,
        record::{Key, Rule},
        route::{Door, Route},
    },
    Answer, Answered, NO_CONTENT, Refusal, State, Stored,
    instances::RESOURCE_GROUP,
    may_change, may_read, shown_time,
};

/// The path of the keys.
pub(super) const PATH: &str = "/v2/resource_keys";
/// The roles that a request may name by their names (IBM/platform-services-go-sdk, `CreateResourceKeyOptions.Role`).
const BASE_ROLES: [&str; 3] = ["Reader", "Writer", "Manager"];
/// For a key without a role (IBM-Cloud/terraform-provider-ibm, `ibm/flex/structures.go`, `FindRoleByName`).
const NO_ROLE: &str = "NONE";
/// The role of a key that a test adds, and of a key whose request names no role although the service has some. IBM does
/// not document the role in that case, so such a request breaks a rule.
const USUAL_ROLE: &str = "Writer";

impl State {
    pub(super) fn create_key(&mut self, wish: &KeyWish, session: &Session) -> Answered {
        let route = Route::CreateKey;
        may_change(route, session)?;
        let instance = self.instance(&wish.source);
        let instance =
            instance.ok_or_else(|| Refusal::not_found(route, "resource instance", &wish.source))?.clone();
        Self::check_active(&instance)?;
        let role = self.role_of(&instance, wish.role.as_deref())?;
        self.check_service_id(wish)?;

        if self.living_keys_of(&instance.guid).count() >= instance.key_limit {
            return Err(Refusal::blameless(too_many_keys(&instance)));
        }
        let number = self.insert_key(&instance, &wish.name, role, wish.parameters.clone(), &session.iam_id);
        if let Some(stored) = self.keys.get_mut(&number) {
            stored.hidden = self.quirks.looks_without_new_keys;
        }
        let stored = &self.keys[&number];
        let shown = self.show_key(stored, Some(self.created_credentials(&stored.thing, session)));
        Ok(Answer::new(StatusCode::CREATED, shown))
    }

    /// The CRN of the requested role: the name of a base role, or a CRN. `None` for a key without a role.
    fn role_of(&self, instance: &Instance, role: Option<&str>) -> Result<Option<String>, Refusal> {
        let role = match role {
            Some(NO_ROLE) => return Ok(None),
            None if !instance.has_roles() => return Ok(None),
            role => role.unwrap_or(USUAL_ROLE),
        };
        let is_base = BASE_ROLES.contains(&role);
        let mut roles = instance.roles_with_crns(&self.account);
        let found = roles.find(|(name, crn)| is_base && *name == role || crn == role);
        found.map(|(_, crn)| Some(crn)).ok_or_else(|| {
            let detail = format!("the service `{}` has no role `{role}`", instance.service);
            let answer =
                refused(Door::ResourceController, StatusCode::BAD_REQUEST, "ValidationError", &detail);
            // A client can't know which base roles a service has, so this does not break a rule.
            if is_base { Refusal::blameless(answer) } else { Refusal::breach(Rule::Role, answer, detail) }
        })
    }

    /// The broken rule in a request for a key that the fake answers anyway.
    pub(crate) fn reproach_to_role(&self, wish: &KeyWish) -> Option<String> {
        let instance = self.instance(&wish.source).filter(|instance| instance.has_roles())?;
        let service = &instance.service;
        wish.role.is_none().then(|| format!("no role is named, and the service `{service}` has roles"))
    }

    fn check_service_id(&self, wish: &KeyWish) -> Result<(), Refusal> {
        let Some(crn) = wish.parameters.get("serviceid_crn").and_then(Value::as_str) else { return Ok(()) };
        if self.service_ids.values().any(|stored| stored.thing.crn == crn) {
            return Ok(());
        }
        let detail = format!("there is no service ID `{crn}`");
        Err(Refusal::bad_request(Route::CreateKey, Rule::ServiceId, detail))
    }

    fn living_keys_of<'a>(&'a self, instance: &'a str) -> impl Iterator<Item = &'a Key> {
        let keys = self.keys.values().map(|stored| &stored.thing);
        keys.filter(move |key| key.instance == instance && !key.removed)
    }

    fn insert_key(
        &mut self,
        instance: &Instance,
        name: &str,
        role: Option<String>,
        parameters: Map<String, Value>,
        by: &str,
    ) -> u64 {
        let (number, guid) = (self.next_number(), self.environment.guid());
        let mut key = Key {
            crn: instance.key_crn(&self.account, &guid),
            guid,
            name: name.to_owned(),
            instance: instance.guid.clone(),
            number,
            role,
            parameters,
            credentials: Map::new(),
            removed: false,
        };
        key.credentials = self.make_credentials(instance, &key);
        self.keys.insert(number, Stored::new(key, by, self.environment.now()));
        number
    }

    pub(super) fn fetch_key(&mut self, id: &str, session: &Session) -> Answered {
        let route = Route::Key;
        may_read(route, session)?;
        let not_found = || Refusal::not_found(route, "resource key", id);
        let removed = self.quirks.removed;
        let stored = self.stored_key_mut(id).ok_or_else(not_found)?;
        if stored.hidden > 0 {
            stored.hidden -= 1;
            return Err(not_found());
        }
        match (stored.thing.removed, removed) {
            (true, Removed::NotFound) => return Err(not_found()),
            (true, Removed::Gone) => return Err(gone(id)),
            (true, Removed::Shown) | (false, _) => {}
        }
        let stored = self.stored_key(id).ok_or_else(not_found)?;
        Ok(Answer::ok(self.show_key(stored, self.visible_credentials(stored, session))))
    }

    pub(super) fn rename_key(&mut self, id: &str, name: &str, session: &Session) -> Answered {
        let route = Route::RenameKey;
        may_change(route, session)?;
        let not_found = || Refusal::not_found(route, "resource key", id);
        let now = self.environment.now();
        let stored = self.stored_key_mut(id).ok_or_else(not_found)?;
        if stored.thing.removed {
            return Err(gone(id));
        }
        name.clone_into(&mut stored.thing.name);
        stored.touch(&session.iam_id, now);
        let stored = self.stored_key(id).ok_or_else(not_found)?;
        Ok(Answer::ok(self.show_key(stored, self.visible_credentials(stored, session))))
    }

    pub(super) fn delete_key(&mut self, id: &str, session: &Session) -> Answered {
        let route = Route::DeleteKey;
        may_change(route, session)?;
        let (forgets, now) = (self.quirks.forgets_removed, self.environment.now());
        let not_found = || Refusal::not_found(route, "resource key", id);
        let stored = self.stored_key_mut(id).ok_or_else(not_found)?;
        if stored.thing.removed {
            return Err(if forgets { not_found() } else { gone(id) });
        }
        stored.thing.removed = true;
        stored.touch(&session.iam_id, now);
        Ok(NO_CONTENT)
    }

    fn stored_key(&self, id: &str) -> Option<&Stored<Key>> {
        self.keys.values().find(|stored| stored.thing.guid == id || stored.thing.crn == id)
    }

    fn stored_key_mut(&mut self, id: &str) -> Option<&mut Stored<Key>> {
        self.keys.values_mut().find(|stored| stored.thing.guid == id || stored.thing.crn == id)
    }

    pub(super) fn visible_credentials(&self, stored: &Stored<Key>, session: &Session) -> Option<Value> {
        let key = &stored.thing;
        self.shown_credentials(key, self.instance(&key.instance), session).filter(|_| !key.removed)
    }

    pub(super) fn show_key(&self, stored: &Stored<Key>, credentials: Option<Value>) -> Value {
        let key = &stored.thing;
        let instance = self.instance(&key.instance);
        let deleted = stored.updated.as_ref().filter(|_| key.removed);
        let mut shown = json!({
            "id": key.crn,
            "guid": key.guid,
            "url": format!("{PATH}/{}", key.guid),
            "created_at": shown_time(stored.created_at),
            "updated_at": shown_time(stored.updated_at()),
            "deleted_at": deleted.map(|(at, _)| shown_time(*at)),
            "created_by": stored.created_by,
            "updated_by": stored.updated_by(),
            "deleted_by": deleted.map_or("", |(_, by)| by),
            "source_crn": instance.map(|instance| instance.crn(&self.account)),
            "name": key.name,
            "crn": key.crn,
            "state": if key.removed { "removed" } else { "active" },
            "account_id": self.account,
            "resource_group_id": RESOURCE_GROUP,
            "resource_id": instance.map(|instance| instance.resource_id.as_str()),
            "onetime_credentials": instance.is_some_and(|instance| instance.one_time),
            "iam_compatible": instance.is_some_and(Instance::has_roles),
            "migrated": false,
            "resource_instance_url": format!("/v2/resource_instances/{}", key.instance),
            "resource_alias_url": null,
        });
        if let Some(credentials) = credentials {
            shown["credentials"] = credentials;
        }
        shown
    }
}

/// Reads and changes of tests.
impl State {
    /// All keys, oldest first, also deleted ones.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.keys.values().map(|stored| stored.thing.clone()).collect()
    }

    /// The GUID of a live key that is bound to a service ID.
    pub(crate) fn bound_to(&self, service_id: &str) -> Option<String> {
        let crn = &self.service_ids.values().find(|stored| stored.thing.id == service_id)?.thing.crn;
        let mut keys = self.keys.values().map(|stored| &stored.thing);
        keys.find(|key| !key.removed && key.service_id() == Some(crn)).map(|key| key.guid.clone())
    }

    /// Creates a key without a call, as `ibmcloud resource service-key-create` does; `None` if the instance does not
    /// exist.
    pub(crate) fn add_key(&mut self, instance: &str, name: &str, role: Option<&str>) -> Option<Key> {
        let instance = self.instance_named(instance)?.clone();
        let usual = instance.has_roles().then_some(USUAL_ROLE);
        let role = self.role_of(&instance, role.or(usual)).ok()?;
        let number = self.insert_key(&instance, name, role, Map::new(), "IBMid-somebody");
        self.keys.get(&number).map(|stored| stored.thing.clone())
    }

    /// Deletes a key without a call; returns whether it was live.
    pub(crate) fn forget_key(&mut self, guid: &str) -> bool {
        let now = self.environment.now();
        let Some(stored) = self.stored_key_mut(guid).filter(|stored| !stored.thing.removed) else {
            return false;
        };
        stored.thing.removed = true;
        stored.touch("IBMid-somebody", now);
        true
    }
}

fn gone(id: &str) -> Refusal {
    let message = format!("The resource key is removed: {id}");
    Refusal::blameless(controller(StatusCode::GONE, "RC-ResourceKeyRemoved", &message))
}

/// The service sets the limit, so its broker reports it.
fn too_many_keys(instance: &Instance) -> Answer {
    let limit = instance.key_limit;
    let message =
        format!("[400, Bad Request] The maximum number of {limit} service keys per instance is reached.");
    controller(StatusCode::UNPROCESSABLE_ENTITY, "RC-ServiceBrokerErrorResponse", &message)
}
