//! An Open Service Broker whose keys are logins to real PostgreSQL databases.
//!
//! The broker stores nothing. A key is a role in PostgreSQL, and its password is derived from the key's id and the
//! broker's secret (`credentials`). The broker can be stopped at any time, and several brokers can run at once.
//!
//! `admission` checks each request, `api` answers it, and an `instance` carries it out. `server` creates the databases,
//! `sql` quotes names and values, and `refusal` converts errors.

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

pub struct Settings {
    /// The login of PostgreSQL's administrator, a superuser.
    pub server: Config,
    /// The host name for consumers; `None` means the one in `server`.
    pub hostname: Option<String>,
    /// The instances by their ids.
    pub instances: BTreeMap<String, Names>,
    /// The login of platforms.
    pub username: String,
    pub password: SecretString,
    /// The secret from which the passwords of keys are derived.
    pub secret: SecretString,
}

pub struct Broker {
    instances: BTreeMap<String, Instance>,
    address: Address,
    login: Login,
    secret: hmac::Key,
}

impl Broker {
    /// Creates missing databases and groups.
    ///
    /// # Errors
    /// If PostgreSQL is unreachable or refuses a statement.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let Settings { mut server, hostname, instances, username, password, secret } = settings;
        let address = Address::of(&server, hostname);
        // A session that holds a lock for long must not block all other requests.
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

    pub fn router(self) -> Router {
        api::router(Arc::new(self))
    }
}
