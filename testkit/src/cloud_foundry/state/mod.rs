//! The objects in the Cloud Controller, and the effect of each operation. It does no I/O, and uses the clock only for
//! timestamps.

mod estate;
mod jobs;
mod keys;
mod lists;
mod show;
mod work;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use self::jobs::Job;
use super::{
    answer::{Answer, ApiError},
    estate::{Instance, Organization, Space},
    operation::Operation,
    pace::Pace,
    record::{Key, UnderWay},
    uaa::Session,
};
use crate::{broker::CredentialsRecipe, remote::Environment};

/// Organizations, spaces, instances, keys, and the work on keys.
pub(super) struct State {
    /// The base address of the Cloud Controller, for links.
    api: String,
    /// The base address of the UAA.
    uaa: String,
    organizations: Vec<Organization>,
    recipe: CredentialsRecipe,
    pub environment: Environment,
    pub pace: Pace,
    /// The limit of resources on a page, whatever a client requests.
    pub page_limit: Option<usize>,
    /// Whether the broker works on one key of an instance at a time.
    pub one_at_a_time: bool,
    /// Whether the broker works on an operation of another client at each instance, and refuses all others.
    pub is_occupied: bool,
    /// Whether it is a Korifi.
    pub korifi: bool,
    /// The limit of resources in a list, whatever the size of its pages.
    pub max_total_results: Option<usize>,
    /// By number, so oldest first.
    keys: BTreeMap<u64, Stored>,
    numbers: BTreeMap<String, u64>,
    jobs: BTreeMap<String, Job>,
    asked_for: u64,
    made: u64,
    begun: u64,
}

/// A key with details that tests do not see.
struct Stored {
    key: Key,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// The current work on the key.
    effort: Option<work::Effort>,
}

/// An instance with its location.
#[derive(Clone, Copy)]
struct Place<'a> {
    organization: &'a Organization,
    space: &'a Space,
    instance: &'a Instance,
}

type Answered = Result<Answer, ApiError>;

impl State {
    pub(super) fn new(
        api: String,
        uaa: String,
        organizations: Vec<Organization>,
        recipe: CredentialsRecipe,
        pace: Pace,
        environment: Environment,
    ) -> Self {
        Self {
            api,
            uaa,
            organizations,
            recipe,
            environment,
            pace,
            page_limit: None,
            one_at_a_time: false,
            is_occupied: false,
            korifi: false,
            max_total_results: None,
            keys: BTreeMap::new(),
            numbers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            asked_for: 0,
            made: 0,
            begun: 0,
        }
    }

    /// Carries out an operation that needs no token.
    pub(super) fn apply_openly(&self, operation: &Operation) -> Answer {
        match operation {
            Operation::Root => Answer::ok(self.root()),
            Operation::ApiRoot => Answer::ok(self.api_root()),
            _ => ApiError::not_authenticated().into(),
        }
    }

    /// Carries out an operation of a caller with a token.
    pub(super) fn apply(&mut self, operation: &Operation, session: &Session) -> Answer {
        if let Err(error) = self.check_results(operation) {
            return error.into();
        }
        let answered = match operation {
            Operation::Root | Operation::ApiRoot | Operation::Token(_) => Ok(self.apply_openly(operation)),
            Operation::Organizations(query) => Ok(self.list_organizations(query, session)),
            Operation::Spaces(query) => Ok(self.list_spaces(query, session)),
            Operation::Instances(query) => Ok(self.list_instances(query, session)),
            Operation::Instance { guid } => self.fetch_instance(guid, session),
            Operation::Keys(query) => Ok(self.list_keys(query, session)),
            Operation::Key { guid, query } => self.fetch_key(guid, query, session),
            Operation::Details { guid } => self.details(guid, session),
            Operation::Parameters { guid } => self.parameters(guid, session),
            Operation::Create(wish) => self.create(wish, session),
            Operation::Update { guid, metadata } => self.update(guid, metadata, session),
            Operation::Delete { guid } => self.delete(guid, session),
            Operation::Job { guid } => self.fetch_job(guid),
        };
        answered.unwrap_or_else(Answer::from)
    }

    fn check_results(&self, operation: &Operation) -> Result<(), ApiError> {
        let (Some(most), Some(query)) = (self.max_total_results, operation.list()) else { return Ok(()) };
        if query.page.saturating_mul(query.per_page) <= most {
            return Ok(());
        }
        let detail = format!("Maximum result (page * per_page) must be less than {most}");
        Err(ApiError::bad_query_parameter(&detail))
    }

    /// The existing keys, oldest first.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.keys.values().map(|stored| stored.key.clone()).collect()
    }

    pub(super) fn key(&self, guid: &str) -> Option<&Key> {
        self.stored(guid).map(|stored| &stored.key)
    }

    /// All current work, oldest first.
    pub(super) fn under_way(&self) -> Vec<UnderWay> {
        let mut open: Vec<_> = self.keys.values().filter_map(Stored::under_way).collect();
        open.sort_by_key(|(number, _)| *number);
        open.into_iter().map(|(_, open)| open).collect()
    }

    fn stored(&self, guid: &str) -> Option<&Stored> {
        self.numbers.get(guid).and_then(|number| self.keys.get(number))
    }

    fn stored_mut(&mut self, guid: &str) -> Option<&mut Stored> {
        self.numbers.get(guid).and_then(|number| self.keys.get_mut(number))
    }

    fn remove(&mut self, guid: &str) -> Option<Stored> {
        self.numbers.remove(guid).and_then(|number| self.keys.remove(&number))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.api)
    }

    fn make_credentials(&mut self, guid: &str, name: &str) -> Map<String, Value> {
        self.made += 1;
        // The broker behind the Cloud Controller does not depend on the plan here.
        let instance =
            crate::broker::Instance { name: name.to_owned(), ..crate::broker::Instance::new(guid, "", "") };
        self.recipe.make(&instance, self.made, &self.environment).0
    }
}
