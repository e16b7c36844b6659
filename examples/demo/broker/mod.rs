//! The broker that the demo is played with: the fake one, or the example broker before a real PostgreSQL.

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

/// What hands out the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A fake that makes credentials up, and is strict about the rules of brokers
    #[default]
    Fake,
    /// The broker of examples/postgres-broker, before a PostgreSQL that is started too (apt-get install postgresql)
    Postgres,
}

/// A running broker. Dropping it ends it, and what it stands before.
pub enum Broker {
    Fake(EmbeddedBroker),
    Postgres(PostgresBroker),
}

/// A key that the broker holds.
pub struct HeldKey {
    pub number: u64,
    pub binding: String,
    pub instance: String,
}

impl Broker {
    /// Starts it with the login of the manifests, and tells each step.
    ///
    /// # Errors
    /// What can't be started, and what to do about it.
    pub async fn start(kind: Kind, steps: &mut Steps) -> anyhow::Result<Self> {
        let (username, password) = login()?;
        Ok(match kind {
            Kind::Fake => Self::Fake(EmbeddedBroker::start(username, password, steps).await?),
            Kind::Postgres => Self::Postgres(PostgresBroker::start(username, password, steps).await?),
        })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        match self {
            Self::Fake(broker) => broker.url(),
            Self::Postgres(broker) => broker.url(),
        }
    }

    /// Its keys, oldest first.
    ///
    /// # Errors
    /// When PostgreSQL does not tell.
    pub async fn keys(&self) -> anyhow::Result<Vec<HeldKey>> {
        match self {
            Self::Fake(broker) => Ok(broker.keys()),
            Self::Postgres(broker) => broker.database().keys().await,
        }
    }

    /// How often it was asked for this.
    pub fn calls(&self, route: Route) -> usize {
        match self {
            Self::Fake(broker) => broker.calls(route),
            Self::Postgres(broker) => broker.calls(route),
        }
    }

    /// The database, where there is one.
    pub fn database(&self) -> Option<&Database> {
        match self {
            Self::Fake(_) => None,
            Self::Postgres(broker) => Some(broker.database()),
        }
    }

    /// How the operator broke the rules, as far as somebody looked.
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
