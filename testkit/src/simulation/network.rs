//! The network between a process of the operator and the remote sides.

use std::{fmt, future, sync::Arc, time::Duration};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header};
use servicekey_operator::testing::{Transport, Undelivered};
use tokio::time::{Instant, sleep};

use super::{Mishap, Process, custody::Sent, hostile::redirect_links, world::World};

/// Delivers the calls of one process to the remote sides, with the mishaps of the time.
#[derive(Clone)]
pub struct Network {
    world: Arc<World>,
    process: Process,
}

/// The most bytes of an answer that the network passes on.
pub const LARGEST_ANSWER: usize = 32 << 20;

impl Network {
    /// The network as this process sees it.
    #[must_use]
    pub const fn new(world: Arc<World>, process: Process) -> Self {
        Self { world, process }
    }

    async fn deliver(self, request: Request<Bytes>) -> Result<Response<reqwest::Body>, Undelivered> {
        let Self { world, process } = self;
        process.runs().await;
        let side = world.sides.iter().position(|side| side.serves(request.uri()));
        world.sent(side, &request);
        let Some(side) = side else {
            let answer = world.call_others(&process, request).await;
            process.runs().await;
            return answer
                .map(|answer| answer.map(|body| reqwest::Body::wrap_stream(body.into_data_stream())));
        };
        let what = format!("{} {}", request.method(), request.uri());
        let creates = [Method::PUT, Method::POST].contains(request.method());
        let sent = Sent { process: process.name().to_owned(), at: Instant::now() };
        let (mishap, latency) = world.way_to(side, &request);
        sleep(latency).await;
        // A read that arrives late changes nothing, and may ask for an operation that has ended since.
        let is_late_read = request.method() == Method::GET && matches!(mishap, Some(Mishap::Late(_)));
        let mishap = if is_late_read { Some(Mishap::LostAnswer) } else { mishap };
        let call = |request| world.call(side, &process, &sent, request);
        let answer = match mishap {
            Some(Mishap::NotConnected) => Err(Undelivered::NotConnected),
            Some(Mishap::Refused(status)) => Ok(plain(status, "try again later")),
            Some(Mishap::Late(delay)) => {
                let (world, process, sent) = (Arc::clone(&world), process.clone(), sent.clone());
                tokio::spawn(async move {
                    sleep(delay).await;
                    drop(world.call(side, &process, &sent, request).await);
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
            Some(Mishap::StrayLinks) => match call(request).await {
                Ok(answer) => astray(answer).await,
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
        let answer = match answer {
            Ok(answer) if creates && answer.status().is_success() && mishap != Some(Mishap::CutBody) => {
                Ok(world.received(side, &process, answer).await?)
            }
            answer => answer,
        };
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

/// The same answer, with links that lead to another host.
async fn astray(answer: Response<Body>) -> Result<Response<Body>, Undelivered> {
    let (mut head, body) = answer.into_parts();
    let bytes = to_bytes(body, LARGEST_ANSWER).await.map_err(|_| Undelivered::Cut)?;
    head.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(head, Body::from(redirect_links(&bytes, STRAY))))
}

/// A host that no remote side has.
const STRAY: &str = "https://stray.example";

/// The time that a request needs for one direction.
pub const LATENCY: std::ops::Range<u32> = 2..120;

/// The longest delay of a late effect. The operator waits for the provider's `limits.timeout` twice.
pub const LATEST: Duration = Duration::from_secs(4);
