//! The handle of a gateway.

use std::{
    fmt,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use kube::{
    Client,
    config::{AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext},
};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Requests,
    forward::{Way, serve},
};
use crate::gate::{Gate, Moment};

/// A gateway to one API server, for clients in other processes.
///
/// It lives in the runtime that started it. Dropping it closes its port and every connection. Requests that wait at a
/// gate are not forwarded then.
pub struct Gateway {
    address: SocketAddr,
    kubeconfig: NamedTempFile,
    way: Arc<Way>,
    _stop: DropGuard,
}

/// A gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No port is free.
    #[error("can't listen on 127.0.0.1")]
    Listen(#[source] io::Error),
    /// The kubeconfig can't be written.
    #[error("can't write a kubeconfig")]
    Kubeconfig(#[source] io::Error),
}

impl Gateway {
    /// Forwards everything with this client and its login, for example the one of
    /// [`ControlPlane::client_as`](crate::control_plane::ControlPlane::client_as).
    ///
    /// # Errors
    /// No port is free, or the kubeconfig can't be written.
    pub async fn start(client: Client) -> Result<Self, StartError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(StartError::Listen)?;
        let address = listener.local_addr().map_err(StartError::Listen)?;
        let kubeconfig = write_kubeconfig(address).map_err(StartError::Kubeconfig)?;
        let way = Arc::new(Way::to(client));
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, Arc::clone(&way), stop.clone()));
        Ok(Self { address, kubeconfig, way, _stop: stop.drop_guard() })
    }

    /// The URL of the gateway.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The kubeconfig for clients of the gateway. It contains no login.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        self.kubeconfig.path()
    }

    /// Delays these requests before or after the API server has carried them out.
    ///
    /// If the client of a delayed request has gone, the gateway does not forward the request: it never reached the API
    /// server.
    pub fn gate(&self, requests: Requests, moment: Moment) -> Gate {
        self.way.bar(requests, moment)
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("address", &self.address).finish_non_exhaustive()
    }
}

fn write_kubeconfig(address: SocketAddr) -> io::Result<NamedTempFile> {
    let name = "gateway".to_owned();
    let cluster = Cluster { server: Some(format!("http://{address}")), ..Cluster::default() };
    let context = Context { cluster: name.clone(), user: Some(name.clone()), ..Context::default() };
    let kubeconfig = Kubeconfig {
        api_version: Some("v1".into()),
        kind: Some("Config".into()),
        clusters: vec![NamedCluster {
            name: name.clone(),
            cluster: Some(cluster),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: name.clone(),
            auth_info: Some(AuthInfo::default()),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(context),
            ..NamedContext::default()
        }],
        current_context: Some(name),
        ..Kubeconfig::default()
    };
    let mut file = tempfile::Builder::new().suffix(".kubeconfig").tempfile()?;
    file.write_all(serde_saphyr::to_string(&kubeconfig).map_err(io::Error::other)?.as_bytes())?;
    Ok(file)
}
