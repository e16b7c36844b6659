//! The network between a process of the operator and the remote sides.

use std::{fmt, future, sync::Arc, time::Duration};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use servicekey_operator::testing::{Transport, Undelivered};
use tokio::time::sleep;

use super::{Mishap, Process, world::World};

/// Delivers the calls of one process to the remote sides, with the mishaps of the time.
#[derive(Clone)]
pub struct Network {
    world: Arc<World>,
    process: Process,
}

/// The most bytes of an answer that the network passes on.
const LARGEST_ANSWER: usize = 32 << 20;

impl Network {
    /// The network as this process sees it.
    #[must_use]
    pub const fn new(world: Arc<World>, process: Process) -> Self {
        Self { world, process }
    }

    async fn deliver(self, request: Request<Bytes>) -> Result<Response<reqwest::Body>, Undelivered> {
        let Self { world, process } = self;
        process.runs().await;
        let Some(side) = world.sides.iter().position(|side| side.serves(request.uri())) else {
            return Err(Undelivered::NotConnected);
        };
        let what = format!("{} {}", request.method(), request.uri());
        let (mishap, latency) = world.way_to(side, &request);
        sleep(latency).await;
        let call = |request| world.call(side, &process, request);
        let answer = match mishap {
            Some(Mishap::NotConnected) => Err(Undelivered::NotConnected),
            Some(Mishap::Refused(status)) => Ok(plain(status, "try again later")),
            Some(Mishap::Late(delay)) => {
                let (world, process) = (Arc::clone(&world), process.clone());
                tokio::spawn(async move {
                    sleep(delay).await;
                    drop(world.call(side, &process, request).await);
                });
                Err(Undelivered::Cut)
            }
            Some(Mishap::LostAnswer) => {
                drop(call(request).await);
                Err(Undelivered::Cut)
            }
            Some(Mishap::Hangs) => {
                drop(call(request).await);
                world.journal.note(process.name(), format_args!("{what}: hangs"));
                future::pending().await
            }
            Some(Mishap::Mistaken(status)) => {
                call(request).await.map(|_| plain(status, "something went wrong"))
            }
            Some(Mishap::WebPage) => call(request).await.map(|answer| {
                let page = Response::new(Body::from("<html><body>Please log in</body></html>"));
                let (mut head, body) = page.into_parts();
                head.status = answer.status();
                head.headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html"));
                Response::from_parts(head, body)
            }),
            Some(Mishap::CutBody) => match call(request).await {
                Ok(answer) => cut(answer).await,
                Err(undelivered) => Err(undelivered),
            },
            Some(Mishap::Slow(delay)) => {
                let answer = call(request).await;
                sleep(delay).await;
                answer
            }
            None => call(request).await,
        };
        sleep(latency).await;
        process.runs().await;
        match &answer {
            Ok(answer) => {
                world.journal.note(process.name(), format_args!("{what}: {}", answer.status().as_u16()))
            }
            Err(why) => world.journal.note(process.name(), format_args!("{what}: {why:?}")),
        }
        answer.map(|answer| answer.map(|body| reqwest::Body::wrap_stream(body.into_data_stream())))
    }
}

impl Transport for Network {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<reqwest::Body>, Undelivered>> {
        Box::pin(self.clone().deliver(request))
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

/// An answer of something between the operator and the remote side.
fn plain(status: u16, text: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::from(text));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    if [429, 503].contains(&status) {
        answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("20"));
    }
    answer
}

/// Half of the body; then the connection closes.
async fn cut(answer: Response<Body>) -> Result<Response<Body>, Undelivered> {
    let (head, body) = answer.into_parts();
    let bytes = to_bytes(body, LARGEST_ANSWER).await.map_err(|_| Undelivered::Cut)?;
    let half = bytes.slice(..bytes.len() / 2);
    let parts = [Ok(half), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))];
    Ok(Response::from_parts(head, Body::from_stream(futures::stream::iter(parts))))
}

/// The time that a request needs for one direction.
pub const LATENCY: std::ops::Range<u32> = 2..120;

/// The longest delay of a late effect. The operator waits for the provider's `limits.timeout` twice.
pub const LATEST: Duration = Duration::from_secs(4);
