//! The check of new credentials before they are published: `spec.rotation.verify`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Duration, rules, schema};

/// A login to the service with new credentials, before the Secret contains them. The texts of the probe are templates, like
/// those in `secret.template`. Exactly one of `tcp`, `tls`, `http`, `postgres` and `redis` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = rules::duration_between("within", "1s", Some("30m")),
    validation = rules::duration_between("every", "1s", Some("1m")),
    validation = rules::exactly_one(
        &["tcp", "tls", "http", "postgres", "redis"],
        "write exactly one of `tcp`, `tls`, `http`, `postgres` and `redis`"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// How long the service may take until it accepts a new key, from `1s` to `30m`. Default: `2m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Duration>,

    /// The time between two attempts, from `1s` to `1m`. Default: `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,

    /// The service accepts connections. This does not check the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,

    /// The service completes a TLS handshake, and accepts the client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsProbe>,

    /// The service answers a GET request with a certain status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,

    /// A PostgreSQL server accepts the login and runs `SELECT 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresProbe>,

    /// A Redis server accepts the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisProbe>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpProbe {
    /// Host and port, such as `{{ hostname }}:{{ port }}`.
    #[schemars(length(min = 1, max = 4096))]
    pub address: String,
}

/// A TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::together("clientCertificate", "clientKey"))]
#[serde(rename_all = "camelCase")]
pub struct TlsProbe {
    /// Host and port, such as `{{ hostname }}:{{ port }}`.
    #[schemars(length(min = 1, max = 4096))]
    pub address: String,

    /// The name that the service's certificate must have. Default: the host of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub server_name: Option<String>,

    /// PEM certificates trusted in addition to the system's, such as `{{ ca }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub ca_bundle: Option<String>,

    /// The PEM certificate of the client, such as `{{ certificate }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub client_certificate: Option<String>,

    /// The PEM private key of `clientCertificate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub client_key: Option<String>,
}

/// A GET request. Redirects are not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpProbe {
    /// The URL, such as `{{ url }}/health`. A user and a password in it become a Basic login.
    #[schemars(length(min = 1, max = 4096))]
    pub url: String,

    /// Headers of the request, by name, such as `Authorization: "Bearer {{ token }}"`; at most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::headers")]
    #[x_kube(validation = Rule::new("self.all(key, key.matches('^[A-Za-z0-9-]{1,64}$'))")
        .message("write names of headers as letters, digits and `-`"))]
    pub headers: BTreeMap<String, String>,

    /// The statuses that show that the service accepts the credentials; at most 8. Default: each from 200 to 299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(range(min = 100, max = 599)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub statuses: Vec<u16>,

    /// PEM certificates trusted in addition to the system's, such as `{{ ca }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub ca_bundle: Option<String>,
}

/// A login to a PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresProbe {
    /// Host and port, such as `{{ hostname }}:{{ port }}`.
    #[schemars(length(min = 1, max = 4096))]
    pub address: String,
    /// The user, such as `{{ username }}`.
    #[schemars(length(min = 1, max = 4096))]
    pub user: String,
    /// The password, such as `{{ password }}`.
    #[schemars(length(min = 1, max = 4096))]
    pub password: String,
    /// The database, such as `{{ dbname }}`.
    #[schemars(length(min = 1, max = 4096))]
    pub database: String,
    /// Whether the connection is encrypted. Default: `Tls`.
    #[serde(default)]
    pub encryption: ProbeEncryption,
    /// PEM certificates trusted in addition to the system's, such as `{{ ca }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub ca_bundle: Option<String>,
}

/// A login to a Redis server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisProbe {
    /// Host and port, such as `{{ hostname }}:{{ port }}`.
    #[schemars(length(min = 1, max = 4096))]
    pub address: String,
    /// The user, such as `{{ username }}`. Default: the server's default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub user: Option<String>,
    /// The password, such as `{{ password }}`.
    #[schemars(length(min = 1, max = 4096))]
    pub password: String,
    /// Whether the connection is encrypted. Default: `Tls`.
    #[serde(default)]
    pub encryption: ProbeEncryption,
    /// PEM certificates trusted in addition to the system's, such as `{{ ca }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub ca_bundle: Option<String>,
}

/// Whether a probe encrypts its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProbeEncryption {
    /// The connection uses TLS from its start, or PostgreSQL's way to it. The server's certificate must be valid.
    #[default]
    Tls,
    /// The connection is not encrypted.
    Disabled,
}

impl Verification {
    /// A digest of the probe. Another probe may accept credentials that this one does not.
    #[must_use]
    pub fn probe_digest(&self) -> String {
        let probe = Self { within: None, every: None, ..self.clone() };
        // Serializing these fields does not fail.
        let text = serde_json::to_vec(&probe).unwrap_or_default();
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &text).simple().to_string()
    }

    /// The value of `within`, or its default.
    #[must_use]
    pub fn within(&self) -> std::time::Duration {
        self.within.map_or(std::time::Duration::from_secs(120), Duration::get)
    }

    /// The value of `every`, or its default.
    #[must_use]
    pub fn every(&self) -> std::time::Duration {
        self.every.map_or(std::time::Duration::from_secs(5), Duration::get)
    }
}
