//! What a key is made of.
//!
//! A password can't be read back from PostgreSQL. Rather than to keep it somewhere, the broker works it out again: it is
//! the HMAC of the binding's id under the broker's secret. So a binding always has the same credentials, a request that
//! is repeated is answered with them, they can be fetched, and the broker has nothing to store, back up or lose but the
//! secret. The price: whoever has the secret has every password, and it can't be changed while there are bindings.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use serde::Serialize;
use tokio_postgres::config::{Config, Host};

use super::sql::Name;

/// What the consumer of a key needs to log in.
#[derive(Serialize)]
pub struct Credentials {
    hostname: String,
    port: u16,
    database: String,
    username: String,
    password: String,
    uri: String,
}

impl Credentials {
    pub fn new(address: &Address, database: &Name, role: &Name, password: &str) -> Self {
        let Address { hostname, port } = address.clone();
        let [username, secret, path] = [role.as_str(), password, database.as_str()]
            .map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC));
        Self {
            uri: format!("postgresql://{username}:{secret}@{hostname}:{port}/{path}"),
            hostname,
            port,
            database: database.as_str().to_owned(),
            username: role.as_str().to_owned(),
            password: password.to_owned(),
        }
    }
}

/// The password of a binding: 43 characters that no URI and no shell has to escape.
pub fn password(secret: &hmac::Key, binding: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(secret, binding.as_bytes()))
}

/// Where consumers reach the server.
#[derive(Clone)]
pub struct Address {
    hostname: String,
    port: u16,
}

impl Address {
    /// Where the broker itself reaches it, unless consumers know it by another name.
    pub fn of(server: &Config, hostname: Option<String>) -> Self {
        let own = || match server.get_hosts().first() {
            Some(Host::Tcp(hostname)) => hostname.clone(),
            _ => "localhost".to_owned(),
        };
        const DEFAULT_PORT: u16 = 5432;
        Self {
            hostname: hostname.unwrap_or_else(own),
            port: server.get_ports().first().copied().unwrap_or(DEFAULT_PORT),
        }
    }
}
