//! How a token server is put together.

use std::{fmt, io, sync::Arc};

use super::{
    desk::Desk,
    fake::TokenServer,
    request::{GrantRule, Terms},
};
use crate::{
    remote::{ReservedPort, TlsIdentity},
    server::Server,
};

/// A token server that is not running yet; see [`TokenServer::builder`] for what it has from the start. `Debug`
/// leaves the secret out.
#[must_use]
pub struct Builder {
    client_id: String,
    client_secret: String,
    scopes: Vec<String>,
    expires_in: Option<u64>,
    tls: Option<TlsIdentity>,
    port: Option<ReservedPort>,
    tolerated: Vec<GrantRule>,
}

/// A token server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate can't be served.
    #[error("can't serve the certificate")]
    Tls(#[from] rustls::Error),
    /// No thread, no runtime or no port.
    #[error("can't listen on 127.0.0.1")]
    Listen(#[from] io::Error),
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            client_id: "operator".into(),
            client_secret: "client-secret".into(),
            scopes: Vec::new(),
            expires_in: Some(3600),
            tls: None,
            port: None,
            tolerated: Vec::new(),
        }
    }

    /// Who gets tokens.
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        (self.client_id, self.client_secret) = (id.into(), secret.into());
        self
    }

    /// The scopes that a request has to name, all of them and no others. Without this it has to name none.
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// How long tokens live, in seconds.
    pub fn expires_in(mut self, seconds: u64) -> Self {
        self.expires_in = Some(seconds);
        self
    }

    /// Does not say how long tokens live: until they are revoked.
    pub fn without_expires_in(mut self) -> Self {
        self.expires_in = None;
        self
    }

    /// Serves https with this certificate.
    pub fn tls(mut self, identity: TlsIdentity) -> Self {
        self.tls = Some(identity);
        self
    }

    /// Listens on this port instead of any that is free.
    pub fn port(mut self, port: ReservedPort) -> Self {
        self.port = Some(port);
        self
    }

    /// Does not hold breaches of this rule against the client; they are refused all the same.
    pub fn tolerate(mut self, rule: GrantRule) -> Self {
        self.tolerated.push(rule);
        self
    }

    /// Starts the server on 127.0.0.1.
    ///
    /// # Errors
    /// There is no port, thread or certificate to be had.
    pub async fn start(self) -> Result<TokenServer, StartError> {
        let Self { client_id, client_secret, scopes, expires_in, tls, port, tolerated } = self;
        let acceptor = tls.as_ref().map(TlsIdentity::acceptor).transpose()?;
        let desk = Arc::new(Desk::new(Terms { client_id, client_secret, scopes }, expires_in, tolerated));
        let port = port.map_or_else(ReservedPort::take, Ok)?;
        let server = Server::start("token-server", Arc::clone(&desk), acceptor, port).await?;
        Ok(TokenServer::new(desk, server, tls))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("client_id", &self.client_id)
            .field("scopes", &self.scopes)
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}
