//! The handle on a gateway that a test holds.

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
/// It lives in the runtime that it was started in. Dropping it closes its port and every connection, and what is
/// held then is never passed on.
pub struct Gateway {
    address: SocketAddr,
    kubeconfig: NamedTempFile,
    way: Arc<Way>,
    _stop: DropGuard,
}

/// A gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no port to be had.
    #[error("can't listen on 127.0.0.1")]
    Listen(#[source] io::Error),
    /// The kubeconfig can't be written.
    #[error("can't write a kubeconfig")]
    Kubeconfig(#[source] io::Error),
}

impl Gateway {
    /// Passes on everything with this client, as whom it is logged in: the one of
    /// [`ControlPlane::client_as`](crate::control_plane::ControlPlane::client_as), for example.
    ///
    /// # Errors
    /// There is no port to be had, or no place for a file.
    pub async fn start(client: Client) -> Result<Self, StartError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(StartError::Listen)?;
        let address = listener.local_addr().map_err(StartError::Listen)?;
        let kubeconfig = write_kubeconfig(address).map_err(StartError::Kubeconfig)?;
        let way = Arc::new(Way::to(client));
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, Arc::clone(&way), stop.clone()));
        Ok(Self { address, kubeconfig, way, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The kubeconfig of those who are to go through it. It needs no login.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        self.kubeconfig.path()
    }

    /// Holds requests, from now on, before or after the API server has carried them out.
    ///
    /// A held request whose client is gone is not passed on any more: it never reached the API server.
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
