//! The path of a request to the API server, and of its answer back.

use std::{
    io,
    net::TcpStream,
    sync::{Arc, Mutex, PoisonError},
};

use axum::body::to_bytes;
use http::{Method, Request, Response, Uri, header::HOST};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, client::Body};
use tokio::net::{TcpListener, TcpStream as AsyncTcpStream};
use tokio_util::sync::CancellationToken;

use super::Requests;
use crate::gate::{Cut, Gate, Gates, Moment};

/// Larger than any request that an API server accepts.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// The target of requests, and the gates in front of it.
pub(super) struct Way {
    client: Client,
    gates: Mutex<Gates<Requests>>,
}

/// The reason why a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Cut(#[from] Cut),
    #[error("the client is gone")]
    ClientGone,
    #[error("the request can't be read")]
    Request(#[from] axum::Error),
    #[error("the API server does not answer")]
    ApiServer(#[from] kube::Error),
}

impl Way {
    pub(super) fn to(client: Client) -> Self {
        Self { client, gates: Mutex::new(Gates::none()) }
    }

    pub(super) fn bar(&self, requests: Requests, moment: Moment) -> Gate {
        // No code panics while it holds the lock.
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).add(requests, moment)
    }

    async fn pass(&self, moment: Moment, method: &Method, uri: &Uri) -> Result<(), Cut> {
        let bars = {
            let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            gates.on_the_way(moment, |requests| requests.hold(method, uri))
        };
        for bar in bars {
            bar.pass().await?;
        }
        Ok(())
    }

    /// Forwards one request. An error closes its connection.
    async fn forward(&self, request: Request<Incoming>, peer: &TcpStream) -> Result<Response<Body>, Broken> {
        let (mut head, body) = request.into_parts();
        // Only after the end of the request can the server notice the end of the connection.
        let body = to_bytes(axum::body::Body::new(body), MAX_REQUEST_BYTES).await?;
        let (method, uri) = (head.method.clone(), head.uri.clone());

        self.pass(Moment::BeforeEffect, &method, &uri).await?;
        if has_hung_up(peer) {
            return Err(Broken::ClientGone);
        }
        head.headers.remove(HOST);
        let response = self.client.send(Request::from_parts(head, body.into())).await?;
        self.pass(Moment::AfterEffect, &method, &uri).await?;
        Ok(response)
    }
}

/// Whether the other side has closed the connection. This asks the kernel: the runtime may not have noticed yet if a
/// gate opens just after the end of the client.
fn has_hung_up(peer: &TcpStream) -> bool {
    match peer.peek(&mut [0]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// Serves until it is stopped. Then it also ends every connection.
pub(super) async fn serve(listener: TcpListener, way: Arc<Way>, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        let (way, stop) = (Arc::clone(&way), stop.clone());
        tokio::spawn(async move {
            if let Some(Err(error)) = stop.run_until_cancelled(connection(way, stream)).await {
                tracing::debug!(%error, "a connection to the gateway ended early");
            }
        });
    }
}

async fn connection(way: Arc<Way>, stream: AsyncTcpStream) -> Result<(), ConnectionError> {
    let stream = stream.into_std()?;
    let peer = stream.try_clone()?;
    let stream = TokioIo::new(AsyncTcpStream::from_std(stream)?);
    let service = service_fn(|request| way.forward(request, &peer));
    Ok(http1::Builder::new().serve_connection(stream, service).await?)
}

/// The reason why a connection ends early.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}
