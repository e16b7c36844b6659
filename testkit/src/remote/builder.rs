//! The options that all fakes share, and the start of a fake.

use std::{fmt, io, num::NonZeroU32, sync::Arc};

use axum::http::Uri;

use super::{
    call::Host, environment::Environment, fake::Fake, port::ReservedPort, shared::Shared, side::Side,
    tls::TlsIdentity,
};
use crate::server::Server;

/// A fake that is not running yet.
#[must_use]
pub struct Builder<P: Setup> {
    pub(crate) setup: P,
    environment: Environment,
    tls: Option<TlsIdentity>,
    port: Option<ReservedPort>,
    tolerated: Vec<<P::Side as Side>::Rule>,
    limit: Option<NonZeroU32>,
}

/// The options of one kind of fake.
pub trait Setup: fmt::Debug {
    type Side: Side;
    type Error: From<ListenError>;

    /// Creates the state.
    fn into_side(
        self,
        hosts: &Hosts<<Self::Side as Side>::Door>,
        environment: &Environment,
    ) -> Result<Self::Side, Self::Error>;
}

/// A fake can't listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The certificate can't be served.
    #[error("can't serve the certificate")]
    Tls(#[from] rustls::Error),
    /// The system refuses a thread, a runtime or a port.
    #[error("can't listen on 127.0.0.1")]
    Listen(#[from] io::Error),
}

impl<P: Setup> Builder<P> {
    pub(crate) fn new(setup: P) -> Self {
        let environment = Environment::default();
        Self { setup, environment, tls: None, port: None, tolerated: Vec::new(), limit: None }
    }

    /// Sets the clock and the ids, instead of those of the system.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Serves https with this certificate, at all hosts.
    pub fn tls(mut self, identity: TlsIdentity) -> Self {
        self.tls = Some(identity);
        self
    }

    /// Lets the host that tests call listen on this port instead of any free port.
    pub fn port(mut self, port: ReservedPort) -> Self {
        self.port = Some(port);
        self
    }

    /// Records no violations of this rule. Answers to such calls stay the same.
    pub fn tolerate(mut self, rule: <P::Side as Side>::Rule) -> Self {
        self.tolerated.push(rule);
        self
    }

    /// Serves this many requests a second, and the same number at once after a pause. A client that sends more breaks
    /// a rule.
    pub const fn limit(mut self, requests_per_second: NonZeroU32) -> Self {
        self.limit = Some(requests_per_second);
        self
    }

    /// Starts all hosts on 127.0.0.1.
    ///
    /// # Errors
    /// The options contradict each other, or the system refuses a port, a thread or the certificate.
    pub async fn start(self) -> Result<Fake<P::Side>, P::Error> {
        let Self { setup, environment, tls, port, tolerated, limit } = self;
        let ports = ports(port, P::Side::DOORS.len()).map_err(ListenError::from)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let urls = ports.iter().map(|port| format!("{scheme}://{}", port.addr()));
        let hosts = Hosts(P::Side::DOORS.iter().map(|(door, _)| *door).zip(urls).collect());
        let side = setup.into_side(&hosts, &environment)?;
        let shared = Arc::new(Shared::new(side, tolerated, limit));
        let servers = serve(&shared, tls.as_ref(), ports).await?;
        Ok(Fake::new(shared, servers, hosts, tls.map(|tls| tls.ca_pem().to_owned())))
    }

    /// Creates the fake without sockets and threads: only [`Fake::call`] reaches it. The port and the certificate have
    /// no effect.
    ///
    /// Its hosts are subdomains of `domain`, such as `https://fake-uaa.{domain}`; [`Fake::url`] is that of the first.
    ///
    /// # Errors
    /// The options contradict each other.
    pub fn in_process(self, domain: &str) -> Result<Fake<P::Side>, P::Error> {
        let Self { setup, environment, tls: _, port: _, tolerated, limit } = self;
        let url = |name: &str| format!("https://{name}.{domain}");
        let hosts = Hosts(P::Side::DOORS.iter().map(|(door, name)| (*door, url(name))).collect());
        let side = setup.into_side(&hosts, &environment)?;
        Ok(Fake::new(Arc::new(Shared::new(side, tolerated, limit)), Vec::new(), hosts, None))
    }
}

impl<P: Setup> fmt::Debug for Builder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("setup", &self.setup).finish_non_exhaustive()
    }
}

/// The URLs of all hosts, without a path.
pub struct Hosts<D>(Vec<(D, String)>);

impl<D: PartialEq> Hosts<D> {
    pub(crate) fn url(&self, door: D) -> String {
        let found = self.0.iter().find(|(host, _)| *host == door);
        found.map(|(_, url)| url.clone()).unwrap_or_default()
    }

    /// The door at the host of this URI.
    pub(super) fn door(&self, uri: &Uri) -> Option<D>
    where
        D: Copy,
    {
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        let asked = format!("{scheme}://{authority}");
        self.0.iter().find(|(_, url)| *url == asked).map(|(door, _)| *door)
    }

    pub(super) fn first(&self) -> &str {
        self.0.first().map_or("", |(_, url)| url)
    }
}

fn ports(first: Option<ReservedPort>, count: usize) -> io::Result<Vec<ReservedPort>> {
    let free = std::iter::repeat_with(ReservedPort::take);
    first.map(Ok).into_iter().chain(free).take(count).collect()
}

async fn serve<S: Side>(
    shared: &Arc<Shared<S>>,
    tls: Option<&TlsIdentity>,
    ports: Vec<ReservedPort>,
) -> Result<Vec<Server>, ListenError> {
    let acceptor = tls.map(TlsIdentity::acceptor).transpose()?;
    let mut servers = Vec::new();
    for (&(door, thread), port) in S::DOORS.iter().zip(ports) {
        let host = Host { door, shared: Arc::clone(shared) };
        servers.push(Server::start(thread, host, acceptor.clone(), port).await?);
    }
    Ok(servers)
}
