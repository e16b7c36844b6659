//! How a fake Cloud Foundry is put together.

use std::{collections::HashSet, io, num::NonZeroU32, sync::Arc, time::Duration};

use super::{
    estate::{Instance, Organization, Space},
    fake::FakeCloudFoundry,
    pace::Pace,
    record::Rule,
    route::Door,
    side::CloudFoundry,
    state::State,
    uaa::{Login, RefreshTokens, Uaa},
};
use crate::{
    broker::{CredentialsRecipe, ReservedPort, TlsIdentity},
    remote::{Host, Shared},
    server::Server,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A Cloud Foundry that is not running yet; see [`FakeCloudFoundry::builder`] for what it has from the start.
#[derive(Debug)]
#[must_use]
pub struct Builder {
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
    tls: Option<TlsIdentity>,
    port: Option<ReservedPort>,
    tolerated: Vec<Rule>,
    limit: Option<NonZeroU32>,
}

/// A fake Cloud Foundry does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Two things share a name that has to be unique.
    #[error("there are two {what} of the name `{name}` in one place")]
    Name {
        /// What they are.
        what: &'static str,
        /// Their name.
        name: String,
    },
    /// The certificate can't be served.
    #[error("can't serve the certificate")]
    Tls(#[from] rustls::Error),
    /// No thread, no runtime or no port.
    #[error("can't listen on 127.0.0.1")]
    Listen(#[from] io::Error),
}

impl Builder {
    pub(super) fn new() -> Self {
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
            tls: None,
            port: None,
            tolerated: Vec::new(),
            limit: None,
        }
    }

    /// Adds an organization, with its spaces and their instances.
    pub fn organization(mut self, organization: Organization) -> Self {
        self.organizations.push(organization);
        self
    }

    /// Takes the organizations out again that have been added, and the one that is there from the start.
    pub fn without_organizations(mut self) -> Self {
        self.organizations.clear();
        self
    }

    /// Adds a user or a client.
    pub fn login(mut self, login: Login) -> Self {
        self.logins.push(login);
        self
    }

    /// Takes the logins out again that have been added, and those that are there from the start.
    pub fn without_logins(mut self) -> Self {
        self.logins.clear();
        self
    }

    /// How long access tokens are good.
    pub const fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime;
        self
    }

    /// What becomes of refresh tokens.
    pub const fn refresh_tokens(mut self, refresh_tokens: RefreshTokens) -> Self {
        self.refresh_tokens = refresh_tokens;
        self
    }

    /// How the credentials of keys are made, by the broker behind the Cloud Controller.
    pub fn credentials(mut self, recipe: CredentialsRecipe) -> Self {
        self.credentials = recipe;
        self
    }

    /// How long it takes to make and to delete keys.
    pub const fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Puts so many resources on a page at most, whatever a client asks for; the links to other pages say so.
    pub const fn page_limit(mut self, resources: usize) -> Self {
        self.page_limit = Some(resources);
        self
    }

    /// Allows so many look-ups of single keys and jobs. Whoever makes more, where a list would do, breaks a rule.
    pub const fn look_ups(mut self, count: usize) -> Self {
        self.look_ups = Some(count);
        self
    }

    /// Lets the broker work on one key of an instance at a time: it answers 422 `ConcurrencyError` to all others.
    pub const fn one_at_a_time(mut self) -> Self {
        self.one_at_a_time = true;
        self
    }

    /// Refuses pages that hold, with those before them, more resources than this.
    pub const fn max_total_results(mut self, resources: usize) -> Self {
        self.max_total_results = Some(resources);
        self
    }

    /// Is a Korifi: Cloud Foundry's API on Kubernetes, without a UAA. Its tokens are those of the cluster, which
    /// [`FakeCloudFoundry::issue_token`] stands for.
    pub const fn korifi(mut self) -> Self {
        self.korifi = true;
        self
    }

    /// Names itself so in all links, as a Korifi does that is called by its address within the cluster.
    pub fn named(mut self, url: impl Into<String>) -> Self {
        self.named = Some(url.into());
        self
    }

    /// Serves https with this certificate, at both hosts.
    pub fn tls(mut self, identity: TlsIdentity) -> Self {
        self.tls = Some(identity);
        self
    }

    /// Lets the Cloud Controller listen on this port instead of any that is free.
    pub fn port(mut self, port: ReservedPort) -> Self {
        self.port = Some(port);
        self
    }

    /// Does not hold breaches of this rule against the client; they are refused all the same.
    pub fn tolerate(mut self, rule: Rule) -> Self {
        self.tolerated.push(rule);
        self
    }

    /// Serves so many requests a second, and as many at once after a rest. Whoever asks for more breaks a rule; for a
    /// limit that an honest client can meet see [`FakeCloudFoundry::limit_rate`].
    pub const fn limit(mut self, requests_per_second: NonZeroU32) -> Self {
        self.limit = Some(requests_per_second);
        self
    }

    /// Starts the Cloud Controller and the UAA on 127.0.0.1.
    ///
    /// # Errors
    /// Names are taken twice, or there is no port, thread or certificate to be had.
    pub async fn start(self) -> Result<FakeCloudFoundry, StartError> {
        check_names(&self.organizations, &self.logins)?;
        let acceptor = self.tls.as_ref().map(TlsIdentity::acceptor).transpose()?;
        let api_port = self.port.map_or_else(ReservedPort::take, Ok)?;
        let uaa_port = ReservedPort::take()?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let [api_url, uaa_url] = [&api_port, &uaa_port].map(|port| format!("{scheme}://{}", port.addr()));

        let uaa = Uaa::new(self.logins, self.token_lifetime, self.refresh_tokens);
        let api_url = self.named.unwrap_or(api_url);
        let mut state =
            State::new(api_url, uaa_url, self.organizations, self.credentials, self.pace, self.page_limit);
        state.one_at_a_time = self.one_at_a_time;
        state.korifi = self.korifi;
        state.max_total_results = self.max_total_results;
        let side = CloudFoundry::new(uaa, state, self.look_ups);
        let shared = Arc::new(Shared::new(side, self.tolerated, self.limit));
        let host = |door| Host { door, shared: Arc::clone(&shared) };
        let api = Server::start("fake-cloud-controller", host(Door::Api), acceptor.clone(), api_port).await?;
        let uaa = Server::start("fake-uaa", host(Door::Uaa), acceptor, uaa_port).await?;
        Ok(FakeCloudFoundry::new(shared, api, uaa, self.tls))
    }
}

/// Checks what the Cloud Controller and the UAA keep unique.
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
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(StartError::Name { what, name: name.to_owned() });
        }
    }
    Ok(())
}
