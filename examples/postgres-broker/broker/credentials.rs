//! The credentials of a key.
//!
//! A client can't read a password from PostgreSQL. Instead of storing it, the broker derives it: the password is the
//! HMAC of the binding's id under the broker's secret. So a binding always has the same credentials, and the broker can
//! return them for a repeated bind or a fetch. It has to store, back up and protect only the secret.
//!
//! The price: everyone who has the secret has every password, and the secret can't change while there are bindings.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use serde::Serialize;
use tokio_postgres::config::{Config, Host};

use super::sql::Name;

/// The data that the consumer of a key needs to log in.
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

/// The password of a binding: 43 characters that need no escapes in a URI or a shell.
pub fn password(secret: &hmac::Key, binding: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(secret, binding.as_bytes()))
}

/// The address of the server for consumers.
#[derive(Clone)]
pub struct Address {
    hostname: String,
    port: u16,
}

impl Address {
    /// The broker's own address of the server, unless consumers use another host name.
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
