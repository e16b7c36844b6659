//! The broker of the demo: the fake one, or the example broker with a real PostgreSQL.

mod fake;
mod postgres;

use anyhow::Context;
use clap::ValueEnum;
use k8s_openapi::api::core::v1::Secret;
use testkit::broker::Route;

use crate::{manifests::LOGIN, output::Steps};
use fake::EmbeddedBroker;
pub use postgres::Database;
use postgres::PostgresBroker;

/// The instance of the manifests.
const INSTANCE: &str = "training-app-db";

/// The broker that creates the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A fake broker that invents credentials and enforces the rules of the Open Service Broker API
    #[default]
    Fake,
    /// The broker of examples/postgres-broker with a PostgreSQL that the demo starts (apt-get install postgresql)
    Postgres,
}

/// A running broker. Dropping it stops the broker and its database.
pub enum Broker {
    Fake(EmbeddedBroker),
    Postgres(Box<PostgresBroker>),
}

/// A key of the broker.
pub struct HeldKey {
    pub number: u64,
    pub binding: String,
    pub instance: String,
}

impl Broker {
    /// Starts the broker with the login of the manifests, and prints each step.
    ///
    /// # Errors
    /// If it can't be started. The message contains the next step.
    pub async fn start(kind: Kind, steps: &mut Steps) -> anyhow::Result<Self> {
        let (username, password) = login()?;
        Ok(match kind {
            Kind::Fake => Self::Fake(EmbeddedBroker::start(username, password, steps).await?),
            Kind::Postgres => {
                Self::Postgres(Box::new(PostgresBroker::start(username, password, steps).await?))
            }
        })
    }

    pub fn url(&self) -> String {
        match self {
            Self::Fake(broker) => broker.url(),
            Self::Postgres(broker) => broker.url(),
        }
    }

    /// The broker's keys, oldest first.
    ///
    /// # Errors
    /// If PostgreSQL can't list them.
    pub async fn keys(&self) -> anyhow::Result<Vec<HeldKey>> {
        match self {
            Self::Fake(broker) => Ok(broker.keys()),
            Self::Postgres(broker) => broker.database().keys().await,
        }
    }

    /// The number of requests at this route.
    pub fn calls(&self, route: Route) -> usize {
        match self {
            Self::Fake(broker) => broker.calls(route),
            Self::Postgres(broker) => broker.calls(route),
        }
    }

    /// The database, if the broker has one.
    pub fn database(&self) -> Option<&Database> {
        match self {
            Self::Fake(_) => None,
            Self::Postgres(broker) => Some(broker.database()),
        }
    }

    /// The operator's violations of the broker's rules. Only the fake broker checks them.
    pub fn violations(&self) -> Vec<String> {
        match self {
            Self::Fake(broker) => broker.violations(),
            Self::Postgres(_) => Vec::new(),
        }
    }
}

/// The operator's login at the broker: name and password.
fn login() -> anyhow::Result<(String, String)> {
    let login: Secret = LOGIN.object()?;
    let entry = |name: &str| login.string_data.as_ref()?.get(name).cloned();
    entry("username")
        .zip(entry("password"))
        .with_context(|| format!("`{}` lacks `username` or `password`", LOGIN.file))
}
