//! The options of a fake Cloud Foundry.

use std::{collections::BTreeSet, time::Duration};

use super::{
    estate::{Instance, Organization, Space, assign_guids},
    pace::Pace,
    route::Door,
    side::CloudFoundry,
    state::State,
    uaa::{Login, RefreshTokens, Uaa},
};
use crate::{
    broker::CredentialsRecipe,
    remote::{self, Environment, Hosts, ListenError},
};

const HOUR: Duration = Duration::from_secs(3600);

/// A Cloud Foundry that is not running yet; [`FakeCloudFoundry::builder`](super::FakeCloudFoundry::builder) lists the
/// defaults. The port is that of the Cloud Controller. To answer 429 without breaking a rule, use
/// [`FakeCloudFoundry::limit_rate`](super::FakeCloudFoundry::limit_rate).
pub type Builder = remote::Builder<FoundrySetup>;

/// The options that only a Cloud Foundry has.
#[derive(Debug)]
pub struct FoundrySetup {
    organizations: Vec<Organization>,
    logins: Vec<Login>,
    token_lifetime: Duration,
    refresh_tokens: RefreshTokens,
    credentials: CredentialsRecipe,
    pace: Pace,
    page_limit: Option<usize>,
    look_ups: Option<usize>,
    one_at_a_time: bool,
    korifi: bool,
    max_total_results: Option<usize>,
    named: Option<String>,
}

/// A fake Cloud Foundry does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Two objects share a name that must be unique.
    #[error("there are two {what} of the name `{name}` in one place")]
    Name {
        /// The kind of the objects.
        what: &'static str,
        /// Their name.
        name: String,
    },
    /// The fake can't listen on its port.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl Default for FoundrySetup {
    fn default() -> Self {
        let dev = Space::new("dev").instance(Instance::managed("training-app-db"));
        Self {
            organizations: vec![Organization::new("acme").space(dev)],
            logins: vec![Login::user("alice", "cf-password"), Login::client("operator", "client-secret")],
            token_lifetime: HOUR,
            refresh_tokens: RefreshTokens::Lasting,
            credentials: CredentialsRecipe::default(),
            pace: Pace::at_once(),
            page_limit: None,
            look_ups: None,
            one_at_a_time: false,
            korifi: false,
            max_total_results: None,
            named: None,
        }
    }
}

impl Builder {
    /// Adds an organization with its spaces and their instances.
    pub fn organization(mut self, organization: Organization) -> Self {
        self.setup.organizations.push(organization);
        self
    }

    /// Removes all organizations, also the default one.
    pub fn without_organizations(mut self) -> Self {
        self.setup.organizations.clear();
        self
    }

    /// Adds a user or a client.
    pub fn login(mut self, login: Login) -> Self {
        self.setup.logins.push(login);
        self
    }

    /// Removes all logins, also the default ones.
    pub fn without_logins(mut self) -> Self {
        self.setup.logins.clear();
        self
    }

    /// Sets the lifetime of access tokens.
    pub const fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.setup.token_lifetime = lifetime;
        self
    }

    /// Sets how the UAA treats refresh tokens.
    pub const fn refresh_tokens(mut self, refresh_tokens: RefreshTokens) -> Self {
        self.setup.refresh_tokens = refresh_tokens;
        self
    }

    /// Sets how the broker behind the Cloud Controller creates credentials.
    pub fn credentials(mut self, recipe: CredentialsRecipe) -> Self {
        self.setup.credentials = recipe;
        self
    }

    /// Sets how long the creation and the deletion of a key take.
    pub const fn pace(mut self, pace: Pace) -> Self {
        self.setup.pace = pace;
        self
    }

    /// Limits the resources on a page, whatever a client requests; the links to other pages name the limit.
    pub const fn page_limit(mut self, resources: usize) -> Self {
        self.setup.page_limit = Some(resources);
        self
    }

    /// Allows this many look-ups of single keys and jobs. A client that sends more breaks a rule, because a list would
    /// do.
    pub const fn look_ups(mut self, count: usize) -> Self {
        self.setup.look_ups = Some(count);
        self
    }

    /// Lets the broker work on one key of an instance at a time: it answers 422 `ConcurrencyError` to all others.
    pub const fn one_at_a_time(mut self) -> Self {
        self.setup.one_at_a_time = true;
        self
    }

    /// Refuses a page if it and the pages before it hold more resources than this.
    pub const fn max_total_results(mut self, resources: usize) -> Self {
        self.setup.max_total_results = Some(resources);
        self
    }

    /// Behaves like a Korifi: Cloud Foundry's API on Kubernetes, without a UAA. It accepts tokens of the cluster; tests
    /// use [`FakeCloudFoundry::issue_token`](super::FakeCloudFoundry::issue_token) for them.
    pub const fn korifi(mut self) -> Self {
        self.setup.korifi = true;
        self
    }

    /// Uses this URL in all links, like a Korifi that is called by its address within the cluster.
    pub fn named(mut self, url: impl Into<String>) -> Self {
        self.setup.named = Some(url.into());
        self
    }
}

impl remote::Setup for FoundrySetup {
    type Side = CloudFoundry;
    type Error = StartError;

    fn into_side(self, hosts: &Hosts<Door>, environment: &Environment) -> Result<CloudFoundry, StartError> {
        check_names(&self.organizations, &self.logins)?;
        let (mut organizations, environment) = (self.organizations, environment.clone());
        assign_guids(&mut organizations, &environment);
        let uaa = Uaa::new(self.logins, self.token_lifetime, self.refresh_tokens, environment.clone());
        let (api_url, uaa_url) = (self.named.unwrap_or_else(|| hosts.url(Door::Api)), hosts.url(Door::Uaa));
        let mut state = State::new(api_url, uaa_url, organizations, self.credentials, self.pace, environment);
        state.page_limit = self.page_limit;
        state.one_at_a_time = self.one_at_a_time;
        state.korifi = self.korifi;
        state.max_total_results = self.max_total_results;
        Ok(CloudFoundry::new(uaa, state, self.look_ups))
    }
}

/// Checks the names that the Cloud Controller and the UAA require to be unique.
fn check_names(organizations: &[Organization], logins: &[Login]) -> Result<(), StartError> {
    unique("organizations", organizations.iter().map(|organization| &*organization.name))?;
    unique("logins", logins.iter().map(Login::name))?;
    for organization in organizations {
        unique("spaces", organization.spaces.iter().map(|space| &*space.name))?;
        for space in &organization.spaces {
            unique("instances", space.instances.iter().map(|instance| &*instance.name))?;
        }
    }
    Ok(())
}

fn unique<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), StartError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(StartError::Name { what, name: name.to_owned() });
        }
    }
    Ok(())
}
