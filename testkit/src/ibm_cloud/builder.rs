//! The options of a fake IBM Cloud.

use std::time::Duration;

use super::{
    estate::Instance,
    iam::{Iam, Login},
    quirks::Quirks,
    route::Door,
    side::IbmCloud,
    state::State,
};
use crate::{
    broker::CredentialsRecipe,
    remote::{self, Environment, Hosts, ListenError},
};

const HOUR: Duration = Duration::from_secs(3600);

/// An IBM Cloud that is not running yet; [`FakeIbmCloud::builder`](super::FakeIbmCloud::builder) lists the defaults.
/// The port is that of the Resource Controller. To answer 429 without breaking a rule, use
/// [`Fault::too_many_requests`](super::Fault::too_many_requests).
pub type Builder = remote::Builder<IbmSetup>;

/// The options that only an IBM Cloud has.
#[derive(Debug)]
pub struct IbmSetup {
    instances: Vec<Instance>,
    logins: Vec<Login>,
    token_lifetime: Duration,
    credentials: CredentialsRecipe,
    quirks: Quirks,
    service_id_limit: Option<usize>,
}

/// A fake IBM Cloud does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Two logins share a name.
    #[error("there are two logins of the name `{0}`")]
    Login(String),
    /// The fake can't listen on its port.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl Default for IbmSetup {
    fn default() -> Self {
        Self {
            instances: vec![Instance::new("training-app-db")],
            logins: vec![
                Login::api_key("alice", "ibm-api-key"),
                Login::profile("operator", "service-account-token"),
            ],
            token_lifetime: HOUR,
            credentials: CredentialsRecipe::default(),
            quirks: Quirks::default(),
            service_id_limit: None,
        }
    }
}

impl Builder {
    /// Adds an instance. Several instances may have the same name.
    pub fn instance(mut self, instance: Instance) -> Self {
        self.setup.instances.push(instance);
        self
    }

    /// Removes all instances, also the default one.
    pub fn without_instances(mut self) -> Self {
        self.setup.instances.clear();
        self
    }

    /// Adds a user with an API key, or a trusted profile.
    pub fn login(mut self, login: Login) -> Self {
        self.setup.logins.push(login);
        self
    }

    /// Removes all logins, also the default ones.
    pub fn without_logins(mut self) -> Self {
        self.setup.logins.clear();
        self
    }

    /// Sets the lifetime of tokens; IAM reports it in whole seconds.
    pub const fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.setup.token_lifetime = lifetime;
        self
    }

    /// Sets how the broker behind the Resource Controller creates credentials.
    pub fn credentials(mut self, recipe: CredentialsRecipe) -> Self {
        self.setup.credentials = recipe;
        self
    }

    /// Sets the quirks.
    pub const fn quirks(mut self, quirks: Quirks) -> Self {
        self.setup.quirks = quirks;
        self
    }

    /// Limits the service IDs of the account.
    pub const fn service_id_limit(mut self, service_ids: usize) -> Self {
        self.setup.service_id_limit = Some(service_ids);
        self
    }
}

impl remote::Setup for IbmSetup {
    type Side = IbmCloud;
    type Error = StartError;

    fn into_side(self, _hosts: &Hosts<Door>, environment: &Environment) -> Result<IbmCloud, StartError> {
        check_names(&self.logins)?;
        let (mut logins, mut instances) = (self.logins, self.instances);
        logins.iter_mut().for_each(|login| login.assign_id(environment));
        instances.iter_mut().for_each(|instance| instance.guid = environment.guid());
        let account = environment.secret();
        let iam = Iam::new(account.clone(), logins, self.token_lifetime, environment.clone());
        let mut state = State::new(account, instances, self.credentials, self.quirks, environment.clone());
        state.service_id_limit = self.service_id_limit;
        Ok(IbmCloud { iam, state })
    }
}

fn check_names(logins: &[Login]) -> Result<(), StartError> {
    for (place, login) in logins.iter().enumerate() {
        if logins.iter().skip(place + 1).any(|other| other.name() == login.name()) {
            return Err(StartError::Login(login.name().to_owned()));
        }
    }
    Ok(())
}
