//! Probes over the network.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};

use super::{
    Encryption, Probe, ProbeFailure, Prober,
    connection::{self, BoundedTcp, Connection, Destination, MOST_ADDRESSES, connect},
    failure::Fault,
    http::{self, Get},
    postgres, redis,
    tls::{self, TlsClient},
};
use crate::{
    backend::{AddressPolicy, AddressRules, Author, Names, Network, RemoteShares},
    fair::{FairSemaphore, Lane},
};

/// The longest time of one probe, from the name lookup to the last byte.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most probes at the same time. Each has a connection. A namespace may have at most as many of them as remain
/// free.
const MOST_PROBES: usize = 64;

/// The part of the deadline after which a silent service counts as accepting a TLS handshake.
const SILENCE: u32 = 5;

/// Connects to services in the networks that the administrator lists for probes.
#[derive(Clone, Debug)]
pub(crate) struct NetworkProber {
    addresses: AddressPolicy,
    shares: RemoteShares,
    turns: FairSemaphore,
    deadline: Duration,
}

impl NetworkProber {
    /// A prober for these networks. An empty list admits nothing.
    ///
    /// The rules for providers also apply: a denied network and the API server stay refused, and only its own address
    /// admits a metadata service.
    pub(crate) fn new(networks: Vec<Network>, rules: &AddressRules, shares: RemoteShares) -> Self {
        let addresses = AddressRules {
            allow: networks,
            deny: rules.deny.clone(),
            api_server: rules.api_server.clone(),
            ..AddressRules::default()
        };
        Self {
            addresses: addresses.into(),
            shares,
            turns: FairSemaphore::leaving_room(MOST_PROBES),
            deadline: DEADLINE,
        }
    }

    /// The same prober with another resolver than the system's.
    #[must_use]
    pub(crate) fn with_names(self, names: Arc<dyn Names>) -> Self {
        Self { addresses: self.addresses.with_names(names), ..self }
    }

    /// The same prober with another deadline for each probe.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    fn policy(&self, namespace: &str) -> AddressPolicy {
        self.addresses.for_author(Author::Tenant { namespace: namespace.to_owned() })
    }

    async fn run(&self, namespace: &str, probe: &Probe) -> Result<(), Fault> {
        match probe {
            Probe::Tcp { address } => self.open(namespace, &Destination::parse(address)?).await.map(drop),
            Probe::Tls { address, server_name, ca_bundle, client_certificate } => {
                let destination = Destination::parse(address)?;
                let name = match server_name {
                    Some(name) => connection::server_name("serverName", name)?,
                    None => destination.server_name()?,
                };
                let tls = TlsClient::new(name, ca_bundle.as_deref(), client_certificate.as_ref())?;
                let mut stream = tls.handshake(self.open(namespace, &destination).await?).await?;
                tls::confirm(&mut stream, self.deadline / SILENCE).await
            }
            Probe::Http { url, headers, statuses, ca_bundle } => {
                let get = Get::new(url, headers)?;
                let tls = if get.is_encrypted {
                    Some(TlsClient::new(get.destination.server_name()?, ca_bundle.as_deref(), None)?)
                } else {
                    None
                };
                let stream = encrypt(tls, self.open(namespace, &get.destination).await?).await?;
                http::check_status(get.send(stream).await?, statuses)
            }
            Probe::Postgres { address, user, password, database, encryption } => {
                let destination = Destination::parse(address)?;
                let login = postgres::config(user, password, database)?;
                let tls = encryption.client(&destination)?;
                let mut stream = self.open(namespace, &destination).await?;
                if tls.is_some() {
                    postgres::request_tls(&mut stream).await?;
                }
                postgres::log_in(&login, encrypt(tls, stream).await?).await
            }
            Probe::Redis { address, user, password, encryption } => {
                let destination = Destination::parse(address)?;
                let tls = encryption.client(&destination)?;
                let stream = encrypt(tls, self.open(namespace, &destination).await?).await?;
                redis::log_in(stream, user.as_deref(), password).await
            }
        }
    }

    /// Connects to one of the admitted addresses.
    async fn open(&self, namespace: &str, destination: &Destination) -> Result<BoundedTcp, Fault> {
        let Destination { host, port } = destination;
        let shares = self.shares.of_tenant(Lane::of_namespace(namespace));
        let addresses = self.policy(namespace).allowed_addresses(host, *port, &shares).await;
        let mut addresses = addresses.map_err(Fault::Unreachable)?;
        if addresses.is_empty() {
            return Err(Fault::NotAdmitted);
        }
        addresses.truncate(MOST_ADDRESSES);
        connect(&addresses, self.deadline).await.map_err(Fault::Unreachable)
    }
}

impl Prober for NetworkProber {
    fn has_networks(&self, namespace: &str) -> bool {
        self.policy(namespace).allows_some_address()
    }

    fn probe<'a>(&'a self, namespace: &'a str, probe: &'a Probe) -> BoxFuture<'a, Result<(), ProbeFailure>> {
        async move {
            let _turn = self.turns.acquire(&Lane::of_namespace(namespace)).await;
            let outcome = tokio::time::timeout(self.deadline, self.run(namespace, probe)).await;
            let outcome = outcome.unwrap_or(Err(Fault::TimedOut(self.deadline)));
            outcome.map_err(|fault| fault.describe(namespace, probe))
        }
        .boxed()
    }
}

impl Encryption {
    fn client(&self, destination: &Destination) -> Result<Option<TlsClient>, Fault> {
        match self {
            Self::Disabled => Ok(None),
            Self::Tls { ca_bundle } => {
                TlsClient::new(destination.server_name()?, ca_bundle.as_deref(), None).map(Some)
            }
        }
    }
}

/// Starts TLS if there is a client for it.
async fn encrypt(tls: Option<TlsClient>, stream: BoundedTcp) -> Result<Connection, Fault> {
    match tls {
        None => Ok(Box::new(stream)),
        Some(tls) => Ok(Box::new(tls.handshake(stream).await?)),
    }
}
