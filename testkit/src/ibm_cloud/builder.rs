//! How a fake IBM Cloud is put together.

use std::{io, num::NonZeroU32, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    estate::Instance,
    fake::FakeIbmCloud,
    iam::{Iam, Login},
    quirks::Quirks,
    record::Rule,
    route::Door,
    side::IbmCloud,
    state::State,
};
use crate::{
    broker::{CredentialsRecipe, ReservedPort, TlsIdentity},
    remote::{Host, Shared},
    server::Server,
};

const HOUR: Duration = Duration::from_secs(3600);

/// An IBM Cloud that is not running yet; see [`FakeIbmCloud::builder`] for what it has from the start.
#[derive(Debug)]
#[must_use]
pub struct Builder {
    instances: Vec<Instance>,
    logins: Vec<Login>,
    token_lifetime: Duration,
    credentials: CredentialsRecipe,
    quirks: Quirks,
    service_id_limit: Option<usize>,
    tls: Option<TlsIdentity>,
    port: Option<ReservedPort>,
    tolerated: Vec<Rule>,
    limit: Option<NonZeroU32>,
}

/// A fake IBM Cloud does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Two logins share a name.
    #[error("there are two logins of the name `{0}`")]
    Login(String),
    /// The certificate can't be served.
    #[error("can't serve the certificate")]
    Tls(#[from] rustls::Error),
    /// No thread, no runtime or no port.
    #[error("can't listen on 127.0.0.1")]
    Listen(#[from] io::Error),
}

impl Builder {
    pub(super) fn new() -> Self {
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
            tls: None,
            port: None,
            tolerated: Vec::new(),
            limit: None,
        }
    }

    /// Adds an instance. Others may have the same name.
    pub fn instance(mut self, instance: Instance) -> Self {
        self.instances.push(instance);
        self
    }

    /// Takes the instances out again that have been added, and the one that is there from the start.
    pub fn without_instances(mut self) -> Self {
        self.instances.clear();
        self
    }

    /// Adds somebody with an API key, or a trusted profile.
    pub fn login(mut self, login: Login) -> Self {
        self.logins.push(login);
        self
    }

    /// Takes the logins out again that have been added, and those that are there from the start.
    pub fn without_logins(mut self) -> Self {
        self.logins.clear();
        self
    }

    /// How long tokens are good; IAM tells clients in whole seconds.
    pub const fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime;
        self
    }

    /// How the credentials of keys are made, by the broker behind the Resource Controller.
    pub fn credentials(mut self, recipe: CredentialsRecipe) -> Self {
        self.credentials = recipe;
        self
    }

    /// What is odd about it.
    pub const fn quirks(mut self, quirks: Quirks) -> Self {
        self.quirks = quirks;
        self
    }

    /// Allows the account so many service IDs.
    pub const fn service_id_limit(mut self, service_ids: usize) -> Self {
        self.service_id_limit = Some(service_ids);
        self
    }

    /// Serves https with this certificate, at both hosts.
    pub fn tls(mut self, identity: TlsIdentity) -> Self {
        self.tls = Some(identity);
        self
    }

    /// Lets the Resource Controller listen on this port instead of any that is free.
    pub fn port(mut self, port: ReservedPort) -> Self {
        self.port = Some(port);
        self
    }

    /// Does not hold breaches of this rule against the client; they are answered all the same.
    pub fn tolerate(mut self, rule: Rule) -> Self {
        self.tolerated.push(rule);
        self
    }

    /// Serves so many requests a second, and as many at once after a rest. Whoever asks for more breaks a rule; for a
    /// 429 that an honest client can meet see [`Fault::too_many_requests`](super::Fault::too_many_requests).
    pub const fn limit(mut self, requests_per_second: NonZeroU32) -> Self {
        self.limit = Some(requests_per_second);
        self
    }

    /// Starts IAM and the Resource Controller on 127.0.0.1.
    ///
    /// # Errors
    /// Two logins share a name, or there is no port, thread or certificate to be had.
    pub async fn start(self) -> Result<FakeIbmCloud, StartError> {
        check_names(&self.logins)?;
        let acceptor = self.tls.as_ref().map(TlsIdentity::acceptor).transpose()?;
        let port = self.port.map_or_else(ReservedPort::take, Ok)?;
        let iam_port = ReservedPort::take()?;

        let account = Uuid::new_v4().simple().to_string();
        let iam = Iam::new(account.clone(), self.logins, self.token_lifetime);
        let mut state = State::new(account, self.instances, self.credentials, self.quirks);
        state.service_id_limit = self.service_id_limit;
        let shared = Arc::new(Shared::new(IbmCloud { iam, state }, self.tolerated, self.limit));
        let host = |door| Host { door, shared: Arc::clone(&shared) };
        let controller = host(Door::ResourceController);
        let controller =
            Server::start("fake-resource-controller", controller, acceptor.clone(), port).await?;
        let iam = Server::start("fake-iam", host(Door::Iam), acceptor, iam_port).await?;
        Ok(FakeIbmCloud::new(shared, controller, iam, self.tls))
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
