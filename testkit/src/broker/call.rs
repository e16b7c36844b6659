//! The way of a call: takes it through its stages.

use std::{future, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    http::{self, HeaderName, Response, StatusCode},
};
use hyper::body::Incoming;
use serde_json::json;

use super::{
    admission::{REQUEST_IDENTITY, Request, admit},
    answer::Answer,
    faults::{Fault, Injection},
    operation::Operation,
    route::Target,
    shared::Shared,
    spoiled::{Ending, gossip, spoil},
};
use crate::{
    gate::{Cut, Moment},
    server::Service,
};

const MAX_REQUEST_BYTES: usize = 1024 * 1024;

impl Service for Arc<Shared> {
    async fn call(self, request: http::Request<Incoming>) -> Result<Response<Body>, Cut> {
        call(self, request).await
    }
}

/// One call; [`Cut`] closes its connection. The work is a task of its own, because a broker finishes what it has
/// begun also where the client hangs up; only the record of the answer depends on the client being there.
async fn call(shared: Arc<Shared>, request: http::Request<Incoming>) -> Result<Response<Body>, Cut> {
    let (head, body) = request.into_parts();
    let request = Request {
        target: Target::read(&head.method, head.uri.path()),
        uri: head.uri,
        headers: head.headers,
        body: to_bytes(Body::new(body), MAX_REQUEST_BYTES).await.ok(),
    };
    let identity = request.headers.get(REQUEST_IDENTITY).cloned();
    // A client may send a request again by itself where a kept connection was closed. Otherwise that would hide the fault.
    if identity.as_ref().is_some_and(|identity| shared.look().cut.contains(identity)) {
        return Err(Cut);
    }
    let number = shared.arrived(&request, head.method);

    let ending = tokio::spawn(work(Arc::clone(&shared), request, number)).await.unwrap_or(Err(Cut));
    match ending.unwrap_or_else(|Cut| Ending::Cut) {
        Ending::Response(mut response) => {
            response
                .headers_mut()
                .extend(identity.map(|value| (HeaderName::from_static(REQUEST_IDENTITY), value)));
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

async fn work(shared: Arc<Shared>, request: Request, number: usize) -> Result<Ending, Cut> {
    let route = request.target.route;
    let admitted = {
        let mut inner = shared.look();
        match inner.within_limit().and_then(|()| admit(&request, &inner.login, &inner.demands)) {
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
