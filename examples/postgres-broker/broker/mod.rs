//! An Open Service Broker whose keys are logins to real PostgreSQL databases.
//!
//! It holds nothing: a key is a role in PostgreSQL, and its password follows from the key's id and the broker's secret
//! (`credentials`). It can be stopped at any time, and there may be several of it.
//!
//! A request comes in at `admission`, is answered in `api`, and is carried out by an `instance`. `server` makes the
//! databases, `sql` quotes, and `refusal` says no.

mod admission;
mod api;
mod catalog;
mod credentials;
mod instance;
mod refusal;
mod server;
mod sql;

use std::{collections::BTreeMap, sync::Arc};

use axum::Router;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;

use admission::Login;
use credentials::Address;
use instance::Instance;
pub use server::Names;

/// What a broker is made from.
pub struct Settings {
    /// The login of PostgreSQL's administrator, a superuser.
    pub server: Config,
    /// What consumers call the server; `None`: as `server` does.
    pub hostname: Option<String>,
    /// The instances by their ids.
    pub instances: BTreeMap<String, Names>,
    /// The login of platforms.
    pub username: String,
    pub password: SecretString,
    /// What the passwords of keys follow from.
    pub secret: SecretString,
}

/// The broker.
pub struct Broker {
    instances: BTreeMap<String, Instance>,
    address: Address,
    login: Login,
    secret: hmac::Key,
}

impl Broker {
    /// Makes databases and groups where they are missing.
    ///
    /// # Errors
    /// Where PostgreSQL can't be reached, or refuses something.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let Settings { mut server, hostname, instances, username, password, secret } = settings;
        let address = Address::of(&server, hostname);
        // Whoever holds a lock for long must not keep all other requests waiting.
        server.options("-c lock_timeout=10s").application_name("postgres-broker");
        let mut prepared = BTreeMap::new();
        for (id, names) in instances {
            prepared.insert(id, server::prepare(names, &server).await?);
        }
        Ok(Self {
            instances: prepared,
            address,
            login: Login::basic(&username, &password),
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes()),
        })
    }

    /// What answers requests.
    pub fn router(self) -> Router {
        api::router(Arc::new(self))
    }
}
