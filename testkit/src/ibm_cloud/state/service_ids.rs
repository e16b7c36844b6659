//! Service IDs.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    super::{
        answer::iam,
        iam::{Access, Session},
        operation::ServiceIdWish,
        record::{Rule, ServiceId},
        route::Route,
    },
    Answer, Answered, NO_CONTENT, Refusal, State, Stored, may_change, may_read,
    pages::{Page, Words},
    shown_time,
};
use crate::remote::reading::Parameters;

const WORDS: Words = Words { limit: "pagesize", token: "pagetoken", usual: 20 };
const PATH: &str = "/v1/serviceids";

impl State {
    pub(super) fn list_service_ids(&mut self, query: &Parameters, session: &Session) -> Answered {
        let route = Route::ServiceIds;
        if !query.contains_key("account_id") && !query.contains_key("pagetoken") {
            return Err(Refusal::bad_request(route, Rule::Query, "`account_id` is missing"));
        }
        self.check_account(route, query.get("account_id").map(String::as_str))?;
        let asked = self.pages.read(route, PATH, query, &WORDS)?;
        let found: Vec<_> = self
            .service_ids
            .iter()
            .filter(|(_, stored)| session.access != Access::None && asked.admits("name", &stored.thing.name))
            .map(|(number, stored)| (*number, self.show_service_id(stored)))
            .collect();
        let Page { things, limit, next } = self.pages.turn(PATH, asked, found.into_iter());
        let link = |rest: String| format!("https://iam.cloud.ibm.com{PATH}?{rest}");
        let mut shown = json!({
            "limit": limit,
            "first": link(format!("account_id={}", self.account)),
            "serviceids": things,
        });
        if let Some(token) = next {
            shown["next"] = link(format!("pagetoken={token}")).into();
        }
        Ok(Answer::ok(shown))
    }

    pub(super) fn fetch_service_id(&self, id: &str, session: &Session) -> Answered {
        may_read(Route::ServiceId, session)?;
        let found = self.service_ids.values().find(|stored| stored.thing.id == id);
        let found = found.ok_or_else(|| Refusal::not_found(Route::ServiceId, "service ID", id))?;
        Ok(Answer::ok(self.show_service_id(found)))
    }

    pub(super) fn create_service_id(&mut self, wish: &ServiceIdWish, session: &Session) -> Answered {
        let route = Route::CreateServiceId;
        may_change(route, session)?;
        self.check_account(route, Some(&wish.account_id))?;
        if let Some(limit) = self.service_id_limit.filter(|limit| self.service_ids.len() >= *limit) {
            let message = format!("The maximum number of {limit} service IDs per account is reached.");
            return Err(Refusal::blameless(iam(StatusCode::BAD_REQUEST, "limit_exceeded", &message)));
        }
        let number = self.insert_service_id(&wish.name, &wish.description, &session.iam_id);
        Ok(Answer::new(StatusCode::CREATED, self.show_service_id(&self.service_ids[&number])))
    }

    fn insert_service_id(&mut self, name: &str, description: &str, by: &str) -> u64 {
        let number = self.next_number();
        let id = format!("ServiceId-{}", self.environment.guid());
        let made = ServiceId {
            iam_id: format!("iam-{id}"),
            crn: format!("crn:v1:bluemix:public:iam-identity::a/{}::serviceid:{id}", self.account),
            id,
            name: name.to_owned(),
            description: description.to_owned(),
            number,
        };
        self.service_ids.insert(number, Stored::new(made, by, self.environment.now()));
        number
    }

    /// Keys that are bound to it stop working. The deletion then breaks a rule, which `side` records.
    pub(super) fn delete_service_id(&mut self, id: &str, session: &Session) -> Answered {
        may_change(Route::DeleteServiceId, session)?;
        match self.forget_service_id(id) {
            true => Ok(NO_CONTENT),
            false => Err(Refusal::not_found(Route::DeleteServiceId, "service ID", id)),
        }
    }

    fn show_service_id(&self, stored: &Stored<ServiceId>) -> Value {
        let ServiceId { id, iam_id, crn, name, description, number: _ } = &stored.thing;
        let mut shown = json!({
            "id": id,
            "iam_id": iam_id,
            "entity_tag": format!("1-{}", id.replace('-', "")),
            "crn": crn,
            "locked": false,
            "created_at": shown_time(stored.created_at),
            "modified_at": shown_time(stored.updated_at()),
            "account_id": self.account,
            "name": name,
            "unique_instance_crns": [],
        });
        if !description.is_empty() {
            shown["description"] = json!(description);
        }
        shown
    }
}

/// Reads and changes of tests.
impl State {
    /// All service IDs, oldest first.
    pub(crate) fn service_ids(&self) -> Vec<ServiceId> {
        self.service_ids.values().map(|stored| stored.thing.clone()).collect()
    }

    /// Creates a service ID without a call.
    pub(crate) fn add_service_id(&mut self, name: &str) -> ServiceId {
        let number = self.insert_service_id(name, "", "IBMid-somebody");
        self.service_ids[&number].thing.clone()
    }

    /// Deletes a service ID; returns whether it existed.
    pub(crate) fn forget_service_id(&mut self, id: &str) -> bool {
        let found = self.service_ids.iter().find(|(_, stored)| stored.thing.id == id);
        let Some((number, iam_id)) = found.map(|(number, stored)| (*number, stored.thing.iam_id.clone()))
        else {
            return false;
        };
        self.service_ids.remove(&number);
        if self.quirks.policies_go_with_service_ids {
            self.policies.retain(|_, stored| stored.thing.iam_id != iam_id);
        }
        true
    }
}
