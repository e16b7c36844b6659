//! The clients of one provider. Each scheme, host and port has its own, which know the addresses that they may connect
//! to and whose answers the tenant may read.
//!
//! A tenant must not learn from a `KeyProvider` which servers exist in a private network. So the operator withholds all
//! answers of a private address from a tenant until one of them is a valid answer of the provider's protocol. There are
//! two clients for that. The first never connects to an unverified private address. The second may, but it carries only
//! requests whose answer can be a proof, and returns only answers that are one.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use url::Url;

use super::{
    AddressPolicy, HttpConfig, RemoteShares,
    connection_reuse::RecordOpening,
    path::literal,
    proofs::Proofs,
    proxy::EnvironmentProxy,
    resolver::{PolicedResolver, Reach, SharedResolver},
    tls,
};
use crate::backend::{BackendError, ErrorClass};

/// How long an unused connection stays open. Load balancers close theirs after 60 s or more. Closing first keeps
/// a request from being lost on a connection that is about to close.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// Unused connections to keep. Each has buffers.
const IDLE_CONNECTIONS: usize = 4;
/// Bytes that a remote side may send by HTTP/2 before the operator reads them, per answer and per connection.
const AHEAD_IN_ANSWER: u32 = 64 << 10;
const AHEAD_IN_CONNECTION: u32 = 256 << 10;

const USER_AGENT: &str = concat!("servicekey-operator/", env!("CARGO_PKG_VERSION"));

/// The most endpoints of one provider. A provider names at most two, and Cloud Foundry adds two. Beyond this limit all
/// are forgotten, and must prove themselves again.
const MOST_ENDPOINTS: usize = 16;

pub(super) struct ProviderClients {
    policy: AddressPolicy,
    proxy: Option<EnvironmentProxy>,
    tls: rustls::ClientConfig,
    connect_timeout: Duration,
    shares: RemoteShares,
    known: Mutex<HashMap<RemoteEndpoint, Arc<EndpointClients>>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct RemoteEndpoint {
    scheme: String,
    host: String,
    port: u16,
}

/// The clients for one endpoint.
pub(super) struct EndpointClients {
    /// Connects only to addresses whose answers the author of the provider may read.
    pub(super) disclosed: Clients,
    /// Connects to all addresses that the policy admits.
    admitted: OnceLock<Clients>,
    proofs: Arc<Proofs>,
    pub(super) proxied: bool,
}

/// Clients of one endpoint that connect to the same addresses.
pub(super) struct Clients {
    /// Keeps connections open, and prefers an open one.
    pub(super) keeping: reqwest::Client,
    /// Opens a connection for each request.
    opening: OnceLock<reqwest::Client>,
    reach: Reach,
}

impl ProviderClients {
    pub(super) fn new(
        config: &HttpConfig,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BackendError> {
        let ways = Self {
            policy: config.addresses.clone(),
            proxy: EnvironmentProxy::from_environment(variable, &config.addresses)?,
            tls: tls::client_config(config)?,
            connect_timeout: config.limits.connect_timeout(),
            shares: config.shares.clone(),
            known: Mutex::default(),
        };
        // Reports invalid settings now instead of at the first request.
        build(ways.builder())?;
        Ok(ways)
    }

    /// # Errors
    /// [`ErrorClass::Rejected`] if the client can't be set up.
    pub(super) fn to(&self, url: &Url) -> Result<Arc<EndpointClients>, BackendError> {
        let place = RemoteEndpoint {
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default().unwrap_or_default(),
        };
        let mut known = self.known.lock();
        if let Some(way) = known.get(&place) {
            return Ok(Arc::clone(way));
        }
        if known.len() >= MOST_ENDPOINTS {
            known.clear();
        }
        let proofs = Arc::<Proofs>::default();
        let proxied = self.proxy.as_ref().is_some_and(|proxy| proxy.is_on_the_way_to(url));
        let disclosed = self.clients(url, Reach::Disclosed(Arc::clone(&proofs)))?;
        let way = Arc::new(EndpointClients { disclosed, admitted: OnceLock::new(), proofs, proxied });
        known.insert(place, Arc::clone(&way));
        Ok(way)
    }

    /// Whether the author of the provider may read all answers of this endpoint, as far as the URL shows without
    /// resolving its name.
    pub(super) fn may_be_disclosed(&self, url: &Url, way: &EndpointClients) -> bool {
        if !self.policy.guards_answers() {
            return true;
        }
        match literal(url) {
            Some(address) if self.policy.discloses(address.ip()) => true,
            // The operator can't know which address the proxy connects to.
            Some(_) | None if way.proxied => way.proofs.has_behind_proxy(),
            Some(address) => way.proofs.has(address.ip()),
            // The client's resolver decides.
            None => true,
        }
    }

    /// The clients for requests whose answer can be a proof. They connect to all addresses that the policy admits.
    ///
    /// # Errors
    /// As for [`ProviderClients::to`].
    pub(super) fn admitted<'a>(
        &self,
        url: &Url,
        way: &'a EndpointClients,
    ) -> Result<&'a Clients, BackendError> {
        if let Some(clients) = way.admitted.get() {
            return Ok(clients);
        }
        let clients = self.clients(url, Reach::Admitted)?;
        Ok(way.admitted.get_or_init(|| clients))
    }

    /// The client that opens a new connection to this endpoint for each request.
    ///
    /// # Errors
    /// As for [`ProviderClients::to`].
    pub(super) fn opening<'a>(
        &self,
        url: &Url,
        clients: &'a Clients,
    ) -> Result<&'a reqwest::Client, BackendError> {
        if let Some(client) = clients.opening.get() {
            return Ok(client);
        }
        let client = self.client(url, clients.reach.clone(), 0)?;
        Ok(clients.opening.get_or_init(|| client))
    }

    fn clients(&self, url: &Url, reach: Reach) -> Result<Clients, BackendError> {
        let keeping = self.client(url, reach.clone(), IDLE_CONNECTIONS)?;
        Ok(Clients { keeping, opening: OnceLock::new(), reach })
    }

    fn client(&self, url: &Url, reach: Reach, idle: usize) -> Result<reqwest::Client, BackendError> {
        let plain_http = url.scheme() != "https";
        let builder = self.builder().https_only(!plain_http).pool_max_idle_per_host(idle);
        let proxy = self.proxy.as_ref().filter(|proxy| proxy.is_on_the_way_to(url));
        // The operator then resolves only the name of the proxy, which the administrator chose.
        build(match proxy {
            Some(proxy) => builder.proxy(proxy.for_all()?),
            None => {
                let (policy, port) = (self.policy.clone(), url.port_or_known_default().unwrap_or_default());
                let resolver =
                    PolicedResolver { policy, reach, port, plain_http, shares: self.shares.clone() };
                builder.dns_resolver(Arc::new(SharedResolver(Arc::new(resolver))))
            }
        })
    }

    fn builder(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            // reqwest's own proxy detection is off: `proxy` reads the environment instead.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(IDLE_CONNECTION)
            .connector_layer(RecordOpening)
            .http2_initial_stream_window_size(AHEAD_IN_ANSWER)
            .http2_initial_connection_window_size(AHEAD_IN_CONNECTION)
            .user_agent(USER_AGENT)
    }
}

impl EndpointClients {
    /// Records that the endpoint sent a valid answer of the protocol.
    pub(super) fn prove(&self, from: Option<std::net::SocketAddr>) {
        // Behind a proxy the connection shows only the proxy's address.
        self.proofs.add(from.filter(|_| !self.proxied).map(|address| address.ip()));
    }
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, BackendError> {
    builder.build().map_err(|_| BackendError::new(ErrorClass::Rejected, "the HTTP client can't be set up"))
}
