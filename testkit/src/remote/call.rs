//! The stages of a call.

use std::{future, sync::Arc};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{self, HeaderMap, Response, StatusCode, Uri},
};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use super::{
    answer::{Answer, add_headers},
    faults::Fault,
    shared::Shared,
    side::Side,
    spoiled::Ending,
};
use crate::{
    gate::{Cut, Moment},
    server::Service,
};

/// A request as the fake received it.
#[derive(Clone)]
pub struct Request<R> {
    pub target: Target<R>,
    pub uri: Uri,
    pub headers: HeaderMap,
    /// Nothing if the body was cut off, or is larger than [`Side::MAX_REQUEST_BYTES`].
    pub body: Option<Bytes>,
}

/// A route with the ids in its path, percent-decoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<R> {
    pub route: R,
    pub ids: Vec<String>,
}

impl<R> Target<R> {
    /// Splits the raw path before decoding it, so that an encoded `/` stays part of an id. A path that is not UTF-8 has
    /// no segments.
    pub(crate) fn read(path: &str, find: impl for<'a> FnOnce(&[&'a str]) -> (R, Vec<&'a str>)) -> Self {
        let decoded: Result<Vec<_>, _> =
            path.split('/').map(|segment| percent_decode_str(segment).decode_utf8()).collect();
        let segments = decoded.unwrap_or_default();
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let (route, ids) = find(&segments);
        Self { route, ids: ids.into_iter().map(str::to_owned).collect() }
    }

    /// The id of the object that the call is about: the last one in the path.
    pub(crate) fn id(&self) -> Option<&str> {
        self.ids.last().map(String::as_str)
    }
}

/// A call gets no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// A fault or a gate closed the connection.
    #[error("the connection was closed before an answer")]
    Cut,
    /// The fake has no such host.
    #[error("the fake has no host for `{0}`")]
    UnknownHost(Uri),
}

impl From<Cut> for NoAnswer {
    fn from(Cut: Cut) -> Self {
        Self::Cut
    }
}

/// One of the hosts of a remote side.
pub(super) struct Host<S: Side> {
    pub door: S::Door,
    pub shared: Arc<Shared<S>>,
}

impl<S: Side> Clone for Host<S> {
    fn clone(&self) -> Self {
        Self { door: self.door, shared: Arc::clone(&self.shared) }
    }
}

impl<S: Side> Service for Host<S> {
    async fn call(self, request: http::Request<Incoming>) -> Result<Response<Body>, Cut> {
        self.answer(request.map(Body::new)).await
    }
}

impl<S: Side> Host<S> {
    /// Answers a call. The work is a separate task, because a real server finishes a call even if the client hangs up.
    /// Only the recorded status depends on the client.
    pub(super) async fn answer(self, request: http::Request<Body>) -> Result<Response<Body>, Cut> {
        let Self { door, shared } = self;
        let (head, body) = request.into_parts();
        let request = Request {
            target: S::target(door, &head.method, head.uri.path()),
            uri: head.uri,
            headers: head.headers,
            body: to_bytes(body, S::MAX_REQUEST_BYTES).await.ok(),
        };
        let identity = S::identity(&request.headers);
        // A client may send a request again by itself after its kept connection was closed, which would hide the fault.
        if shared.look().was_cut(identity.as_ref()) {
            return Err(Cut);
        }
        let number = shared.arrived(&request, head.method);

        let answering = tokio::spawn(answer(Arc::clone(&shared), request, number));
        match answering.await.unwrap_or(Err(Cut)).unwrap_or_else(|Cut| Ending::Cut) {
            Ending::Response(response) => {
                shared.answered(number, response.status().as_u16());
                Ok(response)
            }
            Ending::Hang => future::pending().await,
            Ending::Cut => {
                shared.look().cut.extend(identity);
                Err(Cut)
            }
        }
    }
}

async fn answer<S: Side>(
    shared: Arc<Shared<S>>,
    request: Request<S::Route>,
    number: usize,
) -> Result<Ending, Cut> {
    let mut ending = work(&shared, &request, number).await?;
    if let Ending::Response(response) = &mut ending {
        let headers = S::headers(&request, number, response.status());
        add_headers(response, headers);
    }
    Ok(ending)
}

async fn work<S: Side>(
    shared: &Shared<S>,
    request: &Request<S::Route>,
    number: usize,
) -> Result<Ending, Cut> {
    let route = request.target.route;
    let admitted = shared.look().admit(request, number);
    let (admitted, headers) = match admitted {
        Ok(admitted) => admitted,
        Err(answer) => return Ok(Ending::Response(answer.into_response())),
    };

    shared.pass(route, Moment::BeforeEffect).await?;
    let met = shared.look().script.take(&request.target, S::name_of(&admitted));
    let Some(injection) = met else {
        let mut answer = shared.change(|inner| inner.carry_out(&admitted, number));
        answer.headers.extend(headers);
        shared.pass(route, Moment::AfterEffect).await?;
        return Ok(Ending::Response(answer.into_response()));
    };

    let (fault, delay) = (&injection.fault, injection.fault.delay());
    let answer = match injection.moment {
        Moment::AfterEffect => {
            let answer = shared.change(|inner| inner.carry_out(&admitted, number));
            tokio::time::sleep(delay).await;
            answer
        }
        Moment::BeforeEffect => {
            tokio::time::sleep(delay).await;
            shared.change(|inner| {
                if fault.needs_effect() {
                    return inner.carry_out(&admitted, number);
                }
                match inner.only_check(&admitted, number) {
                    Ok(()) => {
                        if matches!(fault, Fault::Late) {
                            inner.late.push((number, admitted));
                        }
                        Answer::bare(StatusCode::OK)
                    }
                    Err(refusal) => refusal,
                }
            })
        }
    };
    shared.pass(route, Moment::AfterEffect).await?;
    Ok(injection.spoil(answer, S::success(route), request))
}
