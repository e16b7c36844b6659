//! The connection of a process to the API server, with the mishaps of the time.

use std::{
    future, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use kube::client::Body as RequestBody;
use serde_json::Value;
use tokio::time::sleep;
use tower::Service;

use super::{
    Mishap, Process,
    api_server::{AnswerBody, Connection},
    checks::{Author, text},
    world::World,
};

/// The connection of one process.
#[derive(Clone)]
pub struct Wire {
    world: Arc<World>,
    process: Process,
    server: Connection,
}

impl Wire {
    /// The connection of this process.
    #[must_use]
    pub fn new(world: Arc<World>, process: Process) -> Self {
        let server = world.cluster.connection(process.name());
        Self { world, process, server }
    }

    async fn deliver(mut self, request: Request<RequestBody>) -> io::Result<Response<WireBody>> {
        self.process.runs().await;
        let what = format!("{} {}", request.method(), request.uri());
        let request = self.count(request).await?;
        let (mishap, latency) = self.world.way_to_cluster();
        sleep(latency).await;
        let answer = match mishap {
            Some(Mishap::NotConnected) => Err(io::ErrorKind::ConnectionRefused.into()),
            Some(Mishap::Refused(status)) => Ok(refused(status)),
            Some(
                Mishap::LostAnswer | Mishap::CutBody | Mishap::WebPage | Mishap::StrayLinks | Mishap::Late(_),
            ) => {
                self.call(request).await?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(Mishap::Hangs) => {
                self.call(request).await?;
                self.world.journal.note(self.process.name(), format_args!("{what}: hangs"));
                future::pending().await
            }
            Some(Mishap::Mistaken(status)) => {
                self.call(request).await?;
                Ok(refused(status))
            }
            Some(Mishap::Slow(delay)) => {
                let answer = self.call(request).await;
                sleep(delay).await;
                answer
            }
            None => self.call(request).await,
        };
        sleep(latency).await;
        self.process.runs().await;
        if mishap.is_some() {
            self.world.journal.note(self.process.name(), format_args!("{what}: {mishap:?}"));
        }
        answer
    }

    /// Lets the checks see which object a write is about.
    async fn count(&self, request: Request<RequestBody>) -> io::Result<Request<RequestBody>> {
        if request.method() == Method::GET {
            return Ok(request);
        }
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.map_err(io::Error::other)?;
        if let Some(place) = place(head.uri.path(), &body) {
            self.world.checks().wrote(place);
        }
        Ok(Request::from_parts(head, RequestBody::from(body.to_vec())))
    }

    async fn call(&mut self, request: Request<RequestBody>) -> io::Result<Response<WireBody>> {
        let changes = request.method() != Method::GET;
        let what = format!("-> {} {}", request.method(), request.uri());
        let answer = self.server.call(request).await.map_err(io::Error::other)?;
        if changes {
            let status = answer.status().as_u16();
            self.world.journal.note(self.process.name(), format_args!("{what}: {status}"));
            let is_renewal = what.contains("/leases");
            self.world.count(|happened| happened.cluster_changes += u64::from(!is_renewal));
            self.world.see_cluster(Author::Operator);
            self.process.has_effect();
        }
        Ok(answer.map(WireBody::Answer))
    }
}

impl Service<Request<RequestBody>> for Wire {
    type Response = Response<WireBody>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Response<WireBody>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        Box::pin(self.clone().deliver(request))
    }
}

/// The body of an answer. What reaches a process that has ended does not matter: it has no further effect.
pub enum WireBody {
    /// The body from the API server.
    Answer(AnswerBody),
    /// A text of something between.
    Text(Option<Bytes>),
}

impl Body for WireBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Answer(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }
}

/// Namespace and name of the object that a write to this path is about. An Event is about the object that its name
/// begins with. `None`: it renews a Lease.
fn place(path: &str, body: &[u8]) -> Option<(String, String)> {
    let parts: Vec<_> = path.split('/').collect();
    let after = |word: &str| {
        let found = parts.iter().position(|part| *part == word)?;
        parts.get(found + 1).map(|part| (*part).to_owned())
    };
    let namespace = after("namespaces").unwrap_or_default();
    let resources = ["servicekeys", "secrets", "events", "keyproviders", "clusterkeyproviders"];
    let resource = resources.into_iter().find(|resource| parts.contains(resource))?;
    let created = || {
        let object: Value = serde_json::from_slice(body).unwrap_or_default();
        text(&object, "/metadata/name").map(str::to_owned)
    };
    let name = after(resource).or_else(created)?;
    let subject =
        if resource == "events" { name.rsplit_once('.').map(|(name, _)| name.to_owned()) } else { None };
    Some((namespace, subject.unwrap_or(name)))
}

/// The answer of a server that can't process the request now.
fn refused(status: u16) -> Response<WireBody> {
    let body = format!(
        r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"the server is not ready","code":{status}}}"#
    );
    let mut answer = Response::new(WireBody::Text(Some(body.into())));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    answer
}
