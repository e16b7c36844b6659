//! How a fake broker is put together.

use std::{io, num::NonZeroU32, sync::Arc};

use super::{
    admission::Demands,
    catalog::{Catalog, Instance},
    credentials::CredentialsRecipe,
    fake::FakeBroker,
    login::Login,
    pace::Pace,
    record::Rule,
    shared::Shared,
    state::State,
};
use crate::{
    remote::{ReservedPort, TlsIdentity},
    server::Server,
};

/// A broker that is not running yet; see [`FakeBroker::builder`] for what it has from the start.
#[derive(Debug)]
#[must_use]
pub struct Builder {
    login: Login,
    demands: Demands,
    catalog: Catalog,
    instances: Vec<Instance>,
    credentials: CredentialsRecipe,
    pace: Pace,
    tls: Option<TlsIdentity>,
    port: Option<ReservedPort>,
    tolerated: Vec<Rule>,
    limit: Option<NonZeroU32>,
}

/// A fake broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The catalog lacks what an instance is of.
    #[error("the catalog has no plan `{plan}` of an offering `{offering}`, which instance `{id}` is of")]
    Instance {
        /// The instance.
        id: String,
        /// Its offering.
        offering: String,
        /// Its plan.
        plan: String,
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
        Self {
            login: Login::basic("operator", "broker-password"),
            demands: Demands::default(),
            catalog: Catalog::training(),
            instances: vec![Instance::new("training-app-db", "postgresql", "small")],
            credentials: CredentialsRecipe::default(),
            pace: Pace::at_once(),
            tls: None,
            port: None,
            tolerated: Vec::new(),
            limit: None,
        }
    }

    /// What callers have to show.
    pub fn login(mut self, login: Login) -> Self {
        self.login = login;
        self
    }

    /// Supports this version of the API alone, and answers 412 to every other one.
    pub fn api_version(mut self, version: &str) -> Self {
        self.demands.api_version = version.to_owned();
        self
    }

    /// Answers 422 to a bind that names neither an application nor a client, in `app_guid` or in `bind_resource`.
    pub fn demand_bind_resource(mut self) -> Self {
        self.demands.bind_resource = true;
        self
    }

    /// Demands this parameter in the query of every call, as a broker does that serves several tenants.
    pub fn demand_parameter(mut self, name: &str, value: &str) -> Self {
        self.demands.parameter = Some((name.to_owned(), value.to_owned()));
        self
    }

    /// What is offered. The instances have to be of it.
    pub fn catalog(mut self, catalog: Catalog) -> Self {
        self.catalog = catalog;
        self
    }

    /// Adds an instance.
    pub fn instance(mut self, instance: Instance) -> Self {
        self.instances.push(instance);
        self
    }

    /// Takes the instances out again that have been added, and the one that is there from the start.
    pub fn without_instances(mut self) -> Self {
        self.instances.clear();
        self
    }

    /// How credentials are made.
    pub fn credentials(mut self, recipe: CredentialsRecipe) -> Self {
        self.credentials = recipe;
        self
    }

    /// How long binds and unbinds take.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Serves https with this certificate.
    pub fn tls(mut self, identity: TlsIdentity) -> Self {
        self.tls = Some(identity);
        self
    }

    /// Listens on this port instead of any that is free.
    pub fn port(mut self, port: ReservedPort) -> Self {
        self.port = Some(port);
        self
    }

    /// Does not hold breaches of this rule against the client; they are refused all the same.
    pub fn tolerate(mut self, rule: Rule) -> Self {
        self.tolerated.push(rule);
        self
    }

    /// Serves so many requests a second, and as many at once after a rest. Whoever asks for more breaks a rule.
    pub fn limit(mut self, requests_per_second: NonZeroU32) -> Self {
        self.limit = Some(requests_per_second);
        self
    }

    /// Starts the broker on 127.0.0.1.
    ///
    /// # Errors
    /// The instances don't fit the catalog, or there is no port, thread or certificate to be had.
    pub async fn start(self) -> Result<FakeBroker, StartError> {
        let Self { login, demands, catalog, instances, credentials, pace, tls, port, tolerated, limit } =
            self;
        for Instance { id, name: _, offering, plan } in &instances {
            if catalog.find(offering).and_then(|found| found.find(plan)).is_none() {
                let (id, offering, plan) = (id.clone(), offering.clone(), plan.clone());
                return Err(StartError::Instance { id, offering, plan });
            }
        }
        let acceptor = tls.as_ref().map(TlsIdentity::acceptor).transpose()?;
        let state = State::new(catalog.clone(), credentials, pace, instances);
        let shared = Arc::new(Shared::new(login, demands, state, tolerated, limit));
        let port = port.map_or_else(ReservedPort::take, Ok)?;
        let server = Server::start("fake-broker", Arc::clone(&shared), acceptor, port).await?;
        Ok(FakeBroker::new(shared, server, catalog, tls))
    }
}
