//! What a fault makes of an answer.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{Response, StatusCode},
};
use futures::{StreamExt, stream};

use super::{
    answer::{Answer, response},
    faults::Fault,
    route::Route,
};

const BIG_BODY_BYTES: usize = 10 * 1024 * 1024;
const CHUNK: Bytes = Bytes::from_static(&[b'x'; 64 * 1024]);
const PADDING_START: Bytes = Bytes::from_static(br#"{"credentials":{"padding":""#);
const PADDING_END: Bytes = Bytes::from_static(br#""}}"#);
const JSON: &str = "application/json";
const PAGE: &str = "<!DOCTYPE html><html><body><h1>It works</h1></body></html>";

/// How a call ends.
pub(super) enum Ending {
    Response(Response<Body>),
    /// The connection is closed without a response.
    Cut,
    /// The connection stays open without a response.
    Hang,
}

/// Spoils the answer to a call of this route. `answer` is the true one, and `secrets` what
/// [`Fault::RepeatSecrets`] gives away.
pub(super) fn spoil(fault: Fault, route: Route, answer: &Answer, secrets: String) -> Ending {
    let success = if route == Route::Bind { StatusCode::CREATED } else { StatusCode::OK };
    let spoiled = match fault {
        Fault::Status(status, body) => Answer::new(status, body).into_response(),
        Fault::Body(body) => Answer::new(success, body).into_response(),
        Fault::Text(status, text) => response(status, JSON, Body::from(text)),
        Fault::Html(status) => response(status, "text/html", Body::from(PAGE)),
        Fault::Empty(status) => response(status, JSON, Body::empty()),
        Fault::Relabel(status) => Answer { status, ..answer.clone() }.into_response(),
        Fault::RepeatSecrets(status) => Answer::error(status, secrets).into_response(),
        Fault::BigBody => {
            let padding = stream::repeat(CHUNK).take(BIG_BODY_BYTES / CHUNK.len());
            let chunks = stream::iter([PADDING_START]).chain(padding).chain(stream::iter([PADDING_END]));
            response(success, JSON, Body::from_stream(chunks.map(Ok::<_, io::Error>)))
        }
        Fault::EndlessBody => {
            let chunks = stream::iter([PADDING_START]).chain(stream::repeat(CHUNK));
            response(success, JSON, Body::from_stream(chunks.map(Ok::<_, io::Error>)))
        }
        Fault::Hang => return Ending::Hang,
        Fault::Cut | Fault::Late => return Ending::Cut,
        Fault::Delay(_) => answer.clone().into_response(),
        Fault::Drip(pause) => dripping(answer, pause),
        Fault::CutInBody => cut_in_body(answer),
    };
    Ending::Response(spoiled)
}

fn dripping(answer: &Answer, pause: Duration) -> Response<Body> {
    let bytes = answer.body.to_string().into_bytes();
    let drops = stream::iter(bytes).then(move |byte| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, io::Error>(Bytes::from(vec![byte]))
    });
    answer.clone().into_response_of(Body::from_stream(drops))
}

fn cut_in_body(answer: &Answer) -> Response<Body> {
    let bytes = answer.body.to_string().into_bytes();
    let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
    // The pause lets the half be written before the error closes the connection.
    let end = stream::once(async {
        tokio::task::yield_now().await;
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut by a fault"))
    });
    answer.clone().into_response_of(Body::from_stream(stream::iter([Ok(half)]).chain(end)))
}

/// What a careless broker writes into its errors.
pub(super) fn gossip(login: Option<String>, request: Option<&[u8]>, answer: &Answer) -> String {
    let request = request.map(String::from_utf8_lossy);
    format!("login {login:?} failed to save {} for {request:?}", answer.body)
}
