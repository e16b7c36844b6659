//! Spoils an answer by a fault.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Response, StatusCode, header::AUTHORIZATION},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt, stream};
use serde_json::json;

use super::{
    answer::{Answer, JSON, response, set_headers},
    call::Request,
    faults::{Fault, Injection},
};

const BIG_BODY_BYTES: usize = 10 * 1024 * 1024;
const CHUNK: Bytes = Bytes::from_static(&[b'x'; 64 * 1024]);
const PADDING_START: Bytes = Bytes::from_static(br#"{"credentials":{"padding":""#);
const PADDING_END: Bytes = Bytes::from_static(br#""}}"#);
const PAGE: &str = "<!DOCTYPE html><html><body><h1>No backend</h1>The router knows no way.</body></html>";

/// The end of a call.
pub(super) enum Ending {
    Response(Response<Body>),
    /// The connection is closed without a response.
    Cut,
    /// The connection stays open without a response.
    Hang,
}

impl<R> Injection<R> {
    /// Spoils the true answer to this request. `success` is the status of a call that has not failed.
    pub(super) fn spoil(self, mut answer: Answer, success: StatusCode, request: &Request<R>) -> Ending {
        let mut spoiled = match self.fault {
            Fault::Status(status, body) => Answer::new(status, body).into_response(),
            Fault::Body(body) => Answer::new(success, body).into_response(),
            Fault::Text(status, text) => response(status, JSON, Body::from(text)),
            Fault::PlainText(status, text) => response(status, "text/plain; charset=utf-8", Body::from(text)),
            Fault::Html(status) => response(status, "text/html", Body::from(PAGE)),
            Fault::Empty(status) => Answer::bare(status).into_response(),
            Fault::Relabel(status) => Answer { status, ..answer }.into_response(),
            Fault::Edit(change) => {
                let mut body = answer.body.take().unwrap_or_default();
                change(&mut body);
                answer.body = (!body.is_null()).then_some(body);
                answer.into_response()
            }
            Fault::RepeatSecrets(status) => {
                Answer::new(status, json!({ "description": gossip(request, &answer) })).into_response()
            }
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
            Fault::Delay(_) => answer.into_response(),
            Fault::Drip(pause) => dripping(answer, pause),
            Fault::CutInBody => cut_in_body(answer),
        };
        set_headers(&mut spoiled, self.headers);
        Ending::Response(spoiled)
    }
}

fn dripping(answer: Answer, pause: Duration) -> Response<Body> {
    let drops = stream::iter(answer.text().into_bytes()).then(move |byte| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, io::Error>(Bytes::from(vec![byte]))
    });
    answer.into_response_of(Body::from_stream(drops))
}

fn cut_in_body(answer: Answer) -> Response<Body> {
    let mut half = answer.text().into_bytes();
    half.truncate(half.len() / 2);
    // The pause lets the half be written before the error closes the connection.
    let end = stream::once(async {
        tokio::task::yield_now().await;
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut by a fault"))
    });
    answer.into_response_of(Body::from_stream(stream::iter([Ok(Bytes::from(half))]).chain(end)))
}

/// The secrets that a careless remote side writes into its errors.
fn gossip<R>(request: &Request<R>, answer: &Answer) -> String {
    let (login, body) = (login(&request.headers), request.body.as_deref().map(String::from_utf8_lossy));
    format!("login {login:?} failed to save {} for {body:?}", answer.text())
}

/// The token or the password in a request.
fn login(headers: &HeaderMap) -> Option<String> {
    let (_, shown) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let basic = STANDARD.decode(shown).ok().and_then(|decoded| String::from_utf8(decoded).ok());
    let password = basic.as_deref().and_then(|basic| basic.split_once(':')).map(|(_, password)| password);
    Some(password.unwrap_or(shown).to_owned())
}
