//! Finds and reads instances.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    super::{
        answer::controller,
        estate::{Instance, InstanceState},
        iam::{Access, Session},
        record::Rule,
        route::Route,
    },
    Answer, Answered, Refusal, State, may_read,
    pages::{Page, Words},
};
use crate::remote::reading::Parameters;

/// The paging parameters of the Resource Controller's lists.
pub(super) const WORDS: Words = Words { limit: "limit", token: "start", usual: 10 };
/// The only resource group of the account.
pub(super) const RESOURCE_GROUP: &str = "default-resource-group-id";
const TYPE: &str = "service_instance";
const PATH: &str = "/v2/resource_instances";

impl State {
    pub(super) fn list_instances(&mut self, query: &Parameters, session: &Session) -> Answered {
        let known = |state: &String| InstanceState::ALL.iter().any(|known| known.name() == state);
        if query.get("state").is_some_and(|state| !known(state)) {
            return Err(Refusal::bad_request(Route::Instances, Rule::Query, "there is no such `state`"));
        }
        let asked = self.pages.read(Route::Instances, PATH, query, &WORDS)?;
        let account = &self.account;
        let is_wanted = |instance: &Instance| {
            let state = instance.state;
            let is_shown = match asked.filters.get("state") {
                Some(wanted) => wanted == state.name(),
                None => matches!(state, InstanceState::Active | InstanceState::Provisioning),
            };
            is_shown
                && asked.admits("name", &instance.name)
                && asked.admits("guid", &instance.guid)
                && asked.admits("resource_id", &instance.resource_id)
                && asked.admits("resource_plan_id", &plan(instance))
                && asked.admits("resource_group_id", RESOURCE_GROUP)
                && asked.admits("type", TYPE)
                && session.access != Access::None
        };
        let found: Vec<_> = (1..)
            .zip(&self.instances)
            .filter(|(_, instance)| is_wanted(instance))
            .map(|(number, instance)| (number, show_instance(instance, account)))
            .collect();
        let page = self.pages.turn(PATH, asked, found.into_iter());
        Ok(show_page(PATH, page))
    }

    pub(super) fn fetch_instance(&self, id: &str, session: &Session) -> Answered {
        may_read(Route::Instance, session)?;
        let instance = self.instance(id);
        let instance =
            instance.ok_or_else(|| Refusal::not_found(Route::Instance, "resource instance", id))?;
        Ok(Answer::ok(show_instance(instance, &self.account)))
    }

    /// The instance of this GUID or CRN.
    pub(super) fn instance(&self, id: &str) -> Option<&Instance> {
        let account = &self.account;
        self.instances.iter().find(|instance| instance.guid == id || instance.crn(account) == id)
    }

    /// The instance of this name.
    pub(crate) fn instance_named(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.name == name)
    }

    pub(super) fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Deletes an instance and its keys without a call; returns whether it existed.
    pub(crate) fn remove_instance(&mut self, name: &str) -> bool {
        let found = self.instances.iter_mut().find(|instance| instance.name == name);
        let Some(instance) = found else { return false };
        instance.state = InstanceState::Removed;
        let guid = instance.guid.clone();
        for stored in self.keys.values_mut().filter(|stored| stored.thing.instance == guid) {
            stored.thing.removed = true;
        }
        true
    }

    /// Removes every trace of an instance and its keys; returns whether it existed.
    pub(crate) fn forget_instance(&mut self, name: &str) -> bool {
        let Some(place) = self.instances.iter().position(|instance| instance.name == name) else {
            return false;
        };
        let instance = self.instances.remove(place);
        self.keys.retain(|_, stored| stored.thing.instance != instance.guid);
        true
    }

    /// Checks that an instance accepts new keys.
    pub(super) fn check_active(instance: &Instance) -> Result<(), Refusal> {
        if instance.state == InstanceState::Active {
            return Ok(());
        }
        let detail = format!("The resource instance is {}: {}", instance.state.name(), instance.guid);
        let answer = controller(StatusCode::UNPROCESSABLE_ENTITY, "RC-InstanceNotActive", &detail);
        Err(Refusal::breach(Rule::ActiveInstance, answer, detail))
    }
}

fn plan(instance: &Instance) -> String {
    format!("plan-of-{}", instance.resource_id)
}

fn show_instance(instance: &Instance, account: &str) -> Value {
    let (path, crn) = (format!("{PATH}/{}", instance.guid), instance.crn(account));
    let (plan, made) = (plan(instance), "2026-01-01T12:00:00.000Z");
    json!({
        "id": crn,
        "guid": instance.guid,
        "url": path,
        "created_at": made,
        "updated_at": made,
        "deleted_at": null,
        "created_by": "IBMid-somebody",
        "updated_by": "",
        "deleted_by": "",
        "scheduled_reclaim_at": null,
        "restored_at": null,
        "scheduled_reclaim_by": "",
        "restored_by": "",
        "name": instance.name,
        "region_id": "eu-de",
        "account_id": account,
        "reseller_channel_id": "",
        "resource_plan_id": plan,
        "resource_group_id": RESOURCE_GROUP,
        "resource_group_crn": format!("crn:v1:bluemix:public:resource-controller::a/{account}::resource-group:{RESOURCE_GROUP}"),
        "target_crn": format!("crn:v1:bluemix:public:globalcatalog::::deployment:{plan}%3Aeu-de"),
        "onetime_credentials": instance.one_time,
        "allow_cleanup": false,
        "crn": crn,
        "state": instance.state.name(),
        "type": TYPE,
        "sub_type": "",
        "resource_id": instance.resource_id,
        "dashboard_url": "https://cloud.ibm.com/services",
        "last_operation": {
            "type": "create",
            "state": "succeeded",
            "async": false,
            "description": "Completed create instance operation",
            "cancelable": false,
            "poll": false,
        },
        "resource_aliases_url": format!("{path}/resource_aliases"),
        "resource_bindings_url": format!("{path}/resource_bindings"),
        "resource_keys_url": format!("{path}/resource_keys"),
        "plan_history": [{ "resource_plan_id": plan, "start_date": made, "requestor_id": "IBMid-somebody" }],
        "migrated": false,
        "extensions": {},
        "controlled_by": "",
        "locked": false,
    })
}

/// A page in the shape of the Resource Controller: `next_url` is relative.
pub(super) fn show_page(path: &str, page: Page<Value>) -> Answer {
    let Page { things, limit, next } = page;
    let next = next.map(|start| format!("{path}?start={start}&limit={limit}"));
    Answer::ok(json!({ "rows_count": things.len(), "next_url": next, "resources": things }))
}
