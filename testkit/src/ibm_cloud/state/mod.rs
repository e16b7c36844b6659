//! The objects in the account, and the effect of each operation. It does no I/O, and uses the clock only for
//! timestamps.

mod credentials;
mod instances;
mod key_lists;
mod keys;
mod pages;
mod policies;
mod roles;
mod service_ids;

use std::collections::BTreeMap;

use axum::http::StatusCode;
use jiff::Timestamp;

use self::pages::Pages;
use super::{
    answer::{Answer, Refusal},
    estate::Instance,
    iam::{Access, Session},
    operation::Operation,
    quirks::Quirks,
    record::{Key, Policy, Rule, ServiceId},
    route::Route,
};
use crate::{broker::CredentialsRecipe, remote::Environment};

/// Instances, keys, service IDs and policies.
pub(super) struct State {
    pub account: String,
    instances: Vec<Instance>,
    recipe: CredentialsRecipe,
    environment: Environment,
    pub quirks: Quirks,
    pub service_id_limit: Option<usize>,
    /// The `service_key` of each auditing instance, by the GUID of the instance.
    service_keys: BTreeMap<String, String>,
    /// By number, so oldest first; also deleted ones.
    keys: BTreeMap<u64, Stored<Key>>,
    service_ids: BTreeMap<u64, Stored<ServiceId>>,
    policies: BTreeMap<u64, Stored<Policy>>,
    pages: Pages,
    made: u64,
}

/// An object with details that tests do not see.
struct Stored<T> {
    thing: T,
    created_at: Timestamp,
    created_by: String,
    /// The time and the login of its last change or deletion.
    updated: Option<(Timestamp, String)>,
    /// The number of look-ups that still do not find it.
    hidden: usize,
}

impl<T> Stored<T> {
    fn new(thing: T, created_by: &str, created_at: Timestamp) -> Self {
        let created_by = created_by.to_owned();
        Self { thing, created_at, created_by, updated: None, hidden: 0 }
    }

    fn touch(&mut self, by: &str, now: Timestamp) {
        self.updated = Some((now, by.to_owned()));
    }

    fn updated_at(&self) -> Timestamp {
        self.updated.as_ref().map_or(self.created_at, |(at, _)| *at)
    }

    fn updated_by(&self) -> &str {
        self.updated.as_ref().map_or(&self.created_by, |(_, by)| by)
    }
}

type Answered = Result<Answer, Refusal>;

impl State {
    pub(super) fn new(
        account: String,
        instances: Vec<Instance>,
        recipe: CredentialsRecipe,
        quirks: Quirks,
        environment: Environment,
    ) -> Self {
        Self {
            account,
            instances,
            recipe,
            pages: Pages::none(environment.clone()),
            environment,
            quirks,
            service_id_limit: None,
            service_keys: BTreeMap::new(),
            keys: BTreeMap::new(),
            service_ids: BTreeMap::new(),
            policies: BTreeMap::new(),
            made: 0,
        }
    }

    /// Carries out the operation of a caller.
    pub(super) fn apply(&mut self, operation: &Operation, session: &Session) -> Answered {
        match operation {
            Operation::Token(_) => Err(Refusal::forbidden(Route::Token)),
            Operation::ServiceIds(query) => self.list_service_ids(query, session),
            Operation::ServiceId { id } => self.fetch_service_id(id, session),
            Operation::CreateServiceId(wish) => self.create_service_id(wish, session),
            Operation::DeleteServiceId { id } => self.delete_service_id(id, session),
            Operation::Policies(query) => self.list_policies(query, session),
            Operation::Policy { id } => self.fetch_policy(id, session),
            Operation::CreatePolicy(wish) => self.create_policy(wish, session),
            Operation::DeletePolicy { id } => self.delete_policy(id, session),
            Operation::Roles(query) => self.list_roles(query, session),
            Operation::Instances(query) => self.list_instances(query, session),
            Operation::Instance { id } => self.fetch_instance(id, session),
            Operation::KeysOfInstance { id, query } => self.list_keys_of_instance(id, query, session),
            Operation::Keys(query) => self.list_keys(query, session),
            Operation::Key { id } => self.fetch_key(id, session),
            Operation::CreateKey(wish) => self.create_key(wish, session),
            Operation::RenameKey { id, name } => self.rename_key(id, name, session),
            Operation::DeleteKey { id } => self.delete_key(id, session),
        }
    }

    fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// Checks that a call names the fake's account, if it names one.
    fn check_account(&self, route: Route, named: Option<&str>) -> Result<(), Refusal> {
        match named {
            Some(account) if account != self.account => {
                let detail = format!("the account is `{}`, not `{account}`", self.account);
                Err(Refusal::bad_request(route, Rule::Account, detail))
            }
            _ => Ok(()),
        }
    }
}

fn may_read(route: Route, session: &Session) -> Result<(), Refusal> {
    match session.access {
        Access::Full | Access::Editor | Access::Viewer => Ok(()),
        Access::None => Err(Refusal::forbidden(route)),
    }
}

fn may_change(route: Route, session: &Session) -> Result<(), Refusal> {
    match session.access {
        Access::Full | Access::Editor => Ok(()),
        Access::Viewer | Access::None => Err(Refusal::forbidden(route)),
    }
}

const NO_CONTENT: Answer = Answer::bare(StatusCode::NO_CONTENT);

/// A timestamp in the form of both hosts: in UTC, with milliseconds.
fn shown_time(timestamp: Timestamp) -> String {
    format!("{timestamp:.3}")
}
