//! The way of a call: takes it through its stages.

use std::{future, sync::Arc};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{self, HeaderMap, HeaderValue, Response, Uri},
};
use hyper::body::Incoming;

use super::{
    answer::{Answer, Header, set_headers},
    faults::{Ending, Fault},
    shared::{Shared, Side},
};
use crate::{
    gate::{Cut, Moment},
    server::Service,
};

const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// A call as it came in.
#[derive(Clone)]
pub(crate) struct Request<R> {
    pub target: Target<R>,
    pub uri: Uri,
    pub headers: HeaderMap,
    /// Nothing where the body was cut off, or larger than the fake reads.
    pub body: Option<Bytes>,
}

/// A route with the id that is part of its path, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target<R> {
    pub route: R,
    pub id: Option<String>,
}

/// One of the hosts of a remote side.
pub(crate) struct Host<S: Side> {
    pub door: S::Door,
    pub shared: Arc<Shared<S>>,
}

impl<S: Side> Clone for Host<S> {
    fn clone(&self) -> Self {
        Self { door: self.door, shared: Arc::clone(&self.shared) }
    }
}

impl<S: Side> Service for Host<S> {
    /// One call; [`Cut`] closes its connection. The work is a task of its own, because a server finishes what it has
    /// begun also where the client hangs up; only the record of the answer depends on the client being there.
    async fn call(self, request: http::Request<Incoming>) -> Result<Response<Body>, Cut> {
        let Self { door, shared } = self;
        let (head, body) = request.into_parts();
        let request = Request {
            target: S::target(door, &head.method, head.uri.path()),
            uri: head.uri,
            headers: head.headers,
            body: to_bytes(Body::new(body), MAX_REQUEST_BYTES).await.ok(),
        };
        let number = shared.arrived(&request, head.method);

        match tokio::spawn(work(Arc::clone(&shared), request, number)).await.map_err(|_| Cut)?? {
            Ending::Response(mut response) => {
                set_headers(&mut response, request_id::<S>(number));
                shared.answered(number, response.status().as_u16());
                Ok(response)
            }
            Ending::Hang => future::pending().await,
            Ending::Cut => Err(Cut),
        }
    }
}

/// By which the operators of the remote side find a call in their logs.
fn request_id<S: Side>(number: usize) -> Option<Header> {
    HeaderValue::from_str(&format!("call-{number}")).ok().map(|value| (S::REQUEST_ID, value))
}

async fn work<S: Side>(
    shared: Arc<Shared<S>>,
    request: Request<S::Route>,
    number: usize,
) -> Result<Ending, Cut> {
    let route = request.target.route;
    let admitted = shared.look().admit(&request, number);
    let (admitted, headers) = match admitted {
        Ok(admitted) => admitted,
        Err(answer) => return Ok(Ending::Response(answer.into_response())),
    };

    shared.pass(route, Moment::BeforeEffect).await?;
    let met = shared.look().script.take(&request.target, S::name_of(&admitted));
    let Some(injection) = met else {
        let mut answer = take_effect(&shared, &admitted, number);
        answer.headers.extend(headers);
        shared.pass(route, Moment::AfterEffect).await?;
        return Ok(Ending::Response(answer.into_response()));
    };

    let answer = match (injection.moment, &injection.fault) {
        (Moment::AfterEffect, _) | (Moment::BeforeEffect, Fault::Edit(_)) => {
            take_effect(&shared, &admitted, number)
        }
        (Moment::BeforeEffect, Fault::Late) => {
            shared.change(|inner| inner.late.push((number, admitted)));
            Answer::bare(http::StatusCode::OK)
        }
        (Moment::BeforeEffect, _) => Answer::bare(http::StatusCode::OK),
    };
    shared.pass(route, Moment::AfterEffect).await?;
    Ok(injection.spoil(answer))
}

fn take_effect<S: Side>(shared: &Shared<S>, admitted: &S::Admitted, number: usize) -> Answer {
    shared.change(|inner| inner.carry_out(admitted, number))
}
