//! The server: accepts connections, and takes each call through its stages.
//!
//! Connections are served by hyper rather than by axum's own server, because only the service of a connection
//! can close it without a response.

use std::{future, io, net::SocketAddr, sync::Arc, thread};

use axum::{
    body::{Body, to_bytes},
    http::{self, HeaderName, Response, StatusCode},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    admission::{REQUEST_IDENTITY, Request, admit},
    answer::Answer,
    builder::StartError,
    faults::{Fault, Injection},
    operation::Operation,
    port::ReservedPort,
    route::Target,
    shared::Shared,
    spoiled::{Ending, gossip, spoil},
};
use crate::gate::{Cut, Moment};

const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// A running server; dropping it closes its port and every connection.
pub(super) struct Server {
    pub addr: SocketAddr,
    running: Option<(DropGuard, thread::JoinHandle<()>)>,
}

impl Server {
    pub async fn start(
        shared: Arc<Shared>,
        tls: Option<TlsAcceptor>,
        port: ReservedPort,
    ) -> Result<Self, StartError> {
        let addr = port.addr();
        let stop = CancellationToken::new();
        // Ends the thread also where this future is dropped half-way.
        let guard = stop.clone().drop_guard();
        let (started, start) = oneshot::channel();
        let thread = thread::Builder::new().name("fake-broker".into()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(listen(shared, tls, port, stop, started)),
                // Nobody is told only where the caller has given up waiting for the start.
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        start.await.map_err(|_| StartError::ThreadEnded)??;
        Ok(Self { addr, running: Some((guard, thread)) })
    }

    pub fn stop(&mut self) {
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
    shared: Arc<Shared>,
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
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(shared, stream).await,
                Some(tls) => {
                    // A client that does not trust the certificate ends the handshake; it made no call.
                    if let Ok(stream) = tls.accept(stream).await {
                        connection(shared, stream).await;
                    }
                }
            }
        });
    }
}

async fn connection(shared: Arc<Shared>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request| call(Arc::clone(&shared), request));
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "connection to the fake broker ended early");
    }
}

/// One call; [`Cut`] closes its connection. The work is a task of its own, because a broker finishes what it has begun also where the client
/// hangs up; only the record of the answer depends on the client being there.
async fn call(shared: Arc<Shared>, request: http::Request<Incoming>) -> Result<Response<Body>, Cut> {
    let (head, body) = request.into_parts();
    let request = Request {
        target: Target::read(&head.method, head.uri.path()),
        uri: head.uri,
        headers: head.headers,
        body: to_bytes(Body::new(body), MAX_REQUEST_BYTES).await.ok(),
    };
    let identity = request.headers.get(REQUEST_IDENTITY).cloned();
    let number = shared.arrived(&request, head.method);

    match tokio::spawn(work(Arc::clone(&shared), request, number)).await.map_err(|_| Cut)?? {
        Ending::Response(mut response) => {
            response
                .headers_mut()
                .extend(identity.map(|value| (HeaderName::from_static(REQUEST_IDENTITY), value)));
            shared.answered(number, response.status().as_u16());
            Ok(response)
        }
        Ending::Hang => future::pending().await,
        Ending::Cut => Err(Cut),
    }
}

async fn work(shared: Arc<Shared>, request: Request, number: usize) -> Result<Ending, Cut> {
    let route = request.target.route;
    let admitted = {
        let mut inner = shared.look();
        match admit(&request, &inner.login) {
            Ok(operation) => Ok(operation),
            Err(refusal) => Err(inner.refuse(number, refusal)),
        }
    };
    let operation = match admitted {
        Ok(operation) => operation,
        Err(answer) => return Ok(Ending::Response(answer.into_response())),
    };

    shared.pass(route, Moment::BeforeEffect).await?;
    let met = shared.look().script.take(&request.target);
    let Some(Injection { fault, moment, headers, .. }) = met else {
        let answer = take_effect(&shared, &operation, number);
        shared.pass(route, Moment::AfterEffect).await?;
        return Ok(Ending::Response(answer.into_response()));
    };

    let delay = fault.delay();
    let answer = match moment {
        Moment::BeforeEffect => {
            tokio::time::sleep(delay).await;
            if fault.needs_effect() {
                take_effect(&shared, &operation, number)
            } else if fault == Fault::Late {
                postpone(&shared, operation, number)
            } else {
                only_check(&shared, &operation, number)
            }
        }
        Moment::AfterEffect => {
            let answer = take_effect(&shared, &operation, number);
            tokio::time::sleep(delay).await;
            answer
        }
    };
    shared.pass(route, Moment::AfterEffect).await?;
    let secrets = gossip(shared.look().login.secret(), request.body.as_deref(), &answer);
    let mut ending = spoil(fault, route, &answer, secrets);
    if let Ending::Response(response) = &mut ending {
        response.headers_mut().extend(headers);
    }
    Ok(ending)
}

fn take_effect(shared: &Shared, operation: &Operation, number: usize) -> Answer {
    shared.change(|inner| match inner.state.check(operation) {
        Ok(()) => inner.state.apply(operation),
        Err(refusal) => inner.refuse(number, refusal),
    })
}

fn postpone(shared: &Shared, operation: Operation, number: usize) -> Answer {
    shared.change(|inner| match inner.state.check(&operation) {
        Ok(()) => {
            inner.late.push(operation);
            Answer::new(StatusCode::OK, json!({}))
        }
        Err(refusal) => inner.refuse(number, refusal),
    })
}

/// A fault that prevents the effect does not excuse a breach.
fn only_check(shared: &Shared, operation: &Operation, number: usize) -> Answer {
    shared.change(|inner| match inner.state.check(operation) {
        Ok(()) => Answer::new(StatusCode::OK, json!({})),
        Err(refusal) => inner.refuse(number, refusal),
    })
}
