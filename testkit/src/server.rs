//! A server on a thread and runtime of its own, so that a test can drop or starve its own runtime and the remote
//! side stays.
//!
//! Connections are served by hyper rather than by axum's own server, because only the service of a connection
//! can close it without a response.

use std::{io, net::SocketAddr, thread};

use axum::{
    body::Body,
    http::{Request, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{gate::Cut, remote::ReservedPort};

/// A running server; dropping it closes its port and every connection.
pub(crate) struct Server {
    pub addr: SocketAddr,
    running: Option<(DropGuard, thread::JoinHandle<()>)>,
}

/// What answers calls. [`Cut`] closes the connection of a call.
pub(crate) trait Service: Clone + Send + 'static {
    fn call(
        self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Cut>> + Send + 'static;
}

impl Server {
    /// Starts a server whose thread has this name.
    pub(crate) async fn start(
        name: &str,
        service: impl Service,
        tls: Option<TlsAcceptor>,
        port: ReservedPort,
    ) -> io::Result<Self> {
        let addr = port.addr();
        let stop = CancellationToken::new();
        // Ends the thread also where this future is dropped half-way.
        let guard = stop.clone().drop_guard();
        let (started, start) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(listen(service, tls, port, stop, started)),
                // Nobody is told only where the caller has given up waiting for the start.
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        start.await.map_err(|_| io::Error::other("the server's thread ended early"))??;
        Ok(Self { addr, running: Some((guard, thread)) })
    }

    pub(crate) fn stop(&mut self) {
        if let Some((guard, thread)) = self.running.take() {
            drop(guard);
            // The thread's own panic has been printed, and what it cost shows in the test's own checks.
            drop(thread.join());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn listen(
    service: impl Service,
    tls: Option<TlsAcceptor>,
    port: ReservedPort,
    stop: CancellationToken,
    started: oneshot::Sender<io::Result<()>>,
) {
    let listener = match port.listen() {
        Ok(listener) => {
            drop(started.send(Ok(())));
            listener
        }
        Err(error) => return drop(started.send(Err(error))),
    };
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        let (service, tls) = (service.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(service, stream).await,
                Some(tls) => {
                    match tls.accept(stream).into_fallible().await {
                        Ok(stream) => connection(service, stream).await,
                        // One side does not trust the other; no call was made. Without reading on, the reset of the
                        // connection might overtake the alert that says why.
                        Err((_, mut stream)) => {
                            drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await)
                        }
                    }
                }
            }
        });
    }
}

async fn connection(service: impl Service, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(move |request| service.clone().call(request));
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "connection to a fake remote side ended early");
    }
}
