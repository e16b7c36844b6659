//! Access policies of service IDs.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    super::{
        answer::iam,
        iam::{Access, Session},
        operation::{PolicyWish, Subject},
        record::{Policy, Rule},
        route::Route,
    },
    Answer, Answered, NO_CONTENT, Refusal, State, Stored, may_change, may_read, shown_time,
};
use crate::remote::reading::Parameters;

const OPERATORS: [&str; 2] = ["stringEquals", "stringMatch"];

impl State {
    pub(super) fn list_policies(&self, query: &Parameters, session: &Session) -> Answered {
        let route = Route::Policies;
        let Some(account) = query.get("account_id") else {
            return Err(Refusal::bad_request(route, Rule::Query, "`account_id` is missing"));
        };
        self.check_account(route, Some(account))?;
        let admits = |filter: &str, value: &str| query.get(filter).is_none_or(|wanted| wanted == value);
        let found: Vec<_> = self
            .policies
            .values()
            .filter(|stored| {
                session.access != Access::None
                    && admits("iam_id", &stored.thing.iam_id)
                    && admits("type", "access")
                    && admits("state", "active")
            })
            .map(|stored| self.show_policy(stored))
            .collect();
        Ok(Answer::ok(json!({ "policies": found })))
    }

    pub(super) fn fetch_policy(&self, id: &str, session: &Session) -> Answered {
        may_read(Route::Policy, session)?;
        let found = self.policies.values().find(|stored| stored.thing.id == id);
        let found = found.ok_or_else(|| Refusal::not_found(Route::Policy, "policy", id))?;
        Ok(Answer::ok(self.show_policy(found)))
    }

    pub(super) fn create_policy(&mut self, wish: &PolicyWish, session: &Session) -> Answered {
        may_change(Route::CreatePolicy, session)?;
        let iam_id = self.subject_of(wish)?;
        let resource = self.resource_of(wish)?;
        let roles = self.roles_of(wish)?;
        let mut policies = self.policies.values().map(|stored| &stored.thing);
        if let Some(same) = policies.find(|policy| policy.iam_id == iam_id && policy.resource == resource) {
            return Err(Refusal::blameless(conflict(&same.id)));
        }
        let number = self.next_number();
        let description = wish.description.clone();
        let policy = Policy { id: self.environment.guid(), iam_id, roles, resource, description, number };
        self.policies.insert(number, Stored::new(policy, &session.iam_id, self.environment.now()));
        Ok(Answer::new(StatusCode::CREATED, self.show_policy(&self.policies[&number])))
    }

    pub(super) fn delete_policy(&mut self, id: &str, session: &Session) -> Answered {
        may_change(Route::DeletePolicy, session)?;
        match self.forget_policy(id) {
            true => Ok(NO_CONTENT),
            false => Err(Refusal::not_found(Route::DeletePolicy, "policy", id)),
        }
    }

    /// The one service ID that gets a policy.
    fn subject_of(&self, wish: &PolicyWish) -> Result<String, Refusal> {
        let [Subject { attributes }] = wish.subjects.as_slice() else {
            return Err(malformed("a policy has one subject"));
        };
        let [attribute] = attributes.as_slice() else {
            return Err(malformed("a subject has one attribute"));
        };
        if attribute.name != "iam_id" {
            return Err(malformed("the fake knows subjects by `iam_id` only"));
        }
        if !self.service_ids.values().any(|stored| stored.thing.iam_id == attribute.value) {
            let detail = format!("there is no service ID with the iam_id `{}`", attribute.value);
            return Err(Refusal::bad_request(Route::CreatePolicy, Rule::ServiceId, detail));
        }
        Ok(attribute.value.clone())
    }

    /// The attributes of the resource of a policy.
    fn resource_of(&self, wish: &PolicyWish) -> Result<Vec<(String, String, String)>, Refusal> {
        let [resource] = wish.resources.as_slice() else {
            return Err(malformed("a policy has one resource"));
        };
        let mut attributes: Vec<(String, String, String)> = Vec::new();
        for attribute in &resource.attributes {
            if attributes.iter().any(|(name, ..)| *name == attribute.name) {
                return Err(malformed(&format!("`{}` is there twice", attribute.name)));
            }
            if !OPERATORS.contains(&attribute.operator.as_str()) {
                return Err(malformed(&format!("there is no operator `{}`", attribute.operator)));
            }
            attributes.push((attribute.name.clone(), attribute.operator.clone(), attribute.value.clone()));
        }
        let value = |wanted: &str| {
            attributes.iter().find(|(name, ..)| name == wanted).map(|(.., value)| value.as_str())
        };
        let Some(account) = value("accountId") else {
            return Err(malformed("the attribute `accountId` is missing"));
        };
        self.check_account(Route::CreatePolicy, Some(account))?;
        let service = value("serviceName");
        if service.is_some_and(|service| !self.instances().iter().any(|known| known.service == service)) {
            return Err(malformed("there is no such service"));
        }
        if value("serviceInstance").is_some() && service.is_none() {
            return Err(malformed("`serviceInstance` needs `serviceName`"));
        }
        attributes.sort();
        Ok(attributes)
    }

    fn roles_of(&self, wish: &PolicyWish) -> Result<Vec<String>, Refusal> {
        if wish.roles.is_empty() {
            return Err(malformed("a policy has a role"));
        }
        let roles: Vec<_> = wish.roles.iter().map(|role| role.role_id.clone()).collect();
        match roles.iter().find(|role| !self.knows_role(role)) {
            None => Ok(roles),
            Some(role) => {
                let detail = format!("there is no role `{role}`");
                Err(Refusal::bad_request(Route::CreatePolicy, Rule::Role, detail))
            }
        }
    }

    fn show_policy(&self, stored: &Stored<Policy>) -> Value {
        let Policy { id, iam_id, roles, resource, description, number: _ } = &stored.thing;
        let attributes: Vec<_> = resource
            .iter()
            .map(|(name, operator, value)| json!({ "name": name, "operator": operator, "value": value }))
            .collect();
        let roles: Vec<_> = roles.iter().map(|role| self.show_policy_role(role)).collect();
        let mut shown = json!({
            "id": id,
            "type": "access",
            "subjects": [{ "attributes": [{ "name": "iam_id", "value": iam_id }] }],
            "roles": roles,
            "resources": [{ "attributes": attributes }],
            "href": format!("https://iam.cloud.ibm.com/v1/policies/{id}"),
            "created_at": shown_time(stored.created_at),
            "created_by_id": stored.created_by,
            "last_modified_at": shown_time(stored.updated_at()),
            "last_modified_by_id": stored.updated_by(),
            "state": "active",
        });
        if !description.is_empty() {
            shown["description"] = json!(description);
        }
        shown
    }
}

/// Reads and changes of tests.
impl State {
    /// All policies, oldest first.
    pub(crate) fn policies(&self) -> Vec<Policy> {
        self.policies.values().map(|stored| stored.thing.clone()).collect()
    }

    /// Deletes a policy; returns whether it existed.
    pub(crate) fn forget_policy(&mut self, id: &str) -> bool {
        let before = self.policies.len();
        self.policies.retain(|_, stored| stored.thing.id != id);
        self.policies.len() < before
    }
}

fn malformed(detail: &str) -> Refusal {
    Refusal::bad_request(Route::CreatePolicy, Rule::Body, detail)
}

/// 409 with the id of the existing policy.
fn conflict(id: &str) -> Answer {
    let message = "The policy wasn't created because the access policy or one with the same resource exists";
    let mut answer = iam(StatusCode::CONFLICT, "policy_conflict_error", message);
    if let Some(body) = &mut answer.body {
        body["errors"][0]["details"] = json!({ "conflicts_with": { "policy": id } });
    }
    answer
}
