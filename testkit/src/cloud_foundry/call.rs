//! The way of a call: takes it through its stages.

use std::{future, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    http::{self, HeaderName, HeaderValue, Response},
};
use hyper::body::Incoming;

use super::{
    admission::{Admitted, Request},
    answer::{Answer, Header, set_headers},
    faults::{Ending, Fault},
    operation::Operation,
    route::{Door, Target},
    shared::Shared,
};
use crate::{
    gate::{Cut, Moment},
    server::Service,
};

const MAX_REQUEST_BYTES: usize = 1024 * 1024;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-vcap-request-id");

/// One of the two hosts.
#[derive(Clone)]
pub(super) struct Host {
    pub door: Door,
    pub shared: Arc<Shared>,
}

impl Service for Host {
    /// One call; [`Cut`] closes its connection. The work is a task of its own, because a server finishes what it has
    /// begun also where the client hangs up; only the record of the answer depends on the client being there.
    async fn call(self, request: http::Request<Incoming>) -> Result<Response<Body>, Cut> {
        let Self { door, shared } = self;
        let (head, body) = request.into_parts();
        let request = Request {
            target: Target::read(door, &head.method, head.uri.path()),
            uri: head.uri,
            headers: head.headers,
            body: to_bytes(Body::new(body), MAX_REQUEST_BYTES).await.ok(),
        };
        let number = shared.arrived(&request, head.method);

        match tokio::spawn(work(Arc::clone(&shared), request, number)).await.map_err(|_| Cut)?? {
            Ending::Response(mut response) => {
                set_headers(&mut response, request_id(number));
                shared.answered(number, response.status().as_u16());
                Ok(response)
            }
            Ending::Hang => future::pending().await,
            Ending::Cut => Err(Cut),
        }
    }
}

/// By which the operators of the remote side find a call in their logs.
fn request_id(number: usize) -> Option<Header> {
    HeaderValue::from_str(&format!("call-{number}")).ok().map(|value| (REQUEST_ID, value))
}

async fn work(shared: Arc<Shared>, request: Request, number: usize) -> Result<Ending, Cut> {
    let route = request.target.route;
    let admitted = shared.look().admit(&request, number);
    let (admitted, headers) = match admitted {
        Ok(admitted) => admitted,
        Err(answer) => return Ok(Ending::Response(answer.into_response())),
    };

    shared.pass(route, Moment::BeforeEffect).await?;
    let met = shared.look().script.take(&request.target, name_of(&admitted));
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

/// The name that a key is to have.
fn name_of(admitted: &Admitted) -> Option<&str> {
    match &admitted.operation {
        Operation::Create(wish) => Some(&wish.name),
        _ => None,
    }
}

fn take_effect(shared: &Shared, admitted: &Admitted, number: usize) -> Answer {
    shared.change(|inner| inner.carry_out(admitted, number))
}
