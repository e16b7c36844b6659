//! The roles that keys and policies can have.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{
        estate::{Instance, service_role},
        iam::Session,
        record::Rule,
        route::Route,
    },
    Answer, Answered, Refusal, State, may_read,
};
use crate::remote::reading::Parameters;

const PLATFORM_ROLES: [&str; 4] = ["Viewer", "Operator", "Editor", "Administrator"];

impl State {
    pub(super) fn list_roles(&self, query: &Parameters, session: &Session) -> Answered {
        let route = Route::Roles;
        may_read(route, session)?;
        self.check_account(route, query.get("account_id").map(String::as_str))?;
        let policy_type = query.get("policy_type").map(String::as_str);
        if policy_type.is_some_and(|kind| !["access", "authorization"].contains(&kind)) {
            return Err(Refusal::bad_request(route, Rule::Query, "there is no such `policy_type`"));
        }
        let service = query.get("service_name").map(String::as_str);
        let instances = || self.instances().iter().filter(|one| Some(one.service.as_str()) == service);
        let service_roles: Vec<_> = distinct(instances(), |one| &one.roles)
            .into_keys()
            .map(|role| self.show_service_role(role))
            .collect();
        let is_theirs = |one: &&Instance| service.is_none_or(|service| one.service == service);
        let custom_roles: Vec<_> =
            distinct(self.instances().iter().filter(is_theirs), |one| &one.custom_roles)
                .into_iter()
                .map(|(role, service)| self.show_custom_role(role, service))
                .collect();
        Ok(Answer::ok(json!({
            "system_roles": PLATFORM_ROLES.map(|role| show_role(role, &platform_role(role))),
            "service_roles": service_roles,
            "custom_roles": custom_roles,
        })))
    }

    /// Whether any service has a role with this CRN.
    pub(super) fn knows_role(&self, crn: &str) -> bool {
        self.role_name(crn).is_some()
    }

    pub(super) fn show_policy_role(&self, crn: &str) -> Value {
        json!({ "role_id": crn, "display_name": self.role_name(crn), "description": "A role" })
    }

    fn role_name(&self, crn: &str) -> Option<&str> {
        let of_services = self.instances().iter().flat_map(|one| one.roles_with_crns(&self.account));
        let of_the_platform = PLATFORM_ROLES.into_iter().map(|role| (role, platform_role(role)));
        of_services.chain(of_the_platform).find(|(_, known)| known == crn).map(|(name, _)| name)
    }

    fn show_service_role(&self, role: &str) -> Value {
        show_role(role, &service_role(role))
    }

    fn show_custom_role(&self, role: &str, service: &str) -> Value {
        let account = &self.account;
        let crn = format!("crn:v1:bluemix:public:iam-access-management::a/{account}::customRole:{role}");
        let mut shown = show_role(role, &crn);
        shown["id"] = json!(format!("id-of-{role}"));
        shown["name"] = json!(role);
        shown["account_id"] = json!(account);
        shown["service_name"] = json!(service);
        shown
    }
}

/// Each role once, with one service that has it.
fn distinct<'a>(
    instances: impl Iterator<Item = &'a Instance>,
    roles: impl Fn(&'a Instance) -> &'a Vec<String>,
) -> BTreeMap<&'a str, &'a str> {
    let with_service =
        |one: &'a Instance| roles(one).iter().map(|role| (role.as_str(), one.service.as_str()));
    instances.flat_map(with_service).collect()
}

fn platform_role(name: &str) -> String {
    format!("crn:v1:bluemix:public:iam::::role:{name}")
}

fn show_role(name: &str, crn: &str) -> Value {
    json!({ "display_name": name, "description": "A role", "actions": ["any.service.action"], "crn": crn })
}
