//! Checks whether a service accepts credentials, before the operator publishes them in a Secret.
//!
//! A [`Probe`] has the address and the login of a service. [`Prober::probe`] connects and logs in once. The author of a
//! ServiceKey chooses the address, so the [`NetworkProber`] connects only to networks that the administrator listed for
//! probes. It resolves a name once, checks the addresses, and connects to a checked address itself. It follows no
//! redirect and uses no proxy.
//!
//! A probe must not become a way to read from internal services. So a [`ProbeFailure`] repeats nothing that the service
//! sent except its error code. Within the listed networks, its author can still see which addresses accept connections.

mod connection;
mod failure;
mod http;
mod network_prober;
mod postgres;
mod redis;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt;

use futures::future::BoxFuture;
use secrecy::SecretString;

use crate::backend::ClientCertificate;
pub use failure::{ProbeFailure, ProbeFailureClass};
pub(crate) use network_prober::NetworkProber;

/// One login at a service.
#[derive(Clone)]
pub enum Probe {
    /// The address accepts connections.
    Tcp {
        /// `host:port`, with brackets around an IPv6 address.
        address: String,
    },
    /// The service completes a TLS handshake, and accepts the client certificate.
    Tls {
        /// `host:port`.
        address: String,
        /// The name that the service's certificate must have, if it is not the host of the address.
        server_name: Option<String>,
        /// PEM certificates trusted in addition to the system's roots.
        ca_bundle: Option<String>,
        /// The certificate of the new key.
        client_certificate: Option<ClientCertificate>,
    },
    /// The service answers a GET request with one of these statuses, or with any 2xx status if there are none.
    Http {
        /// A user and a password in the URL become a Basic login.
        url: SecretString,
        /// Further headers, by name.
        headers: Vec<(String, SecretString)>,
        /// The status codes that count as success.
        statuses: Vec<u16>,
        /// PEM certificates trusted in addition to the system's roots.
        ca_bundle: Option<String>,
    },
    /// A PostgreSQL server accepts the login and runs `SELECT 1`.
    Postgres {
        /// `host:port`.
        address: String,
        /// The role.
        user: String,
        /// Its password.
        password: SecretString,
        /// The database.
        database: String,
        /// Whether the connection is encrypted.
        encryption: Encryption,
    },
    /// A Redis server accepts `AUTH` and answers `PING`.
    Redis {
        /// `host:port`.
        address: String,
        /// The user; `None`: the default one.
        user: Option<String>,
        /// Its password.
        password: SecretString,
        /// Whether the connection is encrypted.
        encryption: Encryption,
    },
}

impl Probe {
    /// The name of the probe's field in a ServiceKey.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tcp { .. } => "tcp",
            Self::Tls { .. } => "tls",
            Self::Http { .. } => "http",
            Self::Postgres { .. } => "postgres",
            Self::Redis { .. } => "redis",
        }
    }
}

/// Shows no value: any of them may be a part of the credentials, for example an address by mistake.
impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.kind()).finish_non_exhaustive()
    }
}

/// Whether the connection to a database is encrypted.
#[derive(Clone, Debug)]
pub enum Encryption {
    /// The connection is plain text.
    Disabled,
    /// The connection uses TLS from its first byte, or after a request to start it.
    /// The service's certificate must be valid for the host of the address.
    Tls {
        /// PEM certificates trusted in addition to the system's roots.
        ca_bundle: Option<String>,
    },
}

/// Runs probes. Tests and the simulation use another one than that which connects to services.
pub trait Prober: fmt::Debug + Send + Sync {
    /// Whether the administrator admits any network for probes of this namespace.
    fn has_networks(&self, namespace: &str) -> bool;

    /// Logs in once, for a ServiceKey in this namespace.
    ///
    /// # Errors
    /// The service does not accept the credentials, or the probe did not reach it.
    fn probe<'a>(&'a self, namespace: &'a str, probe: &'a Probe) -> BoxFuture<'a, Result<(), ProbeFailure>>;
}
