//! The options of a fake broker.

use super::{
    admission::Demands,
    catalog::{Catalog, Instance},
    credentials::CredentialsRecipe,
    login::Login,
    pace::Pace,
    side::ServiceBroker,
    state::State,
};
use crate::remote::{self, Environment, Hosts, ListenError};

/// A broker that is not running yet; [`FakeBroker::builder`](super::FakeBroker::builder) lists the defaults.
pub type Builder = remote::Builder<BrokerSetup>;

/// The options that only a broker has.
#[derive(Debug)]
pub struct BrokerSetup {
    login: Login,
    demands: Demands,
    catalog: Catalog,
    instances: Vec<Instance>,
    credentials: CredentialsRecipe,
    pace: Pace,
}

/// A fake broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The catalog lacks the plan of an instance.
    #[error("the catalog has no plan `{plan}` of an offering `{offering}`, which instance `{id}` is of")]
    Instance {
        /// The instance.
        id: String,
        /// Its offering.
        offering: String,
        /// Its plan.
        plan: String,
    },
    /// The fake can't listen on its port.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl Default for BrokerSetup {
    fn default() -> Self {
        Self {
            login: Login::basic("operator", "broker-password"),
            demands: Demands::default(),
            catalog: Catalog::training(),
            instances: vec![Instance::new("training-app-db", "postgresql", "small")],
            credentials: CredentialsRecipe::default(),
            pace: Pace::at_once(),
        }
    }
}

impl Builder {
    /// Sets the login that callers must send.
    pub fn login(mut self, login: Login) -> Self {
        self.setup.login = login;
        self
    }

    /// Supports only this version of the API, and answers 412 to all others.
    pub fn api_version(mut self, version: &str) -> Self {
        self.setup.demands.api_version = version.to_owned();
        self
    }

    /// Answers 422 to a bind that names neither an application nor a client, in `app_guid` or in `bind_resource`.
    pub const fn demand_bind_resource(mut self) -> Self {
        self.setup.demands.bind_resource = true;
        self
    }

    /// Requires this parameter in the query of every call, as a broker with several tenants does.
    pub fn demand_parameter(mut self, name: &str, value: &str) -> Self {
        self.setup.demands.parameter = Some((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the catalog. It must have the plans of all instances.
    pub fn catalog(mut self, catalog: Catalog) -> Self {
        self.setup.catalog = catalog;
        self
    }

    /// Adds an instance.
    pub fn instance(mut self, instance: Instance) -> Self {
        self.setup.instances.push(instance);
        self
    }

    /// Removes all instances, also the default one.
    pub fn without_instances(mut self) -> Self {
        self.setup.instances.clear();
        self
    }

    /// Sets how credentials are created.
    pub fn credentials(mut self, recipe: CredentialsRecipe) -> Self {
        self.setup.credentials = recipe;
        self
    }

    /// Sets how long binds and unbinds take.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.setup.pace = pace;
        self
    }
}

impl remote::Setup for BrokerSetup {
    type Side = ServiceBroker;
    type Error = StartError;

    fn into_side(self, _hosts: &Hosts<()>, environment: &Environment) -> Result<ServiceBroker, StartError> {
        let Self { login, demands, catalog, instances, credentials, pace } = self;
        for Instance { id, name: _, offering, plan } in &instances {
            if catalog.find(offering).and_then(|found| found.find(plan)).is_none() {
                let (id, offering, plan) = (id.clone(), offering.clone(), plan.clone());
                return Err(StartError::Instance { id, offering, plan });
            }
        }
        let state = State::new(catalog, credentials, pace, instances, environment.clone());
        Ok(ServiceBroker { login, demands, state })
    }
}
