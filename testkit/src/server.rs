//! A server on its own thread and runtime, so that it keeps running if a test drops or starves the runtime of the test.
//!
//! It serves connections with hyper rather than with axum's server, because only the service of a connection can close
//! it without a response.

use std::{io, thread};

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
    running: Option<(DropGuard, thread::JoinHandle<()>)>,
}

/// Answers calls. [`Cut`] closes the connection of a call.
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
        let stop = CancellationToken::new();
        // Ends the thread even if this future is dropped half-way.
        let guard = stop.clone().drop_guard();
        let (started, start) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(listen(service, tls, port, stop, started)),
                // The send fails only if the caller no longer waits for the start.
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        start.await.map_err(|_| io::Error::other("the server's thread ended early"))??;
        Ok(Self { running: Some((guard, thread)) })
    }

    pub(crate) fn stop(&mut self) {
        if let Some((guard, thread)) = self.running.take() {
            drop(guard);
            // A panic of the thread has been printed, and the checks of the test show its consequences.
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
                        // One side does not trust the other, and the client sent no call. The server reads on, because
                        // the reset of the connection might otherwise overtake the alert that gives the reason.
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
